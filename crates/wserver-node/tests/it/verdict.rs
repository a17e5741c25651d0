//! What must hold of a round of the fan-out, whatever the interleaving was.

use std::collections::{HashMap, HashSet};

use wserver_core::CloseReason;
use wserver_node::{NoDelivery, Phase};
use wserver_protocol::Protocol;
use wserver_protocol::connection::FromServer;

use crate::model::{EVENTS, Life, PUSHERS_MAX, PushRecord, Registered, Round, Ttl, id_of};
use crate::wire::{CLOSE, TEXT, close_code, read_frames};

/// What the rounds of a run amounted to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) small: usize,
    pub(crate) large: usize,
    pub(crate) frames: usize,
    /// Those that came by version 2.
    pub(crate) v2_frames: usize,
    /// Writes that carried the beginnings of two frames or more.
    pub(crate) merged_writes: usize,
    pub(crate) waited: u64,
    pub(crate) survivors: usize,
    pub(crate) evicted: usize,
    pub(crate) without_room: u64,
    /// Counted, and lost with a connection that was ending.
    pub(crate) surplus: usize,
    /// Pushes that left somebody out who was registered for them.
    pub(crate) excluded: usize,
    pub(crate) expired: u64,
}

/// What one connection was sent.
struct Heard<'r> {
    life: &'r Life,
    is_survivor: bool,
    /// Numbers of pushes, in the order of arrival.
    pushes: Vec<usize>,
}

pub(crate) fn check(number: usize, round: &Round, tally: &mut Tally) {
    let heard: Vec<Heard<'_>> =
        round.lives.iter().map(|life| hear(number, life, &round.pushes, tally)).collect();
    let survivors = heard.iter().filter(|heard| heard.is_survivor).count();
    let told_to_go = round.lives.iter().filter(|life| {
        let (Phase::Closing(reason) | Phase::Ended(reason)) = life.end else { return false };
        reason == CloseReason::Shutdown
    });
    assert_eq!(
        told_to_go.count(),
        round.drained,
        "round {number}: the drain counts whom it closed"
    );
    if round.is_calm {
        // Whoever came when the drain had begun was not let in.
        let let_in = heard.iter().filter(|heard| !heard.life.registered.is_empty());
        assert!(
            let_in.into_iter().all(|heard| heard.is_survivor),
            "round {number}: everybody lives on in a calm round"
        );
    }
    tally.survivors += survivors;
    for heard in &heard {
        check_connection(number, round, heard);
    }
    check_counts(number, round, &heard, tally);
    for user in 0..2 {
        check_order(number, round, &heard, user);
    }
}

fn hear<'r>(number: usize, life: &'r Life, pushed: &[PushRecord], tally: &mut Tally) -> Heard<'r> {
    let record = life.line.taken();
    let (frames, rest) = read_frames(&record);
    tally.frames += frames.len();
    let mut starts = frames.iter().map(|frame| frame.start).peekable();
    for end in life.line.write_ends() {
        let mut begun = 0;
        while starts.next_if(|start| *start < end).is_some() {
            begun += 1;
        }
        tally.merged_writes += usize::from(begun > 1);
    }
    let mut is_survivor = false;
    if let Phase::Closing(reason) = life.end {
        let close = frames.last().and_then(|frame| frame.close_code());
        assert_eq!(
            close,
            Some(close_code(reason, life.protocol).as_u16()),
            "round {number}: the Close of {reason}"
        );
        assert_eq!(rest, 0, "round {number}: nothing stands behind a Close");
        is_survivor = reason == CloseReason::Shutdown;
        tally.evicted += usize::from(reason == CloseReason::Slow);
    }
    let closes = frames.iter().filter(|frame| frame.head == CLOSE).count();
    assert!(closes <= 1, "round {number}: one Close");
    let texts = frames.iter().filter(|frame| frame.head == TEXT);
    let pushes = texts
        .map(|frame| {
            let mut text = str::from_utf8(&frame.payload).unwrap();
            let mut head = None;
            if life.protocol == Protocol::V2 {
                tally.v2_frames += 1;
                let Some(FromServer::Push { event, id, message, .. }) = FromServer::parse(text)
                else {
                    panic!("round {number}: no push of version 2: {text}")
                };
                text = message;
                head = Some((event, id));
            }
            let (push, filling) = text.split_once(':').unwrap();
            assert!(filling.bytes().all(|byte| byte == b'x'), "round {number}: a torn message");
            let at: usize = push.parse().unwrap();
            if let Some(head) = head {
                let event = EVENTS[pushed[at].event];
                assert_eq!(head, (event.to_owned(), id_of(at).to_string()), "round {number}");
            }
            at
        })
        .collect();
    Heard { life, is_survivor, pushes }
}

/// At most once; only what it registered for, from then on; and, if it lived on, all of that.
fn check_connection(number: usize, round: &Round, heard: &Heard<'_>) {
    let mut seen = HashSet::new();
    for push in &heard.pushes {
        assert!(seen.insert(*push), "round {number}: push {push} came twice");
        let record = &round.pushes[*push];
        assert_ne!(record.ttl, Ttl::Past, "round {number}: push {push} came too late");
        let is_excluded = record.exclude.is_some() && record.exclude == heard.life.id;
        assert!(!is_excluded, "round {number}: push {push} reached whom it leaves out");
        let registered = heard
            .life
            .registered
            .iter()
            .filter(|one| (one.user, one.event) == (record.user, record.event))
            .map(|one| one.start)
            .min();
        let registered = registered
            .unwrap_or_else(|| panic!("round {number}: push {push} is not what was registered"));
        if let Some((answered, _)) = record.answer {
            assert!(
                registered < answered,
                "round {number}: push {push} is older than its registration"
            );
        }
    }
    if !heard.is_survivor {
        return;
    }
    for (push, record) in round.pushes.iter().enumerate() {
        let is_due = record.answer.is_some()
            && record.ttl == Ttl::Lasting
            && (record.exclude.is_none() || record.exclude != heard.life.id)
            && heard.life.registered.iter().any(|one| {
                (one.user, one.event) == (record.user, record.event) && one.done < record.start
            });
        assert!(!is_due || seen.contains(&push), "round {number}: push {push} was lost");
    }
}

/// N is the number of those who live on and have it; a surplus belongs to those who were ending.
fn check_counts(number: usize, round: &Round, heard: &[Heard<'_>], tally: &mut Tally) {
    let mut live = vec![0; round.pushes.len()];
    for heard in heard.iter().filter(|heard| heard.is_survivor) {
        for push in &heard.pushes {
            live[*push] += 1;
        }
    }
    let mut too_late = 0;
    for (push, record) in round.pushes.iter().enumerate() {
        let Some((answered, receipt)) = record.answer else { continue };
        let count = receipt.delivered();
        assert_eq!(receipt.matched, count + receipt.dropped, "round {number}: push {push}");
        let has_reason = receipt.reason.is_some();
        assert_eq!(has_reason, count == 0, "round {number}: push {push} says why: {receipt:?}");
        let of = |one: &Registered| (one.user, one.event) == (record.user, record.event);
        let excluded = heard.iter().find(|heard| {
            record.exclude.is_some() && heard.life.id == record.exclude && heard.is_survivor
        });
        let is_excluded = excluded.is_some_and(|heard| {
            heard.life.registered.iter().any(|one| of(one) && one.done < record.start)
        });
        tally.excluded += usize::from(is_excluded);
        if receipt.reason == Some(NoDelivery::Excluded) {
            assert!(record.exclude.is_some(), "round {number}: push {push} leaves nobody out");
        }
        if record.ttl == Ttl::Past {
            assert_eq!(receipt.reason, Some(NoDelivery::Expired), "round {number}: push {push}");
        }
        if record.ttl == Ttl::Short {
            assert!(live[push] <= count, "round {number}: push {push} counted {count}");
            too_late += (count - live[push]) as u64;
            continue;
        }
        let ending = heard
            .iter()
            .filter(|heard| !heard.is_survivor && heard.life.gone > record.start)
            .filter(|heard| heard.life.registered.iter().any(|one| of(one) && one.start < answered))
            .count();
        let live = live[push];
        assert!(
            (live..=live + ending).contains(&count),
            "round {number}: push {push} counted {count}, {live} have it and {ending} were ending"
        );
        tally.surplus += count - live;
    }
    if round.is_calm {
        assert_eq!(too_late, round.expired, "round {number}: what came too late is counted");
    }
    tally.expired += round.expired;
}

/// One order of all pushes to a user explains what every connection saw, in which a push that was
/// answered before another began comes first.
fn check_order(number: usize, round: &Round, heard: &[Heard<'_>], user: usize) {
    let mut after: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut before = vec![0; round.pushes.len()];
    let mut edge = |first: usize, second: usize| {
        after.entry(first).or_default().push(second);
        before[second] += 1;
    };
    for heard in heard {
        let of_user: Vec<usize> =
            heard.pushes.iter().copied().filter(|push| round.pushes[*push].user == user).collect();
        for pair in of_user.windows(2) {
            edge(pair[0], pair[1]);
        }
        // From the end: nothing that comes later was answered before this began.
        let mut earliest_answer = u64::MAX;
        for push in of_user.iter().rev() {
            let record = &round.pushes[*push];
            assert!(record.start < earliest_answer, "round {number}: push {push} came too late");
            if let Some((answered, _)) = record.answer {
                earliest_answer = earliest_answer.min(answered);
            }
        }
    }
    for pusher in 0..PUSHERS_MAX {
        let of_pusher: Vec<usize> = (0..round.pushes.len())
            .filter(|push| {
                let record = &round.pushes[*push];
                record.pusher == pusher && record.user == user && record.answer.is_some()
            })
            .collect();
        for pair in of_pusher.windows(2) {
            edge(pair[0], pair[1]);
        }
    }
    let mut free: Vec<usize> = (0..before.len()).filter(|push| before[*push] == 0).collect();
    let mut ordered = 0;
    while let Some(push) = free.pop() {
        ordered += 1;
        for next in after.remove(&push).unwrap_or_default() {
            before[next] -= 1;
            if before[next] == 0 {
                free.push(next);
            }
        }
    }
    assert_eq!(ordered, before.len(), "round {number}: two connections disagree about the order");
}

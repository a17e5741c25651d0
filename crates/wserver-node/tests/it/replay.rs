//! Connections that come back: everything they have missed, once and in order, or a gap.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::{JoinSet, yield_now};
use wserver_core::{EventName, LimitSettings, Position, PushId};
use wserver_node::{
    After, Attachment, GapReason, Message, Node, Phase, PositionError, PushOptions, Registered,
    Resumption,
};
use wserver_protocol::connection::FromServer;
use wserver_protocol::{Protocol, frame};

use crate::peer::{Peer, push_now, push_with};
use crate::wire::{FakeWire, Fate, Line, Rng, TEXT, event, limits, node, read_frames, user};

/// A node that keeps orders and chat.
fn keeping(mut limits: LimitSettings) -> Node<FakeWire> {
    limits.replay = ["order", "chat.*"].into_iter().collect();
    node(limits)
}

/// Registers these events for ann, and returns what the reply could say.
fn register(
    node: &Node<FakeWire>,
    attachment: &Attachment<FakeWire>,
    events: &[&str],
    after: Option<After>,
) -> Registered {
    let events: Vec<EventName> = events.iter().map(|name| event(name)).collect();
    let mut said = None;
    attachment.register_together(
        &user("ann"),
        &events,
        node.digest("token"),
        after,
        |registered| {
            said = Some(Registered { results: registered.results.clone(), ..registered });
            frame::text("reply")
        },
    );
    said.unwrap()
}

fn resumption(registered: &Registered) -> Resumption {
    registered.resumption.unwrap()
}

/// A new connection of version 2 with these events, and where it stands.
fn join(node: &Node<FakeWire>, events: &[&str], after: Option<After>) -> (Peer, Resumption) {
    let peer = Peer::open(node, Protocol::V2);
    let resumption = resumption(&register(node, &peer.attachment, events, after));
    (peer, resumption)
}

fn after(position: Position) -> Option<After> {
    Some(After::Position(position))
}

/// The messages that a connection was sent, and the position behind the last one.
fn messages(peer: &Peer) -> (Vec<String>, Option<Position>) {
    peer.flush();
    let texts = peer.line.texts();
    let mut last = None;
    let pushes = texts.iter().filter_map(|text| match FromServer::parse(text) {
        Some(FromServer::Push { at, message, .. }) => {
            last = at.map(|at| Position::parse(&at).unwrap()).or(last);
            Some(message.to_owned())
        }
        _ => None,
    });
    (pushes.collect(), last)
}

#[tokio::test]
async fn what_was_missed_comes_once_and_in_order_behind_the_reply() {
    let node = keeping(LimitSettings::default());
    let (first, Resumption { at, missed }) = join(&node, &["order", "chat.a", "tick"], None);
    assert_eq!(missed, None, "it did not ask");
    assert_eq!(push_now(&node, "ann", "order", "one"), 1);
    assert_eq!(push_now(&node, "ann", "tick", "not kept"), 1);
    let (heard, position) = messages(&first);
    assert_eq!(heard, ["one", "not kept"]);
    assert_ne!(position, at);
    drop(first);
    for (name, text) in
        [("order", "two"), ("tick", "lost"), ("chat.b", "other"), ("chat.a", "three")]
    {
        let receipt = push_with(&node, "ann", name, text, PushOptions::default());
        assert_eq!((receipt.delivered(), receipt.is_kept), (0, name != "tick"), "{name}");
    }
    let position = position.unwrap();
    let (second, resumed) = join(&node, &["order", "chat.a", "tick"], after(position));
    assert_eq!(resumed, Resumption { at: Some(position), missed: Some(Ok(2)) });
    assert_eq!(second.line.texts(), [""; 0], "nothing is written under a lock");
    assert_eq!(push_now(&node, "ann", "order", "four"), 1);
    let (heard, position) = messages(&second);
    assert_eq!(second.line.texts()[0], "reply");
    assert_eq!(heard, ["two", "three", "four"]);
    let (third, resumed) = join(&node, &["order"], after(position.unwrap()));
    assert_eq!(resumed, Resumption { at: position, missed: Some(Ok(0)) }, "it missed nothing");
    assert_eq!(messages(&third).0, [""; 0]);
}

#[tokio::test]
async fn nothing_is_kept_before_somebody_may_come_back() {
    let node = keeping(LimitSettings::default());
    let v1 = Peer::join(&node, "ann", &["order"]);
    let receipt = push_with(&node, "ann", "order", "one", PushOptions::default());
    assert_eq!((receipt.delivered(), receipt.is_kept), (1, false));
    assert_eq!(node.replay_gauges(), (0, 0));
    let (_v2, Resumption { at, .. }) = join(&node, &["order"], None);
    assert_eq!(at.unwrap().offset, 0);
    assert_eq!(push_now(&node, "ann", "order", "two"), 2);
    assert_eq!(v1.line.texts(), ["one", "two"], "version 1 has no positions");
}

#[tokio::test]
async fn events_that_are_not_kept_have_no_position() {
    let node = keeping(LimitSettings::default());
    let peer = Peer::open(&node, Protocol::V2);
    assert_eq!(register(&node, &peer.attachment, &["tick"], None).resumption, None);
    let of_second = resumption(&register(&node, &peer.attachment, &["order"], None));
    assert_eq!(of_second.at.map(|at| at.offset), Some(0), "the first that is kept has one");
    let third = register(&node, &peer.attachment, &["chat.a", "order"], None);
    assert_eq!(third.resumption, None, "a message may be on its way to the second");
}

#[tokio::test]
async fn a_position_of_elsewhere_is_a_gap() {
    let [one, other] = [0, 1].map(|_| keeping(LimitSettings::default()));
    let (_peer, Resumption { at, .. }) = join(&one, &["order"], None);
    let of_future = Position { offset: 7, ..at.unwrap() };
    for (node, after) in
        [(&one, Some(After::Unknown)), (&one, after(of_future)), (&other, after(at.unwrap()))]
    {
        let (_peer, resumed) = join(node, &["order"], after);
        assert_eq!(resumed.missed, Some(Err(GapReason::Restarted)));
        assert!(resumed.at.is_some(), "from now on it misses nothing");
        let counters = node.replay_counters().unwrap();
        assert!(counters.gaps_total(GapReason::Restarted).value() > 0);
    }
}

#[tokio::test]
async fn what_had_to_make_room_is_a_gap_and_nothing_is_replayed() {
    let node =
        keeping(LimitSettings { replay_bytes_per_user_max: 2000, ..LimitSettings::default() });
    let (first, Resumption { at, .. }) = join(&node, &["order"], None);
    drop(first);
    let text = "x".repeat(500);
    for _ in 0..2 {
        push_now(&node, "ann", "order", &text);
    }
    let (peer, resumed) = join(&node, &["order"], after(at.unwrap()));
    assert_eq!(resumed.missed, Some(Ok(2)), "it still fits");
    drop(peer);
    for _ in 0..2 {
        push_now(&node, "ann", "order", &text);
    }
    let (peer, resumed) = join(&node, &["order"], after(at.unwrap()));
    assert_eq!(resumed.missed, Some(Err(GapReason::Evicted)));
    assert_eq!(messages(&peer).0, [""; 0], "all or nothing");
    // A message that is larger than everything that may be kept is delivered all the same.
    assert_eq!(push_now(&node, "ann", "order", &"x".repeat(3000)), 1);
    let (_, resumed) = join(&node, &["order"], after(resumed.at.unwrap()));
    assert_eq!(resumed.missed, Some(Err(GapReason::Evicted)));
    assert!(node.replay_counters().unwrap().evicted_total.value() > 0);
}

#[tokio::test]
async fn all_logs_have_a_bound_and_take_from_nobody_else() {
    let limits = LimitSettings {
        replay_bytes_per_user_max: 4000,
        replay_bytes_max: 8000,
        ..LimitSettings::default()
    };
    let node = keeping(limits);
    let (first, Resumption { at, .. }) = join(&node, &["order"], None);
    drop(first);
    push_now(&node, "ann", "order", "kept");
    let mut refused = 0;
    for number in 0..100 {
        let name = user(&format!("u{number}"));
        match node.position(&name) {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error, PositionError::Full { max: 8000 });
                refused += 1;
            }
        }
        push_now(&node, name.as_str(), "order", &"x".repeat(500));
        assert!(node.replay_gauges().0 <= 8000, "{:?}", node.replay_gauges());
    }
    assert!(refused > 50 && node.replay_counters().unwrap().refused_total.value() == refused);
    let (peer, resumed) = join(&node, &["order"], after(at.unwrap()));
    assert_eq!(resumed.missed, Some(Ok(1)));
    assert_eq!(messages(&peer).0, ["kept"]);
}

#[tokio::test]
async fn what_is_old_goes_and_so_does_a_log_that_nobody_needs() {
    let window = Duration::from_millis(100);
    let node = keeping(LimitSettings { replay_window: window, ..LimitSettings::default() });
    let (first, Resumption { at, .. }) = join(&node, &["order"], None);
    push_now(&node, "ann", "order", "one");
    let empty = node.replay_gauges().0;
    while node.replay_gauges().0 >= empty {
        tokio::time::sleep(window / 10).await;
    }
    let (second, resumed) = join(&node, &["order"], after(at.unwrap()));
    assert_eq!(resumed.missed, Some(Err(GapReason::Expired)));
    tokio::time::sleep(3 * window).await;
    assert_eq!(node.replay_gauges().1, 1, "somebody may come back");
    drop((first, second));
    while node.replay_gauges() != (0, 0) {
        tokio::time::sleep(window / 10).await;
    }
    let (_, resumed) = join(&node, &["order"], after(resumed.at.unwrap()));
    assert_eq!(resumed.missed, Some(Err(GapReason::Expired)), "another log has begun");
}

#[tokio::test]
async fn a_push_to_everyone_is_kept_for_those_who_are_away() {
    let node = keeping(LimitSettings::default());
    let (first, Resumption { at, .. }) = join(&node, &["order"], None);
    drop(first);
    let bob = Peer::join(&node, "bob", &["order"]);
    let about = event("order");
    let mut message = Message::new(&about, PushId::new(0, 1), "all");
    let receipt = node.push_everyone(&mut message, &PushOptions::default()).await;
    assert_eq!((receipt.users, receipt.total.delivered(), receipt.total.is_kept), (1, 1, true));
    let (ann, resumed) = join(&node, &["order"], after(at.unwrap()));
    assert_eq!(resumed.missed, Some(Ok(1)));
    let receipt = node.push_everyone(&mut message, &PushOptions::default()).await;
    assert_eq!((receipt.users, receipt.total.delivered()), (2, 2));
    assert_eq!(messages(&ann).0, ["all", "all"]);
    assert_eq!(bob.line.texts(), ["all", "all"]);
}

/// A queue that is nearly full has no room for what was missed, and the client is told.
#[tokio::test]
async fn what_does_not_fit_into_the_queue_is_a_gap() {
    let node = keeping(LimitSettings {
        outboxes_bytes_max: 2 * 1024 * 1024 * 2,
        ..LimitSettings::default()
    });
    let (first, Resumption { at, .. }) = join(&node, &["order"], None);
    drop(first);
    for _ in 0..40 {
        push_now(&node, "ann", "order", &"x".repeat(1000));
    }
    let hoarder = Peer::join_with(&node, "bob", &["tick"], Fate::StallAfter(0));
    for _ in 0..4 {
        push_now(&node, "bob", "tick", &"x".repeat(1_040_000));
    }
    assert!(hoarder.attachment.outbox().queued_bytes() > 4_150_000);
    let (_peer, resumed) = join(&node, &["order"], after(at.unwrap()));
    assert_eq!(resumed.missed, Some(Err(GapReason::TooFar)));
}

/// A client that is connected, breaks and comes back, again and again.
struct Client {
    position: Option<Position>,
    /// What it got: offsets of the log and numbers of pushes.
    heard: Vec<(u64, u64)>,
    /// The offsets that gaps cover.
    excused: u64,
    gaps: usize,
}

impl Client {
    /// Reads what a connection was sent until it broke.
    fn read(&mut self, line: &Line, stands: Option<Resumption>) {
        let (frames, _torn) = read_frames(&line.taken());
        for frame in frames.iter().filter(|frame| frame.head == TEXT) {
            let text = str::from_utf8(&frame.payload).unwrap();
            let Some(FromServer::Push { at, message, .. }) = FromServer::parse(text) else {
                // The reply: from here on the position counts.
                let Resumption { at, missed } = stands.unwrap();
                let at = at.unwrap();
                if let Some(Err(_)) = missed {
                    self.gaps += 1;
                    self.excused += at.offset - self.position.map_or(0, |before| before.offset);
                }
                self.position = Some(at);
                continue;
            };
            let at = Position::parse(&at.expect("it is kept")).unwrap();
            let expected = self.position.expect("the reply comes first").offset + 1;
            assert_eq!(at.offset, expected, "no hole and nothing twice");
            let number = message.split(':').next().unwrap().parse().unwrap();
            self.position = Some(at);
            self.heard.push((at.offset, number));
        }
    }
}

/// Pushes of four publishers meet clients that break at any byte and come back at any time; each
/// client gets every message once and in order, or a gap that is true. Half of the rounds have so
/// little room that gaps happen.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_message_comes_once_and_in_order_or_there_is_a_true_gap() {
    let seed = 0x5eed_u64 ^ u64::from(std::process::id());
    println!("seed {seed}");
    let mut rng = Rng(seed);
    let (mut gaps, mut replayed) = (0, 0);
    for round in 0..40 {
        let is_tight = round % 2 == 1;
        let mut settings = limits(600, 2000);
        settings.name_bytes_max = 8;
        settings.replay_bytes_per_user_max = if is_tight { 1500 } else { 1 << 20 };
        settings.outbox_bytes_max = 2 << 20;
        let node = keeping(settings);
        let (heard, found) = run(&node, &mut rng, is_tight).await;
        gaps += found;
        replayed += node.replay_counters().unwrap().replayed_total.value();
        // All clients agree about what each offset is.
        let mut known = HashMap::new();
        for (offset, number) in heard {
            assert_eq!(*known.entry(offset).or_insert(number), number, "round {round}");
        }
    }
    assert!(gaps > 0 && replayed > 100, "{gaps} gaps, {replayed} replayed");
}

async fn run(node: &Node<FakeWire>, rng: &mut Rng, is_tight: bool) -> (Vec<(u64, u64)>, usize) {
    let pushes = Arc::new(AtomicU64::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let clients = Arc::new(Mutex::new(Vec::new()));
    // The log exists before the first push.
    node.position(&user("ann")).unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let (node, is_over) = (node.clone(), Arc::clone(&is_over));
        let (mut rng, clients) = (rng.fork(), Arc::clone(&clients));
        tasks.spawn(async move {
            let mut client = Client { position: None, heard: Vec::new(), excused: 0, gaps: 0 };
            loop {
                let is_last = is_over.load(Ordering::Acquire);
                let fate = if is_last { Fate::Flow } else { Fate::BreakAfter(rng.below(4000)) };
                let line = Line::new((!is_last).then(|| rng.fork()), fate);
                let attachment = node.open(FakeWire(Arc::clone(&line)), Protocol::V2).unwrap();
                let after = client.position.map(After::Position);
                let stands = register(&node, &attachment, &["order", "chat.a"], after).resumption;
                let peer = Peer { attachment, line };
                let mut polls = rng.below(30);
                while is_last || polls > 0 {
                    let flush = peer.flush();
                    let at_rest = node.tasks().count() <= 2;
                    if flush.phase != Phase::Open || (is_last && flush.is_empty && at_rest) {
                        break;
                    }
                    polls = polls.saturating_sub(1);
                    yield_now().await;
                }
                // A connection that breaks loses what its socket had not taken.
                client.read(&peer.line, stands);
                if is_last {
                    break;
                }
            }
            clients.lock().unwrap().push(client);
        });
    }
    let mut pushers = JoinSet::new();
    for pusher in 0..4 {
        let (node, pushes, mut rng) = (node.clone(), Arc::clone(&pushes), rng.fork());
        pushers.spawn(async move {
            let events = [event("order"), event("chat.a")];
            for _ in 0..60 {
                let number = pushes.fetch_add(1, Ordering::Relaxed);
                let text = format!("{number}:{}", "x".repeat(rng.below(500)));
                let mut message =
                    Message::new(&events[rng.below(2)], PushId::new(pusher, number), &text);
                let options = PushOptions::default();
                let receipt = node.push_with(&user("ann"), &mut message, &options).await;
                assert!(receipt.is_kept);
                if rng.chance(30) {
                    yield_now().await;
                }
            }
        });
    }
    while let Some(ended) = pushers.join_next().await {
        ended.unwrap();
    }
    is_over.store(true, Ordering::Release);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let all = pushes.load(Ordering::Relaxed);
    let clients = std::mem::take(&mut *clients.lock().unwrap());
    let mut heard = Vec::new();
    let mut gaps = 0;
    for client in clients {
        assert_eq!(client.position.unwrap().offset, all, "it knows the end");
        let first = client.heard.first().map_or(all, |(offset, _)| offset - 1);
        let got = client.heard.len() as u64;
        assert!(
            got + client.excused + first >= all,
            "{got} + {} + {first} < {all}",
            client.excused
        );
        assert!(is_tight || client.gaps == 0, "there was room for everything");
        gaps += client.gaps;
        heard.extend(client.heard);
    }
    (heard, gaps)
}

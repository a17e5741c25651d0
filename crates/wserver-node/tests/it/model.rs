//! The fan-out under everything at once: rounds of random pushes, joins, leaves, stalls and failures.
//!
//! A round only acts and keeps records; what must hold of them is in `verdict`. Rounds are drawn
//! from a printed seed, the interleaving is the runtime's.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use tokio::task::{JoinSet, yield_now};
use wserver_core::{CloseReason, ConnectionId, EventName, PushId, UserId};
use wserver_node::{Attachment, Message, Node, Phase, PushOptions, PushReceipt, Selection};
use wserver_protocol::Protocol;

use crate::verdict::{self, Tally};
use crate::wire::{FakeWire, Fate, Line, Rng, event, limits, node, user};

/// Rounds of one run.
const ROUNDS: usize = 300;
/// Pushers of one round, and pushes of each.
pub(crate) const PUSHERS_MAX: usize = 4;
const EACH_MAX: usize = 40;
/// A round that hangs is a bug; nothing else is measured by it.
const PATIENCE: Duration = Duration::from_secs(60);

/// One push, and what is known of it.
pub(crate) struct PushRecord {
    pub(crate) user: usize,
    pub(crate) event: usize,
    pub(crate) pusher: usize,
    pub(crate) start: u64,
    /// Whom it leaves out.
    pub(crate) exclude: Option<ConnectionId>,
    pub(crate) ttl: Ttl,
    /// When it was answered, and with what; `None` if its caller left.
    pub(crate) answer: Option<(u64, PushReceipt)>,
}

/// How long a push holds good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ttl {
    /// For ever, or longer than any round.
    Lasting,
    /// It may be over at any time.
    Short,
    /// It is over before the push begins.
    Past,
}

/// One registration: when it was begun, and when it was bound if it was.
pub(crate) struct Registered {
    pub(crate) user: usize,
    pub(crate) event: usize,
    pub(crate) start: u64,
    pub(crate) done: u64,
}

/// One connection from its opening to its end.
pub(crate) struct Life {
    /// `None` if it was not let in.
    pub(crate) id: Option<ConnectionId>,
    pub(crate) protocol: Protocol,
    pub(crate) registered: Vec<Registered>,
    pub(crate) line: Arc<Line>,
    /// The phase it was last seen in.
    pub(crate) end: Phase,
    /// When nothing of it was left in the node.
    pub(crate) gone: u64,
}

/// Everything that happened in a round.
pub(crate) struct Round {
    /// Nobody left and no queue could fill, so every count must be exact.
    pub(crate) is_calm: bool,
    pub(crate) pushes: Vec<PushRecord>,
    pub(crate) lives: Vec<Life>,
    pub(crate) drained: usize,
    /// Messages that were counted and came too late.
    pub(crate) expired: u64,
}

/// A moment, in the order of the round.
#[derive(Default)]
struct Ticks(AtomicU64);

impl Ticks {
    fn now(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

struct World {
    node: Node<FakeWire>,
    ticks: Ticks,
    users: Vec<UserId>,
    events: Vec<EventName>,
    /// Everybody who was let in so far.
    ids: Mutex<Vec<ConnectionId>>,
}

/// What a push with this number is known by.
pub(crate) const fn id_of(number: usize) -> PushId {
    PushId::new(7, number as u64)
}

/// What is registered and pushed for; one has to be escaped in JSON.
pub(crate) const EVENTS: [&str; 3] = ["news", "\"\n\"", "mail"];

enum Step {
    Register { user: usize, event: usize },
    Leave,
    Close,
    Disconnect,
}

struct Script {
    protocol: Protocol,
    join_after: usize,
    /// Each with the polls that pass before it.
    steps: Vec<(usize, Step)>,
}

#[test]
fn the_fan_out_keeps_its_promises() {
    let seed = std::env::var("WSERVER_MODEL_SEED").ok().map_or_else(
        || SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() & u128::from(u64::MAX),
        |seed| seed.parse().unwrap(),
    );
    println!("WSERVER_MODEL_SEED={seed}");
    let mut rng = Rng(u64::try_from(seed).unwrap());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let mut tally = Tally::default();
    for number in 0..ROUNDS {
        let mut rng = rng.fork();
        let round = runtime
            .block_on(async { tokio::time::timeout(PATIENCE, play(&mut rng, &mut tally)).await });
        let round = round.unwrap_or_else(|_| panic!("round {number} hangs"));
        verdict::check(number, &round, &mut tally);
    }
    println!("{tally:?}");
    // The rounds must have been what they are meant to be.
    assert!(tally.merged_writes > 0, "walks merge");
    assert!(tally.waited > 0, "pushes wait for walks");
    assert!(tally.evicted > 0 && tally.survivors > 0, "some are evicted, some live on");
    assert!(tally.without_room > 0, "some find no room among all queues");
    assert!(tally.small > 0 && tally.large > 0, "groups of both sizes");
    assert!(tally.excluded > 0, "some are left out");
    assert!(tally.expired > 0, "some messages come too late");
    assert!(tally.v2_frames > 0, "some connections speak version 2");
    assert!(tally.v2_frames < tally.frames, "and some do not");
}

async fn play(rng: &mut Rng, tally: &mut Tally) -> Round {
    let is_calm = rng.chance(35);
    let message_bytes_max = if rng.chance(15) { 20 * 1024 } else { 200 };
    let mut settings = limits(message_bytes_max, 256 << rng.below(3));
    if is_calm {
        settings.outbox_bytes_max = 64 << 20;
    } else if rng.chance(30) {
        // Few queues fill all the room there is.
        settings.outboxes_bytes_max = settings.outbox_bytes_max * (1 + rng.below(3));
    }
    let world = Arc::new(World {
        node: node(settings),
        ticks: Ticks::default(),
        users: ["ann", "bob"].map(user).to_vec(),
        events: EVENTS.map(event).to_vec(),
        ids: Mutex::default(),
    });
    let users = 1 + rng.below(2);
    let members = [1 + rng.below(20), 25 + rng.below(20), 50 + rng.below(40)][rng.below(3)];
    if members > 32 {
        tally.large += 1;
    } else {
        tally.small += 1;
    }

    let v2_percent = [0, 50, 100][rng.below(3)];
    let mut lives = JoinSet::new();
    let mut lines = Vec::new();
    for _ in 0..members {
        let fate = match rng.below(100) {
            0..15 if !is_calm => Fate::StallAfter(rng.below(2000)),
            15..20 if !is_calm => Fate::BreakAfter(rng.below(2000)),
            _ => Fate::Flow,
        };
        let moods = rng.chance(60).then(|| rng.fork());
        let line = Line::new(moods, fate);
        lines.push(Arc::clone(&line));
        lives.spawn(live(Arc::clone(&world), script(rng, users, is_calm, v2_percent), line));
    }
    let mut pushers = JoinSet::new();
    for pusher in 0..1 + rng.below(PUSHERS_MAX) {
        let count = EACH_MAX / 4 + rng.below(EACH_MAX * 3 / 4);
        pushers.spawn(push(
            Arc::clone(&world),
            rng.fork(),
            pusher,
            users,
            count,
            message_bytes_max,
        ));
    }
    let pushes: Vec<PushRecord> = numbered(pushers.join_all().await);
    for line in &lines {
        line.unstall();
    }
    // What was counted is on its way until the last walker is done; the sweep is a task as well.
    while world.node.tasks().count() > 1 {
        yield_now().await;
    }
    let drained = world.node.drain(tokio::time::Instant::now() + PATIENCE).await;
    assert_eq!(drained.cut_off, 0);
    let lives = lives.join_all().await;

    let counters = world.node.counters();
    let answered = || pushes.iter().filter_map(|push| push.answer);
    assert_eq!(counters.pushes_total.value(), answered().count() as u64);
    assert_eq!(
        counters.deliveries_total.value(),
        answered().map(|(_, receipt)| receipt.delivered() as u64).sum::<u64>()
    );
    tally.waited += counters.pushes_waited_total.value();
    let counts = world.node.counts();
    assert_eq!((counts.users, counts.connections, counts.registrations), (0, 0, 0), "all unbound");
    assert_eq!(world.node.connections_open(), 0);
    assert_eq!(world.node.outboxes_bytes(), 0, "what was queued has been written or let go");
    tally.without_room += counters.outboxes_full_evictions_total.value();
    world.node.tasks().stop();
    world.node.tasks().finished().await;
    let expired = world.node.counters().deliveries_expired_total.value();
    Round { is_calm, pushes, lives, drained: drained.closed, expired }
}

/// The pushes, each at its number, which is what its message says.
fn numbered(all: Vec<Vec<(usize, PushRecord)>>) -> Vec<PushRecord> {
    let never = || PushRecord {
        user: 0,
        event: 0,
        pusher: usize::MAX,
        start: 0,
        exclude: None,
        ttl: Ttl::Lasting,
        answer: None,
    };
    let mut pushes: Vec<PushRecord> = (0..PUSHERS_MAX * EACH_MAX).map(|_| never()).collect();
    for (number, record) in all.into_iter().flatten() {
        pushes[number] = record;
    }
    pushes
}

fn script(rng: &mut Rng, users: usize, is_calm: bool, v2_percent: usize) -> Script {
    let protocol = if rng.chance(v2_percent) { Protocol::V2 } else { Protocol::V1 };
    let mut steps = Vec::new();
    for _ in 0..1 + rng.below(4) {
        let step = Step::Register { user: rng.below(users), event: rng.below(3) };
        steps.push((rng.below(12), step));
    }
    if !is_calm {
        match rng.below(100) {
            0..12 => steps.push((rng.below(60), Step::Leave)),
            12..20 => steps.push((rng.below(60), Step::Close)),
            20..28 => steps.push((rng.below(60), Step::Disconnect)),
            _ => {}
        }
    }
    Script { protocol, join_after: rng.below(30), steps }
}

/// Drives one connection as the edge's task does: a poll does what is to be done and waits for a waker.
async fn live(world: Arc<World>, script: Script, line: Arc<Line>) -> Life {
    for _ in 0..script.join_after {
        yield_now().await;
    }
    let end = Phase::Ended(CloseReason::PeerGone);
    let protocol = script.protocol;
    let mut life = Life { id: None, protocol, registered: Vec::new(), line, end, gone: 0 };
    let Ok(attachment) = world.node.open(FakeWire(Arc::clone(&life.line)), protocol) else {
        return life;
    };
    life.id = Some(attachment.id());
    world.ids.lock().unwrap().push(attachment.id());
    let mut steps = script.steps.into_iter();
    let mut next = steps.next();
    life.end = poll_fn(|cx| poll(&world, &attachment, &mut steps, &mut next, &mut life, cx)).await;
    let outbox = Arc::clone(attachment.outbox());
    drop(attachment);
    if let Phase::Ended(_) = life.end {
        // Whoever closed it first gave the reason.
        life.end = outbox.phase();
    }
    life.gone = world.ticks.now();
    life
}

fn poll(
    world: &World,
    attachment: &Attachment<FakeWire>,
    steps: &mut impl Iterator<Item = (usize, Step)>,
    next: &mut Option<(usize, Step)>,
    life: &mut Life,
    cx: &mut Context<'_>,
) -> Poll<Phase> {
    let flush = attachment.poll_flush(cx);
    match flush.phase {
        Phase::Open => {}
        Phase::Closing(_) if !flush.is_empty => {
            // The peer begins to read again and finds the Close.
            life.line.unstall();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        phase @ (Phase::Closing(_) | Phase::Ended(_)) => return Poll::Ready(phase),
    }
    let Some((polls, step)) = next else { return Poll::Pending };
    cx.waker().wake_by_ref();
    if *polls > 0 {
        *polls -= 1;
        return Poll::Pending;
    }
    match step {
        Step::Register { user, event } => {
            let start = world.ticks.now();
            let token = world.node.digest("token");
            let (name, about) = (&world.users[*user], &world.events[*event]);
            let bound = attachment.register(name, about, token);
            // One that found the connection ending was bound for a moment all the same.
            let done = if bound.is_ok() { world.ticks.now() } else { u64::MAX };
            life.registered.push(Registered { user: *user, event: *event, start, done });
        }
        Step::Leave => return Poll::Ready(Phase::Ended(CloseReason::PeerGone)),
        Step::Close => {
            attachment.close(CloseReason::Expired);
        }
        Step::Disconnect => {
            world.node.disconnect(Selection::Connection(attachment.id()));
        }
    }
    *next = steps.next();
    Poll::Pending
}

/// One caller that awaits each answer, or now and then leaves before it.
async fn push(
    world: Arc<World>,
    mut rng: Rng,
    pusher: usize,
    users: usize,
    count: usize,
    message_bytes_max: usize,
) -> Vec<(usize, PushRecord)> {
    let mut records = Vec::with_capacity(count);
    for turn in 0..count {
        let number = pusher * EACH_MAX + turn;
        let (user, event) = (rng.below(users), rng.below(3));
        let length = if rng.chance(20) { message_bytes_max } else { 60.min(message_bytes_max) };
        let text = format!("{number}:{}", "x".repeat(length - 8));
        let start = world.ticks.now();
        let exclude = if rng.chance(25) { world.somebody(&mut rng) } else { None };
        let (ttl, expires_at) = ttl(&mut rng);
        let options = PushOptions { exclude, expires_at };
        let (name, about) = (&world.users[user], &world.events[event]);
        let mut message = Message::new(about, id_of(number), &text);
        let pushing = world.node.push_with(name, &mut message, &options);
        // What came too late can only be told from what was lost where there is an answer.
        let answer = if ttl == Ttl::Lasting && rng.chance(4) {
            tokio::select! {
                biased;
                receipt = pushing => Some(receipt),
                () = yield_now() => None,
            }
        } else {
            Some(pushing.await)
        };
        let answer = answer.map(|receipt| (world.ticks.now(), receipt));
        let record = PushRecord { user, event, pusher, start, exclude, ttl, answer };
        records.push((number, record));
        if rng.chance(10) {
            yield_now().await;
        }
    }
    records
}

fn ttl(rng: &mut Rng) -> (Ttl, Option<Instant>) {
    let now = Instant::now();
    match rng.below(100) {
        0..3 => (Ttl::Past, Some(now)),
        3..15 => (Ttl::Short, Some(now + Duration::from_micros(rng.below(300) as u64))),
        15..20 => (Ttl::Lasting, Some(now + 10 * PATIENCE)),
        _ => (Ttl::Lasting, None),
    }
}

impl World {
    fn somebody(&self, rng: &mut Rng) -> Option<ConnectionId> {
        let ids = self.ids.lock().unwrap();
        (!ids.is_empty()).then(|| ids[rng.below(ids.len())])
    }
}

//! Remembers answers for a while, so that a repeated request does not push again.
//!
//! In a cluster each node remembers what it has answered, and asks the others before it carries out
//! a request with a key that it does not know. If two nodes get the same request at once, both have
//! noted it before they ask, so at least one learns of the other: a node that has asked nobody yet
//! gives way to one with a lower id, and every node to one that has begun to carry it out. The key
//! and the request travel as digests.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;
use wserver_auth::{Publisher, PublisherId};
use wserver_core::setting_name;
use wserver_node::{Counter, Tasks};

use crate::limits::HttpLimitSettings;
use crate::reply::refused::Refused;

/// How long an answer is remembered.
const LIFETIME: Duration = Duration::from_secs(600);
/// The bytes that an answer costs besides its text.
const ENTRY_BYTES: usize = 256;
/// The longest key, in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 255;

/// The remembered answers of one server.
pub(crate) struct Idempotency {
    bytes_max: usize,
    /// Requests under way that have a key; they are not forgotten, so that none is carried out
    /// twice.
    running_max: usize,
    store: Mutex<Store>,
    /// Answers that were forgotten early, because there was no room.
    pub(crate) evicted_total: Counter,
    /// Requests that got a remembered answer.
    pub(crate) replayed_total: Counter,
}

#[derive(Default)]
struct Store {
    /// By publisher and key.
    entries: HashMap<Digest, Entry>,
    /// The answered ones, oldest first.
    answered: VecDeque<Digest>,
    /// Invariant: the bytes of the answered entries, by [`bytes`].
    bytes: usize,
    /// Invariant: the number of entries under way.
    running: usize,
}

/// A digest of parts, the same on every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest([u8; 16]);

impl Digest {
    /// Different lists of parts give different digests, however their bytes are divided.
    pub(crate) fn of<const N: usize>(parts: [&[u8]; N]) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let mut half = [0; 16];
        half.copy_from_slice(&digest.finalize()[..16]);
        Self(half)
    }

    /// Reads the text of a digest.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

struct Entry {
    /// A digest of the request's path and body, and of the publisher's scope.
    request: Digest,
    state: State,
}

enum State {
    /// The other nodes are being asked.
    Asking {
        /// Another node goes first.
        gives_way: bool,
    },
    /// It is carried out.
    UnderWay,
    Answered(Arc<str>, Instant),
}

/// What a node knows of a request with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing.
    Nothing,
    /// It is under way there.
    UnderWay,
    /// It got this answer.
    Answered(Arc<str>),
    /// The key belongs to another request.
    Another,
}

impl Known {
    /// Of what several nodes know, the weightiest counts.
    pub(crate) const fn weight(&self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::UnderWay => 1,
            Self::Answered(_) => 2,
            Self::Another => 3,
        }
    }
}

/// What the other nodes know of a request.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) known: Known,
    /// The nodes that did not answer, so that it cannot be known whether they know it.
    pub(crate) unheard: Vec<String>,
}

/// The answer to a request with a key.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) text: Arc<str>,
    /// Whether it is the remembered answer of an earlier request.
    pub(crate) is_replayed: bool,
    /// The nodes that may have carried it out before, because they did not say.
    pub(crate) unheard: Vec<String>,
}

/// What to do with a request that has a key.
pub(crate) enum Lookup {
    /// Carry it out, and pass the answer to [`Ticket::finish`].
    New(Ticket),
    /// Return this remembered answer.
    Answered(Arc<str>),
}

impl Idempotency {
    pub(crate) fn new(bytes_max: usize, running_max: usize) -> Self {
        Self {
            bytes_max,
            running_max,
            store: Mutex::default(),
            evicted_total: Counter::default(),
            replayed_total: Counter::default(),
        }
    }

    /// Carries a request out once, however often it comes with its key.
    ///
    /// The request is carried out to its end even if the client disconnects, because that client
    /// will send it again. The caller has checked that the publisher may make the request: only the
    /// same publisher with the same scope gets a remembered answer, because the answer was made for
    /// that scope. `ask` asks the other nodes.
    pub(crate) async fn once<R>(
        self: &Arc<Self>,
        tasks: &Tasks,
        publisher: &Publisher,
        key: &str,
        (path, body): (&str, &[u8]),
        ask: impl AsyncFnOnce(Digest, Digest) -> Asked,
        work: impl Future<Output = Result<String, R>> + Send + 'static,
    ) -> Result<Answered, R>
    where
        R: From<Refused> + Send + 'static,
    {
        let scope = format!("{:?}", publisher.scope);
        let request = Digest::of([path.as_bytes(), body, scope.as_bytes()]);
        let repeated = |text| Answered { text, is_replayed: true, unheard: Vec::new() };
        let ticket = match self.begin(publisher.id(), key, request, Instant::now())? {
            Lookup::Answered(text) => return Ok(repeated(text)),
            Lookup::New(ticket) => ticket,
        };
        let Asked { known, unheard } = ask(ticket.id, request).await;
        match known {
            Known::Another => return Err(Refused::KeyReused.into()),
            Known::UnderWay => return Err(Refused::KeyInUse.into()),
            Known::Answered(text) => {
                self.replayed_total.increment();
                return Ok(repeated(text));
            }
            Known::Nothing if !ticket.goes_on() => return Err(Refused::KeyInUse.into()),
            Known::Nothing => {}
        }
        let (sender, receiver) = oneshot::channel();
        tasks.spawn(async move {
            let answer = work.await.map(Arc::<str>::from);
            if let Ok(answer) = &answer {
                ticket.finish(Arc::clone(answer), Instant::now());
            }
            // The client may have disconnected.
            let _ = sender.send(answer);
        });
        let text = receiver.await.unwrap_or_else(|_failed| Err(Refused::Failed.into()))?;
        Ok(Answered { text, is_replayed: false, unheard })
    }

    /// Looks for an earlier request with the same key.
    ///
    /// # Errors
    /// If that request is still under way, if the key was used for another request, or if too many
    /// requests are under way.
    pub(crate) fn begin(
        self: &Arc<Self>,
        publisher: PublisherId,
        key: &str,
        request: Digest,
        now: Instant,
    ) -> Result<Lookup, Refused> {
        let method = publisher.method().as_bytes();
        let id = Digest::of([method, publisher.digest(), key.as_bytes()]);
        let mut store = self.lock();
        store.forget_old(now);
        if let Some(entry) = store.entries.get(&id) {
            return match &entry.state {
                _ if entry.request != request => Err(Refused::KeyReused),
                State::Asking { .. } | State::UnderWay => Err(Refused::KeyInUse),
                State::Answered(answer, _) => {
                    self.replayed_total.increment();
                    Ok(Lookup::Answered(Arc::clone(answer)))
                }
            };
        }
        if store.running >= self.running_max {
            return Err(Refused::Busy {
                why: "too many requests with an Idempotency-Key are under way",
                setting: Some(setting_name!(HttpLimitSettings, http_connections_max)),
            });
        }
        let state = State::Asking { gives_way: false };
        store.entries.insert(id, Entry { request, state });
        store.running += 1;
        Ok(Lookup::New(Ticket { store: Arc::clone(self), id }))
    }

    /// What this node knows of a request that another node has got. `goes_first` says that the other
    /// goes first if both are still asking.
    pub(crate) fn known(&self, id: Digest, request: Digest, goes_first: bool) -> Known {
        let mut store = self.lock();
        store.forget_old(Instant::now());
        match store.entries.get_mut(&id) {
            None => Known::Nothing,
            Some(entry) if entry.request != request => Known::Another,
            Some(entry) => match &mut entry.state {
                State::Asking { gives_way } if goes_first => {
                    *gives_way = true;
                    Known::Nothing
                }
                State::Asking { .. } | State::UnderWay => Known::UnderWay,
                State::Answered(answer, _) => Known::Answered(Arc::clone(answer)),
            },
        }
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        // No code under this lock can panic in the middle of a change.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request under way. Dropping it forgets its key, so that it may be sent again.
pub(crate) struct Ticket {
    store: Arc<Idempotency>,
    id: Digest,
}

impl Ticket {
    /// Begins to carry the request out, unless another node goes first.
    fn goes_on(&self) -> bool {
        let mut store = self.store.lock();
        let Some(entry) = store.entries.get_mut(&self.id) else { return false };
        let goes_on = !matches!(entry.state, State::Asking { gives_way: true });
        if goes_on {
            entry.state = State::UnderWay;
        }
        goes_on
    }

    /// Remembers the answer.
    pub(crate) fn finish(self, answer: Arc<str>, now: Instant) {
        let mut store = self.store.lock();
        let bytes = bytes(&answer);
        if bytes > self.store.bytes_max {
            self.store.evicted_total.increment();
            return;
        }
        while store.bytes + bytes > self.store.bytes_max && store.forget_oldest() {
            self.store.evicted_total.increment();
        }
        if let Some(entry) = store.entries.get_mut(&self.id) {
            entry.state = State::Answered(answer, now);
            store.answered.push_back(self.id);
            store.bytes += bytes;
            store.running -= 1;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut store = self.store.lock();
        if store
            .entries
            .get(&self.id)
            .is_some_and(|entry| !matches!(entry.state, State::Answered(..)))
        {
            store.entries.remove(&self.id);
            store.running -= 1;
        }
    }
}

impl Store {
    fn forget_old(&mut self, now: Instant) {
        let is_old = |entry: &Entry| match entry.state {
            State::Answered(_, at) => now.saturating_duration_since(at) >= LIFETIME,
            State::Asking { .. } | State::UnderWay => false,
        };
        while self.answered.front().and_then(|id| self.entries.get(id)).is_some_and(is_old) {
            self.forget_oldest();
        }
    }

    /// Returns whether there was one.
    fn forget_oldest(&mut self) -> bool {
        let Some(id) = self.answered.pop_front() else { return false };
        if let Some(Entry { state: State::Answered(answer, _), .. }) = self.entries.remove(&id) {
            self.bytes -= bytes(&answer);
        }
        true
    }
}

fn bytes(answer: &str) -> usize {
    ENTRY_BYTES + answer.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publisher(name: &str) -> PublisherId {
        Publisher::new().with_name(name).id()
    }

    fn store(bytes_max: usize) -> Arc<Idempotency> {
        Arc::new(Idempotency::new(bytes_max, 2))
    }

    fn begin(
        store: &Arc<Idempotency>,
        key: &str,
        body: &str,
        now: Instant,
    ) -> Result<Lookup, Refused> {
        store.begin(publisher("shop"), key, Digest::of([b"/v2/push", body.as_bytes()]), now)
    }

    /// Carries a request out.
    fn run(store: &Arc<Idempotency>, key: &str, now: Instant) {
        let Ok(Lookup::New(ticket)) = begin(store, key, "body", now) else {
            panic!("{key} is known")
        };
        ticket.finish("answer".into(), now);
    }

    fn is_known(store: &Arc<Idempotency>, key: &str, now: Instant) -> bool {
        match begin(store, key, "body", now).unwrap() {
            Lookup::New(_) => false,
            Lookup::Answered(answer) => &*answer == "answer",
        }
    }

    #[test]
    fn an_answer_is_repeated_for_ten_minutes() {
        let (store, now) = (store(10_000), Instant::now());
        run(&store, "a", now);
        assert!(is_known(&store, "a", now + LIFETIME - Duration::from_millis(1)));
        assert!(!is_known(&store, "b", now));
        assert!(matches!(begin(&store, "a", "other", now), Err(Refused::KeyReused)));
        let elsewhere =
            store.begin(publisher("shop"), "a", Digest::of([b"/v2/push/batch", b"body"]), now);
        assert!(matches!(elsewhere, Err(Refused::KeyReused)));
        let other = store.begin(publisher("blog"), "a", Digest::of([b"/v2/push", b"body"]), now);
        assert!(matches!(other, Ok(Lookup::New(_))), "another publisher's key is another key");
        drop(other);
        assert!(!is_known(&store, "a", now + LIFETIME));
        assert_eq!((store.replayed_total.value(), store.evicted_total.value()), (1, 0));
    }

    #[test]
    fn a_request_under_way_is_not_run_again() {
        let (store, now) = (store(10_000), Instant::now());
        let running = begin(&store, "a", "body", now).unwrap();
        assert!(matches!(begin(&store, "a", "body", now), Err(Refused::KeyInUse)));
        assert!(matches!(begin(&store, "a", "other", now), Err(Refused::KeyReused)));
        let second = begin(&store, "b", "body", now).unwrap();
        assert!(matches!(begin(&store, "c", "body", now), Err(Refused::Busy { .. })));
        drop((running, second));
        run(&store, "a", now);
        run(&store, "c", now);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes_first() {
        let (store, now) = (store(1000), Instant::now());
        for key in ["a", "b", "c", "d"] {
            run(&store, key, now);
        }
        assert!(store.lock().bytes <= 1000);
        assert_eq!(
            ["a", "b", "c", "d"].map(|key| is_known(&store, key, now)),
            [false, true, true, true]
        );
        assert_eq!(store.evicted_total.value(), 1);
        let Ok(Lookup::New(ticket)) = begin(&store, "e", "body", now) else { panic!("e is known") };
        ticket.finish("x".repeat(1000).into(), now);
        assert!(is_known(&store, "d", now) && !is_known(&store, "e", now), "too long to be kept");
        assert_eq!(store.evicted_total.value(), 2);
        let store = store.lock();
        assert_eq!((store.entries.len(), store.answered.len(), store.running), (3, 3, 0));
    }

    /// Two nodes get the same request, whatever comes first: one of them carries it out.
    #[test]
    fn of_two_nodes_one_goes_on() {
        let now = Instant::now();
        let request = Digest::of([b"/v2/push", b"body"]);
        // In which order each of two nodes begins, asks the other and decides.
        let orders = ["112233", "121233", "121323", "112323", "122133", "123"];
        for order in orders {
            let nodes = [store(10_000), store(10_000)];
            let mut steps = [0, 0];
            let mut tickets = [None, None];
            let mut known = [Known::Nothing, Known::Nothing];
            let mut carried = 0;
            // Each character is a step of the one, then of the other node.
            let turns = order.chars().enumerate().map(|(turn, _)| turn % 2);
            for at in turns.chain([0, 1, 0, 1, 0, 1]) {
                let other = 1 - at;
                match steps[at] {
                    0 => {
                        let Ok(Lookup::New(ticket)) = begin(&nodes[at], "a", "body", now) else {
                            panic!("it is new")
                        };
                        tickets[at] = Some(ticket);
                    }
                    1 => {
                        let id = tickets[at].as_ref().unwrap().id;
                        known[at] = nodes[other].known(id, request, at < other);
                    }
                    2 if known[at] == Known::Nothing => {
                        carried += usize::from(tickets[at].as_ref().unwrap().goes_on());
                    }
                    _ => {}
                }
                steps[at] += 1;
            }
            assert_eq!(carried, 1, "{order}");
        }
    }

    #[test]
    fn another_node_learns_what_is_known() {
        let (store, now) = (store(10_000), Instant::now());
        let request = Digest::of([b"/v2/push", b"body"]);
        let Ok(Lookup::New(ticket)) = begin(&store, "a", "body", now) else { panic!("it is new") };
        let id = ticket.id;
        assert_eq!(Digest::parse(&id.to_string()), Some(id));
        assert_eq!(store.known(id, request, false), Known::UnderWay);
        assert!(ticket.goes_on());
        assert_eq!(store.known(id, request, true), Known::UnderWay, "it has begun");
        ticket.finish("answer".into(), now);
        assert_eq!(store.known(id, request, true), Known::Answered("answer".into()));
        assert_eq!(store.known(id, Digest::of([b"other"]), true), Known::Another);
        assert_eq!(store.known(Digest::of([b"b"]), request, true), Known::Nothing);
    }
}

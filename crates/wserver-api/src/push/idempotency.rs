//! Remembers answers for a while, so that a repeated request does not push again.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use wserver_auth::{Publisher, PublisherId};
use wserver_core::setting_name;
use wserver_node::{Counter, Tasks};

use crate::limits::HttpLimitSettings;
use crate::reply::refused::Refused;

/// How long an answer is remembered.
const LIFETIME: Duration = Duration::from_secs(600);
/// The bytes that an answer costs besides its text and its key.
const ENTRY_BYTES: usize = 256;
/// The longest key, in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 255;

/// The remembered answers of one server.
pub(crate) struct Idempotency {
    digests: RandomState,
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
    entries: HashMap<Id, Entry>,
    /// The answered ones, oldest first.
    answered: VecDeque<Id>,
    /// Invariant: the bytes of the answered entries, by [`bytes`].
    bytes: usize,
    /// Invariant: the number of entries under way.
    running: usize,
}

/// The publisher of a key, and the key.
type Id = Arc<(PublisherId, String)>;

struct Entry {
    /// A digest of the request's path and body, and of the publisher's scope.
    digest: u64,
    /// `None` while it is under way.
    answer: Option<(Arc<str>, Instant)>,
}

/// The answer to a request with a key.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) text: Arc<str>,
    /// Whether it is the remembered answer of an earlier request.
    pub(crate) is_replayed: bool,
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
            digests: RandomState::new(),
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
    /// that scope.
    pub(crate) async fn once<R>(
        self: &Arc<Self>,
        tasks: &Tasks,
        publisher: &Publisher,
        key: &str,
        (path, body): (&str, &[u8]),
        arrived: Instant,
        work: impl Future<Output = Result<String, R>> + Send + 'static,
    ) -> Result<Answered, R>
    where
        R: From<Refused> + Send + 'static,
    {
        let request = (path, body, &publisher.scope);
        let ticket = match self.begin(publisher.id(), key, request, arrived)? {
            Lookup::Answered(text) => return Ok(Answered { text, is_replayed: true }),
            Lookup::New(ticket) => ticket,
        };
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
        Ok(Answered { text, is_replayed: false })
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
        request: impl Hash,
        now: Instant,
    ) -> Result<Lookup, Refused> {
        let id: Id = Arc::new((publisher, key.to_owned()));
        let digest = self.digests.hash_one(request);
        let mut store = self.lock();
        store.forget_old(now);
        if let Some(entry) = store.entries.get(&id) {
            return match &entry.answer {
                _ if entry.digest != digest => Err(Refused::KeyReused),
                None => Err(Refused::KeyInUse),
                Some((answer, _)) => {
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
        store.entries.insert(Arc::clone(&id), Entry { digest, answer: None });
        store.running += 1;
        Ok(Lookup::New(Ticket { store: Arc::clone(self), id }))
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        // No code under this lock can panic in the middle of a change.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request under way. Dropping it forgets its key, so that it may be sent again.
pub(crate) struct Ticket {
    store: Arc<Idempotency>,
    id: Id,
}

impl Ticket {
    /// Remembers the answer.
    pub(crate) fn finish(self, answer: Arc<str>, now: Instant) {
        let mut store = self.store.lock();
        let bytes = bytes(&self.id, &answer);
        if bytes > self.store.bytes_max {
            self.store.evicted_total.increment();
            return;
        }
        while store.bytes + bytes > self.store.bytes_max && store.forget_oldest() {
            self.store.evicted_total.increment();
        }
        if let Some(entry) = store.entries.get_mut(&self.id) {
            entry.answer = Some((answer, now));
            store.answered.push_back(Arc::clone(&self.id));
            store.bytes += bytes;
            store.running -= 1;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut store = self.store.lock();
        if store.entries.get(&self.id).is_some_and(|entry| entry.answer.is_none()) {
            store.entries.remove(&self.id);
            store.running -= 1;
        }
    }
}

impl Store {
    fn forget_old(&mut self, now: Instant) {
        let is_old = |entry: &Entry| {
            entry
                .answer
                .as_ref()
                .is_some_and(|(_, at)| now.saturating_duration_since(*at) >= LIFETIME)
        };
        while self.answered.front().and_then(|id| self.entries.get(id)).is_some_and(is_old) {
            self.forget_oldest();
        }
    }

    /// Returns whether there was one.
    fn forget_oldest(&mut self) -> bool {
        let Some(id) = self.answered.pop_front() else { return false };
        if let Some(Entry { answer: Some((answer, _)), .. }) = self.entries.remove(&id) {
            self.bytes -= bytes(&id, &answer);
        }
        true
    }
}

fn bytes(id: &Id, answer: &str) -> usize {
    ENTRY_BYTES + id.1.len() + answer.len()
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
        store.begin(publisher("shop"), key, ("/v2/push", body.as_bytes()), now)
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
        let elsewhere = store.begin(publisher("shop"), "a", ("/v2/push/batch", b"body"), now);
        assert!(matches!(elsewhere, Err(Refused::KeyReused)));
        let other = store.begin(publisher("blog"), "a", ("/v2/push", b"body"), now);
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
}

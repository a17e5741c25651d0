//! Constant pushes on three nodes, and a ledger: what each answer said against what each listener got.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wserver_protocol::frame::Opcode;

use super::stage::{NAMES, joined, knows, node, pause};
use crate::api::push_v1;
use crate::harness::{PATIENCE, Server, eventually};
use crate::metrics::scrape;
use crate::raw::{Raw, Socket, masked, post, register};

/// Listeners of the one user on each node.
pub(crate) const LISTENERS: usize = 2;
/// Between two pushes of one publisher, so that the machine is not busy with this alone.
const PAUSE: Duration = Duration::from_millis(2);
/// Answers that count as going on.
const SOME: usize = 20;
/// What an answer calls nodes that it does not know of.
const UNNAMED: &str = "every other node";

/// How long a listener is known to be there to every node, and is sure to be, before and after a push that
/// must reach it.
const SURELY: Duration = Duration::from_secs(3);
/// A listener may read so much later than it could.
const READ_WITHIN: Duration = Duration::from_millis(1500);

/// Whether listeners may be told to go meanwhile, because their node is cut off. They come back at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listeners {
    Stay,
    ComeBack,
}

/// Three nodes, each with listeners of `jack`, and a publisher that waits for each answer.
pub(crate) struct Traffic {
    pub(crate) nodes: Vec<Server>,
    is_dead: [bool; 3],
    listeners: Vec<(usize, JoinHandle<Heard>)>,
    publishers: Vec<(usize, JoinHandle<Vec<Pushed>>)>,
    /// Which node stood still, and since when.
    pauses: Vec<(usize, Instant)>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Answers of each node that all listeners got it.
    whole: [AtomicUsize; 3],
    /// Those that say somebody may be missing.
    partial: [AtomicUsize; 3],
    /// How many listeners all are.
    all: AtomicUsize,
    is_over: AtomicBool,
}

/// One push, and what its answer said; nothing when its node was killed.
#[derive(Debug)]
struct Pushed {
    at: Instant,
    answered_at: Instant,
    answer: Option<Value>,
}

/// What one listener got, in its order: of which publisher, its number, and when.
#[derive(Debug, Default)]
struct Heard {
    messages: Vec<(usize, usize, Instant)>,
    /// From when until when it was there.
    sessions: Vec<(Instant, Instant)>,
    /// Kept, so that the listener is counted to the end.
    socket: Option<Socket>,
}

impl Traffic {
    /// Starts all of it; each node has its own way to the broker.
    pub(crate) fn start(urls: [&str; 3], flags: &[&str]) -> Self {
        let nodes = NAMES.iter().zip(urls).map(|(name, url)| node(url, name, flags));
        Self::on(nodes.collect())
    }

    /// The same on the nodes a, b and c.
    pub(crate) fn on(nodes: Vec<Server>) -> Self {
        joined(nodes.iter());
        let shared = Arc::new(Shared::default());
        shared.all.store(nodes.len() * LISTENERS, Ordering::Relaxed);
        let mut listeners = Vec::new();
        for (at, node) in nodes.iter().enumerate() {
            for _ in 0..LISTENERS {
                let socket = Socket::registered(node, "jack", "news");
                let address = node.address;
                listeners.push((at, thread::spawn(move || listen(socket, address))));
            }
        }
        nodes.iter().for_each(|node| knows(node, 2));
        let publishers = nodes.iter().enumerate().map(|(at, node)| {
            let (raw, shared) = (Raw::connect(node), Arc::clone(&shared));
            (at, thread::spawn(move || publish(at, raw, &shared)))
        });
        let publishers = publishers.collect();
        let (is_dead, pauses) = ([false; 3], Vec::new());
        let traffic = Self { nodes, is_dead, listeners, publishers, pauses, shared };
        traffic.goes_on();
        traffic
    }

    /// The nodes that are not dead.
    pub(crate) fn living(&self) -> impl Iterator<Item = (usize, &Server)> {
        self.nodes.iter().enumerate().filter(|(at, _)| !self.is_dead[*at])
    }

    /// Waits until pushes of every living node reach every listener of all of them, again and again.
    pub(crate) fn goes_on(&self) {
        for (at, _) in self.living() {
            let before = self.shared.whole[at].load(Ordering::Relaxed);
            eventually("pushes reach everybody", || {
                self.shared.whole[at].load(Ordering::Relaxed) >= before + SOME
            });
        }
    }

    /// How many answers of each node have said until now that everybody has it.
    pub(crate) fn whole(&self) -> [usize; 3] {
        self.shared.whole.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// How many answers of each node have said until now that somebody may be missing.
    pub(crate) fn partial(&self) -> [usize; 3] {
        self.shared.partial.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Waits until pushes of these nodes have said since then that somebody may be missing.
    pub(crate) fn are_partial(&self, since: [usize; 3], nodes: &[usize]) {
        for at in nodes {
            eventually("an answer says who is missing", || self.partial()[*at] > since[*at]);
        }
    }

    /// Kills a node, with its listeners and its publisher.
    pub(crate) fn kill(&mut self, at: usize) {
        self.nodes[at].signal("KILL");
        self.is_dead[at] = true;
        self.shared.all.fetch_sub(LISTENERS, Ordering::Relaxed);
    }

    /// Lets a node stand still.
    pub(crate) fn pause(&mut self, at: usize) {
        pause(&self.nodes[at]);
        self.pauses.push((at, Instant::now()));
    }

    /// Ends it when everything has arrived that ever will, and compares.
    pub(crate) fn end(mut self, they: Listeners) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let publishers = std::mem::take(&mut self.publishers);
        let pushed = publishers.into_iter().map(|(at, it)| (at, it.join().unwrap())).collect();
        // What a node accepts comes behind all that it had accepted before, or never.
        for text in ["flush", "end"] {
            for (_, node) in self.living() {
                eventually("the last push reaches everybody", || {
                    self.is_whole(&push_v1(node, "jack", "news", text))
                });
            }
        }
        let listeners = std::mem::take(&mut self.listeners);
        let heard = listeners.into_iter().map(|(at, it)| (at, it.join().unwrap())).collect();
        let pauses = std::mem::take(&mut self.pauses);
        let ledger = Ledger { pushed, heard, is_dead: self.is_dead, pauses };
        ledger.check_order();
        ledger.check_counts(they);
        ledger.check_late();
        ledger.check_sessions();
        for (at, node) in self.living() {
            let counted = scrape(node).of("wserver_cluster_missing_total");
            let told = ledger.missing(at);
            assert!(counted >= told as f64, "{}: {counted} counted, {told} told", NAMES[at]);
        }
    }

    /// Whether all listeners of the nodes that were never killed are in the count, and nobody is missing.
    fn is_whole(&self, answer: &Value) -> bool {
        let by_node = by_node(answer);
        answer["is_partial"] == false
            && self.living().all(|(at, _)| by_node.get(&at) == Some(&LISTENERS))
    }
}

fn publish(node: usize, mut raw: Raw, shared: &Shared) -> Vec<Pushed> {
    let mut pushed = Vec::new();
    while !shared.is_over.load(Ordering::Relaxed) {
        let message = format!("{node} {}", pushed.len());
        let body = json!({"userId": "jack", "event": "news", "message": message}).to_string();
        let request = post(&[("accept", "application/json")], body);
        let at = Instant::now();
        let answer = raw.stream.write_all(&request).ok().and_then(|()| raw.try_answer("POST").ok());
        let Some(answer) = answer else {
            pushed.push(Pushed { at, answered_at: Instant::now(), answer: None });
            break;
        };
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        if answer["is_partial"] == true {
            shared.partial[node].fetch_add(1, Ordering::Relaxed);
        } else if answer["matched"] == shared.all.load(Ordering::Relaxed) {
            shared.whole[node].fetch_add(1, Ordering::Relaxed);
        }
        pushed.push(Pushed { at, answered_at: Instant::now(), answer: Some(answer) });
        thread::park_timeout(PAUSE);
    }
    pushed
}

/// Reads on until the end, of the run or of the node; whoever is told to go comes back.
fn listen(mut socket: Socket, address: SocketAddr) -> Heard {
    let mut heard = Heard::default();
    let mut since = Instant::now();
    let mut last = since;
    while let Ok(frame) = socket.try_next() {
        let now = Instant::now();
        if frame.opcode == Opcode::Pong as u8 {
            since = now;
            continue;
        }
        if frame.opcode == Opcode::Close as u8 {
            assert_eq!(frame.payload[..2], 1001_u16.to_be_bytes(), "{frame:?}");
            heard.sessions.push((since, now));
            socket = Socket::open_on(Raw::connect_at(address));
            socket.send(register("jack", "news"));
            // From its answer on it is there.
            socket.send(masked(Opcode::Ping, "there"));
            since = now + PATIENCE;
            continue;
        }
        last = now;
        assert_eq!(frame.opcode, Opcode::Text as u8, "{frame:?}");
        let text = String::from_utf8(frame.payload).unwrap();
        match text.split_once(' ') {
            Some((at, number)) => {
                heard.messages.push((at.parse().unwrap(), number.parse().unwrap(), now));
            }
            None if text == "end" => break,
            None => {}
        }
    }
    heard.sessions.push((since, last));
    heard.socket = Some(socket);
    heard
}

/// How many connections of each node took it. Without others a node does not tell its own count apart.
fn by_node(answer: &Value) -> BTreeMap<usize, usize> {
    let taken = |it: &Value| {
        assert_eq!(it["dropped"], 0, "{answer}");
        let taken = it["written"].as_u64().unwrap() + it["queued"].as_u64().unwrap();
        assert_eq!(it["matched"], taken, "{answer}");
        usize::try_from(taken).unwrap()
    };
    let Some(nodes) = answer["by_node"].as_array() else { return BTreeMap::new() };
    let at = |it: &Value| NAMES.iter().position(|name| it["node"] == *name).expect("one of ours");
    nodes.iter().map(|it| (at(it), taken(it))).collect()
}

fn missing(answer: &Value) -> Vec<&str> {
    answer["nodes_missing"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect()
}

/// What was said, and what was heard.
struct Ledger {
    pushed: Vec<(usize, Vec<Pushed>)>,
    heard: Vec<(usize, Heard)>,
    is_dead: [bool; 3],
    pauses: Vec<(usize, Instant)>,
}

impl Ledger {
    /// Nobody gets anything twice, or before what was sent earlier.
    fn check_order(&self) {
        for (at, heard) in &self.heard {
            let mut last = [None; 3];
            for (publisher, number, _) in &heard.messages {
                let before = last[*publisher].replace(number);
                assert!(
                    before.is_none_or(|before| before < number),
                    "on {}: {number} of {} came after {before:?}",
                    NAMES[*at],
                    NAMES[*publisher],
                );
            }
        }
    }

    /// What an answer says to have reached everybody has reached whoever was there.
    fn check_sessions(&self) {
        for (at, heard) in &self.heard {
            let got: BTreeSet<_> = heard.messages.iter().map(|it| (it.0, it.1)).collect();
            for (publisher, pushed) in &self.pushed {
                for (number, pushed) in pushed.iter().enumerate() {
                    let is_whole = |answer: &Value| answer["is_partial"] == false;
                    let was_there = heard.sessions.iter().any(|(from, until)| {
                        *from + SURELY <= pushed.at && pushed.answered_at + SURELY <= *until
                    });
                    let must_have_it = was_there && pushed.answer.as_ref().is_some_and(is_whole);
                    assert!(
                        !must_have_it || got.contains(&(*publisher, number)),
                        "{number} of {} never came to a listener of {}: {:?}",
                        NAMES[*publisher],
                        NAMES[*at],
                        pushed.answer,
                    );
                }
            }
        }
    }

    /// What an answer says to be missing does not come any more, unless its node stood still in the
    /// midst of delivering it: that is one message of each publisher.
    fn check_late(&self) {
        for (at, heard) in &self.heard {
            for (publisher, number, heard_at) in &heard.messages {
                let (_, pushed) =
                    self.pushed.iter().find(|it| it.0 == *publisher).expect("it is ours");
                let Pushed { at: pushed_at, answered_at, .. } = pushed[*number];
                let may_be_halfway =
                    |it: &(usize, Instant)| it.0 == *at && pushed_at <= it.1 && it.1 <= answered_at;
                assert!(
                    *heard_at <= answered_at + READ_WITHIN
                        || self.pauses.iter().any(may_be_halfway),
                    "{number} of {} came to {} {:?} after its answer",
                    NAMES[*publisher],
                    NAMES[*at],
                    *heard_at - answered_at,
                );
            }
        }
    }

    fn check_counts(&self, they: Listeners) {
        for (publisher, pushed) in &self.pushed {
            let got = self.got(*publisher, pushed.len());
            for (number, Pushed { answer, .. }) in pushed.iter().enumerate() {
                let Some(answer) = answer else { continue };
                let got = got[number];
                let about = || format!("{number} of {}: got {got:?}, {answer}", NAMES[*publisher]);
                let mut told = by_node(answer);
                if told.is_empty() {
                    let own = usize::try_from(answer["matched"].as_u64().unwrap()).unwrap();
                    told.insert(*publisher, own);
                }
                let missing = missing(answer);
                let is_whole = missing.is_empty();
                assert_eq!(answer["is_partial"], !is_whole, "{}", about());
                assert_eq!(answer["nodes"], told.len(), "{}", about());
                for at in (0..3).filter(|at| !self.is_dead[*at]) {
                    match told.get(&at) {
                        // Whoever is counted has it, and whoever has it is counted.
                        Some(count) => assert_eq!(*count, got[at], "{}", about()),
                        None if got[at] > 0 => {
                            let is_told = missing.contains(&NAMES[at]) || missing == [UNNAMED];
                            assert!(is_told, "{}", about());
                        }
                        None => {}
                    }
                }
                if is_whole && they == Listeners::Stay {
                    let are_all = (0..3).all(|at| self.is_dead[at] || got[at] == LISTENERS);
                    assert!(are_all, "{}", about());
                }
            }
        }
    }

    /// How many listeners of each node got each push of a publisher.
    fn got(&self, publisher: usize, pushes: usize) -> Vec<[usize; 3]> {
        let mut got = vec![[0; 3]; pushes];
        for (at, heard) in &self.heard {
            for (_, number, _) in heard.messages.iter().filter(|it| it.0 == publisher) {
                got[*number][*at] += 1;
            }
        }
        got
    }

    /// How many nodes this one's answers have called missing.
    fn missing(&self, publisher: usize) -> usize {
        let (_, pushed) = self.pushed.iter().find(|(at, _)| *at == publisher).expect("one of ours");
        let answers = pushed.iter().filter_map(|it| it.answer.as_ref());
        answers.map(|answer| missing(answer).iter().filter(|it| **it != UNNAMED).count()).sum()
    }
}

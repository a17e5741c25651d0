//! Several nodes and their broker on this machine: what a cluster costs, and what it does.
//!
//! This module starts them, puts loads of `wserver-load` on them and keeps the figures;
//! `cluster/page.rs` writes them down, and `cluster/subscribe.rs` measures the alternative design.

mod broker;
mod subscribe;
mod metrics;
mod page;

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use xshell::Shell;

pub(super) use self::broker::Broker;
use self::subscribe::Subscribed;
use super::failures::Failures;
use super::load;
use super::runs::{Series, untrue_checks};
use super::server::Server;
use super::setup::{Effort, Place};
use super::subject::Subject;

/// Users that get pushes.
const USERS: u32 = 1000;
/// Pushes a second at an even pace.
const RATE: u32 = 1000;
/// A prime number, so that each pusher reaches users of every node, for any number of nodes.
const PUSHERS: u32 = 61;
/// Users of each node for the measurement of memory, and the same number of subscriptions.
const NODE_USERS: u32 = 100_000;
/// Users that one connection registers for in that measurement, so that the descriptors of a
/// process suffice.
const CONNECTION_USERS: u32 = 100;
/// Connections of each node, if each has its own user.
const NODE_CONNECTIONS: u32 = 7500;
/// How long to wait until all nodes know each other.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// The nodes of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// One, without a broker.
    Alone,
    Nodes(Broker, usize),
}

/// Which users get pushes, and at which node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Users that only the pushed node has.
    Own,
    /// Users that only another node has.
    Other,
    /// Users with a connection on each node.
    Each,
    /// Users of any node, and pushes to any node.
    Anywhere,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// [`RATE`].
    Even,
    /// The next push starts when the previous one has its answer.
    Closed,
}

/// What each round measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Case {
    shape: Shape,
    reach: Reach,
    pace: Pace,
}

/// What is measured once: idle users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiting {
    shape: Shape,
    /// Users of each connection.
    users: u32,
}

impl Shape {
    fn nodes(self) -> usize {
        match self {
            Self::Alone => 1,
            Self::Nodes(_, nodes) => nodes,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alone => f.write_str("one node alone"),
            Self::Nodes(broker, nodes) => write!(f, "{nodes} nodes by {}", broker.name()),
        }
    }
}

impl Case {
    fn all(brokers: &[Broker], is_quick: bool) -> Vec<Self> {
        let paces = [Pace::Even, Pace::Closed];
        let both = |shape, reach| paces.map(|pace| Self { shape, reach, pace });
        let mut cases = both(Shape::Alone, Reach::Own).to_vec();
        for &broker in brokers {
            cases.extend(both(Shape::Nodes(broker, 2), Reach::Own));
            cases.extend(both(Shape::Nodes(broker, 2), Reach::Other));
            for &nodes in if is_quick { &[2][..] } else { &[2, 3, 4] } {
                let shape = Shape::Nodes(broker, nodes);
                cases.extend(both(shape, Reach::Each));
                cases.push(Self { shape, reach: Reach::Anywhere, pace: Pace::Closed });
            }
        }
        cases
    }

    /// The arguments of `wserver-load`.
    fn words(self, nodes: &[Server], seconds: u32) -> String {
        let each = if self.reach == Reach::Each { nodes.len() } else { 1 };
        let mut words = format!(
            "unicast --connections {USERS} --each {each} --pushers {PUSHERS} --warmup 500ms --duration {seconds}s"
        );
        if self.pace == Pace::Even {
            words += &format!(" --rate {RATE}");
        }
        let (first, others) = nodes.split_at(1);
        let listened = match self.reach {
            Reach::Own => first,
            Reach::Other => others,
            Reach::Each | Reach::Anywhere => nodes,
        };
        for node in listened {
            words += &format!(" --listener-address {}", node.address());
        }
        for node in if self.reach == Reach::Anywhere { nodes } else { first } {
            words += &format!(" --pusher-address {}", node.address());
        }
        words
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shape, reach, pace } = self;
        write!(f, "{shape}, {reach:?}, {pace:?}")
    }
}

/// Nodes and their broker, which outlives them.
struct Nodes {
    nodes: Vec<Server>,
    broker: Option<Server>,
}

impl Nodes {
    /// Starts the nodes, and waits until each is ready and knows all others.
    fn start(place: &Place, shape: Shape, ping_interval: &str) -> anyhow::Result<Self> {
        let broker = match shape {
            Shape::Alone => None,
            Shape::Nodes(broker, _) => Some(broker.start(place)?),
        };
        let mut nodes = Vec::new();
        for number in 0..shape.nodes() {
            let log = place.home.join(format!("cluster-{number}.log"));
            nodes.push(Server::start(&log, |address| {
                let mut command = Subject::ours(place, address, ping_interval);
                if let (Shape::Nodes(kind, _), Some(broker)) = (shape, &broker) {
                    command.args(["--cluster-broker", &kind.url(broker)]);
                }
                Ok(command)
            })?);
        }
        let began = Instant::now();
        for node in &nodes {
            let is_whole = || {
                let known = metrics::read(&node.address(), "wserver_cluster_nodes");
                metrics::is_ready(&node.address())
                    && (broker.is_none() || known.is_ok_and(|it| it == nodes.len() as f64))
            };
            while !is_whole() {
                let is_late = began.elapsed() > READY_TIMEOUT;
                anyhow::ensure!(!is_late, "{shape} do not find each other: {}", node.last_words());
                pause();
            }
        }
        Ok(Self { nodes, broker })
    }

    /// Puts a load on the nodes; calls `look` while it lasts.
    fn load(&self, place: &Place, words: &str, mut look: impl FnMut()) -> anyhow::Result<Value> {
        let (first, others) = self.nodes.split_first().expect("there is a node");
        // Put these before the scenario's name, like the first node's: flags after it would replace
        // that one.
        let mut all: Vec<String> = Vec::new();
        for node in others {
            all.extend(["--pid".to_owned(), node.id()]);
        }
        if let Some(broker) = &self.broker {
            all.extend(["--broker-pid".to_owned(), broker.id()]);
        }
        all.extend(words.split(' ').map(str::to_owned));
        let mut load = load::start(place, Subject::Ours, first, &all, "cluster.json")?;
        while !load.is_over()? {
            look();
            pause();
        }
        load.finish(first)
    }

    fn stop(mut self) -> anyhow::Result<()> {
        self.nodes.iter_mut().try_for_each(Server::stop)
    }
}

/// All that was measured.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    rounds: u32,
    seconds: u32,
    cases: Vec<(u32, Case, Value)>,
    waiting: Vec<(Waiting, Value)>,
    subscribed: Vec<(Broker, Subscribed)>,
}

/// Measures with the brokers that are available.
pub(super) fn run(
    sh: &Shell,
    place: &Place,
    effort: Effort,
    is_quick: bool,
    brokers: &[Broker],
    failures: &mut Failures,
) -> Clusters {
    let (rounds, seconds) = (effort.cluster_rounds, effort.cluster_seconds);
    let mut clusters = Clusters { rounds, seconds, ..Clusters::default() };
    let mut shapes = vec![Shape::Alone];
    shapes.extend(brokers.iter().map(|&broker| Shape::Nodes(broker, 2)));
    for shape in shapes {
        for users in [1, CONNECTION_USERS] {
            let waiting = Waiting { shape, users };
            if shape == Shape::Alone && users > 1 {
                continue;
            }
            println!("cluster: users that wait, {shape}, {users} of each connection");
            let json = wait(place, waiting, is_quick);
            if let Some(json) = failures.take(Subject::Ours, &format!("users of {shape}"), json) {
                clusters.waiting.push((waiting, json));
            }
        }
    }
    for &broker in brokers {
        println!("cluster: subscriptions of {}", broker.name());
        let subscribed = subscribe::run(place, broker, NODE_USERS / if is_quick { 100 } else { 1 });
        let what = format!("subscriptions of {}", broker.name());
        if let Some(subscribed) = failures.take(Subject::Ours, &what, subscribed) {
            clusters.subscribed.push((broker, subscribed));
        }
    }
    for round in 0..rounds {
        let mut cases = Case::all(brokers, is_quick);
        if round % 2 == 1 {
            cases.reverse();
        }
        for case in cases {
            println!("cluster, round {} of {rounds}: {case}", round + 1);
            let json = once(place, case, seconds);
            if let Some(json) = failures.take(Subject::Ours, &case.to_string(), json) {
                clusters.cases.push((round, case, json));
            }
        }
    }
    let path = place.home.join("cluster-runs.json");
    let written = sh.write_file(path, clusters.to_json()).map_err(Into::into);
    failures.take(Subject::Ours, "the record of the cluster's runs", written);
    clusters
}

fn once(place: &Place, case: Case, seconds: u32) -> anyhow::Result<Value> {
    let nodes = Nodes::start(place, case.shape, "8s")?;
    let json = nodes.load(place, &case.words(&nodes.nodes, seconds), || {})?;
    nodes.stop()?;
    Ok(json)
}

/// The memory of idle users, and of a node's knowledge of other nodes' users.
fn wait(place: &Place, waiting: Waiting, is_quick: bool) -> anyhow::Result<Value> {
    let nodes = Nodes::start(place, waiting.shape, "3s")?;
    let each = if waiting.users == 1 { NODE_CONNECTIONS } else { NODE_USERS / waiting.users };
    let each = if is_quick { each / 10 } else { each };
    let connections = u32::try_from(nodes.nodes.len())? * each;
    let mut words = format!(
        "idle --connections {connections} --users {} --heartbeats 1 --sources 16",
        waiting.users
    );
    for node in &nodes.nodes {
        words += &format!(" --listener-address {}", node.address());
    }
    let first = nodes.nodes[0].address();
    let (mut users, mut bytes) = (0.0, 0.0);
    let mut json = nodes.load(place, &words, || {
        let now = metrics::read(&first, "wserver_cluster_remote_users").unwrap_or(0.0);
        if now >= users {
            users = now;
            bytes = metrics::read(&first, "wserver_cluster_directory_bytes").unwrap_or(0.0);
        }
    })?;
    nodes.stop()?;
    if waiting.shape != Shape::Alone {
        json["figures"]["directory_bytes_per_user"] = json!(bytes / users.max(1.0));
        let expected = f64::from(each * waiting.users);
        let check = json!({ "name": "users that a node knows of the other", "found": users,
            "expected": expected, "is_true": users == expected });
        if let Some(checks) = json["checks"].as_array_mut() {
            checks.push(check);
        }
    }
    Ok(json)
}

impl Clusters {
    /// The report of `wserver-load` on each run.
    fn jsons(&self) -> impl Iterator<Item = &Value> {
        let cases = self.cases.iter().map(|(_, _, json)| json);
        cases.chain(self.waiting.iter().map(|(_, json)| json))
    }

    /// Untrue answers.
    pub(super) fn untrue(&self) -> Vec<String> {
        let of = |what: &str, json: &Value| -> Vec<String> {
            untrue_checks(json).into_iter().map(|it| format!("{what}: {it}")).collect()
        };
        let cases = self.cases.iter().flat_map(|(_, case, json)| of(&case.to_string(), json));
        let waiting = self.waiting.iter();
        cases.chain(waiting.flat_map(|(it, json)| of(&it.shape.to_string(), json))).collect()
    }

    fn series(&self, case: Case, path: &str) -> Option<Series> {
        let found = self.cases.iter().filter(|(_, it, _)| *it == case);
        Series::of(found.filter_map(|(_, _, json)| json.pointer(path)?.as_f64()).collect())
    }

    /// The ratio of two cases, of the same round.
    fn ratio(&self, one: Case, other: Case, path: &str) -> Option<Series> {
        let value = |case: Case, round: u32| {
            let (_, _, json) = self.cases.iter().find(|(at, it, _)| *at == round && *it == case)?;
            json.pointer(path)?.as_f64().filter(|it| *it > 0.0)
        };
        let ratio = |round| Some(value(one, round)? / value(other, round)?);
        Series::of((0..self.rounds).filter_map(ratio).collect())
    }

    fn waited(&self, waiting: Waiting, path: &str) -> Option<f64> {
        let (_, json) = self.waiting.iter().find(|(it, _)| *it == waiting)?;
        json.pointer(path)?.as_f64()
    }

    fn to_json(&self) -> String {
        let cases = self.cases.iter().map(|(round, case, json)| {
            json!({ "round": round, "case": case.to_string(), "report": json })
        });
        let waiting = self.waiting.iter().map(|(it, json)| {
            json!({ "shape": it.shape.to_string(), "users": it.users, "report": json })
        });
        Value::from(cases.chain(waiting).collect::<Vec<_>>()).to_string()
    }
}

fn pause() {
    #[expect(clippy::disallowed_methods, reason = "there is no runtime here to block")]
    thread::sleep(Duration::from_millis(50));
}

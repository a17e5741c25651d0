//! Servers that are nodes of one cluster, and what they know of each other.

use std::time::{Duration, Instant};

use serde_json::Value;
use wserver_test_brokers::process::is_there;
use wserver_test_brokers::{nats, redis};

use crate::api::good;
use crate::harness::{PATIENCE, Server, eventually};
use crate::metrics::{get, scrape};
use crate::raw::Socket;

/// What the nodes of a test are called.
pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];

/// In how much time `/readyz` has to tell the truth.
const TRUTH: Duration = Duration::from_secs(10);

/// A Redis, if this machine has the program.
pub(crate) fn redis() -> Option<redis::Standalone> {
    is_there(redis::PROGRAM).then(|| redis::Standalone::start(&[]))
}

/// A NATS server, if this machine has the program.
pub(crate) fn nats() -> Option<nats::Server> {
    is_there(nats::PROGRAM).then(|| nats::Server::start(""))
}

/// A node of this name.
pub(crate) fn node(url: &str, name: &str, flags: &[&str]) -> Server {
    Server::start_with(&self::flags(url, name, flags), &[])
}

/// What makes a server a node of this name, and these flags.
pub(crate) fn flags<'a>(url: &'a str, name: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    let own = ["--cluster-broker", url, "--cluster-node-name", name, "--ping-interval", "1h"];
    [&own[..], flags].concat()
}

/// The nodes a, b and c, which know each other.
pub(crate) fn three(url: &str, flags: &[&str]) -> [Server; 3] {
    let nodes = NAMES.map(|name| node(url, name, flags));
    joined(nodes.iter());
    nodes
}

/// Waits until these have part in their cluster, and it is theirs alone.
pub(crate) fn joined<'a>(nodes: impl ExactSizeIterator<Item = &'a Server>) {
    let count = nodes.len();
    for node in nodes {
        eventually("the node knows the others", || {
            scrape(node).of("wserver_cluster_nodes") == count as f64 && ready(node).is_ok()
        });
    }
}

/// Waits until a node knows so many users of others, each once for each node that has it.
pub(crate) fn knows(node: &Server, users: usize) {
    eventually("the node knows the users of the others", || {
        scrape(node).of("wserver_cluster_remote_users") == users as f64
    });
}

/// A connection of `jack` to each of the three, which all of them know.
pub(crate) fn one_each(nodes: &[Server; 3]) -> [Socket; 3] {
    let sockets = nodes.each_ref().map(|node| Socket::registered(node, "jack", "news"));
    nodes.iter().for_each(|node| knows(node, 2));
    sockets
}

/// Stops a node where it is: it keeps its connections and answers nobody.
pub(crate) fn pause(node: &Server) {
    node.signal("STOP");
    // The signal is sent, and each thread stops when it gets to it.
    eventually("every thread stands still", || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", node.pid())).unwrap();
        tasks.map_while(Result::ok).all(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            // Behind the name, which stands in parentheses.
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
        })
    });
}

/// Lets it go on.
pub(crate) fn resume(node: &Server) {
    node.signal("CONT");
}

/// What `/readyz` says.
pub(crate) fn ready(node: &Server) -> Result<(), String> {
    let answer = get(node, "/readyz", &[]);
    match answer.status {
        200 => Ok(()),
        _ => Err(answer.body),
    }
}

/// Waits until `/readyz` says what is true now, for no longer than it may take.
pub(crate) fn is_told(node: &Server, is_true: impl Fn(&Result<(), String>) -> bool) {
    let since = Instant::now();
    loop {
        let told = ready(node);
        if is_true(&told) {
            return;
        }
        assert!(since.elapsed() < TRUTH, "not true for {TRUTH:?}: {told:?}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Whether the reason is that the broker carries nothing.
pub(crate) fn is_cut_off(told: &Result<(), String>) -> bool {
    told.as_ref().is_err_and(|why| why.starts_with("cut off from the cluster ("))
}

/// The names of the nodes that `/v2/nodes` tells, the one that is asked first.
pub(crate) fn names(node: &Server) -> Vec<String> {
    let told = good(node, "GET", "/v2/nodes", &Value::Null);
    let name = |it: &Value| {
        it["name"].as_str().expect("a this node joined its cluster has a name").to_owned()
    };
    told["nodes"].as_array().unwrap().iter().map(name).collect()
}

/// Asks until an answer is as it should be; that answer.
pub(crate) fn until(mut ask: impl FnMut() -> Value, is_so: impl Fn(&Value) -> bool) -> Value {
    let since = Instant::now();
    loop {
        let answer = ask();
        if is_so(&answer) {
            return answer;
        }
        assert!(since.elapsed() < PATIENCE, "{answer}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

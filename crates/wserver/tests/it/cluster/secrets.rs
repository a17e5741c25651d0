//! The password of a broker, and what nodes tell each other, are in no log at any level.

use serde_json::json;
use wserver_test_brokers::process::is_there;
use wserver_test_brokers::{nats, redis};

use super::stage::{is_told, joined, knows, node};
use crate::api::{good, push_v1};
use crate::harness::Server;
use crate::raw::Socket;
use crate::settings::{File, file};

const PASSWORD: &str = "canary-password-of-the-broker";

fn password() -> File {
    file("cluster-secret", format!("{PASSWORD}\n"))
}

fn check(url: &str, flags: &[&str], broken: impl FnOnce()) {
    let flags = [&["--log", "trace"], flags].concat();
    let mut nodes: Vec<Server> = ["a", "b"].map(|name| node(url, name, &flags)).into();
    let logs: Vec<_> = nodes.iter_mut().map(Server::read_log).collect();
    joined(nodes.iter());
    let mut jack = Socket::registered(&nodes[1], "canary-user", "canary-event");
    knows(&nodes[0], 1);
    assert_eq!(push_v1(&nodes[0], "canary-user", "canary-event", "canary-message")["matched"], 1);
    assert_eq!(jack.next().payload, b"canary-message");
    drop(jack);
    good(&nodes[0], "POST", "/v2/disconnect", &json!({"token": "canary-token"}));
    broken();
    for node in &nodes {
        is_told(node, Result::is_ok);
        let arguments = std::fs::read(format!("/proc/{}/cmdline", node.pid())).unwrap();
        assert!(!String::from_utf8_lossy(&arguments).contains("canary"));
        node.signal("TERM");
    }
    for log in logs {
        let log = log.join().unwrap();
        assert!(log.contains("a link to the broker is open"), "the filter lets details through");
        for secret in [PASSWORD, "canary-token", "canary-message"] {
            let line = log.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret}");
        }
    }
}

#[test]
fn of_a_redis_are_told_nowhere() {
    if !is_there(redis::PROGRAM) {
        return;
    }
    let line = format!("requirepass {PASSWORD}");
    let mut redis = redis::Standalone::start(&[&line]);
    let (url, password) = (redis.url(), password());
    check(&url, &["--cluster-password-file", password.path()], || redis.restart());
}

#[test]
fn of_a_nats_server_are_told_nowhere() {
    if !is_there(nats::PROGRAM) {
        return;
    }
    let users = format!("authorization {{ users: [{{user: node, password: {PASSWORD}}}] }}");
    let mut nats = nats::Server::start(&users);
    let (url, password) = (nats.url(), password());
    let flags = ["--cluster-username", "node", "--cluster-password-file", password.path()];
    check(&url, &flags, || nats.restart());
}

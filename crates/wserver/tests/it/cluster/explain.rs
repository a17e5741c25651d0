//! Why does nothing arrive? The same question where the user, the refusal or the silence is elsewhere.

use serde_json::{Value, json};

use super::line::redis_by_cable;
use super::stage::{self, NAMES, is_cut_off, is_told, joined, knows, node, pause, resume, three};
use crate::api::{connections, good};
use crate::explain::{explain, sentences};
use crate::harness::{Server, eventually};
use crate::raw::{Socket, masked_close};
use crate::settings::file;

const OFFLINE: &str = "user jack has no connection, so a push of news goes to nobody";

/// The explanation of `news` to `jack` on a node, and all that it says.
fn check(node: &Server, would_deliver_to: usize, expected: &[&str]) -> Value {
    let explanation = explain(node, "jack", "news");
    assert_eq!(explanation["now"]["would_deliver_to"], would_deliver_to, "{explanation}");
    let told: Vec<String> = sentences(&explanation).into_iter().map(without_numbers).collect();
    assert_eq!(told, expected, "{explanation}");
    explanation
}

/// A sentence with `N` for the numbers of connections and seconds.
fn without_numbers(sentence: &str) -> String {
    let words = sentence.split(' ').map(|word| {
        let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
        if is_number && (word.len() > 3 || sentence.contains(&format!("{word} s ago"))) {
            "N"
        } else {
            word
        }
    });
    words.collect::<Vec<_>>().join(" ").replace("just now", "N s ago")
}

#[test]
fn connections_of_all_nodes_are_told() {
    let Some(redis) = stage::redis() else { return };
    let [a, b, c] = three(&redis.url(), &[]);
    for node in [&a, &b] {
        let nothing = "the journal has no entry of user jack: nobody has registered as this user \
                       since the server started, or it was too long ago";
        check(node, 0, &[OFFLINE, nothing]);
    }
    let _on_b = Socket::registered(&b, "jack", "chat");
    let only = "user jack has 1 connection, none registered for news, but for: chat";
    for node in [&a, &b, &c] {
        check(node, 0, &[only]);
    }
    let _on_c = Socket::registered(&c, "jack", "news");
    let one = "a push of news to user jack would go to 1 of the user's 2 connections";
    let explanation = check(&a, 1, &[one]);
    let list = explanation["now"]["connections"].as_array().unwrap();
    let mut told: Vec<&str> = list.iter().map(|it| it["node"].as_str().unwrap()).collect();
    told.sort_unstable();
    assert_eq!(told, ["b", "c"], "{explanation}");
    let _on_a = Socket::registered(&a, "jack", "mail");
    let explanation =
        check(&c, 1, &["a push of news to user jack would go to 1 of the user's 3 connections"]);
    assert_eq!(explanation["now"]["connections"].as_array().unwrap().len(), 3);
}

#[test]
fn what_another_node_remembers_is_told_as_its() {
    let Some(redis) = stage::redis() else { return };
    let nodes = three(&redis.url(), &[]);
    let mut socket = Socket::registered(&nodes[1], "jack", "news");
    socket.send(masked_close(1000, b""));
    socket.closed();
    eventually("jack is gone", || connections(&nodes[0], "jack") == 0);
    let closed = "N s ago: connection N was closed: the client closed it";
    let told = format!("node b: {closed}");
    let explanation = check(&nodes[0], 0, &[OFFLINE, &told]);
    let recent = &explanation["recent"][0];
    assert_eq!((&recent["what"], &recent["node"]), (&json!("closed"), &json!("b")));
    let explanation = check(&nodes[1], 0, &[OFFLINE, closed]);
    assert_eq!(explanation["recent"][0].get("node"), None, "{explanation}");
}

#[test]
fn a_refusal_on_another_node_is_told_until_the_user_is_there() {
    let Some(redis) = stage::redis() else { return };
    let tokens = file("cluster-explain-tokens", "canary-good jack\n");
    let nodes = three(&redis.url(), &["--tokens-file", tokens.path()]);
    let mut stranger = Socket::open(&nodes[1]);
    stranger.register("canary-bad", "news");
    let nothing = "the journal has no entry of user jack: nobody has registered as this user since \
                   the server started, or it was too long ago";
    let refused = "node b: N s ago: connection N was refused a registration for news: its token is \
                   unknown; its user was never authenticated, so it may be this user's";
    for at in [0, 2] {
        let explanation = explain(&nodes[at], "jack", "news");
        let mut told: Vec<String> =
            sentences(&explanation).into_iter().map(without_numbers).collect();
        told[1..].sort();
        assert_eq!(told, [OFFLINE, refused, nothing], "{explanation}");
        assert_eq!(explanation["strangers"][0]["node"], "b", "{explanation}");
        assert!(!explanation.to_string().contains("canary"), "{explanation}");
    }
    // Whoever has a connection, on whichever node, is none of them.
    let _jack = Socket::registered(&nodes[0], "canary-good", "news");
    let all = "a push of news to user jack would go to 1 connection, all there are";
    for node in &nodes {
        let explanation = check(node, 1, &[all]);
        assert_eq!(explanation.get("strangers"), None, "{explanation}");
    }
}

#[test]
fn who_does_not_answer_is_told() {
    let Some(redis) = stage::redis() else { return };
    let [a, b, _c] = three(&redis.url(), &[]);
    let _jack = Socket::registered(&b, "jack", "news");
    knows(&a, 1);
    pause(&b);
    let explanation = explain(&a, "jack", "news");
    assert_eq!(explanation["nodes_missing"], json!(["b"]), "{explanation}");
    let told = sentences(&explanation);
    assert_eq!(
        told[..2],
        [
            OFFLINE,
            "b did not answer, so this answer leaves out what happened \
                                     there"
        ]
    );
    resume(&b);
}

#[test]
fn a_node_that_is_cut_off_says_so() {
    let Some((redis, line)) = redis_by_cable() else { return };
    // So that there is a connection to be told of, however long it takes.
    let stay = ["--cluster-release-when-cut-off=false"];
    let nodes = [line.node(NAMES[0], &stay), node(&redis.url(), NAMES[1], &[])];
    joined(nodes.iter());
    let _jack = Socket::registered(&nodes[0], "jack", "news");
    line.cut();
    is_told(&nodes[0], is_cut_off);
    let explanation = explain(&nodes[0], "jack", "news");
    let told = sentences(&explanation);
    assert_eq!(told[0], "a push of news to user jack would go to 1 connection, all there are");
    assert!(
        told[1].starts_with("this node is not ready: cut off from the cluster (redis): "),
        "{told:?}"
    );
    assert!(told[2].contains(" did not answer, "), "{told:?}");
    let own = good(&nodes[0], "GET", "/v2/node", &Value::Null);
    assert!(own["not_ready"].as_str().unwrap().starts_with("cut off from the cluster"), "{own}");
    line.mend();
    is_told(&nodes[0], Result::is_ok);
    let told = explain(&nodes[1], "jack", "news");
    assert_eq!(told["now"]["would_deliver_to"], 1, "{told}");
}

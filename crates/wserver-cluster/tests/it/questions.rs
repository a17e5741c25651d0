//! Questions to other nodes, and streams.

use std::time::Duration;

use bytes::Bytes;
use wserver_cluster::{Loopback, Whom};

use crate::peers::{Member, cluster, eventually, names, user};

fn read(answer: &[u8], _took: Duration) -> Option<String> {
    String::from_utf8(answer.to_vec()).ok()
}

#[tokio::test]
async fn those_are_asked_whom_it_concerns() {
    let broker = Loopback::default();
    let [a, b, _c] = cluster(&broker).await;
    let (one, _) = b.join("jack", "news");
    a.knows(1).await;
    let question = Bytes::from_static(b"who?");
    let jack = user("jack");
    for (whom, expected) in [
        (Whom::Everybody, &["b: who?", "c: who?"][..]),
        (Whom::UsersNodes(&jack), &["b: who?"]),
        (Whom::ConnectionsNode(one.id()), &["b: who?"]),
    ] {
        let here = async { "here".to_owned() };
        let gathered = a.cluster.ask(whom, question.clone(), here, read).await;
        let mut said: Vec<&String> = gathered.others.iter().map(|(_, said)| said).collect();
        said.sort();
        assert_eq!(said, expected, "{whom:?}");
        assert!(gathered.is_whole() && gathered.here == "here");
    }
    let question = Bytes::from_static(b"silence");
    let gathered = a.cluster.ask(Whom::Everybody, question, async { String::new() }, read).await;
    assert_eq!(names(&gathered), ["b", "c"], "who does not answer is missing");
}

#[tokio::test]
async fn a_stream_brings_what_others_send_in_order_until_it_is_dropped() {
    let broker = Loopback::default();
    let [a, b] = cluster(&broker).await;
    let mut stream = a.cluster.stream(16);
    let question = Bytes::from(format!("stream {}", stream.id()));
    let asked = a.cluster.ask(Whom::Everybody, question, async { String::new() }, read).await;
    assert!(asked.is_whole());
    for expected in ["b one", "b two"] {
        let entry = tokio::time::timeout(Duration::from_secs(30), stream.next()).await;
        assert_eq!(entry.unwrap().unwrap(), (b.cluster.id(), Bytes::from(expected)));
    }
}

/// Whoever has asked everybody for something that lasts hears when there is somebody else to ask.
#[tokio::test]
async fn it_is_told_when_a_node_joins_and_when_one_takes_part_again() {
    let broker = Loopback::default();
    let [a, b] = cluster(&broker).await;
    let mut joined = a.cluster.joined();
    joined.mark_unchanged();
    let _c = Member::start(&broker, "c");
    joined.changed().await.unwrap();
    eventually("all are there", async || a.cluster.gauges().nodes == 3).await;
    for member in [&a, &b] {
        member.is_ready().await;
    }
    joined.mark_unchanged();
    broker.kill();
    eventually("it is cut off", async || a.cluster.ready().is_err()).await;
    assert!(!joined.has_changed().unwrap());
    broker.restore();
    let again = tokio::time::timeout(Duration::from_secs(30), joined.changed()).await;
    again.expect("in time").unwrap();
}

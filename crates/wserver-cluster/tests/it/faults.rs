//! What a cluster promises while its broker fails: nothing twice, nothing late, counts that are true.

use std::time::Duration;

use bytes::Bytes;
use wserver_cluster::{Channel, Loopback, To};

use crate::peers::{Member, cluster, eventually, names, settings};

#[tokio::test]
async fn while_the_broker_is_away_a_push_says_who_is_missing_and_after_it_everything_is_as_before()
{
    let broker = Loopback::default();
    let [a, b] = cluster(&broker).await;
    let (_one, here) = a.join("jack", "news");
    let (_two, there) = b.join("jack", "news");
    a.knows(1).await;
    assert_eq!(a.push("jack", "before").await.total().delivered(), 2);
    broker.kill();
    eventually("it is not ready", async || a.cluster.ready().is_err()).await;
    let gathered = a.push("jack", "meanwhile").await;
    assert_eq!((gathered.here.written, names(&gathered)), (1, vec!["b"]));
    assert!(gathered.is_cut_off && !gathered.is_whole());
    // Of a user it knows nothing of, it cannot be sure.
    assert!(!a.push("rose", "m").await.is_whole());
    let (_three, later) = b.join("rose", "news");
    // Longer than a lease: that nobody is heard of then does not mean that they are dead.
    tokio::time::sleep(2 * crate::peers::LEASE).await;
    assert_eq!(names(&a.push("jack", "still").await), ["b"]);
    broker.restore();
    for member in [&a, &b] {
        member.is_ready().await;
    }
    a.knows(2).await;
    assert_eq!(a.push("jack", "after").await.total().delivered(), 2);
    assert_eq!(a.push("rose", "hello").await.total().delivered(), 1);
    assert_eq!(here.messages(), ["before", "meanwhile", "still", "after"]);
    assert_eq!(there.messages(), ["before", "after"], "what was told missing does not come late");
    assert_eq!(later.messages(), ["hello"]);
}

#[tokio::test]
async fn what_a_broker_holds_back_for_too_long_is_let_go_and_counted() {
    let broker = Loopback::default();
    // Nobody is taken for silent meanwhile, who would not be waited for.
    let [a, b] = ["a", "b"].map(|name| {
        let mut patient = settings(name);
        patient.lease = Duration::from_secs(20);
        Member::start_with(&broker, patient)
    });
    for member in [&a, &b] {
        member.is_ready().await;
    }
    let (_one, line) = b.join("jack", "news");
    a.knows(1).await;
    broker.pause();
    for text in ["one", "two"] {
        assert_eq!(names(&a.push("jack", text).await), ["b"]);
    }
    // And one whose time is not over.
    let last = a.push("jack", "three");
    let resume = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        broker.resume();
    };
    let (last, ()) = tokio::join!(last, resume);
    assert_eq!(last.total().delivered(), 1);
    assert_eq!(line.messages(), ["three"]);
    assert_eq!(b.cluster.counters().dropped_expired_total.value(), 2);
    assert_eq!(a.cluster.counters().missing_total.value(), 2);
}

#[tokio::test]
async fn a_broker_that_stands_still_is_found_out_while_its_connections_live() {
    let broker = Loopback::default();
    let [a, b] = cluster(&broker).await;
    let (_one, line) = b.join("jack", "news");
    a.knows(1).await;
    broker.pause();
    eventually("it is found out", async || a.cluster.ready().is_err()).await;
    assert!(a.push("jack", "m").await.is_cut_off);
    broker.resume();
    a.is_ready().await;
    eventually("it arrives again", async || a.count("jack").await == 1).await;
    assert!(line.messages().iter().all(|message| message == "count"));
}

#[tokio::test]
async fn nothing_is_delivered_twice() {
    let broker = Loopback::default();
    let [a, b] = cluster(&broker).await;
    let (_one, line) = b.join("jack", "news");
    a.knows(1).await;
    // A broker, or a client of it, that brings everything again.
    let spy = Spy::open(&broker, b.cluster.id().as_u64()).await;
    assert_eq!(a.push("jack", "once").await.total().delivered(), 1);
    let brought = spy.all();
    assert!(!brought.is_empty());
    let channel = Channel { lane: 0, to: To::Node(b.cluster.id()) };
    for payload in brought {
        broker.inject(channel, &payload);
    }
    let counters = b.cluster.counters();
    eventually("it is counted", async || counters.dropped_late_total.value() > 0).await;
    assert_eq!(a.push("jack", "again").await.total().delivered(), 1);
    assert_eq!(line.messages(), ["once", "again"]);
}

#[tokio::test]
async fn a_directory_heals_whatever_was_lost_of_it() {
    let broker = Loopback::default();
    let [a, b] = cluster(&broker).await;
    broker.lose(|channel| channel.to == To::All);
    let joined: Vec<_> = (0..50).map(|number| b.join(&format!("user {number}"), "news")).collect();
    let told = b.cluster.counters().published_total.value();
    eventually("it was told in vain", async || {
        b.cluster.counters().published_total.value() > told + 2
    })
    .await;
    assert_eq!(a.cluster.gauges().remote_users, 0);
    broker.lose(|_| false);
    a.knows(50).await;
    assert_eq!(a.count("user 7").await, 1);
    drop(joined);
    a.knows(0).await;
    assert!(a.cluster.counters().resyncs_total.value() > 0);
}

#[tokio::test]
async fn nonsense_and_messages_of_later_releases_are_counted_and_harm_nobody() {
    let broker = Loopback::default();
    let [a, b] = cluster(&broker).await;
    let (_one, line) = b.join("jack", "news");
    a.knows(1).await;
    let channel = Channel { lane: 0, to: To::Node(b.cluster.id()) };
    broker.inject(channel, &Bytes::from_static(b"hello"));
    // Origin 7, version 9, readable from 9, sequence 1.
    let newer = b"\x09\x07\0\0\0\0\0\0\0\x10\x09\x18\x09\x20\x01";
    broker.inject(channel, &Bytes::from_static(newer));
    // The same, readable from 1, with a field that nobody knows yet and an empty body.
    let readable = b"\x09\x07\0\0\0\0\0\0\0\x10\x09\x18\x01\x20\x01\xd2\x06\x02hi";
    broker.inject(channel, &Bytes::from_static(readable));
    let counters = b.cluster.counters();
    eventually("both are counted", async || {
        counters.dropped_malformed_total.value() == 1 && counters.dropped_version_total.value() == 1
    })
    .await;
    eventually("the third is a member for a lease", async || b.cluster.gauges().nodes == 3).await;
    eventually("and then no longer", async || b.cluster.gauges().nodes == 2).await;
    assert_eq!(a.count("jack").await, 1);
    assert_eq!(line.messages(), ["count"]);
}

/// Nodes under constant pushes while the broker does its worst.
#[tokio::test(flavor = "multi_thread")]
async fn constant_pushes_through_failures_are_never_doubled_or_out_of_order_and_counts_are_true() {
    let broker = Loopback::new(2, 1 << 20);
    let members: [Member; 3] = cluster(&broker).await;
    let lines: Vec<_> = members.iter().map(|member| member.join("jack", "news")).collect();
    for member in &members {
        member.knows(2).await;
    }
    let stop = tokio_util::sync::CancellationToken::new();
    let pushers = members.iter().enumerate().map(|(number, member)| {
        let stop = stop.clone();
        async move {
            // By node, what it was told: how many got each push.
            let mut told = Vec::new();
            while !stop.is_cancelled() {
                let text = format!("{number} {}", told.len());
                let gathered = member.push("jack", &text).await;
                told.push((gathered.total().delivered(), gathered.is_whole()));
                tokio::task::yield_now().await;
            }
            told
        }
    });
    let worst = async {
        for round in 0..4 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if round % 2 == 0 {
                broker.kill();
                tokio::time::sleep(Duration::from_millis(100)).await;
                broker.restore();
            } else {
                broker.pause();
                tokio::time::sleep(Duration::from_millis(500)).await;
                broker.resume();
            }
            for member in &members {
                member.is_ready().await;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.cancel();
    };
    let (told, ()) = tokio::join!(futures::future::join_all(pushers), worst);
    let received: Vec<Vec<String>> = lines.iter().map(|(_, line)| line.messages()).collect();
    for (number, told) in told.iter().enumerate() {
        let prefix = format!("{number} ");
        let mut reached = vec![0; told.len()];
        for messages in &received {
            let of_one = messages.iter().filter_map(|message| message.strip_prefix(&prefix));
            let of_one: Vec<usize> = of_one.map(|push| push.parse().unwrap()).collect();
            assert!(of_one.is_sorted_by(|one, next| one < next), "in order, and once");
            for push in of_one {
                reached[push] += 1;
            }
        }
        for (push, (delivered, is_whole)) in told.iter().enumerate() {
            // What a missing node did is not known; everything else is.
            assert!(reached[push] >= *delivered, "{number} {push}");
            assert!(!is_whole || reached[push] == *delivered, "{number} {push}");
        }
        assert!(told.iter().any(|(_, is_whole)| !is_whole) && told.last().unwrap().1);
        assert_eq!(told.last().unwrap().0, 3);
    }
}

/// Listens on a node's channel beside it.
struct Spy {
    _link: std::sync::Arc<dyn wserver_cluster::Link>,
    lanes: wserver_cluster::conformance::Ear,
}

impl Spy {
    async fn open(broker: &Loopback, node: u64) -> Self {
        let (link, lanes) = wserver_cluster::conformance::Ear::open(broker, node).await.unwrap();
        Self { _link: link, lanes }
    }

    fn all(mut self) -> Vec<Bytes> {
        self.lanes.all()
    }
}

/// A number that no node can have reached, in the name of one that is there.
#[tokio::test]
async fn a_forged_number_does_not_silence_a_node() {
    let broker = Loopback::default();
    let [a, b] = cluster(&broker).await;
    let (_one, line) = b.join("jack", "news");
    a.knows(1).await;
    assert_eq!(a.count("jack").await, 1);
    for to in [To::All, To::Node(b.cluster.id())] {
        // Origin a, version 1, readable from 1, sequence 2^62; for all or not.
        let mut forged = vec![0x09];
        forged.extend(a.cluster.id().as_u64().to_le_bytes());
        forged.extend(b"\x10\x01\x18\x01\x20");
        forged.extend([0x80; 8]);
        forged.extend([0x40, 0x40, u8::from(to == To::All)]);
        broker.inject(Channel { lane: 0, to }, &forged.into());
    }
    assert_eq!(a.count("jack").await, 1);
    assert_eq!(line.messages(), ["count", "count"]);
    let counters = b.cluster.counters();
    eventually("both are counted", async || counters.dropped_implausible_total.value() == 2).await;
    assert_eq!(counters.dropped_late_total.value(), 0);
}

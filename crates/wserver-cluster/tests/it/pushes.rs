//! A push on any node: whom it reaches, how it is counted, what it costs.

use std::time::{Duration, Instant};

use wserver_cluster::Loopback;
use wserver_node::{NoDelivery, Protocol, PushOptions};

use crate::peers::{Member, cluster, event, user};

#[tokio::test]
async fn a_push_reaches_its_user_on_every_node_and_is_counted_whole() {
    let broker = Loopback::default();
    let [a, b, c] = cluster(&broker).await;
    let (_one, here) = a.join("jack", "news");
    let (_two, there) = b.join("jack", "news");
    let (_three, there_too) = b.join("jack", "news");
    let (_four, elsewhere) = c.join("jack", "chat");
    a.knows(2).await;
    let gathered = a.push("jack", "hello").await;
    assert_eq!(gathered.total().delivered(), 3);
    assert_eq!((gathered.here.written, gathered.others.len()), (1, 2));
    assert!(gathered.is_whole());
    let counts = |name: &str| gathered.others.iter().find(|(it, _)| &*it.name == name).unwrap().1;
    assert_eq!(counts("b").written, 2);
    assert_eq!(counts("c").reason, Some(NoDelivery::NoRegistrationForEvent));
    for line in [here, there, there_too] {
        assert_eq!(line.messages(), ["hello"]);
    }
    assert_eq!(elsewhere.messages(), [""; 0]);
}

/// What a push of a user that no other node has costs the broker: nothing.
#[tokio::test]
async fn who_is_nowhere_else_is_not_asked_for() {
    let broker = Loopback::default();
    let [a, _b] = cluster(&broker).await;
    let (_one, line) = a.join("jack", "news");
    let asked = a.cluster.counters().requests_total.value();
    assert_eq!(a.count("jack").await, 1);
    let nobody = a.push("rose", "hello").await;
    assert_eq!(nobody.total().reason, Some(NoDelivery::UserOffline));
    assert_eq!(a.cluster.counters().requests_total.value(), asked);
    assert_eq!(line.messages(), ["count"]);
}

#[tokio::test]
async fn a_user_who_leaves_a_node_is_not_sent_there_any_more() {
    let broker = Loopback::default();
    let [a, b] = cluster(&broker).await;
    let (one, _) = b.join("jack", "news");
    let (two, _) = b.join("jack", "news");
    a.knows(1).await;
    drop(one);
    assert_eq!(a.count("jack").await, 1);
    drop(two);
    a.knows(0).await;
    assert_eq!(a.push("jack", "m").await.others.len(), 0);
    // By a registration alone as well.
    let (three, _) = b.join("jack", "news");
    a.knows(1).await;
    assert!(b.node.unregister(three.id(), &user("jack"), &event("news")));
    a.knows(0).await;
}

#[tokio::test]
async fn options_hold_on_every_node() {
    let broker = Loopback::default();
    let [a, b] = cluster(&broker).await;
    let (one, left_out) = b.join("jack", "news");
    let (_two, line) = b.join("jack", "news");
    a.knows(1).await;
    let options = PushOptions { exclude: Some(one.id()), ..PushOptions::default() };
    let gathered = a.push_with("jack", "m", &options).await;
    assert_eq!(gathered.total().delivered(), 1);
    assert_eq!((left_out.messages().len(), line.messages().len()), (0, 1));
    let over = PushOptions { expires_at: Some(Instant::now()), ..PushOptions::default() };
    let gathered = a.push_with("jack", "m", &over).await;
    assert_eq!(gathered.total().reason, Some(NoDelivery::Expired));
    let later = Instant::now() + Duration::from_secs(60);
    let lasting = PushOptions { expires_at: Some(later), ..PushOptions::default() };
    let gathered = a.push_with("jack", "m", &lasting).await;
    assert_eq!(gathered.total().delivered(), 2);
    // Ids of connections are the cluster's, so each node knows whose one is.
    assert!(b.cluster.is_own(one.id()) && !a.cluster.is_own(one.id()));
}

/// Connections of version 2 are told the publisher's id on every node.
#[tokio::test]
async fn a_push_is_known_by_one_id_on_every_node() {
    let broker = Loopback::default();
    let [a, b] = cluster(&broker).await;
    let (_here, near) = a.join_by(Protocol::V2, "jack", "news");
    let (_there, far) = b.join_by(Protocol::V2, "jack", "news");
    a.knows(1).await;
    assert_eq!(a.push("jack", "m").await.total().delivered(), 2);
    assert_eq!(a.push_everyone("all").await.total().total.delivered(), 2);
    let head = "{\"event\":\"news\",\"id\":\"5f3a9c01-12\"}\n";
    for line in [near, far] {
        assert_eq!(line.messages(), [format!("{head}m"), format!("{head}all")]);
    }
}

#[tokio::test]
async fn everyone_is_everyone_on_every_node() {
    let broker = Loopback::default();
    let [a, b, c] = cluster(&broker).await;
    let (_one, _) = a.join("ann", "news");
    let (_two, line) = b.join("bob", "news");
    let (_three, _) = c.join("cid", "news");
    let (_four, _) = c.join("cid", "chat");
    let everyone = a.push_everyone("m").await;
    let total = everyone.total();
    assert_eq!((total.users, total.total.delivered(), everyone.others.len()), (3, 3, 2));
    assert_eq!(line.messages(), ["m"]);
}

#[tokio::test]
async fn messages_beyond_what_the_broker_carries_arrive_whole() {
    let broker = Loopback::new(2, 2048);
    let [a, b] = cluster(&broker).await;
    let (_one, line) = b.join("jack", "news");
    a.knows(1).await;
    let long = "x".repeat(100_000);
    assert_eq!(a.push("jack", &long).await.total().delivered(), 1);
    assert_eq!(a.push("jack", "short").await.total().delivered(), 1);
    assert_eq!(line.messages(), [long, "short".to_owned()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pushes_at_once_from_every_node_are_each_counted_and_arrive_in_order() {
    const PUSHES: usize = 300;
    let broker = Loopback::new(3, 1 << 20);
    let members: [Member; 3] = cluster(&broker).await;
    let lines: Vec<_> = members.iter().map(|member| member.join("jack", "news")).collect();
    for member in &members {
        member.knows(2).await;
    }
    let pushers = members.iter().enumerate().map(|(number, member)| async move {
        for push in 0..PUSHES {
            let gathered = member.push("jack", &format!("{number} {push}")).await;
            assert_eq!(gathered.total().delivered(), 3, "{gathered:?}");
        }
    });
    futures::future::join_all(pushers).await;
    for (_, line) in &lines {
        let messages = line.messages();
        assert_eq!(messages.len(), 3 * PUSHES);
        for number in 0..3 {
            let prefix = format!("{number} ");
            let of_one = messages.iter().filter_map(|message| message.strip_prefix(&prefix));
            let of_one: Vec<usize> = of_one.map(|push| push.parse().unwrap()).collect();
            assert_eq!(of_one, (0..PUSHES).collect::<Vec<_>>());
        }
    }
}

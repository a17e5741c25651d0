//! Nodes that come, leave and die.

use std::time::Duration;

use wserver_cluster::Loopback;

use crate::peers::{LEASE, Member, cluster, eventually, names, settings};

#[tokio::test]
async fn a_node_that_comes_later_learns_every_user_before_it_is_ready() {
    let broker = Loopback::default();
    let a = Member::start(&broker, "a");
    let joined: Vec<_> =
        (0..1000).map(|number| a.join(&format!("user {number}"), "news")).collect();
    a.is_ready().await;
    let b = Member::start(&broker, "b");
    assert!(b.cluster.ready().unwrap_err().contains("no connection yet"));
    b.is_ready().await;
    assert_eq!(b.cluster.gauges().remote_users, joined.len());
    assert_eq!(b.count("user 999").await, 1);
    let members = b.cluster.members();
    assert_eq!((members.len(), &*members[0].node.name), (1, "a"));
    assert_eq!(members[0].release, env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn a_node_that_leaves_is_gone_at_once_and_its_users_with_it() {
    let broker = Loopback::default();
    let [a, b] = cluster(&broker).await;
    let (_one, _) = b.join("jack", "news");
    a.knows(1).await;
    b.cluster.drain();
    eventually("it is told", async || a.cluster.members()[0].is_draining).await;
    assert_eq!(a.count("jack").await, 1, "it takes part until it leaves");
    b.cluster.leave();
    eventually("it is gone", async || a.cluster.gauges().nodes == 1).await;
    assert_eq!(a.cluster.gauges().remote_users, 0);
    assert!(a.push("jack", "m").await.is_whole());
    assert_eq!(a.cluster.counters().nodes_expired_total.value(), 0);
}

#[tokio::test]
async fn a_node_that_dies_is_missing_until_it_is_started_again() {
    let broker = Loopback::default();
    let [a, b, c] = cluster(&broker).await;
    let (_one, _) = b.join("jack", "news");
    let (_two, _) = c.join("jack", "news");
    a.knows(2).await;
    b.node.tasks().stop();
    let gathered = a.push("jack", "m").await;
    assert_eq!((gathered.total().delivered(), names(&gathered)), (1, vec!["b"]));
    eventually("it has vanished", async || a.cluster.gauges().nodes == 2).await;
    assert_eq!(a.cluster.counters().nodes_expired_total.value(), 1);
    // Dead or cut off: nobody can know.
    let gathered = a.push("jack", "m").await;
    assert_eq!((gathered.total().delivered(), names(&gathered)), (1, vec!["b"]));
    // A push that waits for a node which dies meanwhile does not wait any longer.
    assert_eq!(a.cluster.gauges().requests, 0);
    let _again = Member::start(&broker, "b");
    eventually("it is known to be gone", async || a.push("jack", "m").await.is_whole()).await;
    assert_eq!(a.cluster.gauges().vanished, 0);
}

#[tokio::test]
async fn a_node_that_was_taken_for_dead_and_lives_comes_back() {
    let broker = Loopback::default();
    let [a, b] = cluster(&broker).await;
    let (_one, line) = b.join("jack", "news");
    a.knows(1).await;
    let id = b.cluster.id();
    let mut limp = settings("b");
    limp.lease = Duration::from_secs(60);
    let slow = Member::start_with(&broker, limp);
    eventually("it is there", async || a.cluster.gauges().nodes == 3).await;
    // Its heartbeats are twelve seconds apart, a lease of the others' is over long before.
    eventually("it is taken for dead", async || {
        a.cluster.counters().nodes_expired_total.value() > 0
    })
    .await;
    assert!(a.cluster.members().iter().any(|member| member.node.id == id));
    slow.cluster.drain();
    eventually("it is back", async || a.cluster.gauges().nodes == 3).await;
    let (_two, again) = slow.join("jack", "news");
    a.knows(2).await;
    assert_eq!(a.count("jack").await, 2);
    assert_eq!((line.messages().len(), again.messages().len()), (1, 1));
    assert!(LEASE < Duration::from_secs(12));
}

//! A push that waits for acknowledgements of connections to several nodes.

use std::time::{Duration, Instant};

use wserver_cluster::{Gathered, Loopback};
use wserver_core::LimitSettings;
use wserver_node::{
    AckWait, Acks, Attachment, AwaitedPush, Message, Protocol, PushOptions, PushReceipt, WaitFor,
};

use crate::peers::{Line, Member, PATIENCE, PUSH, cluster, event, eventually, settings, user};

fn acks(acked: usize, waiting: usize, unable: usize, lost: usize) -> Acks {
    Acks { acked, waiting, unable, lost }
}

/// A push of news to jack that waits for so long.
async fn push(
    member: &Member,
    until: WaitFor,
    time: Duration,
) -> (AckWait, AwaitedPush, Gathered<PushReceipt>) {
    let wait = member.node.wait_for_acks().unwrap();
    let push = wait.expect(until, Instant::now() + time);
    let news = event("news");
    let mut message = Message::new(&news, PUSH, "m");
    message.await_acks(push);
    let gathered = member.cluster.push(&user("jack"), &mut message, &PushOptions::default()).await;
    (wait, push, gathered)
}

fn join(member: &Member) -> (Attachment<Line>, Line) {
    member.join_by(Protocol::V2, "jack", "news")
}

#[tokio::test]
async fn each_node_tells_its_part() {
    let broker = Loopback::default();
    let [a, b, c] = cluster(&broker).await;
    let (here, _) = join(&a);
    let (there, line) = join(&b);
    let (gone, _) = join(&b);
    let _older = c.join("jack", "news");
    a.knows(2).await;

    let (wait, pushed, gathered) = push(&a, WaitFor::All, PATIENCE).await;
    assert_eq!(gathered.total().delivered(), 4);
    assert_eq!(line.messages(), ["{\"event\":\"news\",\"id\":\"5f3a9c01-12\",\"ack\":true}\nm"]);
    assert_eq!(wait.acks(pushed), acks(0, 3, 1, 0));
    here.acknowledge(PUSH);
    there.acknowledge(PUSH);
    drop(gone);
    let waited = wait.waited(pushed).await;
    assert_eq!((waited.acks, waited.silent), (acks(2, 0, 1, 1), vec![]));
    eventually("the other node keeps nothing", async || b.node.waits() == 0).await;

    // The first of another node ends it, and nobody is missing who has not told the rest.
    let (wait, pushed, _) = push(&a, WaitFor::First, PATIENCE).await;
    there.acknowledge(PUSH);
    let waited = wait.waited(pushed).await;
    assert_eq!((waited.acks, waited.silent), (acks(1, 1, 1, 0), vec![]));
    eventually("the other node keeps nothing", async || b.node.waits() == 0).await;

    // One that has no answer of its own is told that nobody needs it.
    let (wait, pushed, _) = push(&a, WaitFor::First, PATIENCE).await;
    here.acknowledge(PUSH);
    let waited = wait.waited(pushed).await;
    assert_eq!((waited.acks, &waited.unneeded), (acks(1, 1, 1, 0), &vec![b.cluster.id()]));
    assert_eq!(b.node.waits(), 1);
    a.cluster.wait_is_over(&pushed, &waited.unneeded);
    eventually("the other node has ended its wait", async || b.node.waits() == 0).await;
}

#[tokio::test]
async fn when_the_time_is_over_each_node_has_told() {
    let broker = Loopback::default();
    let [a, b] = cluster(&broker).await;
    let (_one, _) = join(&b);
    let (two, _) = join(&b);
    a.knows(1).await;
    let (wait, pushed, _) = push(&a, WaitFor::All, Duration::from_secs(2)).await;
    two.acknowledge(PUSH);
    let waited = wait.waited(pushed).await;
    assert_eq!((waited.acks, waited.silent), (acks(1, 1, 0, 0), vec![]));
}

#[tokio::test]
async fn a_node_that_is_silent_later_is_missing() {
    let broker = Loopback::default();
    let [a, b] = cluster(&broker).await;
    let (_one, _) = join(&b);
    a.knows(1).await;
    let (wait, pushed, gathered) = push(&a, WaitFor::First, Duration::from_secs(1)).await;
    assert!(gathered.is_whole());
    b.node.tasks().stop();
    let waited = wait.waited(pushed).await;
    assert_eq!((waited.acks, waited.silent), (acks(0, 1, 0, 0), vec![b.cluster.id()]));
}

/// A node that has no room for one more that waits makes the push, and does not ask.
#[tokio::test]
async fn a_node_without_room_says_that_its_connections_cannot() {
    let broker = Loopback::default();
    let a = Member::start(&broker, "a");
    let limits = LimitSettings { waits_max: 0, ..LimitSettings::default() };
    let b = Member::start_limited(&broker, settings("b"), limits);
    let (_one, line) = join(&b);
    a.is_ready().await;
    a.knows(1).await;
    let (wait, pushed, _) = push(&a, WaitFor::All, PATIENCE).await;
    let waited = wait.waited(pushed).await;
    assert_eq!((waited.acks, waited.silent), (acks(0, 0, 1, 0), vec![]));
    assert_eq!(line.messages(), ["{\"event\":\"news\",\"id\":\"5f3a9c01-12\"}\nm"]);
}

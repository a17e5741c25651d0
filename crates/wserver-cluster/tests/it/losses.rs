//! What is lost on the way to a broker: it is counted, and whoever waits for an answer is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use wserver_cluster::{Broker, BrokerError, Inbound, Link, Loopback, NodeId, To};

use crate::peers::{Member, cluster, eventually, names, settings};

/// A broker in memory whose links can be made to take nothing.
#[derive(Debug, Clone, Default)]
struct Unwilling {
    inner: Loopback,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    fails: AtomicBool,
    /// What it is given it keeps, and says neither yes nor no.
    hangs: AtomicBool,
    hung: AtomicUsize,
    is_cut: Notify,
}

struct UnwillingLink {
    inner: Arc<dyn Link>,
    state: Arc<State>,
}

#[async_trait]
impl Broker for Unwilling {
    fn kind(&self) -> &'static str {
        "unwilling"
    }

    async fn open(&self, node: NodeId, inbound: Inbound) -> Result<Arc<dyn Link>, BrokerError> {
        let inner = self.inner.open(node, inbound).await?;
        Ok(Arc::new(UnwillingLink { inner, state: Arc::clone(&self.state) }))
    }
}

#[async_trait]
impl Link for UnwillingLink {
    async fn publish(&self, lane: u16, messages: Vec<(To, Bytes)>) -> Result<(), BrokerError> {
        if self.state.hangs.load(Ordering::Relaxed) {
            self.state.hung.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<()>().await;
        }
        if self.state.fails.load(Ordering::Relaxed) {
            return Err(BrokerError::unreachable("it takes nothing"));
        }
        self.inner.publish(lane, messages).await
    }

    async fn broken(&self) -> BrokerError {
        self.state.is_cut.notified().await;
        BrokerError::unreachable("it was cut")
    }
}

/// A node that would wait for an answer for longer than a test does, on a broker of its own whims, and
/// another that has `jack`.
async fn patient() -> (Member, Member, Unwilling) {
    let unwilling = Unwilling::default();
    let mut patient = settings("a");
    patient.answer_timeout = Duration::from_secs(30);
    patient.lease = Duration::from_secs(60);
    let a = Member::start_with(&unwilling, patient);
    let b = Member::start(&unwilling.inner, "b");
    for member in [&a, &b] {
        member.is_ready().await;
    }
    (a, b, unwilling)
}

#[tokio::test]
async fn a_batch_that_the_broker_does_not_take_is_counted_and_told_at_once() {
    let (a, b, broker) = patient().await;
    let (_one, line) = b.join("jack", "news");
    a.knows(1).await;
    broker.state.fails.store(true, Ordering::Relaxed);
    let since = Instant::now();
    assert_eq!(names(&a.push("jack", "lost").await), ["b"]);
    assert!(since.elapsed() < Duration::from_secs(20), "it was not waited for");
    let counters = a.cluster.counters();
    assert!(counters.dropped_publish_failed_total.value() > 0);
    broker.state.fails.store(false, Ordering::Relaxed);
    a.is_ready().await;
    assert_eq!(a.count("jack").await, 1);
    assert_eq!(line.messages(), ["count"], "and it does not come late");
}

#[tokio::test]
async fn a_batch_on_its_way_when_the_link_changes_is_counted_and_told_at_once() {
    let (a, b, broker) = patient().await;
    let (_one, line) = b.join("jack", "news");
    a.knows(1).await;
    broker.state.hangs.store(true, Ordering::Relaxed);
    let since = Instant::now();
    let cut = async {
        let is_on_its_way = async || broker.state.hung.load(Ordering::Relaxed) > 0;
        eventually("it is on its way", is_on_its_way).await;
        broker.state.hangs.store(false, Ordering::Relaxed);
        broker.state.is_cut.notify_one();
    };
    let (gathered, ()) = tokio::join!(a.push("jack", "lost"), cut);
    assert_eq!(names(&gathered), ["b"]);
    assert!(since.elapsed() < Duration::from_secs(20), "it was not waited for");
    let counters = a.cluster.counters();
    eventually("it is counted", async || counters.dropped_publish_failed_total.value() > 0).await;
    a.is_ready().await;
    assert_eq!(a.count("jack").await, 1);
    assert_eq!(line.messages(), ["count"]);
}

/// A body waits for the broker once, however many nodes it is for.
#[tokio::test]
async fn a_large_push_to_a_user_on_many_nodes_leaves_nobody_out() {
    let broker = Loopback::default();
    let members: [Member; 8] = cluster(&broker).await;
    let large = "x".repeat(1_000_000);
    let mut narrow = settings("narrow");
    // Room for one of these, and not for two.
    narrow.queue_bytes_max = (1 << 20) + (64 << 10);
    narrow.answer_timeout = Duration::from_secs(30);
    narrow.lease = Duration::from_secs(60);
    let publisher = Member::start_with(&broker, narrow);
    publisher.is_ready().await;
    let lines: Vec<_> = members.iter().map(|member| member.join("jack", "news")).collect();
    publisher.knows(8).await;
    let gathered = publisher.push("jack", &large).await;
    assert_eq!((names(&gathered), gathered.total().delivered()), (vec![], 8));
    assert_eq!(publisher.cluster.counters().dropped_outbound_full_total.value(), 0);
    assert!(lines.iter().all(|(_, line)| line.messages() == [large.as_str()]));
}

/// A broker whose links end as soon as they are open.
#[derive(Debug, Clone, Default)]
struct Fickle(Arc<AtomicUsize>);

struct FickleLink;

#[async_trait]
impl Broker for Fickle {
    fn kind(&self) -> &'static str {
        "fickle"
    }

    async fn open(&self, _node: NodeId, _inbound: Inbound) -> Result<Arc<dyn Link>, BrokerError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(FickleLink))
    }
}

#[async_trait]
impl Link for FickleLink {
    async fn publish(&self, _lane: u16, _: Vec<(To, Bytes)>) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn broken(&self) -> BrokerError {
        BrokerError::unreachable("it ended")
    }
}

#[tokio::test]
async fn a_broker_that_accepts_and_closes_is_tried_less_and_less_often() {
    let broker = Fickle::default();
    let _member = Member::start(&broker, "a");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let opened = broker.0.load(Ordering::Relaxed);
    assert!((2..=12).contains(&opened), "{opened} links in three seconds");
}

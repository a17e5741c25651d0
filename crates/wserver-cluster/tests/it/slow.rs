//! Ways to the broker that are slow or held up: what is late is let go, and nothing overtakes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use wserver_cluster::{Broker, BrokerError, Inbound, Link, Loopback, NodeId, To};

use crate::peers::{Member, cluster, eventually, names, settings};

/// A way to a broker by which everything that is sent takes so long.
#[derive(Clone)]
struct Slow {
    broker: Loopback,
    takes: Duration,
}

type Batch = (Instant, u16, Vec<(To, Bytes)>);

struct SlowLink {
    link: Arc<dyn Link>,
    batches: mpsc::Sender<Batch>,
    takes: Duration,
    /// Hands on what has taken its time.
    _tasks: JoinSet<()>,
}

#[async_trait]
impl Broker for Slow {
    fn kind(&self) -> &'static str {
        "slow"
    }

    async fn open(&self, node: NodeId, inbound: Inbound) -> Result<Arc<dyn Link>, BrokerError> {
        let link = self.broker.open(node, inbound).await?;
        let (sender, mut batches) = mpsc::channel::<Batch>(10_000);
        let far = Arc::clone(&link);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Some((at, lane, messages)) = batches.recv().await {
                tokio::time::sleep_until(at).await;
                let _ = far.publish(lane, messages).await;
            }
        });
        Ok(Arc::new(SlowLink { link, batches: sender, takes: self.takes, _tasks: tasks }))
    }
}

#[async_trait]
impl Link for SlowLink {
    async fn publish(&self, lane: u16, messages: Vec<(To, Bytes)>) -> Result<(), BrokerError> {
        let batch = (Instant::now() + self.takes, lane, messages);
        self.batches.try_send(batch).map_err(|_full| BrokerError::unreachable("too much waits"))
    }

    async fn broken(&self) -> BrokerError {
        self.link.broken().await
    }
}

fn patient(name: &str) -> wserver_cluster::ClusterSettings {
    let mut patient = settings(name);
    patient.lease = Duration::from_secs(20);
    patient
}

/// Two nodes that know each other, neither of which takes the other for silent meanwhile.
async fn patient_two(broker: &Loopback) -> [Member; 2] {
    let members = ["a", "b"].map(|name| Member::start_with(broker, patient(name)));
    for member in &members {
        member.is_ready().await;
        eventually("both are there", async || member.cluster.gauges().nodes == 2).await;
    }
    members
}

#[tokio::test]
async fn what_waited_for_the_link_is_as_old_as_it_is_and_is_let_go() {
    let broker = Loopback::default();
    let [a, b] = patient_two(&broker).await;
    let (_one, line) = b.join("jack", "news");
    a.knows(1).await;
    broker.hold_up();
    for text in ["one", "two"] {
        assert_eq!(names(&a.push("jack", text).await), ["b"]);
    }
    broker.go_on();
    let counters = b.cluster.counters();
    eventually("they are let go", async || counters.dropped_expired_total.value() == 2).await;
    assert_eq!(a.push("jack", "three").await.total().delivered(), 1);
    assert_eq!(line.messages(), ["three"]);
}

#[tokio::test]
async fn what_was_held_back_until_its_origin_had_vanished_is_let_go() {
    let broker = Loopback::default();
    let [a, b] = cluster(&broker).await;
    let (_one, line) = b.join("jack", "news");
    a.knows(1).await;
    broker.pause_node(a.cluster.id());
    for text in ["one", "two"] {
        assert_eq!(names(&a.push("jack", text).await), ["b"]);
    }
    eventually("it has vanished", async || b.cluster.gauges().vanished == 1).await;
    broker.resume();
    let counters = b.cluster.counters();
    eventually("they are let go", async || counters.dropped_expired_total.value() == 2).await;
    eventually("it is back", async || a.count("jack").await == 1).await;
    assert!(line.messages().iter().all(|message| message == "count"), "{:?}", line.messages());
}

#[tokio::test]
async fn a_link_slower_than_the_answer_timeout_is_named_and_nothing_comes_late_by_it() {
    let broker = Loopback::default();
    let takes = Duration::from_millis(500);
    let a = Member::start_with(&Slow { broker: broker.clone(), takes }, patient("a"));
    let b = Member::start_with(&broker, patient("b"));
    let (_one, line) = b.join("jack", "news");
    a.knows(1).await;
    eventually("it is named", async || {
        let why = a.cluster.ready().err().unwrap_or_default();
        why.contains("to the broker (slow) and back, but cluster_answer_timeout is 300 ms")
    })
    .await;
    assert!(a.cluster.gauges().round_trip >= takes);
    for text in ["one", "two"] {
        assert_eq!(names(&a.push("jack", text).await), ["b"]);
        // One that its publisher sends by another node, as soon as it has that answer.
        assert_eq!(b.push("jack", &format!("after {text}")).await.here.written, 1);
    }
    // What may have been on its way has come.
    tokio::time::sleep(2 * takes).await;
    assert_eq!(line.messages(), ["after one", "after two"]);
}

#[tokio::test]
async fn a_link_that_is_slow_and_quick_enough_is_ready() {
    let broker = Loopback::default();
    let takes = Duration::from_millis(100);
    let mut settings = patient("a");
    settings.answer_timeout = Duration::from_secs(5);
    let a = Member::start_with(&Slow { broker: broker.clone(), takes }, settings);
    let b = Member::start_with(&broker, patient("b"));
    let (_one, line) = b.join("jack", "news");
    a.knows(1).await;
    a.is_ready().await;
    assert!(a.push("jack", "m").await.is_whole());
    assert_eq!(line.messages(), ["m"]);
}

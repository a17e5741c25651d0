//! Nodes of a cluster with connections that take everything.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Handle;
use wserver_cluster::{Answerer, Broker, Cluster, ClusterSettings, Gathered, Joining};
use wserver_core::{EventName, LimitSettings, PushId, UserId};
use wserver_node::{
    Attachment, EveryoneReceipt, Message, Node, Protocol, PushOptions, PushReceipt, Wire,
};

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Short, so that tests see it pass.
pub(crate) const LEASE: Duration = Duration::from_millis(600);

/// The far end of a connection: everything that it was sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line(Arc<Mutex<Vec<u8>>>);

impl Line {
    /// The text messages so far.
    pub(crate) fn messages(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap();
        let mut messages = Vec::new();
        let mut rest = bytes.as_slice();
        while let [0x81, length, tail @ ..] = rest {
            let (length, tail) = match length {
                126 => (usize::from(u16::from_be_bytes([tail[0], tail[1]])), &tail[2..]),
                127 => {
                    let length = u64::from_be_bytes(tail[..8].try_into().unwrap());
                    (usize::try_from(length).unwrap(), &tail[8..])
                }
                length => (usize::from(*length), tail),
            };
            messages.push(String::from_utf8(tail[..length].to_vec()).unwrap());
            rest = &tail[length..];
        }
        messages
    }
}

impl Wire for Line {
    fn try_write(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut bytes = self.0.lock().unwrap();
        let before = bytes.len();
        for buffer in buffers {
            bytes.extend_from_slice(buffer);
        }
        Ok(bytes.len() - before)
    }

    fn poll_write_ready(&self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What every push of these tests is known by.
pub(crate) const PUSH: PushId = PushId::new(0x5f3a_9c01, 12);

/// One node of a cluster.
pub(crate) struct Member {
    pub(crate) node: Node<Line>,
    pub(crate) cluster: Cluster<Line>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.node.tasks().stop();
    }
}

pub(crate) fn settings(name: &str) -> ClusterSettings {
    let mut settings = ClusterSettings::default();
    settings.node_name = name.to_owned();
    settings.lease = LEASE;
    settings.answer_timeout = Duration::from_millis(300);
    settings
}

impl Member {
    /// A node that has begun to take part.
    pub(crate) fn start(broker: &(impl Broker + Clone), name: &str) -> Self {
        Self::start_with(broker, settings(name))
    }

    pub(crate) fn start_with(broker: &(impl Broker + Clone), settings: ClusterSettings) -> Self {
        Self::start_limited(broker, settings, LimitSettings::default())
    }

    pub(crate) fn start_limited(
        broker: &(impl Broker + Clone),
        settings: ClusterSettings,
        limits: LimitSettings,
    ) -> Self {
        let limits = limits.build().unwrap();
        let broker = Arc::new(broker.clone());
        let joining = Joining::new(limits, |_, _| None, Handle::current(), broker, settings);
        let node = joining.node().clone();
        let answerer = answerer(joining.cluster());
        Self { node, cluster: joining.start(answerer) }
    }

    /// A connection that is registered.
    pub(crate) fn join(&self, name: &str, about: &str) -> (Attachment<Line>, Line) {
        self.join_by(Protocol::V1, name, about)
    }

    /// The same for one that speaks `protocol`.
    pub(crate) fn join_by(
        &self,
        protocol: Protocol,
        name: &str,
        about: &str,
    ) -> (Attachment<Line>, Line) {
        let line = Line::default();
        let attachment = self.node.open(line.clone(), protocol).unwrap();
        attachment.register(&user(name), &event(about), self.node.digest("token")).unwrap();
        (attachment, line)
    }

    pub(crate) async fn push(&self, name: &str, text: &str) -> Gathered<PushReceipt> {
        self.push_with(name, text, &PushOptions::default()).await
    }

    /// Pushes news with these options, as [`PUSH`].
    pub(crate) async fn push_with(
        &self,
        name: &str,
        text: &str,
        options: &PushOptions,
    ) -> Gathered<PushReceipt> {
        let news = event("news");
        self.cluster.push(&user(name), &mut Message::new(&news, PUSH, text), options).await
    }

    pub(crate) async fn push_everyone(&self, text: &str) -> Gathered<EveryoneReceipt> {
        let (news, options) = (event("news"), PushOptions::default());
        self.cluster.push_everyone(&mut Message::new(&news, PUSH, text), &options).await
    }

    /// How many got it, from all whom this node knows.
    pub(crate) async fn count(&self, name: &str) -> usize {
        self.push(name, "count").await.total().delivered()
    }

    /// Waits until this node knows of so many users of others.
    pub(crate) async fn knows(&self, remote_users: usize) {
        eventually("it knows the others' users", async || {
            self.cluster.gauges().remote_users == remote_users
        })
        .await;
    }

    pub(crate) async fn is_ready(&self) {
        eventually("it is ready", async || self.cluster.ready().is_ok()).await;
    }
}

/// Answers with its own name and what was asked; says nothing to `silence`.
fn answerer(cluster: &Cluster<Line>) -> Answerer {
    let name = cluster.node_name();
    let sender = cluster.clone();
    Box::new(move |from, question| {
        let (name, sender) = (name.clone(), sender.clone());
        Box::pin(async move {
            let question = std::str::from_utf8(&question).unwrap();
            if let Some(stream) = question.strip_prefix("stream ") {
                let stream = stream.parse().unwrap();
                for entry in ["one", "two"] {
                    assert!(sender.send(from, stream, Bytes::from(format!("{name} {entry}"))));
                }
            }
            (question != "silence").then(|| Bytes::from(format!("{name}: {question}")))
        })
    })
}

/// Nodes `a`, `b`, … that all know each other.
pub(crate) async fn cluster<const N: usize>(broker: &(impl Broker + Clone)) -> [Member; N] {
    let members: [Member; N] =
        std::array::from_fn(|number| Member::start(broker, &"abcdefgh"[number..=number]));
    for member in &members {
        member.is_ready().await;
        eventually("all are there", async || member.cluster.gauges().nodes == N).await;
    }
    members
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::parse(name, 4096).unwrap()
}

pub(crate) fn event(name: &str) -> EventName {
    EventName::parse(name, 4096).unwrap()
}

/// Waits until it is so; what happens in tasks of a cluster cannot be waited on otherwise.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let since = Instant::now();
    while !is_so().await {
        assert!(since.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn names<T>(gathered: &Gathered<T>) -> Vec<&str> {
    let mut names: Vec<&str> = gathered.missing.iter().map(|node| &*node.name).collect();
    names.sort_unstable();
    names
}

//! One open connection: what it publishes, what it receives, and whether it is still good.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Event, Message, ServerError, Subject, Subscriber};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use wserver_cluster::{BrokerError, Channel, Inbound, Link, NodeId, To};

use crate::servers::Server;
use crate::settings::NatsSettings;

/// The only lane.
pub(crate) const LANE: u16 = 0;

/// A link over one connection. Once broken it stays broken, even while the client library, which
/// cannot be told otherwise, tries once to reconnect: after that it publishes and accepts nothing.
#[derive(Debug)]
pub(crate) struct NatsLink {
    client: Client,
    server: Server,
    cluster: String,
    publish_timeout: Duration,
    failure: FirstFailure,
    /// The task that passes on what arrives; it ends when this is dropped.
    _forwarding: JoinSet<()>,
}

impl NatsLink {
    /// Subscribes to the channels of `node`, and returns when the server has shown that it carries
    /// messages on each of them.
    ///
    /// NATS does not confirm that a subscription is in force or that publishing is allowed; it only
    /// reports, at some later time, that it is not. So the node publishes a probe on each of its
    /// channels and waits for it.
    pub(crate) async fn open(
        client: Client,
        server: Server,
        settings: &NatsSettings,
        failure: FirstFailure,
        node: NodeId,
        inbound: &Inbound,
    ) -> Result<Self, BrokerError> {
        let probe = Probe::new(&settings.cluster, node);
        let mut subscribers = Vec::new();
        let opening = async {
            for channel in Channel::of_node(node, LANE + 1) {
                let subject = Subject::from(channel.name(&settings.cluster));
                let subscriber = client.subscribe(subject.clone()).await;
                subscribers.push(subscriber.map_err(|_closed| ended(&server))?);
                let sent =
                    client.publish_with_reply(subject, probe.reply.clone(), probe.payload.clone());
                sent.await.map_err(|_closed| ended(&server))?;
            }
            client.flush().await.map_err(|_closed| ended(&server))?;
            for subscriber in &mut subscribers {
                loop {
                    let message = subscriber.next().await.ok_or_else(|| ended(&server))?;
                    if probe.is(&message) {
                        break;
                    }
                    hand_over(message, inbound);
                }
            }
            Ok(())
        };
        tokio::select! {
            biased;
            error = failure.failed() => return Err(error),
            opened = opening => opened?,
        }
        let mut forwarding = JoinSet::new();
        for subscriber in subscribers {
            let forward = forward(subscriber, inbound.clone(), failure.clone(), ended(&server));
            forwarding.spawn(forward);
        }
        Ok(Self {
            client,
            server,
            cluster: settings.cluster.clone(),
            publish_timeout: settings.connect_timeout,
            failure,
            _forwarding: forwarding,
        })
    }
}

#[async_trait]
impl Link for NatsLink {
    async fn publish(&self, lane: u16, messages: Vec<(To, Bytes)>) -> Result<(), BrokerError> {
        let publishing = async {
            for (to, payload) in messages {
                let subject = Channel { lane, to }.name(&self.cluster);
                self.client.publish(subject, payload).await.ok()?;
            }
            self.client.flush().await.ok()
        };
        let error = tokio::select! {
            biased;
            error = self.failure.failed() => return Err(error),
            published = timeout(self.publish_timeout, publishing) => match published {
                Ok(Some(())) => return Ok(()),
                Ok(None) => ended(&self.server),
                Err(_elapsed) => {
                    let server = &self.server;
                    BrokerError::unreachable(format!("NATS server {server} accepts no messages"))
                }
            }
        };
        self.failure.fail(error.clone());
        Err(error)
    }

    async fn broken(&self) -> BrokerError {
        self.failure.failed().await
    }
}

/// Passes on what arrives until the link breaks or is dropped.
async fn forward(
    mut subscriber: Subscriber,
    inbound: Inbound,
    failure: FirstFailure,
    at_end: BrokerError,
) {
    let forwarding = async {
        while let Some(message) = subscriber.next().await {
            hand_over(message, &inbound);
        }
    };
    tokio::select! {
        biased;
        _ = failure.failed() => {}
        () = forwarding => failure.fail(at_end),
    }
}

/// Passes on a message, unless it is a probe, which concerns only its sender.
fn hand_over(message: Message, inbound: &Inbound) {
    if message.reply.is_none() {
        inbound.offer(LANE, message.payload);
    }
}

/// A message from a node to itself. It is the only message of a cluster that has a reply subject,
/// which nobody uses, so others can tell it from the rest.
struct Probe {
    reply: Subject,
    payload: Bytes,
}

impl Probe {
    fn new(cluster: &str, node: NodeId) -> Self {
        let reply = format!("{cluster}.probe").into();
        Self { reply, payload: node.to_string().into() }
    }

    fn is(&self, message: &Message) -> bool {
        message.reply.as_ref() == Some(&self.reply) && message.payload == self.payload
    }
}

/// Whether a link is still good, and if not, why. Clones share the state.
#[derive(Debug, Clone, Default)]
pub(crate) struct FirstFailure(Arc<watch::Sender<Option<BrokerError>>>);

impl FirstFailure {
    /// The first reason stays.
    fn fail(&self, error: BrokerError) {
        self.0.send_if_modified(|reason| {
            let is_first = reason.is_none();
            reason.get_or_insert(error);
            is_first
        });
    }

    /// Handles what the client library reports about its connection to `server`.
    pub(crate) fn handle_event(&self, event: Event, server: &Server, permissions: &str) {
        let error = match event {
            // Lame duck mode: the server will close the connection, but carries messages until
            // then.
            Event::Connected | Event::LameDuckMode => return,
            Event::Disconnected | Event::Draining | Event::Closed | Event::ClientError(_) => {
                ended(server)
            }
            Event::SlowConsumer(_) | Event::ServerError(ServerError::SlowConsumer(_)) => {
                let why = "messages arrived faster than the node read them, and some are lost";
                BrokerError::unreachable(format!("NATS server {server}: {why}"))
            }
            Event::ServerError(ServerError::AuthorizationViolation) => {
                told(server, "authorization violation", permissions)
            }
            Event::ServerError(ServerError::Other(text)) => told(server, &text, permissions),
        };
        self.fail(error);
    }

    async fn failed(&self) -> BrokerError {
        let mut reason = self.0.subscribe();
        let reason = reason.wait_for(Option::is_some).await;
        let reason = reason.expect("the sender is in self").clone();
        reason.expect("it was waited for")
    }
}

fn ended(server: &Server) -> BrokerError {
    BrokerError::unreachable(format!("NATS server {server} closed the connection"))
}

/// Explains an error of the server, or quotes it if there is no better text.
pub(crate) fn told(server: &Server, text: &str, permissions: &str) -> BrokerError {
    let text = text.to_lowercase();
    for (said, verb) in [("publish", "publish"), ("subscription", "subscribe")] {
        if text.starts_with(&format!("permissions violation for {said}")) {
            return BrokerError::refused(format!(
                "NATS server {server} does not allow this user to {verb}: grant {permissions}"
            ));
        }
    }
    let message = format!("NATS server {server} says: {text}");
    let is_refusal = ["authentication", "authorization", "tls"].iter().any(|it| text.contains(it));
    if is_refusal && !text.contains("timeout") {
        BrokerError::refused(message)
    } else {
        BrokerError::unreachable(message)
    }
}

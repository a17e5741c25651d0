//! The handle of a running server: pushes, disconnects, and information.

use std::fmt;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use wserver_api::{Api, Cluster, Whom};
use wserver_core::{ConnectionId, Counts, EventName, NameError, UserId};
use wserver_node::{
    ConnectionInfo, Counters, Entry, EveryoneReceipt, Gathered, Message, PushOptions, PushReceipt,
    RegisterError, Selection, Trace, TraceError,
};
use wserver_protocol::v2::{self, Answer, Closed, Disconnect, Question};

use crate::connection::wire::Socket;
use crate::counters::CarrierCounters;
use crate::server::error::BuildError;
use crate::tls::{self, Tls};

/// Controls a running server from anywhere in the program. A clone controls the same server.
#[derive(Clone)]
pub struct Handle {
    api: Arc<Api<Socket>>,
    /// The TLS of each listener that uses it.
    tls: Arc<[Arc<Tls>]>,
    counters: Arc<CarrierCounters>,
    /// Cancelled when a shutdown must begin.
    stop: CancellationToken,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("node", self.api.node()).finish_non_exhaustive()
    }
}

/// Why a call of the embedding program was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandleError {
    /// The user id is empty or longer than `name_bytes_max`.
    #[error("the user id {0}")]
    User(#[source] NameError),
    /// The event is empty or longer than `name_bytes_max`.
    #[error("the event {0}")]
    Event(#[source] NameError),
    /// The message is empty.
    #[error("the message is empty")]
    MessageEmpty,
    /// The message is longer than `message_bytes_max`.
    #[error("the message is {bytes} bytes long, the limit message_bytes_max is {bytes_max}")]
    MessageTooLarge {
        /// Its length in bytes of UTF-8.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The connection was not registered.
    #[error("{0}")]
    Register(#[source] RegisterError),
    /// The user cannot be traced now.
    #[error("{0}")]
    Trace(#[source] TraceError),
}

/// The connections that [`Handle::disconnect`] closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target<'a> {
    /// Every connection of a user.
    User(&'a str),
    /// The connections of a user that registered an event.
    UserEvent {
        /// The user.
        user: &'a str,
        /// The event.
        event: &'a str,
    },
    /// The connections that registered with a token: the logout of one device.
    Token(&'a str),
    /// One connection.
    Connection(ConnectionId),
}

impl Handle {
    pub(crate) const fn new(
        api: Arc<Api<Socket>>,
        tls: Arc<[Arc<Tls>]>,
        counters: Arc<CarrierCounters>,
        stop: CancellationToken,
    ) -> Self {
        Self { api, tls, counters, stop }
    }

    /// Sends `message` unchanged to every live connection of `user` that registered `event`;
    /// returns how many took it.
    ///
    /// # Errors
    /// [`HandleError`] if a name or the message is empty or too long.
    ///
    /// # Cancel safety
    /// If the future is dropped, the push may or may not be delivered.
    pub async fn push(&self, user: &str, event: &str, message: &str) -> Result<usize, HandleError> {
        let receipt = self.push_with(user, event, message, &PushOptions::default()).await?;
        Ok(receipt.delivered())
    }

    /// As [`push`](Self::push), but to only some of the connections or for a limited time; returns
    /// what became of the message, and why if nobody got it.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    ///
    /// # Cancel safety
    /// As [`push`](Self::push).
    pub async fn push_with(
        &self,
        user: &str,
        event: &str,
        message: &str,
        options: &PushOptions,
    ) -> Result<PushReceipt, HandleError> {
        let gathered = self.push_gathered(user, event, message, options).await?;
        Ok(gathered.total())
    }

    /// As [`push_with`](Self::push_with), to every user with a connection that registered `event`.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    ///
    /// # Cancel safety
    /// If the future is dropped, the message may have reached some of the users.
    pub async fn push_everyone(
        &self,
        event: &str,
        message: &str,
        options: &PushOptions,
    ) -> Result<EveryoneReceipt, HandleError> {
        let event = self.event(event)?;
        self.check_message(message)?;
        let mut message = Message::new(&event, self.api.next_push(), message);
        let gathered = self.api.deliver_to_everyone(&mut message, options).await;
        Ok(gathered.total())
    }

    /// As [`push_with`](Self::push_with), with the result of each node of a cluster, and the nodes
    /// that did not answer.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    ///
    /// # Cancel safety
    /// As [`push`](Self::push).
    pub async fn push_gathered(
        &self,
        user: &str,
        event: &str,
        message: &str,
        options: &PushOptions,
    ) -> Result<Gathered<PushReceipt>, HandleError> {
        let (user, event) = (self.user(user)?, self.event(event)?);
        self.check_message(message)?;
        let mut message = Message::new(&event, self.api.next_push(), message);
        Ok(self.api.deliver(&user, &mut message, options).await)
    }

    /// Whether the server takes part in its cluster now: the broker carries messages, and the users
    /// of all other nodes are known. A server without a cluster always returns `Ok`.
    ///
    /// In a cluster too, this handle's methods concern only this node, except pushes and
    /// [`disconnect_everywhere`](Self::disconnect_everywhere).
    ///
    /// # Errors
    /// The reason, in a few words.
    pub fn cluster_ready(&self) -> Result<(), String> {
        self.api.cluster().map_or(Ok(()), Cluster::ready)
    }

    /// The other nodes of the cluster, in no particular order. It needs the feature `cluster`.
    #[cfg(feature = "cluster")]
    #[must_use]
    pub fn cluster_members(&self) -> Vec<crate::MemberInfo> {
        self.api.cluster().map(Cluster::members).unwrap_or_default()
    }

    /// What happened to `user` recently: its newest `max` refusals, drops and ends, in order of
    /// time, as far back as `journal_bytes_max` reaches.
    ///
    /// # Errors
    /// [`HandleError::User`].
    pub fn recent(&self, user: &str, max: usize) -> Result<Vec<Entry>, HandleError> {
        Ok(self.api.node().recent(&self.user(user)?, max))
    }

    /// The same for strangers: refused tokens, and connections that never registered.
    #[must_use]
    pub fn recent_strangers(&self, max: usize) -> Vec<Entry> {
        self.api.node().recent_strangers(max)
    }

    /// Follows what happens to `user` from now on: registrations, pushes, refusals, drops, ends.
    ///
    /// # Errors
    /// [`HandleError::User`], or [`HandleError::Trace`] if there are already `traces_max`.
    pub fn trace(&self, user: &str) -> Result<Trace, HandleError> {
        self.api.node().trace(&self.user(user)?).map_err(HandleError::Trace)
    }

    /// The connections of `user`, at most `max`.
    ///
    /// # Errors
    /// [`HandleError::User`].
    pub fn user_connections(
        &self,
        user: &str,
        max: usize,
    ) -> Result<Vec<ConnectionInfo>, HandleError> {
        Ok(self.api.node().user_connections(&self.user(user)?, max))
    }

    /// The number of connections of each of `users`.
    ///
    /// # Errors
    /// [`HandleError::User`].
    pub fn presence(&self, users: &[&str]) -> Result<Vec<usize>, HandleError> {
        let users: Vec<UserId> =
            users.iter().map(|user| self.user(user)).collect::<Result<_, _>>()?;
        Ok(self.api.node().presence(&users))
    }

    /// Registers a live connection for an event of `user`, as if it had asked for it. The
    /// registration does not expire. A connection of version 2 gets a notice.
    ///
    /// # Errors
    /// [`HandleError`] if a name is empty or too long, if there is no such connection, or if the
    /// connection or the user has reached its limit; no connection is closed for that.
    pub fn register(&self, id: ConnectionId, user: &str, event: &str) -> Result<(), HandleError> {
        let (user, event) = (self.user(user)?, self.event(event)?);
        self.api.node().register(id, &user, &event).map_err(HandleError::Register)?;
        Ok(())
    }

    /// Ends one registration of a live connection, which stays open; returns false if it does not
    /// exist.
    ///
    /// If the registration has an expiry, the connection still ends at that time.
    ///
    /// # Errors
    /// [`HandleError`] if a name is empty or too long.
    pub fn unregister(
        &self,
        id: ConnectionId,
        user: &str,
        event: &str,
    ) -> Result<bool, HandleError> {
        Ok(self.api.node().unregister(id, &self.user(user)?, &self.event(event)?))
    }

    /// Closes connections with code 1000, after what is queued for them; returns their number.
    ///
    /// They are unbound at once: the next push does not count them.
    ///
    /// # Errors
    /// [`HandleError`] if a name is empty or too long.
    pub fn disconnect(&self, target: Target<'_>) -> Result<usize, HandleError> {
        let node = self.api.node();
        Ok(match target {
            Target::User(user) => node.disconnect(Selection::User(&self.user(user)?)),
            Target::UserEvent { user, event } => {
                node.disconnect(Selection::UserEvent(&self.user(user)?, &self.event(event)?))
            }
            Target::Token(token) => node.disconnect(Selection::Token(token)),
            Target::Connection(id) => node.disconnect(Selection::Connection(id)),
        })
    }

    /// As [`disconnect`](Self::disconnect), on every node of the cluster; returns how many each
    /// closed, and which nodes did not answer. Those may have closed some.
    ///
    /// # Errors
    /// As [`disconnect`](Self::disconnect).
    ///
    /// # Cancel safety
    /// If the future is dropped, the connections are closed anyway.
    pub async fn disconnect_everywhere(
        &self,
        target: Target<'_>,
    ) -> Result<Gathered<usize>, HandleError> {
        let here = self.disconnect(target)?;
        let Some(cluster) = self.api.cluster() else { return Ok(Gathered::alone(here)) };
        let body = match target {
            Target::User(user) => Disconnect::User(user.to_owned()),
            Target::UserEvent { user, event } => {
                Disconnect::UserEvent { user: user.to_owned(), event: event.to_owned() }
            }
            Target::Token(token) => Disconnect::Token(token.to_owned()),
            Target::Connection(id) => Disconnect::Connection(id.to_string()),
        };
        let question = v2::encode(&Question::Disconnect { body: body.encode() }).into();
        let said = |answer: &[u8], _took| match Answer::<Closed>::parse(answer)? {
            Answer::Ok(closed) => Some(closed.closed),
            Answer::Problem(_) => None,
        };
        Ok(cluster.ask(Whom::Everybody, question, std::future::ready(here), said).await)
    }

    /// Whether the server delivers: a message to itself has just arrived. `GET /readyz` also checks
    /// [`cluster_ready`](Self::cluster_ready). The server tests itself at most once a second, on
    /// its runtime, and no count includes that. This call waits as long as that runtime hangs.
    ///
    /// # Errors
    /// The reason, in a few words.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn ready(&self) -> Result<(), &'static str> {
        self.api.ready().await
    }

    /// Begins the shutdown that [`BoundServer::serve_until`](crate::BoundServer::serve_until) describes.
    pub fn shutdown(&self) {
        self.stop.cancel();
    }

    /// Reads the certificates, keys and client authorities of every listener again, which otherwise
    /// happens some seconds after their files change. New connections get the new ones; existing
    /// ones keep what they have. It reads files, so it blocks for a moment.
    ///
    /// # Errors
    /// [`BuildError`] with every problem; nothing changes then.
    pub fn reload_tls(&self) -> Result<(), BuildError> {
        tls::reload(&self.tls).map_err(BuildError::from)
    }

    /// The number of connections that ended before their TLS handshake was complete: no TLS, no
    /// common version or suite, no required client certificate, or too slow.
    #[must_use]
    pub fn tls_handshakes_failed(&self) -> u64 {
        self.counters.tls_handshakes_failed_total.value()
    }

    /// All metrics in Prometheus' text format (0.0.4), as `GET /metrics` returns them. It reads a
    /// few files of `/proc`, so it blocks for a moment.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.api.metrics()
    }

    /// The current number of users, connections and registrations.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.api.node().counts()
    }

    /// The current number of open connections, registered or not.
    #[must_use]
    pub fn connections_open(&self) -> usize {
        self.api.node().connections_open()
    }

    /// The server's counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        self.api.node().counters()
    }

    fn user(&self, user: &str) -> Result<UserId, HandleError> {
        UserId::parse(user, self.api.limits().name_bytes_max).map_err(HandleError::User)
    }

    fn check_message(&self, message: &str) -> Result<(), HandleError> {
        let bytes_max = self.api.limits().message_bytes_max;
        if message.is_empty() {
            return Err(HandleError::MessageEmpty);
        }
        if message.len() > bytes_max {
            return Err(HandleError::MessageTooLarge { bytes: message.len(), bytes_max });
        }
        Ok(())
    }

    fn event(&self, event: &str) -> Result<EventName, HandleError> {
        EventName::parse(event, self.api.limits().name_bytes_max).map_err(HandleError::Event)
    }
}

//! A connection that reconnects, registers again, and reports the gap.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{Stream, StreamExt as _};
use tokio::time::{Instant, Sleep, sleep};

use crate::acks::Acks;
use crate::backoff::Backoff;
use crate::client::Client;
use wserver_protocol::Protocol;
use wserver_protocol::connection::{
    Asked, FromServer, Gap, Notice, Outcome, Refused, RefusedEvent, Reply, Request,
};

use crate::connection::{Connection, SendError};
use crate::interruption::Interruption;

/// A connection that lasted this long was a good one, so the delays start again from the first. A
/// client must not hurry back to a server that closes each connection right after it was opened.
const STEADY: Duration = Duration::from_secs(10);

/// A stream of what happens to one set of registrations, across as many connections as necessary.
///
/// It connects when it is first polled. When the connection is lost or cannot be opened, it waits
/// for a delay of its [`Backoff`], then connects and registers again, until the server says that
/// this is pointless; see [`Interruption::is_final`].
///
/// If the publisher of a message waits for an acknowledgement, the message counts as handled as soon
/// as the caller asks for the next update, and is then acknowledged: do what must be done with a
/// message before you ask for the next one. A caller that asks for nothing more does not acknowledge
/// the last message, and one that reads ahead, for example through a buffer, acknowledges too early.
/// Acknowledgements that come fast share a message, so they may be late by 50 ms.
///
/// Messages pushed during an interruption arrive behind it if the server keeps them for replay;
/// otherwise the stream reports a [`Gap`](Update::Gap). A server that keeps none is a special case:
/// after an [`Interrupted`](Update::Interrupted) and the next [`Connected`](Update::Connected) or
/// [`Registered`](Update::Registered), fetch by other means what you may have missed.
pub struct ReconnectingConnection {
    client: Client,
    /// Token and event of each registration.
    registrations: Arc<Vec<(String, String)>>,
    backoff: Backoff,
    /// How many delays in a row were drawn without a steady connection between them.
    attempt: u32,
    /// Where it stands in what the server keeps for replay, if it keeps anything.
    position: Option<String>,
    /// What else the last message meant.
    next: Option<Update>,
    state: State,
}

enum State {
    New,
    Waiting(Pin<Box<Sleep>>),
    Connecting(BoxFuture<'static, Result<Connection, Interruption>>),
    Open { connection: Box<Connection>, since: Instant, acks: Acks },
    Over,
}

impl ReconnectingConnection {
    /// Connects as `client` does, without any registration yet.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            registrations: Arc::default(),
            backoff: Backoff::default(),
            attempt: 0,
            position: None,
            next: None,
            state: State::New,
        }
    }

    /// Registers for `event` with `token` on each connection. One connection can hold many
    /// registrations.
    #[must_use]
    pub fn with_registration(mut self, token: impl Into<String>, event: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.registrations).push((token.into(), event.into()));
        self
    }

    /// Sets the delays between attempts.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// The next update. It is the stream, for callers that wait for one update.
    ///
    /// # Errors
    ///
    /// When reconnecting is pointless, and on every call after that.
    ///
    /// # Cancel safety
    ///
    /// A dropped future has taken nothing.
    pub async fn next_update(&mut self) -> Result<Update, GaveUp> {
        self.next().await.unwrap_or(Err(GaveUp::Before))
    }

    /// The next message; skips all other updates before it.
    ///
    /// # Errors
    ///
    /// As for [`next_update`](Self::next_update).
    ///
    /// # Cancel safety
    ///
    /// A dropped future has taken no message.
    pub async fn next_message(&mut self) -> Result<String, GaveUp> {
        loop {
            if let Update::Message(message) | Update::Pushed { message, .. } =
                self.next_update().await?
            {
                return Ok(message);
            }
        }
    }

    /// Opens a connection and makes every registration on it: by version 2 if the server knows it and
    /// all have one token, since a connection of version 2 belongs to one user.
    fn connect(&self) -> BoxFuture<'static, Result<Connection, Interruption>> {
        let client = self.client.clone();
        let registrations = Arc::clone(&self.registrations);
        let after = self.position.clone();
        Box::pin(async move {
            if let [(token, _), rest @ ..] = &registrations[..]
                && rest.iter().all(|(other, _)| other == token)
            {
                let mut connection = client.open_newest().await.map_err(Interruption::Connect)?;
                if connection.protocol() == Protocol::V2 {
                    let request =
                        register_all(&registrations, after).map_err(Interruption::Register)?;
                    connection.send_text(request).await.map_err(Interruption::Register)?;
                    return Ok(connection);
                }
                for (token, event) in registrations.iter() {
                    connection.register(token, event).await.map_err(Interruption::Register)?;
                }
                return Ok(connection);
            }
            let mut connection = client.open().await.map_err(Interruption::Connect)?;
            for (token, event) in registrations.iter() {
                connection.register(token, event).await.map_err(Interruption::Register)?;
            }
            Ok(connection)
        })
    }

    /// Prepares the next attempt, or gives up.
    fn handle_interruption(&mut self, cause: Interruption) -> Result<Update, GaveUp> {
        if cause.is_final() {
            self.state = State::Over;
            return Err(GaveUp::Final { cause });
        }
        let retry_in = cause.reconnect_in() + self.backoff.delay(self.attempt);
        self.attempt = self.attempt.saturating_add(1);
        self.state = State::Waiting(Box::pin(sleep(retry_in)));
        Ok(Update::Interrupted { cause, retry_in })
    }
}

impl Stream for ReconnectingConnection {
    type Item = Result<Update, GaveUp>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(update) = this.next.take() {
            return Poll::Ready(Some(Ok(update)));
        }
        loop {
            match &mut this.state {
                State::New => this.state = State::Connecting(this.connect()),
                State::Waiting(timer) => {
                    ready!(timer.as_mut().poll(cx));
                    this.state = State::Connecting(this.connect());
                }
                State::Connecting(connecting) => {
                    let update = match ready!(connecting.as_mut().poll(cx)) {
                        Ok(connection) => {
                            let protocol = connection.protocol();
                            let connection = Box::new(connection);
                            let acks = Acks::default();
                            this.state = State::Open { connection, since: Instant::now(), acks };
                            if protocol == Protocol::V2 {
                                // What became of the registrations comes with the reply.
                                continue;
                            }
                            Ok(Update::Connected)
                        }
                        Err(cause) => this.handle_interruption(cause),
                    };
                    return Poll::Ready(Some(update));
                }
                State::Open { connection, since, acks } => {
                    acks.handle_asked();
                    while connection.is_flushed()
                        && let Poll::Ready(text) = acks.poll_message(cx)
                    {
                        connection.start_text(cx, text);
                    }
                    let cause = match ready!(connection.poll_next_unpin(cx)) {
                        Some(Ok(message)) if connection.protocol() == Protocol::V2 => {
                            match said(&message, acks, &mut this.position, &mut this.next) {
                                Ok(Some(update)) => return Poll::Ready(Some(Ok(update))),
                                Ok(None) => continue,
                                Err(refused) => Interruption::Refused(refused),
                            }
                        }
                        Some(Ok(message)) => {
                            return Poll::Ready(Some(Ok(Update::Message(message))));
                        }
                        Some(Err(error)) => Interruption::Receive(error),
                        None => Interruption::Closed { frame: connection.close_frame().cloned() },
                    };
                    if since.elapsed() >= STEADY {
                        this.attempt = 0;
                    }
                    return Poll::Ready(Some(this.handle_interruption(cause)));
                }
                State::Over => return Poll::Ready(None),
            }
        }
    }
}

impl fmt::Debug for ReconnectingConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::New => "new",
            State::Waiting(_) => "waiting",
            State::Connecting(_) => "connecting",
            State::Open { .. } => "open",
            State::Over => "over",
        };
        f.debug_struct("ReconnectingConnection")
            .field("client", &self.client)
            .field("registrations", &self.registrations.len())
            .field("backoff", &self.backoff)
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

/// What happened to the connection. `Debug` shows only the length of a message, not its content.
#[non_exhaustive]
pub enum Update {
    /// The connection is open, and its registrations are sent. Version 1 has no reply to them: they
    /// are in force a moment later, or never if the server refuses the tokens. If the server accepts
    /// none, it closes the connection with 1008 after its `register_timeout`.
    Connected,
    /// By version 2: the server has registered these events, and refused others.
    Registered {
        /// The events that messages arrive for.
        events: Vec<String>,
        /// The events that they do not arrive for, and why.
        refused: Vec<RefusedEvent>,
    },
    /// By version 2: messages that the server keeps for replay are missing, and it does not have
    /// them; fetch by other means what you may have missed.
    Gap {
        /// Why, as in `docs/replay.md` of the repository.
        reason: String,
        /// The time within which to fetch, at a random moment, because all clients may have to.
        spread: Duration,
    },
    /// By version 2: an operator has ended the registrations for these events.
    Unregistered(Vec<String>),
    /// By version 2: the token expires, and the server then closes the connection.
    Expiring {
        /// The time until then.
        after: Duration,
    },
    /// A message was pushed, by version 1.
    Message(String),
    /// A message was pushed, by version 2.
    Pushed {
        /// The event that it was pushed to.
        event: String,
        /// What the publisher's answer, the log and `explain` call the push.
        id: String,
        /// The message.
        message: String,
    },
    /// The connection was lost, or could not be opened.
    Interrupted {
        /// Why.
        cause: Interruption,
        /// The time from now until the next attempt.
        retry_in: Duration,
    },
}

impl fmt::Debug for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected => f.write_str("Connected"),
            Self::Registered { events, refused } => f
                .debug_struct("Registered")
                .field("events", events)
                .field("refused", refused)
                .finish(),
            Self::Unregistered(events) => f.debug_tuple("Unregistered").field(events).finish(),
            Self::Gap { reason, spread } => {
                f.debug_struct("Gap").field("reason", reason).field("spread", spread).finish()
            }
            Self::Expiring { after } => f.debug_struct("Expiring").field("after", after).finish(),
            Self::Pushed { event, id, message } => f
                .debug_struct("Pushed")
                .field("event", event)
                .field("id", id)
                .field("bytes", &message.len())
                .finish_non_exhaustive(),
            Self::Message(message) => {
                f.debug_struct("Message").field("bytes", &message.len()).finish_non_exhaustive()
            }
            Self::Interrupted { cause, retry_in } => f
                .debug_struct("Interrupted")
                .field("cause", cause)
                .field("retry_in", retry_in)
                .finish(),
        }
    }
}

/// Why [`ReconnectingConnection`] gave up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GaveUp {
    /// Another attempt would end in the same way.
    #[error("reconnecting is pointless")]
    Final {
        /// How the last one ended.
        #[source]
        cause: Interruption,
    },
    /// It ended on an earlier call, which reported why.
    #[error("the connection was given up before")]
    Before,
}

/// One request for all registrations, which have one token.
fn register_all(
    registrations: &[(String, String)],
    after: Option<String>,
) -> Result<String, SendError> {
    let mut events = Vec::with_capacity(registrations.len());
    for (token, event) in registrations {
        for (field, text) in [("token", token), ("event", event)] {
            if text.is_empty() {
                return Err(SendError::Empty { field });
            }
        }
        events.push(event.clone());
    }
    let token = registrations.first().map(|(token, _)| token.clone());
    Ok(Request { id: 1, asked: Asked::Register { events, token, after } }.encode())
}

/// What a message of version 2 means to the caller, if anything; `next` is what else it means.
fn said(
    text: &str,
    acks: &mut Acks,
    position: &mut Option<String>,
    next: &mut Option<Update>,
) -> Result<Option<Update>, Refused> {
    let gap = |Gap { reason, spread_seconds }: Gap| Update::Gap {
        reason,
        spread: Duration::from_secs(spread_seconds),
    };
    Ok(match FromServer::parse(text) {
        Some(FromServer::Push { event, id, at, ack, message }) => {
            *position = at.or_else(|| position.take());
            if ack {
                acks.hand_out(id.clone());
            }
            Some(Update::Pushed { event, id, message: message.to_owned() })
        }
        Some(FromServer::Reply(Reply { outcome: Outcome::Ok(granted), .. })) => {
            *position = granted.at.or_else(|| position.take());
            *next = granted.gap.map(gap);
            let events = granted.registered.unwrap_or_default();
            Some(Update::Registered { events, refused: granted.refused })
        }
        Some(FromServer::Reply(Reply { outcome: Outcome::Error(refused), .. })) => {
            return Err(refused);
        }
        Some(FromServer::Notice(notice)) => match notice {
            Notice::Registered(events) => Some(Update::Registered { events, refused: Vec::new() }),
            Notice::Unregistered { events, .. } => Some(Update::Unregistered(events)),
            Notice::Gap { gap: told, at } => {
                *position = Some(at);
                Some(gap(told))
            }
            Notice::Expiring { in_seconds } => {
                Some(Update::Expiring { after: Duration::from_secs(in_seconds) })
            }
            // The server's Close says when to come back as well.
            _ => None,
        },
        _ => None,
    })
}

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
use crate::client::{Client, ConnectError};
use wserver_protocol::Protocol;
use wserver_protocol::connection::{
    Asked, FromServer, Notice, Outcome, Refused, RefusedEvent, Reply, Request,
};

use crate::connection::{CloseFrame, Connection, ReceiveError, SendError};

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
/// Messages pushed during a gap do not arrive. The stream reports the gap: after an
/// [`Interrupted`](Update::Interrupted) and the next [`Connected`](Update::Connected), fetch by
/// other means what you may have missed.
pub struct ReconnectingConnection {
    client: Client,
    /// Token and event of each registration.
    registrations: Arc<Vec<(String, String)>>,
    backoff: Backoff,
    /// How many delays in a row were drawn without a steady connection between them.
    attempt: u32,
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
        Box::pin(async move {
            if let [(token, _), rest @ ..] = &registrations[..]
                && rest.iter().all(|(other, _)| other == token)
            {
                let mut connection = client.open_newest().await.map_err(Interruption::Connect)?;
                if connection.protocol() == Protocol::V2 {
                    let request = register_all(&registrations).map_err(Interruption::Register)?;
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
                            match said(&message, acks) {
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

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Interruption {
    /// The connection could not be opened.
    #[error(transparent)]
    Connect(ConnectError),
    /// A registration could not be sent.
    #[error("registration not sent")]
    Register(#[source] SendError),
    /// By version 2: the server refused the registrations.
    #[error("the registration is refused: {0}")]
    Refused(Refused),
    /// It broke.
    #[error(transparent)]
    Receive(ReceiveError),
    /// The server closed it.
    #[error("closed by the server{}", frame.as_ref().map(|it| format!(" with {it}")).unwrap_or_default())]
    Closed {
        /// The server's Close.
        frame: Option<CloseFrame>,
    },
}

impl Interruption {
    /// The server's close code, if the server closed the connection and gave a code.
    pub fn close_code(&self) -> Option<u16> {
        match self {
            Self::Closed { frame } => frame.as_ref()?.code,
            Self::Connect(_) | Self::Register(_) | Self::Refused(_) | Self::Receive(_) => None,
        }
    }

    /// How long a server that shuts down asks its clients to stay away, at most a minute; zero if
    /// it does not ask. [`ReconnectingConnection`] adds the delay of its [`Backoff`] to this time.
    pub fn reconnect_in(&self) -> Duration {
        let asked = match self {
            Self::Closed { frame: Some(CloseFrame { code: Some(1001 | 1012 | 4000), reason }) } => {
                wserver_protocol::reconnect_in(reason).unwrap_or_default()
            }
            Self::Refused(refused) => Duration::from_secs(refused.retry_after.unwrap_or_default()),
            _ => Duration::ZERO,
        };
        asked.min(Duration::from_secs(60))
    }

    /// Whether the same attempt would end in the same way; [`ReconnectingConnection`] then gives up.
    ///
    /// * Closed with 1000: somebody disconnected this client on purpose, and reconnecting would undo
    ///   that.
    /// * Closed with 1003, 1007, 1008 or 1009: the server does not accept what this client sends. The
    ///   most common is 1008, the answer to tokens that have expired or were never valid.
    /// * Closed with 4500–4999: the server asks the client not to come back.
    /// * Refused with a 4xx status: not allowed, or there is no WebSocket. Exceptions are 404, 408, 425
    ///   and 429, with which proxies answer while a server restarts.
    /// * A registration that is refused without a time to try again.
    /// * A registration with an empty token or event.
    ///
    /// All other causes are temporary, or can be.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Connect(ConnectError::Refused { status, .. }) => {
                status.is_client_error() && !matches!(status.as_u16(), 404 | 408 | 425 | 429)
            }
            Self::Register(error) => matches!(error, SendError::Empty { .. }),
            Self::Refused(refused) => refused.retry_after.is_none(),
            Self::Closed { frame: Some(frame) } => {
                matches!(frame.code, Some(1000 | 1003 | 1007..=1009 | 4500..=4999))
            }
            Self::Connect(_) | Self::Receive(_) | Self::Closed { frame: None } => false,
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
fn register_all(registrations: &[(String, String)]) -> Result<String, SendError> {
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
    Ok(Request { id: 1, asked: Asked::Register { events, token } }.encode())
}

/// What a message of version 2 means to the caller, if anything.
fn said(text: &str, acks: &mut Acks) -> Result<Option<Update>, Refused> {
    Ok(match FromServer::parse(text) {
        Some(FromServer::Push { event, id, ack, message }) => {
            if ack {
                acks.hand_out(id.clone());
            }
            Some(Update::Pushed { event, id, message: message.to_owned() })
        }
        Some(FromServer::Reply(Reply { outcome: Outcome::Ok(granted), .. })) => {
            let events = granted.registered.unwrap_or_default();
            Some(Update::Registered { events, refused: granted.refused })
        }
        Some(FromServer::Reply(Reply { outcome: Outcome::Error(refused), .. })) => {
            return Err(refused);
        }
        Some(FromServer::Notice(notice)) => match notice {
            Notice::Registered(events) => Some(Update::Registered { events, refused: Vec::new() }),
            Notice::Unregistered { events, .. } => Some(Update::Unregistered(events)),
            Notice::Expiring { in_seconds } => {
                Some(Update::Expiring { after: Duration::from_secs(in_seconds) })
            }
            // The server's Close says when to come back as well.
            _ => None,
        },
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn the_server_may_ask_to_wait() {
        for (code, reason, seconds) in [
            (1001, "server is shutting down; reconnect in 4s", 4),
            (1012, "whatever; reconnect in 9s", 9),
            (1001, "server is shutting down; reconnect in 4000000000s", 60),
            (1001, "server is shutting down", 0),
            (1001, "; reconnect in -1s", 0),
            (1011, "internal error; reconnect in 4s", 0),
        ] {
            let frame = Some(CloseFrame { code: Some(code), reason: reason.to_owned() });
            let asked = Interruption::Closed { frame }.reconnect_in();
            assert_eq!(asked, Duration::from_secs(seconds), "{code} {reason}");
        }
    }

    #[test]
    fn the_server_decides_whether_to_come_back() {
        let closed = |code: Option<u16>| Interruption::Closed {
            frame: code.map(|code| CloseFrame { code: Some(code), reason: String::new() }),
        };
        let codes = [1000, 1001, 1002, 1003, 1006, 1007, 1008, 1009, 1011, 1012, 1013];
        let last: Vec<u16> = codes
            .into_iter()
            .chain([3000, 4000, 4499, 4500, 4999])
            .filter(|&code| closed(Some(code)).is_final())
            .collect();
        assert_eq!(last, [1000, 1003, 1007, 1008, 1009, 4500, 4999]);
        assert!(!closed(None).is_final());

        let refused = |status| {
            let status = StatusCode::from_u16(status).unwrap();
            Interruption::Connect(ConnectError::Refused {
                status,
                body: String::new(),
                reason: None,
            })
        };
        let last: Vec<u16> = [301, 400, 401, 403, 404, 408, 425, 426, 429, 500, 502, 503, 504]
            .into_iter()
            .filter(|&status| refused(status).is_final())
            .collect();
        assert_eq!(last, [400, 401, 403, 426]);

        assert!(Interruption::Register(SendError::Empty { field: "token" }).is_final());
        assert!(!Interruption::Register(SendError::Closed).is_final());
        assert!(!Interruption::Receive(ReceiveError::Silent).is_final());
    }
}

//! Why a connection that reconnects has none at the moment, and what follows from it.

use std::time::Duration;

use wserver_protocol::connection::Refused;

use crate::client::ConnectError;
use crate::connection::{CloseFrame, ReceiveError, SendError};

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
    /// it does not ask. [`ReconnectingConnection`](crate::ReconnectingConnection) adds the delay of its
    /// [`Backoff`](crate::Backoff) to this time.
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

    /// Whether the same attempt would end in the same way;
    /// [`ReconnectingConnection`](crate::ReconnectingConnection) then gives up.
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

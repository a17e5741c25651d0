//! One connection to one server, up to the point where the server has accepted our login.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::ClientConfig;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split,
};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use wserver_cluster::BrokerError;

use crate::Site;
use crate::address::Address;
use crate::failure;
use crate::resp::{self, Reply};
use crate::tls;

/// How many bytes are read at once, unless a frame is larger.
const READ_BYTES: usize = 64 * 1024;

/// How to log in.
pub(crate) struct Access {
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// The moment by which something must be done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    end: Instant,
    /// The time from the beginning to the deadline, for error messages.
    time: Duration,
}

/// What a server says about itself.
#[derive(Debug, Default)]
pub(crate) struct Greeting {
    /// `standalone`, `sentinel` or `cluster`.
    pub(crate) mode: String,
    /// `master` or `replica`; a Sentinel says nothing.
    pub(crate) role: String,
}

pub(crate) struct Connection {
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
}

pub(crate) struct Reader {
    pub(crate) at: Address,
    stream: ReadHalf<Box<dyn Stream>>,
    input: BytesMut,
}

pub(crate) struct Writer {
    pub(crate) at: Address,
    stream: WriteHalf<Box<dyn Stream>>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("username", &self.username)
            .field("has_password", &self.password.is_some())
            .finish_non_exhaustive()
    }
}

impl Access {
    /// Our user at the server.
    pub(crate) fn user(&self) -> &str {
        self.username.as_deref().unwrap_or("default")
    }

    fn has_credentials(&self) -> bool {
        self.username.is_some() || self.password.is_some()
    }
}

impl Deadline {
    pub(crate) fn new(now: Instant, time: Duration) -> Self {
        Self { end: now + time, time }
    }

    /// An earlier deadline, which leaves equal time to each of `parts`; the last part has all the
    /// rest.
    pub(crate) fn share(self, now: Instant, parts: u32) -> Self {
        if parts <= 1 {
            return self;
        }
        let left = self.end.saturating_duration_since(now) / parts;
        // It appears in messages, where nanoseconds would only disturb.
        let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        Self::new(now, Duration::from_millis(millis))
    }

    pub(crate) fn is_over(self, now: Instant) -> bool {
        now >= self.end
    }

    /// Runs the future, or fails if `at` takes too long.
    pub(crate) async fn keep<T>(
        self,
        at: &Address,
        task: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        timeout_at(self.end, task).await.unwrap_or_else(|_elapsed| Err(late(at, self.time)))
    }
}

/// The error for a server that took too long.
pub(crate) fn late(at: &Address, time: Duration) -> BrokerError {
    BrokerError::unreachable(format!("{at} did not answer within {time:?}"))
}

impl Connection {
    /// Connects, and waits for the server's greeting; sends a password if the server asks for one.
    pub(crate) async fn open(site: &Site, at: &Address) -> Result<(Self, Greeting), BrokerError> {
        let mut connection = Self::connect(at, site.access.tls.as_ref()).await?;
        let greeting = connection.greet(site).await.map_err(|error| {
            // A server that speaks TLS does not understand us and says nothing.
            let is_closed = error == failure::closed(at) && site.access.tls.is_none();
            if is_closed { failure::closed_at_once(at) } else { error }
        })?;
        Ok((connection, greeting))
    }

    async fn connect(at: &Address, tls: Option<&Arc<ClientConfig>>) -> Result<Self, BrokerError> {
        let address = (at.host.as_str(), at.port);
        let broken = |error| failure::broken(at, &error);
        let stream = TcpStream::connect(address).await.map_err(broken)?;
        stream.set_nodelay(true).map_err(broken)?;
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(stream),
            Some(config) => {
                let handshake = Box::pin(tls::connect(config, &at.host, stream));
                Box::new(handshake.await.map_err(broken)?)
            }
        };
        let (reader, writer) = split(stream);
        let reader = Reader { at: at.clone(), stream: reader, input: BytesMut::new() };
        Ok(Self { reader, writer: Writer { at: at.clone(), stream: writer } })
    }

    /// Sends HELLO, which every user may send whatever the ACL says, and which tells all that we
    /// need.
    async fn greet(&mut self, site: &Site) -> Result<Greeting, BrokerError> {
        let access = &site.access;
        let user = access.user().as_bytes();
        let password = access.password.as_deref().unwrap_or_default().as_bytes();
        let with_password: &[&[u8]] = &[b"HELLO", b"2", b"AUTH", user, password];
        let words = if access.has_credentials() { with_password } else { &with_password[..2] };
        let mut reply = self.ask(words).await?;
        // A Sentinel has its own users and passwords, and most have none.
        if access.has_credentials()
            && matches!(&reply, Reply::Error(answer) if answer.starts_with(b"WRONGPASS"))
            && let Reply::Array(fields) = self.ask(&with_password[..2]).await?
            && Greeting::read(&fields).mode == "sentinel"
        {
            reply = Reply::Array(fields);
        }
        match reply {
            Reply::Array(fields) => Ok(Greeting::read(&fields)),
            Reply::Error(answer) => Err(failure::answered(site, &self.reader.at, "HELLO", &answer)),
            _ => Err(failure::no_redis(&self.reader.at)),
        }
    }

    /// Sends one command and waits for the answer, which may be an error.
    pub(crate) async fn ask(&mut self, words: &[&[u8]]) -> Result<Reply, BrokerError> {
        let mut output = Vec::new();
        resp::encode(&mut output, words);
        self.writer.send(&output).await?;
        self.reader.next().await
    }
}

impl Greeting {
    fn read(fields: &[Reply]) -> Self {
        let mut greeting = Self::default();
        for field in fields.chunks_exact(2) {
            match &field[0] {
                Reply::Bulk(name) if name == "mode" => greeting.mode = field[1].to_string(),
                Reply::Bulk(name) if name == "role" => greeting.role = field[1].to_string(),
                _ => {}
            }
        }
        greeting
    }
}

impl Reader {
    /// The next frame.
    ///
    /// # Cancel safety
    /// The future may be dropped at any time without losing data that was read.
    pub(crate) async fn next(&mut self) -> Result<Reply, BrokerError> {
        loop {
            match Reply::take(&mut self.input) {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {}
                Err(resp::NotResp) => return Err(failure::no_redis(&self.at)),
            }
            if self.input.capacity() - self.input.len() < READ_BYTES / 16 {
                self.input.reserve(READ_BYTES);
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return Err(failure::closed(&self.at)),
                Ok(_) => {}
                Err(error) => return Err(failure::broken(&self.at, &error)),
            }
        }
    }
}

impl Writer {
    pub(crate) async fn send(&mut self, output: &[u8]) -> Result<(), BrokerError> {
        let sent = async {
            self.stream.write_all(output).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|error| failure::broken(&self.at, &error))
    }
}

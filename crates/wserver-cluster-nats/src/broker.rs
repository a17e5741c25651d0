//! The address of NATS, and how to open a link to it.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{Client, ConnectError, ConnectErrorKind, ServerError};
use async_trait::async_trait;
use rustls::ClientConfig;
use tokio::time::{Instant, timeout};
use wserver_cluster::{Broker, BrokerError, BrokerErrorKind, Inbound, Link, NodeId};

use crate::link::{FirstFailure, LANE, NatsLink, told};
use crate::servers::{self, Server};
use crate::settings::{Identity, NatsSettings};
use crate::tls;

/// The largest message, in bytes: half of a server's default limit, so that most servers need no
/// configuration.
const PAYLOAD_BYTES_MAX: usize = 512 * 1024;

/// The most commands that wait for the connection. If there is no more room, publishing waits, and
/// then until all of its own commands are written.
const COMMANDS_MAX: usize = 256;

/// The most messages of one channel that have been read but not passed on. Passing on never waits,
/// so this is what one turn of the connection may read; beyond it the link breaks.
const ARRIVED_MAX: usize = 262_144;

/// How often an idle server gets a ping; the connection ends at the third one without an answer.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Core NATS as a cluster's broker.
#[derive(Debug)]
pub struct NatsBroker {
    settings: NatsSettings,
    /// Invariant: at least one.
    servers: Vec<Server>,
    tls: ClientConfig,
    /// The number of links opened so far: each starts at another server, so that a server that is
    /// half dead does not always come first.
    opened: AtomicU64,
}

impl NatsBroker {
    /// Checks the settings and reads the system's trusted authorities, without connecting.
    ///
    /// # Errors
    /// If the settings can never work; the error names the wrong setting.
    pub fn new(settings: NatsSettings) -> Result<Self, BrokerError> {
        let servers = servers::parse(&settings.url)?;
        settings.check()?;
        let tls = tls::config(settings.ca_pem.as_deref())?;
        Ok(Self { settings, servers, tls, opened: AtomicU64::new(0) })
    }

    /// All servers, starting at one that differs between nodes and between links.
    fn in_turn(&self, node: NodeId) -> impl ExactSizeIterator<Item = &Server> {
        let count = self.servers.len();
        let first = node.as_u64().wrapping_add(self.opened.fetch_add(1, Ordering::Relaxed));
        let first = usize::try_from(first % count as u64).expect("it is less than a usize");
        (0..count).map(move |at| &self.servers[(first + at) % count])
    }

    async fn open_at(
        &self,
        server: &Server,
        node: NodeId,
        inbound: &Inbound,
        time: Duration,
    ) -> Result<NatsLink, BrokerError> {
        let failure = FirstFailure::default();
        let client = self.connect(server, &failure, time).await?;
        let max_payload = client.server_info().max_payload;
        if max_payload < PAYLOAD_BYTES_MAX {
            return Err(BrokerError::refused(format!(
                "NATS server {server} has max_payload {max_payload}: raise it to at least \
                 {PAYLOAD_BYTES_MAX}"
            )));
        }
        NatsLink::open(client, server.clone(), &self.settings, failure, node, inbound).await
    }

    async fn connect(
        &self,
        server: &Server,
        failure: &FirstFailure,
        time: Duration,
    ) -> Result<Client, BrokerError> {
        let options = self.settings.options()?;
        let (failure, told_by, permissions) =
            (failure.clone(), server.clone(), self.settings.permissions());
        let options = options
            .name("wserver")
            .tls_client_config(self.tls.clone())
            // This lets each address of a host have its turn.
            .connection_timeout(time / 2)
            .ping_interval(PING_INTERVAL)
            .client_capacity(COMMANDS_MAX)
            .subscription_capacity(ARRIVED_MAX)
            .ignore_discovered_servers()
            // This is the minimum; zero would mean forever.
            .max_reconnects(1)
            .event_callback(move |event| {
                failure.handle_event(event, &told_by, &permissions);
                std::future::ready(())
            });
        let connected = Box::pin(options.connect(server.address())).await;
        connected.map_err(|error| self.connect_error(server, &error))
    }

    fn connect_error(&self, server: &Server, error: &ConnectError) -> BrokerError {
        if let Some(refusal) = tls::refusal(server, error) {
            return refusal;
        }
        let source = error.source();
        match error.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                BrokerError::refused(match self.settings.identity() {
                    Identity::Nobody => format!(
                        "NATS server {server} requires authentication: set a user with a password, \
                         a token or credentials"
                    ),
                    Identity::User => {
                        format!("NATS server {server} does not accept this user and password")
                    }
                    Identity::Token => format!("NATS server {server} does not accept this token"),
                    Identity::Credentials => {
                        format!("NATS server {server} does not accept these credentials")
                    }
                })
            }
            ConnectErrorKind::TimedOut => no_answer(server),
            ConnectErrorKind::Dns => BrokerError::unreachable(format!(
                "the host name of NATS server {server} cannot be \
                                                  resolved"
            )),
            ConnectErrorKind::Tls | ConnectErrorKind::ServerParse => {
                BrokerError::refused(format!("NATS server {server}: {error}"))
            }
            ConnectErrorKind::Io | ConnectErrorKind::MaxReconnects => {
                let io = source.and_then(|it| it.downcast_ref::<io::Error>());
                if let Some(ServerError::Other(text)) = source.and_then(|it| it.downcast_ref()) {
                    told(server, text, &self.settings.permissions())
                } else if io.is_some_and(|it| it.kind() == io::ErrorKind::ConnectionRefused) {
                    BrokerError::unreachable(format!(
                        "NATS server {server} refuses the connection: \
                                                      nothing listens there"
                    ))
                } else {
                    let why = source.map_or_else(|| error.to_string(), ToString::to_string);
                    BrokerError::unreachable(format!("NATS server {server}: {why}"))
                }
            }
        }
    }
}

#[async_trait]
impl Broker for NatsBroker {
    fn kind(&self) -> &'static str {
        "nats"
    }

    fn lanes(&self) -> u16 {
        LANE + 1
    }

    /// 512 KiB: half of a server's default `max_payload`. A server that accepts less is refused.
    fn payload_bytes_max(&self) -> usize {
        PAYLOAD_BYTES_MAX
    }

    async fn open(&self, node: NodeId, inbound: Inbound) -> Result<Arc<dyn Link>, BrokerError> {
        let deadline = Instant::now() + self.settings.connect_timeout;
        let mut errors = Vec::new();
        let mut servers = self.in_turn(node);
        while let Some(server) = servers.next() {
            let left = u32::try_from(servers.len() + 1).unwrap_or(u32::MAX);
            let time = deadline.saturating_duration_since(Instant::now()) / left;
            match timeout(time, self.open_at(server, node, &inbound, time)).await {
                Ok(Ok(link)) => return Ok(Arc::new(link)),
                Ok(Err(error)) => errors.push(error),
                Err(_elapsed) => errors.push(no_answer(server)),
            }
        }
        Err(of_all(&errors))
    }
}

fn no_answer(server: &Server) -> BrokerError {
    BrokerError::unreachable(format!("NATS server {server} does not answer in time"))
}

/// Combines the errors of all servers into one; if any server refused us, an operator has something
/// to fix.
fn of_all(errors: &[BrokerError]) -> BrokerError {
    let message = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if errors.iter().any(|error| error.kind() == BrokerErrorKind::Refused) {
        BrokerError::refused(message)
    } else {
        BrokerError::unreachable(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut NatsSettings), told: &str) {
        let mut settings = NatsSettings::new("nats://a", "wserver");
        change(&mut settings);
        let error = NatsBroker::new(settings).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (BrokerErrorKind::Refused, told));
    }

    #[test]
    fn settings_that_can_never_work() {
        let some = |text: &str| Some(text.to_owned());
        check(
            |it| it.url = "nats://me:s3cret@a".to_owned(),
            "the NATS URL contains a user or a password: set cluster_username and \
             cluster_password_file instead",
        );
        for (name, why) in [
            ("my shop", "contains a space, a * or a >"),
            ("shop.*", "contains a space, a * or a >"),
            ("shop>", "contains a space, a * or a >"),
            ("", "has an empty part between its dots"),
            (".shop", "has an empty part between its dots"),
            ("shop..eu", "has an empty part between its dots"),
            ("$SYS", "begins with $, which NATS reserves"),
        ] {
            check(
                |it| it.cluster = name.to_owned(),
                &format!("cluster_name {name:?} cannot begin a NATS subject: it {why}"),
            );
        }
        check(|it| it.password = some("s3cret"), "a password needs a user: set cluster_username");
        check(
            |it| {
                it.username = some("me");
                it.password = some("s3cret");
                it.credentials = some("s3cret");
            },
            "a user with a password, a token, and credentials exclude each other: set only one of \
             them",
        );
        check(
            |it| it.credentials = some("s3cret"),
            "the credentials do not contain a user's JWT and the seed of its NKEY",
        );
        check(
            |it| it.ca_pem = Some(b"nothing".to_vec()),
            "the certificate authority for NATS contains no certificate in PEM",
        );
        let joined = || {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.self_signed(&key).unwrap().pem().trim_end().repeat(2)
        };
        check(
            |it| it.ca_pem = Some(joined().into_bytes()),
            "the certificate authority for NATS has a certificate that cannot be read: each must \
             begin with -----BEGIN CERTIFICATE----- on a line of its own",
        );
    }
}

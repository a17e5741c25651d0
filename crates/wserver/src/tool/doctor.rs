//! `wserver doctor`: tests the path between here and a server, from outside and step by step.
//!
//! Each step needs the steps before it, so the first one that fails shows where to look.

mod advice;
mod clock;
mod delivery;
mod proxy;
mod registering;
mod report;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use http::header::{HeaderValue, ORIGIN};
use tokio::time::Instant;
use wserver_client::{
    Client, Dialed, PlainAnswer, Probe, Probed, Protocol, Pusher, Secured, Seen, TlsFacts,
    UpgradeError,
};

use super::outcome::{Failure, Outcome};
use super::output::{Milliseconds, counted, with_causes};
use super::secret::secret;
use super::target::{Authorities, Scheme, endpoint};
use proxy::Proxy;
use report::Report;

/// Maximum number of addresses of one name to try.
const ADDRESSES_MAX: usize = 8;
/// Maximum duration of each step, and of an answer of the server that is open.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// A certificate that expires within this time is worth a warning.
const CERTIFICATE_DAYS_MIN: u64 = 14;
/// A server that pings every 25 s, which is the default of wserver, has pinged by then.
const PING_BY: Duration = Duration::from_secs(40);

/// Test a server from outside, through its proxies, and say what is wrong and what to do
#[derive(Debug, Args)]
#[command(after_help = "\
It registers and, if it is allowed to, pushes one message to itself. With a client's token it also
needs the user that the token belongs to, --user; and if the token permits some events only, one of
these, --event. Keys and tokens can be in the environment as
WSERVER_PUSH_KEY and WSERVER_TOKEN; they are not arguments, because every user of the machine can
read those.
Exit codes: 0 nothing failed, 1 something failed, 64 bad arguments.")]
pub(crate) struct Arguments {
    /// URL at which clients reach the server: `https://push.example.com`, or with the path, `wss://HOST/ws`
    url: String,
    /// How long to stay silent, to test whether the connection survives it
    #[arg(long, value_name = "TIME", default_value = "70s", value_parser = humantime::parse_duration)]
    idle: Duration,
    /// Skip the test of silence
    #[arg(long, conflicts_with = "idle")]
    quick: bool,
    /// Connect like a page of this origin, such as `https://app.example.com`
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
    /// File of a client's token; - means standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// User that the token belongs to; without a token, user to register as on a server that does not authenticate clients
    #[arg(long, short)]
    user: Option<String>,
    /// Event to register for and to push to
    #[arg(long, short, default_value = "wserver-doctor", value_parser = NonEmptyStringValueParser::new())]
    event: String,
    /// File of the push key
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// URL for pushes, if it is not /push of the server
    #[arg(long, value_name = "URL")]
    push_url: Option<String>,
    #[command(flatten)]
    authorities: Authorities,
}

pub(super) async fn run(arguments: Arguments) -> Outcome {
    let plan = Plan::of(&arguments)?;
    let mut report = Report { failed: false };
    plan.examine(&mut report).await?;
    Ok(if report.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What to test.
struct Plan {
    client: Client,
    /// `None` skips the test.
    idle: Option<Duration>,
    token: String,
    /// Whether the token is one that was given: a server that refuses it is not set up well.
    has_token: bool,
    /// The user that the token belongs to, if known.
    user: Option<String>,
    event: String,
    pusher: Pusher,
    /// Whether pushes carry a key.
    has_key: bool,
}

/// What became of the registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Registering {
    /// The server took it; by version 1, it was sent.
    Done,
    /// The server refused it.
    Refused,
    /// The connection is not good any more.
    Lost,
}

impl Plan {
    fn of(arguments: &Arguments) -> Result<Self, Failure> {
        let url = endpoint(&arguments.url, Scheme::WebSocket, "/ws").map_err(Failure::Usage)?;
        let mut client = Client::new(&url).map_err(Failure::usage)?;
        let push_url = match &arguments.push_url {
            Some(url) => endpoint(url, Scheme::Http, "/push"),
            None => super::target::sibling(&arguments.url, Scheme::Http, "/push"),
        };
        let mut pusher = Pusher::new(&push_url.map_err(Failure::Usage)?).map_err(Failure::usage)?;
        if let Some(authorities) = arguments.authorities.read()? {
            let wrong = |error| Failure::Usage(anyhow::Error::new(error).context("--ca-file"));
            client = client.with_ca_pem(&authorities).map_err(wrong)?;
            pusher = pusher.with_ca_pem(&authorities).map_err(wrong)?;
        }
        let key = secret(arguments.key_file.as_deref(), "WSERVER_PUSH_KEY")?;
        let has_key = key.is_some();
        if let Some(key) = key {
            pusher = pusher.with_key(&key).map_err(Failure::usage)?;
        }
        if let Some(origin) = &arguments.origin {
            let value =
                HeaderValue::from_str(origin).context("--origin").map_err(Failure::Usage)?;
            client = client.with_header(ORIGIN, value);
        }
        let token = secret(arguments.token_file.as_deref(), "WSERVER_TOKEN")?;
        let has_token = token.is_some();
        let stranger = || format!("wserver-doctor-{}", std::process::id());
        let (token, user) = match (token, arguments.user.clone()) {
            (Some(token), user) => (token, user),
            (None, Some(user)) => (user.clone(), Some(user)),
            (None, None) => (stranger(), Some(stranger())),
        };
        Ok(Self {
            client: client.with_connect_timeout(STEP_TIMEOUT),
            idle: (!arguments.quick).then_some(arguments.idle),
            token,
            has_token,
            user,
            event: arguments.event.clone(),
            pusher: pusher.with_timeout(STEP_TIMEOUT),
            has_key,
        })
    }

    async fn examine(&self, report: &mut Report) -> io::Result<()> {
        let probe = Probe::new(self.client.clone());
        let Some(dialed) = self.reach(&probe, report).await? else { return Ok(()) };
        let address = dialed.address;
        let is_local = address.ip().is_loopback();
        let secured = match dialed.secure().await {
            Ok(secured) => secured,
            Err(error) => {
                return report.failed("tls", with_causes(&error), advice::tls(&error));
            }
        };
        match &secured.tls {
            Some(tls) => certificate(tls, report)?,
            None if is_local => report.skipped("tls", "not used, because the URL is ws or http")?,
            None => {
                report.warning("tls", "not used, because the URL is ws or http", advice::PLAIN)?;
            }
        }
        let started = Instant::now();
        let mut probed = match upgrade(&probe, secured, address).await {
            Ok(probed) => probed,
            Err(error) => {
                let (what, advice) = match &error {
                    UpgradeError::Refused { .. } => advice::upgrade(&error),
                    // No answer, or none of HTTP: test whether only upgrades fail.
                    _ if is_silence(&error) => {
                        advice::unanswered(&error, &get(&probe, address).await)
                    }
                    _ => advice::upgrade(&error),
                };
                return report.failed("upgrade", what, &advice);
            }
        };
        report
            .ok("upgrade", format_args!("a WebSocket was opened in {}", Milliseconds(started)))?;
        let proxy = Proxy::of(&probed.headers);
        match probed.protocol() {
            Protocol::V2 | Protocol::Sse => report.ok("protocol", Protocol::V2.name())?,
            Protocol::V1 => report.warning("protocol", "version 1 only", advice::OLDER)?,
        }
        clock::check(&probed.headers, SystemTime::now(), report)?;
        if !ping(&mut probed, report).await? {
            return Ok(());
        }
        match self.register(&mut probed, report).await? {
            Registering::Done => {
                if !self.deliver(&mut probed, &proxy, report).await? {
                    return Ok(());
                }
            }
            Registering::Refused => {
                // The server ends a connection that has registered nothing.
                report.skipped("delivery", "nothing is registered")?;
                report.skipped("idle", "nothing is registered")?;
                return close(&mut probed, report).await;
            }
            Registering::Lost => return Ok(()),
        }
        match self.idle {
            Some(idle) if !silence(&mut probed, idle, &proxy, report).await? => return Ok(()),
            Some(_) => {}
            None => report.skipped("idle", "--quick")?,
        }
        close(&mut probed, report).await
    }

    /// Finds the server's addresses and connects to the first that answers.
    async fn reach<'a>(
        &self,
        probe: &'a Probe,
        report: &mut Report,
    ) -> io::Result<Option<Dialed<'a>>> {
        let started = Instant::now();
        let addresses = match probe.addresses().await {
            Ok(addresses) if !addresses.is_empty() => addresses,
            Ok(_) => {
                report.failed("name", "the name has no address", advice::NAME)?;
                return Ok(None);
            }
            Err(error) => {
                report.failed("name", with_causes(&error), advice::NAME)?;
                return Ok(None);
            }
        };
        let shown: Vec<String> = addresses.iter().map(|it| it.ip().to_string()).collect();
        report.ok("name", format_args!("{} ({})", shown.join(", "), Milliseconds(started)))?;
        let mut first = None;
        let mut silent = Vec::new();
        for address in addresses.iter().take(ADDRESSES_MAX) {
            let started = Instant::now();
            match probe.dial(*address).await {
                Ok(dialed) if first.is_none() => {
                    report.ok("tcp", format_args!("{address} in {}", Milliseconds(started)))?;
                    first = Some(dialed);
                }
                Ok(_) => {}
                Err(error) => silent.push(format!("{address}: {}", with_causes(&error))),
            }
        }
        if first.is_none() {
            report.failed("tcp", silent.join("; "), advice::TCP)?;
        } else if !silent.is_empty() {
            report.warning("tcp", silent.join("; "), advice::TCP_SOME)?;
        }
        Ok(first)
    }
}

/// Makes the handshake for version 2, or else, on another connection, for version 1.
async fn upgrade(
    probe: &Probe,
    secured: Secured<'_>,
    address: SocketAddr,
) -> Result<Probed, UpgradeError> {
    match secured.upgrade(Protocol::V2).await {
        Err(UpgradeError::Older) => {}
        upgraded => return upgraded,
    }
    let dialed = async { probe.dial(address).await?.secure().await };
    let secured = dialed.await.map_err(|_error| UpgradeError::Older)?;
    secured.upgrade(Protocol::V1).await
}

/// Whether no answer came, so that the error does not show whether requests arrive at all.
fn is_silence(error: &UpgradeError) -> bool {
    matches!(error, UpgradeError::TimedOut { .. } | UpgradeError::Unanswered { .. })
}

/// Requests the same URL without an upgrade, on a separate connection.
async fn get(probe: &Probe, address: SocketAddr) -> io::Result<PlainAnswer> {
    probe.dial(address).await?.secure().await?.get().await
}

/// Reports on a certificate that is trusted.
fn certificate(tls: &TlsFacts, report: &mut Report) -> io::Result<()> {
    let mut what = tls.version.clone();
    if !tls.names.is_empty() {
        what = format!("{what}, a certificate for {}", tls.names.join(", "));
    }
    let Some(end) = tls.not_after else { return report.ok("tls", what) };
    let left = end.duration_since(SystemTime::now()).unwrap_or_default();
    let days = left.as_secs() / (24 * 60 * 60);
    let end = humantime::format_rfc3339_seconds(end).to_string();
    let end = end.split('T').next().unwrap_or_default();
    what = format!("{what}, until {end} ({})", counted(days, "day", "days"));
    if days < CERTIFICATE_DAYS_MIN {
        report.warning("tls", what, "renew it")
    } else {
        report.ok("tls", what)
    }
}

/// Returns whether the connection is still good.
async fn ping(probed: &mut Probed, report: &mut Report) -> io::Result<bool> {
    let started = Instant::now();
    if let Err(error) = probed.ping().await {
        report.failed("ping", with_causes(&error), advice::BROKEN)?;
        return Ok(false);
    }
    loop {
        match probed.next(STEP_TIMEOUT).await {
            Some(Seen::Pong) => {
                report.ok("ping", format_args!("answered in {}", Milliseconds(started)))?;
                return Ok(true);
            }
            Some(seen @ (Seen::Closed(_) | Seen::Lost(_))) => {
                let (what, advice) = advice::lost(&seen);
                report.failed("ping", what, &advice)?;
                return Ok(false);
            }
            Some(_) => {}
            None => {
                report.failed("ping", "no pong within 10 s", advice::PING)?;
                return Ok(true);
            }
        }
    }
}

/// Stays silent for this long. Returns whether the connection is still good.
async fn silence(
    probed: &mut Probed,
    idle: Duration,
    proxy: &Proxy,
    report: &mut Report,
) -> io::Result<bool> {
    let started = Instant::now();
    let mut pings: u64 = 0;
    while let Some(left) = idle.checked_sub(started.elapsed()) {
        match probed.next(left).await {
            Some(Seen::Ping) => pings += 1,
            Some(Seen::Closed(frame)) => {
                let seconds = started.elapsed().as_secs_f64();
                let what = format!("closed by the server with {frame} after {seconds:.1} s");
                report.failed("idle", what, advice::closed(frame.code))?;
                return Ok(false);
            }
            Some(Seen::Lost(error)) => {
                let seconds = started.elapsed().as_secs_f64();
                let what = format!("cut after {seconds:.1} s of silence ({})", with_causes(&error));
                report.failed("idle", what, &advice::idle(proxy))?;
                return Ok(false);
            }
            Some(_) | None => {}
        }
    }
    let what = format!(
        "held for {} s, with {} of the server",
        idle.as_secs(),
        counted(pings, "ping", "pings")
    );
    if pings == 0 && idle >= PING_BY {
        report.warning("idle", what, advice::NO_PINGS)?;
    } else {
        report.ok("idle", what)?;
    }
    Ok(true)
}

/// Sends a Close, and tests whether the server's own Close arrives.
async fn close(probed: &mut Probed, report: &mut Report) -> io::Result<()> {
    if let Err(error) = probed.close().await {
        return report.failed("close", with_causes(&error), advice::BROKEN);
    }
    loop {
        match probed.next(STEP_TIMEOUT).await {
            Some(Seen::Closed(frame)) if frame.code == Some(1000) => {
                return report.ok("close", "answered with 1000, so close codes arrive");
            }
            Some(Seen::Closed(frame)) => {
                let what = format!("sent 1000, but got {frame}");
                return report.warning("close", what, advice::CLOSE);
            }
            Some(Seen::Lost(error)) => {
                return report.warning("close", with_causes(&error), advice::CLOSE);
            }
            Some(_) => {}
            None => return report.warning("close", "no answer within 10 s", advice::CLOSE),
        }
    }
}

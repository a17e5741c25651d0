//! Notifications to systemd: the server listens, reloads, is alive, and stops (`sd_notify(3)`).
//!
//! Without `NOTIFY_SOCKET` none is sent.

use std::convert::Infallible;
use std::env;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;
use tracing::warn;
use wserver_warp::Handle;

/// The time that stopping takes in addition to the drain.
const STOP_RESERVE: Duration = Duration::from_secs(5);

/// The server listens and serves every connection from now on.
pub(crate) fn listening(address: SocketAddr) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("listening on {address}"))]);
}

/// A reload has started.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "no monotonic clock"),
    }
}

/// The reload is over.
pub(crate) fn reloaded(has_changed: bool) {
    let status = if has_changed { "reloaded" } else { "settings not reloaded; see the log" };
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A shutdown has started and takes at most this long; systemd must not kill the server before.
pub(crate) fn stopping(drain_timeout: Duration) {
    let patience = drain_timeout.saturating_add(STOP_RESERVE).as_micros();
    let patience = u32::try_from(patience).unwrap_or(u32::MAX);
    tell(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(patience),
        NotifyState::Status("closing connections"),
    ]);
}

/// Tells the watchdog, if there is one, that the server is alive: three times within the watchdog's
/// timeout, as long as a message of the server to itself arrives.
///
/// # Cancel safety
/// Cancel safe.
pub(crate) async fn heartbeat(server: &Handle) -> Infallible {
    let Some(patience) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut beats = tokio::time::interval((patience / 3).max(Duration::from_millis(1)));
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        match server.ready().await {
            Ok(()) => tell(&[NotifyState::Watchdog]),
            Err(why) => warn!(why, "cannot notify systemd's watchdog that the server is alive"),
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    let told = match abstract_name() {
        Some(name) => tell_abstract(&name, states),
        None => sd_notify::notify(states),
    };
    if let Err(error) = told {
        warn!(%error, "could not notify systemd");
    }
}

/// The name of an abstract socket, which begins with `@` and has no file. The library accepts only
/// paths.
fn abstract_name() -> Option<Vec<u8>> {
    let socket = env::var_os("NOTIFY_SOCKET")?;
    socket.as_bytes().strip_prefix(b"@").map(<[u8]>::to_vec)
}

#[cfg(target_os = "linux")]
fn tell_abstract(name: &[u8], states: &[NotifyState<'_>]) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let lines: String = states.iter().map(|state| format!("{state}\n")).collect();
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?;
    socket.send(lines.as_bytes()).map(|_bytes| ())
}

#[cfg(not(target_os = "linux"))]
fn tell_abstract(_: &[u8], _: &[NotifyState<'_>]) -> io::Result<()> {
    Err(io::Error::other("a NOTIFY_SOCKET that begins with @ is for Linux"))
}

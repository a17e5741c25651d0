//! What systemd is told: that the server listens, reloads, lives and ends (`sd_notify(3)`).
//!
//! Where `NOTIFY_SOCKET` is not set nobody is told anything.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;
use tracing::warn;
use wserver_warp::Handle;

/// What the end takes beside the drain.
const STOP_RESERVE: Duration = Duration::from_secs(5);

/// The server listens: who comes from now on is served.
pub(crate) fn listening(address: SocketAddr) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("listening on {address}"))]);
}

/// A reload has begun.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "no monotonic clock"),
    }
}

/// The reload is over.
pub(crate) fn reloaded(has_changed: bool) {
    let status = if has_changed { "reloaded" } else { "not reloaded, the log says why" };
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A shutdown has begun, which takes this long at most: it shall not be killed before.
pub(crate) fn stopping(drain_timeout: Duration) {
    let patience = drain_timeout.saturating_add(STOP_RESERVE).as_micros();
    let patience = u32::try_from(patience).unwrap_or(u32::MAX);
    tell(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(patience),
        NotifyState::Status("closing connections"),
    ]);
}

/// Tells the watchdog, if there is one, that the server lives, three times in its patience, as long
/// as a message of the server to itself arrives.
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
            Err(why) => warn!(why, "the watchdog is not told that the server lives"),
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "systemd could not be told");
    }
}

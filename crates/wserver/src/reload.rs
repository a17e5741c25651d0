//! A reload: reads and checks all settings again, and applies all changes that need no restart, or
//! none.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use http::header::COOKIE;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc::Receiver;
use tracing::{error, info, warn};
use wserver_auth::Authenticator as _;
use wserver_warp::Handle;

use crate::access::Access;
use crate::assemble::{self, assemble};
use crate::files;
use crate::inherited::Inherited;
use crate::settings::{Effective, Loaded, OnReload, Sources};
use crate::systemd;
use crate::telemetry::LogFilter;
use crate::watch::Watch;

/// Exchanges settings of a running server.
#[derive(Debug)]
pub(crate) struct Reloader {
    sources: Sources,
    descriptors: Option<usize>,
    inherited: Inherited,
    /// The settings in force, by name.
    running: BTreeMap<&'static str, Effective>,
    /// The policy of origins, which is that of the start.
    origin: Vec<String>,
    reload_interval: Duration,
    access: Access,
    log: LogFilter,
    watch: Watch,
}

impl Reloader {
    /// Starts from the settings in force.
    pub(crate) fn new(
        sources: Sources,
        loaded: &Loaded,
        access: Access,
        log: LogFilter,
        descriptors: Option<usize>,
        inherited: Inherited,
    ) -> Self {
        let running = loaded.effective.iter().map(|it| (it.definition.name, it.clone())).collect();
        let mut watch = Watch::default();
        watch.set(loaded.files());
        let reload_interval = loaded.settings.reload_interval;
        let origin = loaded.settings.origin.clone();
        Self {
            sources,
            descriptors,
            inherited,
            running,
            origin,
            reload_interval,
            access,
            log,
            watch,
        }
    }

    /// The authenticator and the authoriser in force.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// The listening sockets that the process inherited.
    pub(crate) fn inherited(&self) -> &Inherited {
        &self.inherited
    }

    /// Runs it on its own thread. The server does not wait for this thread at its end, because a
    /// file can be on a file system that does not answer.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(mut self, server: Handle) -> io::Result<Reloads> {
        // There is one turn at a time, so nothing waits in either channel.
        let (turns, todo) = std::sync::mpsc::sync_channel::<Turn>(1);
        let (ended, outcomes) = tokio::sync::mpsc::channel(1);
        let reload_interval = self.reload_interval;
        std::thread::Builder::new().name("reload".to_owned()).spawn(move || {
            for turn in todo {
                if ended.blocking_send(self.handle(&turn, &server)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Reloads { turns, outcomes, reload_interval })
    }

    fn handle(&mut self, turn: &Turn, server: &Handle) -> Outcome {
        let reloaded = match turn.cause {
            Cause::Interval if !self.watch.has_settled() => None,
            cause => Some(self.reload_watched(cause, &turn.decision, server)),
        };
        Outcome { reloaded, reload_interval: self.reload_interval }
    }

    fn reload_watched(&mut self, cause: Cause, decision: &Decision, server: &Handle) -> Ended {
        let cause = cause.as_str();
        self.watch.note();
        systemd::reloading();
        let outcome = self.reload(cause, decision, server);
        if let Err(Failed::Problems(problems)) = &outcome {
            for problem in problems {
                error!(problem, "a setting is wrong");
            }
            error!(cause, "settings not reloaded; the old ones stay in force");
        }
        match outcome {
            Ok(()) => Ended::Changed,
            Err(Failed::Problems(_)) => Ended::Unchanged,
            Err(Failed::GivenUp) => Ended::GivenUp,
        }
    }

    fn reload(
        &mut self,
        cause: &'static str,
        decision: &Decision,
        server: &Handle,
    ) -> Result<(), Failed> {
        let loaded = self.sources.load()?;
        // Even if the settings are wrong, because the correction will change one of these files.
        self.watch.set(loaded.files());
        // Building the server checks the settings; the server itself is thrown away.
        let next = assemble(&loaded, self.descriptors, &self.inherited, Some(&self.access))?;
        self.check_cookies(&next.access)?;
        if !decision.is_mine() {
            return Err(Failed::GivenUp);
        }
        // This is the last step that can fail; what it needs was read a moment ago.
        server.reload_tls().map_err(|error| {
            Failed::Problems(error.problems().iter().map(ToString::to_string).collect())
        })?;
        let has_listeners =
            self.access.authenticator.is_some() == next.access.authenticator.is_some();
        let has_publishers =
            self.access.push_authorizer.is_some() == next.access.push_authorizer.is_some();
        let mut changed = self.exchange(next.access);
        let mut waiting = Vec::new();
        for effective in &loaded.effective {
            let name = effective.definition.name;
            if self.running.get(name).is_some_and(|it| it.shown == effective.shown) {
                continue;
            }
            let is_applied = match effective.definition.on_reload {
                OnReload::Applied => true,
                OnReload::AppliedToListeners => has_listeners,
                OnReload::AppliedToPublishers => has_publishers,
                OnReload::NeedsRestart => false,
            };
            if is_applied {
                changed.insert(name.to_owned());
                self.running.insert(name, effective.clone());
            } else {
                // The path of a certificate has changed, and the content of the new file is not in
                // force.
                changed.remove(name);
                waiting.push(name);
            }
        }
        self.reload_interval = loaded.settings.reload_interval;
        if changed.contains("log")
            && let Err(error) = self.log.set(next.log)
        {
            error!(%error, "could not change the log filter");
        }
        let changed = changed.into_iter().collect::<Vec<_>>().join(", ");
        if changed.is_empty() {
            info!(cause, "settings reloaded; none that a reload can change has changed");
        } else {
            info!(cause, changed, "settings reloaded");
        }
        if !waiting.is_empty() {
            warn!(
                settings = waiting.join(", "),
                "these settings have changed, but need a restart to take effect"
            );
        }
        Ok(())
    }

    /// Puts `next` in force; returns the settings whose files have changed.
    ///
    /// Whether clients and publishers need authentication at all is fixed at the start, because
    /// more depends on it than this (an open push is served only on loopback).
    fn exchange(&mut self, next: Access) -> BTreeSet<String> {
        if let (Some(running), Some(next)) = (&self.access.authenticator, &next.authenticator) {
            running.set(next.current());
        }
        let authorizers = (&self.access.push_authorizer, &next.push_authorizer);
        if let (Some(running), Some(authorizer)) = authorizers {
            running.set(authorizer.current());
            self.access.publishers = next.publishers;
        }
        self.access.issuers = next.issuers;
        self.access.contents.exchange(&next.contents)
    }

    /// Refuses cookies as tokens where every page may connect. The policy of origins is fixed at
    /// the start, and with `any` the cookie of each visitor of any page would count.
    fn check_cookies(&self, next: &Access) -> Result<(), Vec<String>> {
        let reads_cookies = next
            .authenticator
            .as_ref()
            .is_some_and(|authenticator| authenticator.handshake_headers().contains(&COOKIE));
        if reads_cookies && assemble::origin(&self.origin).is_any() {
            return Err(vec![format!(
                "callback_forward_headers contains cookie, but origin is {} until a restart",
                self.origin.join(", ")
            )]);
        }
        Ok(())
    }
}

/// Maximum duration of a reload, which spends most of it waiting for files.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A job for the thread.
#[derive(Debug)]
struct Turn {
    cause: Cause,
    decision: Arc<Decision>,
}

#[derive(Debug, Clone, Copy)]
enum Cause {
    Hangup,
    /// The interval for checking files is over.
    Interval,
}

impl Cause {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Hangup => "SIGHUP",
            Self::Interval => "a file has changed",
        }
    }
}

/// Whether a reload goes on or is given up; the first to decide wins.
#[derive(Debug, Default)]
struct Decision(AtomicBool);

impl Decision {
    fn is_mine(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }
}

/// Why a reload failed.
#[derive(Debug)]
enum Failed {
    Problems(Vec<String>),
    /// It took too long, which has been logged.
    GivenUp,
}

impl From<Vec<String>> for Failed {
    fn from(problems: Vec<String>) -> Self {
        Self::Problems(problems)
    }
}

/// The result of a turn.
#[derive(Debug)]
struct Outcome {
    /// `None`: there was nothing to reload.
    reloaded: Option<Ended>,
    reload_interval: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Changed,
    Unchanged,
    GivenUp,
}

/// Gives jobs to the reload thread, and waits for it only for a limited time.
#[derive(Debug)]
pub(crate) struct Reloads {
    turns: SyncSender<Turn>,
    outcomes: Receiver<Outcome>,
    reload_interval: Duration,
}

impl Reloads {
    /// Reloads on every SIGHUP, and when a file has changed. Gives up a reload that takes too long.
    ///
    /// # Cancel safety
    /// A reload is complete or has not started.
    pub(crate) async fn run(&mut self, hangups: &mut Signal) -> Infallible {
        loop {
            let cause = tokio::select! {
                _ = hangups.recv() => Cause::Hangup,
                () = pause(self.reload_interval) => Cause::Interval,
            };
            if self.turn(cause).await.is_none() {
                error!(
                    "settings can no longer be reloaded, because a reload panicked; restart the \
                        server"
                );
                return std::future::pending().await;
            }
        }
    }

    /// Runs one turn of the thread; `None` if the thread has ended.
    async fn turn(&mut self, cause: Cause) -> Option<()> {
        let decision = Arc::new(Decision::default());
        self.turns.try_send(Turn { cause, decision: Arc::clone(&decision) }).ok()?;
        let outcome = match tokio::time::timeout(RELOAD_TIMEOUT, self.outcomes.recv()).await {
            Ok(outcome) => outcome?,
            Err(_elapsed) => {
                if decision.is_mine() {
                    let file = files::waited_for().map(|path| path.display().to_string());
                    let file = file.unwrap_or_else(|| "unknown".to_owned());
                    error!(
                        cause = cause.as_str(),
                        file,
                        timeout = ?RELOAD_TIMEOUT,
                        "settings not reloaded; the old ones stay in force: reading a file did not \
                         finish in time; the next reload waits until it does"
                    );
                    systemd::reloaded(false);
                }
                self.outcomes.recv().await?
            }
        };
        self.reload_interval = outcome.reload_interval;
        match outcome.reloaded {
            None => {}
            Some(Ended::Changed) => systemd::reloaded(true),
            Some(Ended::Unchanged) => systemd::reloaded(false),
            Some(Ended::GivenUp) => info!("the file that a reload waited for can be read again"),
        }
        Some(())
    }
}

/// Waits until the next check of the files; forever if there is none.
async fn pause(interval: Duration) {
    if interval.is_zero() {
        std::future::pending::<()>().await;
    } else {
        tokio::time::sleep(interval).await;
    }
}

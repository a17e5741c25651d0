//! A reload: all settings are read and checked anew, and those that may change do so together, or none.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use http::header::COOKIE;
use tokio::signal::unix::Signal;
use tracing::{error, info, warn};
use wserver_auth::Authenticator as _;
use wserver_warp::Handle;

use crate::access::Access;
use crate::assemble::assemble;
use crate::inherited::Inherited;
use crate::settings::{Effective, Loaded, OnReload, Sources};
use crate::systemd;
use crate::telemetry::LogFilter;
use crate::watch::Watch;

/// Exchanges settings under a running server.
#[derive(Debug)]
pub(crate) struct Reloader {
    sources: Sources,
    descriptors: Option<usize>,
    inherited: Inherited,
    /// The settings in force, by name.
    running: BTreeMap<&'static str, Effective>,
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
        Self { sources, descriptors, inherited, running, reload_interval, access, log, watch }
    }

    /// Who may listen and who may push.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// The listeners that were there before the program.
    pub(crate) fn inherited(&self) -> &Inherited {
        &self.inherited
    }

    /// Reloads on every SIGHUP, and when a file has changed.
    ///
    /// # Cancel safety
    /// A reload is whole or has not begun.
    pub(crate) async fn run(&mut self, hangups: &mut Signal, server: &Handle) -> Infallible {
        loop {
            let cause = tokio::select! {
                _ = hangups.recv() => "SIGHUP",
                () = pause(self.reload_interval) => {
                    if !self.watch.has_settled() {
                        continue;
                    }
                    "a file has changed"
                }
            };
            self.watch.note();
            systemd::reloading();
            let outcome = self.reload(cause, server);
            systemd::reloaded(outcome.is_ok());
            match outcome {
                Ok(()) => {}
                Err(problems) => {
                    for problem in problems {
                        error!(problem, "a setting is wrong");
                    }
                    error!(cause, "settings not reloaded, nothing has changed");
                }
            }
        }
    }

    fn reload(&mut self, cause: &'static str, server: &Handle) -> Result<(), Vec<String>> {
        let loaded = self.sources.load()?;
        // Even if something is wrong with them: whoever puts it right will change one of these.
        self.watch.set(loaded.files());
        // The server that is built is thrown away: building it is what checks the settings.
        let next = assemble(&loaded, self.descriptors, &self.inherited, Some(&self.access))?;
        self.check_cookies(&next.access)?;
        // The last step that can fail; what it needs was read a moment ago.
        server.reload_tls().map_err(|error| error.problems().to_vec())?;
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
                // Another path of a certificate, whose content is not in force.
                changed.remove(name);
                waiting.push(name);
            }
        }
        self.reload_interval = loaded.settings.reload_interval;
        if changed.contains("log")
            && let Err(error) = self.log.set(next.log)
        {
            error!(%error, "the log filter could not be exchanged");
        }
        let changed = changed.into_iter().collect::<Vec<_>>().join(", ");
        if changed.is_empty() {
            info!(cause, "settings reloaded, none that can be has changed");
        } else {
            info!(cause, changed, "settings reloaded");
        }
        if !waiting.is_empty() {
            warn!(
                settings = waiting.join(", "),
                "these settings have changed and wait for a restart"
            );
        }
        Ok(())
    }

    /// Puts `next` in force; which settings stand for something else now.
    ///
    /// Whether everybody may do a thing is decided at the start, since more hangs on it than this
    /// (an open push is only served on loopback).
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

    /// The policy of origins is that of the start, and with `any` a cookie would stand for whoever
    /// visits any page.
    fn check_cookies(&self, next: &Access) -> Result<(), Vec<String>> {
        let reads_cookies = next
            .authenticator
            .as_ref()
            .is_some_and(|authenticator| authenticator.handshake_headers().contains(&COOKIE));
        let origin = self.running.get("origin").and_then(|origin| origin.shown.as_deref());
        if reads_cookies && origin == Some(r#"["any"]"#) {
            return Err(vec![
                "callback_forward_headers has cookie, and origin is any until a restart".to_owned(),
            ]);
        }
        Ok(())
    }
}

/// Waits for the next look at the files; for ever if there is none.
async fn pause(interval: Duration) {
    if interval.is_zero() {
        std::future::pending::<()>().await;
    } else {
        tokio::time::sleep(interval).await;
    }
}

//! The settings of a server checked, each and their relations: every problem is told at once.

use std::sync::Arc;

use hyper::header::COOKIE;
use wserver_api::{Side, is_api_path, is_reserved};
use wserver_protocol::{CloseCode, v2};

use crate::http::proxies::TrustedProxies;
use crate::listen::listener::Listen;
use crate::server::bind::Server;
use crate::server::builder::{DemoPolicy, ServerBuilder};
use crate::server::error::BuildError;
use crate::tls::{self, Tls, TlsSettings};

impl ServerBuilder {
    /// Checks all settings and the relations between them. Nothing is bound yet.
    ///
    /// # Errors
    /// [`BuildError`] with every problem, not only the first.
    pub fn build(mut self) -> Result<Server, BuildError> {
        let mut problems = Vec::new();
        let has_private = self.private.is_some();
        let listen = self.public.take().map(|place| place.resolve("address"));
        let listen = taken(listen.transpose(), &mut problems);
        let private = self.private.take().map(|place| place.resolve("private_address"));
        let mut private = taken(private.transpose(), &mut problems);
        problems.extend(path_problem("ws_path", &self.ws_path));
        problems.extend(path_problem("push_path", &self.push_path));
        for (name, path) in [("ws_path", &self.ws_path), ("push_path", &self.push_path)] {
            if is_reserved(path) {
                problems.push(format!("{name} cannot be {path}, where the server has its own"));
            }
        }
        if self.ws_path == self.push_path {
            problems
                .push(format!("ws_path and push_path are both {}, they must differ", self.ws_path));
        }
        for (name, path) in [("ws_path", &self.ws_path), ("push_path", &self.push_path)] {
            if is_api_path(path) {
                problems.push(format!("{name} {path} is a path of the HTTP API"));
            }
        }
        let is_demo_wanted = self.demo_page == DemoPolicy::Always;
        let is_root_taken = self.ws_path == "/" || self.push_path == "/";
        if is_demo_wanted && is_root_taken {
            problems.push(
                "the demo page is served at /, so neither ws_path nor push_path can be /"
                    .to_owned(),
            );
        }
        if listen.as_ref().is_some_and(Listen::is_unix) {
            problems
                .push("address must be host:port, browsers cannot reach a Unix socket".to_owned());
        }
        let is_private_unix = private.as_ref().is_some_and(Listen::is_unix);
        if is_demo_wanted && is_private_unix {
            problems.push(
                "the demo page is served where pushes are taken, and browsers cannot reach a Unix \
                 socket: turn it off"
                    .to_owned(),
            );
        }
        if self.private_tls.is_some() && (!has_private || is_private_unix) {
            problems.push("private_tls needs a private_address that is host:port".to_owned());
        }
        let code = self.drain_close_code;
        let goodbye_code = goodbye_code(code).unwrap_or_else(|| {
            problems.push(format!("drain_close_code is {code}, it must be 1001 or 1012"));
            CloseCode::GOING_AWAY
        });
        problems.extend(self.origin.problems());
        problems.extend(self.cookie_problem());
        if let Err(error) = self.token_source.check() {
            problems.push(format!("token_source {}: {error}", self.token_source));
        }
        let is_keyless = self.push_authorizer.is_open()
            && !self.allow_open_push
            && !self.asks_pushers_for_certificates(has_private);
        if is_keyless && let Some(private) = &private {
            match private.exposed() {
                Ok(Some(address)) => problems.push(format!(
                    "private_address {address} is reachable from other machines and pushes need no key: \
                     set a push key (push_key_file, or in a program push_authorizer), or \
                     allow_open_push if everyone there may push to everyone"
                )),
                Ok(None) => {}
                Err(error) => problems.push(format!("the private listener has no address: {error}")),
            }
        }
        self.private_on_loopback &= is_keyless && !has_private;
        if self.private_on_loopback
            && let Some(listen) = &listen
            && !listen.is_unix()
        {
            match listen.beside_on_loopback() {
                Ok(beside) => private = Some(beside),
                Err(error) => problems.push(format!("the listener has no address: {error}")),
            }
        }
        if is_demo_wanted && is_keyless && !has_private && !self.private_on_loopback {
            problems.push(
                "the demo page pushes, and pushes without a key are not taken at an address where browsers \
                 connect: set push_authorizer, private_on_loopback or allow_open_push"
                    .to_owned(),
            );
        }
        let proxies = TrustedProxies::parse(&self.trusted_proxies).unwrap_or_else(|wrong| {
            problems.extend(wrong);
            TrustedProxies::default()
        });
        let limits = match self.limits.clone().build() {
            Ok(limits) => Some(limits),
            Err(error) => {
                problems.extend_from_slice(error.problems());
                None
            }
        };
        if let Some((_, settings)) = &self.cluster {
            problems.extend(settings.problems(self.limits.message_bytes_max));
        }
        let (pushes, max) = (self.limits.batch_pushes_max, v2::LIST_ITEMS_MAX);
        if pushes > max {
            problems.push(format!("batch_pushes_max is {pushes}, it must be at most {max}"));
        }
        let mut load = |settings: &Option<TlsSettings>, names| {
            let loaded = settings.as_ref().map(|settings| Tls::new(settings, names)).transpose();
            loaded.map_err(|more| problems.extend(more)).ok().flatten().map(Arc::new)
        };
        let tls = load(&self.tls, tls::PUBLIC);
        let private_tls = load(&self.private_tls, tls::PRIVATE);
        match (listen, limits) {
            (Some(listen), Some(limits)) if problems.is_empty() => {
                let serves_demo = is_demo_wanted
                    || self.demo_page == DemoPolicy::OnLoopback
                        && !is_root_taken
                        && self.trusted_proxies.is_empty()
                        && match &private {
                            // The page is of another origin than the WebSockets then.
                            Some(private) => {
                                matches!(private.exposed(), Ok(None))
                                    && !private.is_unix()
                                    && self.origin.is_any()
                            }
                            None => matches!(listen.exposed(), Ok(None)) && !is_keyless,
                        };
                let private = private.map(|private| (private, private_tls));
                // Without a key not even where nobody has placed pushes: a proxy in front may leave
                // no mark on what it passes on.
                let side = if private.is_some() || is_keyless { Side::Public } else { Side::Whole };
                Ok(Server {
                    listen,
                    tls,
                    private,
                    side,
                    settings: self,
                    limits,
                    proxies,
                    serves_demo,
                    goodbye_code,
                })
            }
            _ => Err(BuildError::new(problems)),
        }
    }

    /// A browser sends its cookies for every page, so without a check of origins any web page could
    /// listen as whoever visits it.
    fn cookie_problem(&self) -> Option<String> {
        let what = if self.token_source.is_ambient() {
            format!("token_source {}", self.token_source)
        } else if self.authenticator.handshake_headers().contains(&COOKIE) {
            "an authenticator that reads cookies".to_owned()
        } else {
            return None;
        };
        self.origin.is_any().then(|| {
            format!(
                "{what} and origin {} do not go together, since any web page could then listen as its visitor: \
                 set origin to same-origin, or to the origins of your pages",
                self.origin
            )
        })
    }

    /// Whether who cannot show a certificate cannot push.
    pub(super) fn asks_pushers_for_certificates(&self, is_private: bool) -> bool {
        let tls = if is_private { &self.private_tls } else { &self.tls };
        tls.as_ref().is_some_and(TlsSettings::asks_for_clients)
    }
}

/// What there is, if nothing is wrong with it.
fn taken<T>(checked: Result<Option<T>, String>, problems: &mut Vec<String>) -> Option<T> {
    checked.unwrap_or_else(|problem| {
        problems.push(problem);
        None
    })
}

/// A code by which a server may say that it goes away.
fn goodbye_code(code: u16) -> Option<CloseCode> {
    [CloseCode::GOING_AWAY, CloseCode::RESTART].into_iter().find(|it| it.as_u16() == code)
}

fn path_problem(name: &str, path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return Some(format!("{name} {path:?} must start with /"));
    }
    let is_plain =
        path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#%\"<>\\^`{|}".contains(&byte));
    (!is_plain).then(|| {
        format!("{name} {path:?} must be a plain path, without query, fragment or escapes")
    })
}

//! Checks the settings of a server and their relations, and reports all problems at once.

use std::sync::Arc;

use hyper::header::COOKIE;
use wserver_api::{Side, is_reserved};
use wserver_core::LimitsError;
use wserver_protocol::CloseCode;

use crate::http::proxies::TrustedProxies;
use crate::listen::listener::{AddressProblem, Listen};
use crate::server::bind::Server;
use crate::server::builder::{DemoPolicy, ServerBuilder};
use crate::server::error::{BuildError, BuildProblem, CookieReader, setting};
use crate::tls::{self, Tls, TlsProblem, TlsSettings};

impl ServerBuilder {
    /// Checks all settings and the relations between them. It binds nothing.
    ///
    /// # Errors
    /// [`BuildError`] with every problem, not only the first.
    pub fn build(mut self) -> Result<Server, BuildError> {
        let mut problems = Vec::new();
        let has_private = self.private.is_some();
        let listen = self.public.take().map(|place| place.resolve(setting::ADDRESS));
        let listen = taken(listen.transpose(), &mut problems);
        let private = self.private.take().map(|place| place.resolve(setting::PRIVATE_ADDRESS));
        let mut private = taken(private.transpose(), &mut problems);
        let paths = [(setting::WS_PATH, &self.ws_path), (setting::PUSH_PATH, &self.push_path)];
        problems.extend(paths.iter().filter_map(|(setting, path)| path_problem(setting, path)));
        if self.ws_path == self.push_path {
            problems.push(BuildProblem::PathsEqual { path: self.ws_path.clone() });
        }
        let is_demo_wanted = self.demo_page == DemoPolicy::Always;
        let is_root_taken = self.ws_path == "/" || self.push_path == "/";
        if is_demo_wanted && is_root_taken {
            problems.push(BuildProblem::DemoPageInTheWay);
        }
        if listen.as_ref().is_some_and(Listen::is_unix) {
            problems.push(BuildProblem::AddressIsUnix);
        }
        let is_private_unix = private.as_ref().is_some_and(Listen::is_unix);
        if is_demo_wanted && is_private_unix {
            problems.push(BuildProblem::DemoPageOnUnix);
        }
        if self.private_tls.is_some() && (!has_private || is_private_unix) {
            problems.push(BuildProblem::PrivateTlsUnused);
        }
        let code = self.drain_close_code;
        let goodbye_code = goodbye_code(code).unwrap_or_else(|| {
            problems.push(BuildProblem::DrainCloseCode { code });
            CloseCode::GOING_AWAY
        });
        problems.extend(self.origin.problems().into_iter().map(BuildProblem::from));
        problems.extend(self.cookie_problem());
        if let Err(error) = self.token_source.check() {
            let token_source = self.token_source.clone();
            problems.push(BuildProblem::TokenSource { token_source, error });
        }
        let is_keyless = self.push_authorizer.is_open()
            && !self.allow_open_push
            && !self.asks_pushers_for_certificates(has_private);
        if is_keyless && let Some(private) = &private {
            match private.exposed() {
                Ok(Some(address)) => problems.push(BuildProblem::OpenPush { address }),
                Ok(None) => {}
                Err(error) => problems.push(BuildProblem::ListenerWithoutAddress {
                    setting: setting::PRIVATE_ADDRESS,
                    error: error.to_string(),
                }),
            }
        }
        self.private_on_loopback &= is_keyless && !has_private;
        if self.private_on_loopback
            && let Some(listen) = &listen
            && !listen.is_unix()
        {
            match listen.beside_on_loopback() {
                Ok(beside) => private = Some(beside),
                Err(error) => problems.push(BuildProblem::ListenerWithoutAddress {
                    setting: setting::ADDRESS,
                    error: error.to_string(),
                }),
            }
        }
        if is_demo_wanted && is_keyless && !has_private && !self.private_on_loopback {
            problems.push(BuildProblem::DemoPageWithoutKey);
        }
        let proxies = TrustedProxies::parse(&self.trusted_proxies).unwrap_or_else(|wrong| {
            problems.extend(wrong.into_iter().map(BuildProblem::from));
            TrustedProxies::default()
        });
        let mut built = |error: LimitsError| {
            problems.extend(error.problems().iter().cloned().map(BuildProblem::from));
        };
        let limits = self.limits.clone().build().map_err(&mut built).ok();
        let http_limits = self.http_limits.clone().build(&self.limits).map_err(built).ok();
        if let Some(plan) = &self.cluster {
            let wrong = plan.problems(self.limits.message_bytes_max);
            problems.extend(wrong.into_iter().map(BuildProblem::from));
        }
        let mut load = |settings: &Option<TlsSettings>, names| {
            let loaded = settings.as_ref().map(|settings| Tls::new(settings, names)).transpose();
            let loaded = loaded.map_err(|wrong: Vec<TlsProblem>| {
                problems.extend(wrong.into_iter().map(BuildProblem::from));
            });
            loaded.ok().flatten().map(Arc::new)
        };
        let tls = load(&self.tls, tls::PUBLIC);
        let private_tls = load(&self.private_tls, tls::PRIVATE);
        match (listen, limits, http_limits) {
            (Some(listen), Some(limits), Some(http_limits)) if problems.is_empty() => {
                let serves_demo = is_demo_wanted
                    || self.demo_page == DemoPolicy::OnLoopback
                        && !is_root_taken
                        && self.trusted_proxies.is_empty()
                        && match &private {
                            // The page's origin then differs from that of the WebSockets.
                            Some(private) => {
                                matches!(private.exposed(), Ok(None))
                                    && !private.is_unix()
                                    && self.origin.is_any()
                            }
                            None => matches!(listen.exposed(), Ok(None)) && !is_keyless,
                        };
                let private = private.map(|private| (private, private_tls));
                // Without a key they are not served here even if they have no other place, because
                // a proxy in front may leave no mark on the requests that it forwards.
                let side = if private.is_some() || is_keyless { Side::Public } else { Side::Whole };
                Ok(Server {
                    listen,
                    tls,
                    private,
                    side,
                    settings: self,
                    limits,
                    http_limits,
                    proxies,
                    serves_demo,
                    goodbye_code,
                })
            }
            _ => Err(problems.into()),
        }
    }

    /// A browser sends its cookies with the requests of every page. So without a check of origins,
    /// any web page could listen as its visitor.
    fn cookie_problem(&self) -> Option<BuildProblem> {
        let reader = if self.token_source.is_ambient() {
            CookieReader::TokenSource(self.token_source.clone())
        } else if self.authenticator.handshake_headers().contains(&COOKIE) {
            CookieReader::Authenticator
        } else {
            return None;
        };
        self.origin
            .is_any()
            .then(|| BuildProblem::CookiesOfAnyPage { reader, origin: self.origin.to_string() })
    }

    /// Whether pushes require a client certificate.
    pub(super) fn asks_pushers_for_certificates(&self, is_private: bool) -> bool {
        let tls = if is_private { &self.private_tls } else { &self.tls };
        tls.as_ref().is_some_and(TlsSettings::asks_for_clients)
    }
}

/// The value, if it has no problems.
fn taken<T>(
    checked: Result<Option<T>, AddressProblem>,
    problems: &mut Vec<BuildProblem>,
) -> Option<T> {
    checked.unwrap_or_else(|problem| {
        problems.push(problem.into());
        None
    })
}

/// The close code for a shutdown, if `code` is one.
fn goodbye_code(code: u16) -> Option<CloseCode> {
    [CloseCode::GOING_AWAY, CloseCode::RESTART].into_iter().find(|it| it.as_u16() == code)
}

fn path_problem(setting: &'static str, path: &str) -> Option<BuildProblem> {
    let is_plain =
        path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#%\"<>\\^`{|}".contains(&byte));
    let path = path.to_owned();
    if !path.starts_with('/') {
        Some(BuildProblem::PathWithoutSlash { setting, path })
    } else if !is_plain {
        Some(BuildProblem::PathNotPlain { setting, path })
    } else if is_reserved(&path) {
        Some(BuildProblem::PathReserved { setting, path })
    } else {
        None
    }
}

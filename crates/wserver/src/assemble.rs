//! Builds a server from settings: reads the files that they name, and fits the limits to the
//! machine.

mod cluster;
mod tls;

use std::io;

use tracing_subscriber::EnvFilter;
use wserver_warp::{BuildProblem, CookieReader, OriginPolicy, Server, setting};

use crate::access::Access;
use crate::inherited::Inherited;
use crate::settings::{Limits, Loaded, Problem};
use crate::telemetry;

/// Descriptors reserved for listening sockets, logs, the runtime and files.
const DESCRIPTORS_RESERVED: usize = 64;

/// A server from settings that fit together, and the parts of it that a reload can exchange.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) server: Server,
    pub(crate) limits: Limits,
    pub(crate) access: Access,
    pub(crate) log: EnvFilter,
}

/// Builds the server. It takes over what a `running` one has fetched and counted.
///
/// # Errors
/// Every problem that is visible now, each behind the places of its settings.
pub(crate) fn assemble(
    loaded: &Loaded,
    descriptors: Option<usize>,
    inherited: &Inherited,
    running: Option<&Access>,
) -> Result<Assembled, Vec<String>> {
    let settings = &loaded.settings;
    let mut problems: Vec<Problem> = Vec::new();
    let mut access = Access::default();
    tls::note(settings, &mut access.contents);
    let nobody = Access::default();
    let running = running.unwrap_or(&nobody);
    problems.extend(access.read_listeners(loaded, running));
    let publisher_problems = access.read_publishers(loaded, running);
    let has_private = settings.private_address.is_some() || inherited.has_private();
    // Pushes without a key need a separate listener.
    let is_keyless = access.push_authorizer.is_none()
        && settings.tls_client_ca_file.is_none()
        && !settings.allow_open_push;
    let listeners = if has_private || is_keyless { 2 } else { 1 };
    let limits = fit(loaded.limits.clone(), descriptors, listeners);
    let mut builder = Server::builder()
        .address(&settings.address)
        .ws_path(&settings.ws_path)
        .push_path(&settings.push_path)
        .origin(origin(&settings.origin))
        .trusted_proxies(settings.trusted_proxies.clone().unwrap_or_default())
        .token_source(settings.token_source.clone())
        .drain_close_code(settings.drain_close_code)
        .private_on_loopback()
        .limits(limits.session.clone())
        .http_limits(limits.http.clone());
    let is_private_unix = inherited.private_address().or_else(|| settings.private_address.clone());
    let is_private_unix = is_private_unix.is_some_and(|it| it.starts_with("unix:"));
    match settings.no_demo {
        Some(true) => {}
        // The page is at the address of pushes, and browsers cannot reach a Unix socket.
        Some(false) if !is_private_unix => builder = builder.demo_page(),
        Some(false) | None => builder = builder.demo_page_on_loopback(),
    }
    if let Some(address) = &settings.private_address {
        builder = builder.private_address(address);
    }
    builder = inherited
        .offer(builder)
        .map_err(|error| vec![format!("cannot copy an inherited listener: {error}")])?;
    match tls::public(settings) {
        Ok(Some(tls)) => builder = builder.tls(tls),
        Ok(None) => {}
        Err(problem) => problems.push(problem),
    }
    match tls::private(settings, has_private) {
        Ok(Some(tls)) => builder = builder.private_tls(tls),
        Ok(None) => {}
        Err(problem) => problems.push(problem),
    }
    match cluster::cluster(settings) {
        Ok(Some((broker, settings))) => builder = builder.cluster(broker, settings),
        Ok(None) => {}
        Err(problem) => problems.push(problem),
    }
    if settings.allow_open_push {
        builder = builder.allow_open_push();
    }
    if !publisher_problems.is_empty() {
        // There should be a key, so do not report its absence as a second problem.
        builder = builder.allow_open_push();
        problems.extend(publisher_problems);
    }
    if let Some(authenticator) = &access.authenticator {
        builder = builder.authenticator(authenticator.clone());
    }
    if let Some(push_authorizer) = &access.push_authorizer {
        builder = builder.push_authorizer(push_authorizer.clone());
    }
    let log = telemetry::filter(&settings.log).map_err(|error| problems.push(Problem::of(&error)));
    let server =
        builder.build().map_err(|error| problems.extend(error.problems().iter().map(by_setting)));
    match (server, log) {
        (Ok(server), Ok(log)) if problems.is_empty() => {
            Ok(Assembled { server, limits, access, log })
        }
        _ => Err(problems.iter().map(|problem| loaded.placed(problem)).collect()),
    }
}

/// A problem of the library, by the settings that stand for its parts.
fn by_setting(problem: &BuildProblem) -> Problem {
    let settings = problem.settings().into_iter().map(setting_of);
    let words = match problem {
        BuildProblem::CookiesOfAnyPage { reader: CookieReader::Authenticator, origin } => {
            format!(
                "callback_forward_headers with cookie and origin {origin} do not go together, since any \
                 web page could then listen as its visitor: set origin to same-origin, or to the origins \
                 of your pages"
            )
        }
        problem => problem.to_string(),
    };
    Problem::new(settings, words)
}

/// The setting that stands for what the library calls `name`.
fn setting_of(name: &'static str) -> &'static str {
    match name {
        setting::AUTHENTICATOR => "callback_forward_headers",
        setting::PUSH_AUTHORIZER => "push_key_file",
        setting::DEMO_PAGE => "no_demo",
        setting::PRIVATE_TLS => "private_tls_certificate_file",
        name => name,
    }
}

/// Raises the soft limit of open files to the hard one; returns the limit in force.
pub(crate) fn raise_descriptors() -> io::Result<usize> {
    rlimit::increase_nofile_limit(u64::MAX)
        .map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Lowers the limits of connections to what the descriptors allow, so that HTTP still answers when
/// there are as many WebSockets as allowed.
///
/// Each listener has its own HTTP connections.
fn fit(mut limits: Limits, descriptors: Option<usize>, listeners: usize) -> Limits {
    let Some(descriptors) = descriptors else { return limits };
    let usable = descriptors.saturating_sub(DESCRIPTORS_RESERVED).max(2 * listeners);
    let Limits { session, http } = &mut limits;
    http.http_connections_max = http.http_connections_max.min(usable / 2 / listeners);
    let reserved = http.http_connections_max * listeners;
    session.connections_max = session.connections_max.min(usable - reserved);
    limits
}

pub(crate) fn origin(origins: &[String]) -> OriginPolicy {
    match origins {
        [only] if only == "any" => OriginPolicy::any(),
        [only] if only == "same-origin" => OriginPolicy::same_origin(),
        list => OriginPolicy::list(list),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::definitions;

    #[test]
    fn what_the_library_names_is_a_setting() {
        for name in setting::ALL {
            let setting = setting_of(name);
            assert!(definitions().any(|it| it.name == setting), "{name}");
        }
    }

    #[test]
    fn caps_fit_the_descriptors() {
        for (descriptors, listeners, http, ws) in [
            (None, 1, 4096, 100_000),
            (Some(20_000), 1, 4096, 15_840),
            (Some(20_000), 2, 4096, 11_744),
            (Some(1024), 1, 480, 480),
            (Some(1024), 2, 240, 480),
        ] {
            let limits = fit(Limits::default(), descriptors, listeners);
            assert_eq!(
                (limits.http.http_connections_max, limits.session.connections_max),
                (http, ws),
                "{descriptors:?}"
            );
            assert!(limits.session.build().is_ok());
        }
    }
}

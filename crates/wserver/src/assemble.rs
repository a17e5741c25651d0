//! Builds a server from settings: reads the files that they name, and fits the limits to the
//! machine.

mod cluster;
mod tls;

use std::io;

use tracing_subscriber::EnvFilter;
use wserver_warp::{LimitSettings, OriginPolicy, Server};

use crate::access::Access;
use crate::inherited::Inherited;
use crate::settings::Loaded;
use crate::telemetry;

/// Descriptors reserved for listening sockets, logs, the runtime and files.
const DESCRIPTORS_RESERVED: usize = 64;

/// A server from settings that fit together, and the parts of it that a reload can exchange.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) server: Server,
    pub(crate) limits: LimitSettings,
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
    let mut problems: Vec<String> = Vec::new();
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
        .limits(limits.clone());
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
    let log = telemetry::filter(&settings.log).map_err(|error| problems.push(format!("{error:#}")));
    let server = builder.build().map_err(|error| problems.extend_from_slice(error.problems()));
    match (server, log) {
        (Ok(server), Ok(log)) if problems.is_empty() => {
            Ok(Assembled { server, limits, access, log })
        }
        _ => Err(problems.iter().map(|problem| loaded.placed(&by_setting(problem))).collect()),
    }
}

/// A problem of the library, with the name of the setting in place of the library's name.
fn by_setting(problem: &str) -> String {
    problem.replacen(
        "an authenticator that reads cookies",
        "callback_forward_headers with cookie",
        1,
    )
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
fn fit(mut limits: LimitSettings, descriptors: Option<usize>, listeners: usize) -> LimitSettings {
    let Some(descriptors) = descriptors else { return limits };
    let usable = descriptors.saturating_sub(DESCRIPTORS_RESERVED).max(2 * listeners);
    limits.http_connections_max = limits.http_connections_max.min(usable / 2 / listeners);
    let http = limits.http_connections_max * listeners;
    limits.connections_max = limits.connections_max.min(usable - http);
    limits
}

fn origin(origins: &[String]) -> OriginPolicy {
    match origins {
        [only] if only == "any" => OriginPolicy::any(),
        [only] if only == "same-origin" => OriginPolicy::same_origin(),
        list => OriginPolicy::list(list),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_fit_the_descriptors() {
        for (descriptors, listeners, http, ws) in [
            (None, 1, 4096, 100_000),
            (Some(20_000), 1, 4096, 15_840),
            (Some(20_000), 2, 4096, 11_744),
            (Some(1024), 1, 480, 480),
            (Some(1024), 2, 240, 480),
        ] {
            let limits = fit(LimitSettings::default(), descriptors, listeners);
            assert_eq!(
                (limits.http_connections_max, limits.connections_max),
                (http, ws),
                "{descriptors:?}"
            );
            assert!(limits.build().is_ok());
        }
    }
}

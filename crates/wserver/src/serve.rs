//! From good settings to the end of the server: the start-up log, the signals, the exit code.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, Result};
use tracing::{error, info, warn};
use wserver_warp::{BoundServer, LimitSettings, Server, TokenSource};

use crate::access::is_plain_http;
use crate::assemble::{self, Assembled};
use crate::inherited::Inherited;
use crate::permissions;
use crate::reload::Reloader;
use crate::settings::{Loaded, Sources};
use crate::signal::{self, Signals};
use crate::systemd;
use crate::telemetry;

/// Serves until a signal ends it.
///
/// # Errors
/// All that is wrong with the settings; nothing was bound then.
pub(crate) fn run(sources: Sources) -> Result<ExitCode, Vec<String>> {
    let inherited = Inherited::take().map_err(|problem| vec![problem])?;
    let loaded = sources.load()?;
    let descriptors = assemble::raise_descriptors();
    let descriptors_max = descriptors.as_ref().ok().copied();
    let Assembled { server, limits, access, log } =
        assemble::assemble(&loaded, descriptors_max, &inherited, None)?;
    let log = telemetry::init(loaded.settings.log_format, log);
    for warning in loaded.warnings.iter().chain(&permissions::doubtful(&loaded)) {
        warn!(warning, "doubtful setting");
    }
    match descriptors {
        Ok(descriptors) => info!(descriptors, "the limit of open files, raised as far as it goes"),
        Err(error) => warn!(%error, "the limit of open files could not be raised"),
    }
    let reloader = Reloader::new(sources, &loaded, access, log, descriptors_max, inherited);
    Ok(start(&loaded, server, &limits, reloader).unwrap_or_else(|error| {
        error!("{error:#}");
        ExitCode::FAILURE
    }))
}

fn start(
    loaded: &Loaded,
    server: Server,
    limits: &LimitSettings,
    reloader: Reloader,
) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no async runtime")?;
    let code = runtime.block_on(serve(loaded, server, limits, reloader))?;
    // Everything that serve started has ended, or was told to end at once.
    runtime.shutdown_background();
    Ok(code)
}

async fn serve(
    loaded: &Loaded,
    server: Server,
    limits: &LimitSettings,
    reloader: Reloader,
) -> Result<ExitCode> {
    let mut signals = Signals::new().context("no signal handlers")?;
    let mut hangups = signal::hangups().context("no signal handlers")?;
    let mut server = server.bind()?;
    let handle = server.handle();
    tokio::select! {
        joined = join(loaded, &mut server) => joined?,
        // A broker that does not answer keeps nobody from ending it.
        () = signals.shutdown() => return Ok(ExitCode::SUCCESS),
    }
    announce(loaded, limits, &reloader, &server);
    systemd::listening(server.local_addr());

    let issuers = reloader.access().issuers.clone();
    let mut reloads = reloader.start(handle.clone()).context("no thread for reloads")?;
    // What went wrong is logged where it did, and tried again when keys are needed.
    let prefetching = async {
        for keys in issuers.values() {
            let _ = keys.prefetch().await;
        }
        std::future::pending().await
    };
    let mut serving = std::pin::pin!(server.serve());
    let drained = tokio::select! {
        drained = &mut serving => drained,
        never = reloads.run(&mut hangups) => match never {},
        never = systemd::heartbeat(&handle) => match never {},
        never = prefetching => match never {},
        () = signals.shutdown() => {
            systemd::stopping(limits.drain_timeout);
            handle.shutdown();
            tokio::select! {
                drained = serving => drained,
                () = signals.abort() => return Ok(ExitCode::FAILURE),
            }
        }
    };
    let counters = handle.counters();
    info!(
        closed = drained.closed,
        cut_off = drained.cut_off,
        bytes_lost = drained.bytes_lost,
        pushes_while_draining = drained.pushes,
        deliveries_while_draining = drained.deliveries,
        connections = counters.connections_opened_total.value(),
        pushes = counters.pushes_total.value(),
        deliveries = counters.deliveries_total.value(),
        "stopped"
    );
    Ok(ExitCode::SUCCESS)
}

/// Reaches for the broker of the cluster, if there is one.
///
/// # Errors
/// Why it cannot be used, unless it is to be waited for.
async fn join(loaded: &Loaded, server: &mut BoundServer) -> Result<()> {
    let settings = &loaded.settings;
    let Some(broker) = &settings.cluster_broker else { return Ok(()) };
    let name = settings.cluster_name.as_str();
    let node = settings.cluster_node_name.as_deref();
    match server.join().await {
        Ok(()) => info!(broker, name, node, "node of a cluster"),
        Err(error) if settings.cluster_wait_for_broker => {
            warn!(%error, broker, "the broker of the cluster cannot be used yet, and is waited for");
        }
        Err(error) => {
            return Err(error).context(format!(
                "cluster_broker {broker} cannot be used (cluster_wait_for_broker starts all the same)"
            ));
        }
    }
    Ok(())
}

/// What the start-up log says: where, who may do what, and how to try it.
fn announce(loaded: &Loaded, limits: &LimitSettings, reloader: &Reloader, server: &BoundServer) {
    let settings = &loaded.settings;
    let access = reloader.access();
    let private = reloader.inherited().private_address();
    let private = private.or_else(|| settings.private_address.clone());
    let (address, private_address) = (server.local_addr(), server.private_addr());
    if let Some(config) = &loaded.config {
        info!(config = %config.display(), "settings file");
    }
    info!(version = env!("CARGO_PKG_VERSION"), %address, ws_path = settings.ws_path, push_path = settings.push_path, "listening");
    if let Some(private) = &private {
        let address = private_address.map_or_else(|| private.clone(), |it| it.to_string());
        info!(address, push_path = settings.push_path, "pushes have an address of their own");
    }
    if access.authenticator.is_none() {
        warn!(
            "listeners are not authenticated: the token is the user id; to change that give \
             --tokens-file FILE, or write [jwt] or [callback] into a settings file (`wserver config` \
             shows them)"
        );
    }
    let urls = [
        ("jwt_allow_plain_http", settings.jwt_allow_plain_http, &settings.jwt_jwks_url),
        (
            "push_jwt_allow_plain_http",
            settings.push_jwt_allow_plain_http,
            &settings.push_jwt_jwks_url,
        ),
        ("callback_allow_plain_http", settings.callback_allow_plain_http, &settings.callback_url),
    ];
    for (setting, is_allowed, url) in urls {
        if is_allowed && url.as_deref().is_some_and(is_plain_http) {
            warn!(
                setting,
                "whoever sits between can read and change what is asked over plain HTTP, and so let themselves in"
            );
        }
    }
    if settings.origin == ["any"] {
        info!("web pages of every origin may connect; --origin changes that");
    }
    if matches!(settings.token_source, TokenSource::Query(_)) {
        warn!(
            "tokens are taken from the query, which proxies log and browsers remember (token_source)"
        );
    }
    if access.push_authorizer.is_none() {
        if settings.allow_open_push {
            warn!("everyone who reaches this port may push to everyone (allow_open_push)");
        } else {
            info!(
                "pushes need no key, so only programs on this machine may push; to change that give \
                 --push-key-file FILE, or write [[publisher]] or [push_jwt] into a settings file \
                 (`wserver key` makes a publisher)"
            );
        }
    }
    if limits.connections_max < loaded.limits.connections_max {
        warn!(
            connections_max = limits.connections_max,
            http_connections_max = limits.http_connections_max,
            "the limit of open files lowers the limits of connections; raise it (ulimit -n, LimitNOFILE)"
        );
    }
    info!(
        connections_max = limits.connections_max,
        bindings_per_connection_max = limits.bindings_per_connection_max,
        message_bytes_max = limits.message_bytes_max,
        outbox_bytes_max = limits.outbox_bytes_max,
        inbound_message_bytes_max = limits.inbound_message_bytes_max,
        register_timeout = ?limits.register_timeout,
        ping_interval = ?limits.ping_interval,
        pong_timeout = ?limits.pong_timeout,
        "limits"
    );
    let is_tls = settings.tls_certificate_file.is_some();
    let host = host(address);
    if server.serves_demo_page() {
        let http = if is_tls { "https" } else { "http" };
        info!("try it: open {http}://{host}/, push from there, or from a shell:");
    } else {
        let ws = if is_tls { "wss" } else { "ws" };
        info!(
            "try it: connect to {ws}://{host}{} and send {{\"token\":\"demo\",\"event\":\"notify\"}}, then run:",
            settings.ws_path
        );
    }
    let key =
        if access.push_authorizer.is_some() { "-H 'Authorization: Bearer PUSH_KEY' " } else { "" };
    let unix = private.as_deref().and_then(|it| it.strip_prefix("unix:"));
    let place = match (unix, private_address) {
        (Some(path), _) => format!("--unix-socket {path} http://localhost"),
        (None, Some(address)) if settings.private_tls_certificate_file.is_some() => {
            format!("https://{}", self::host(address))
        }
        (None, Some(address)) => format!("http://{}", self::host(address)),
        (None, None) if is_tls => format!("https://{host}"),
        (None, None) => format!("http://{host}"),
    };
    info!(
        "  curl {key}{place}{} -d '{{\"userId\":\"demo\",\"event\":\"notify\",\"message\":\"hello\"}}'",
        settings.push_path
    );
}

/// What a person types to reach `address` from this machine.
fn host(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("localhost:{}", address.port())
    } else {
        address.to_string()
    }
}

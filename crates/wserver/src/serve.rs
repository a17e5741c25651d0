//! Runs a server from checked settings to its end: signals and exit code.

use std::process::ExitCode;

use anyhow::{Context, Result};
use tracing::{error, info, warn};
use wserver_warp::{BoundServer, Server};

use crate::announce::Announcement;
use crate::assemble::{self, Assembled};
use crate::inherited::Inherited;
use crate::permissions;
use crate::reload::Reloader;
use crate::settings::{Limits, Loaded, Sources};
use crate::signal::{self, Signals};
use crate::systemd;
use crate::telemetry;

/// Serves until a signal ends the process.
///
/// # Errors
/// All problems with the settings; nothing is bound then.
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
        Err(error) => warn!(%error, "could not raise the limit of open files"),
    }
    let reloader = Reloader::new(sources, &loaded, access, log, descriptors_max, inherited);
    Ok(start(&loaded, server, &limits, reloader).unwrap_or_else(|error| {
        error!("{error:#}");
        ExitCode::FAILURE
    }))
}

fn start(loaded: &Loaded, server: Server, limits: &Limits, reloader: Reloader) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let code = runtime.block_on(serve(loaded, server, limits, reloader))?;
    // Everything that serve started has ended, or was aborted.
    runtime.shutdown_background();
    Ok(code)
}

async fn serve(
    loaded: &Loaded,
    server: Server,
    limits: &Limits,
    reloader: Reloader,
) -> Result<ExitCode> {
    let mut signals = Signals::new().context("cannot install signal handlers")?;
    let mut hangups = signal::hangups().context("cannot install signal handlers")?;
    let mut server = server.bind()?;
    let handle = server.handle();
    tokio::select! {
        joined = join(loaded, &mut server) => joined?,
        // A signal also ends the wait for a broker that does not answer.
        () = signals.shutdown() => return Ok(ExitCode::SUCCESS),
    }
    let private = reloader.inherited().private_address();
    let private = private.or_else(|| loaded.settings.private_address.clone());
    let access = reloader.access();
    Announcement { loaded, limits, access, private, server: &server }.tell();
    systemd::listening(server.local_addr());

    let issuers = reloader.access().issuers.clone();
    let mut reloads =
        reloader.start(handle.clone()).context("cannot start the thread for reloads")?;
    // The fetch itself logs an error, and runs again when keys are needed.
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
            systemd::stopping(limits.session.drain_timeout);
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

/// Connects to the broker of the cluster, if there is one.
///
/// # Errors
/// Why the broker is unavailable, unless the settings say to wait for it.
async fn join(loaded: &Loaded, server: &mut BoundServer) -> Result<()> {
    let settings = &loaded.settings;
    let Some(broker) = &settings.cluster_broker else { return Ok(()) };
    let name = settings.cluster_name.as_str();
    let node = settings.cluster_node_name.as_deref();
    match server.join().await {
        Ok(()) => info!(broker, name, node, "this node joined its cluster"),
        Err(error) if settings.cluster_wait_for_broker => {
            warn!(%error, broker, "the cluster's broker cannot be used yet; the server keeps trying");
        }
        Err(error) => {
            return Err(error).context(format!(
                "cluster_broker {broker} cannot be used (to start anyway, set \
                 cluster_wait_for_broker)"
            ));
        }
    }
    Ok(())
}

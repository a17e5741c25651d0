//! `cargo xtask interop`: programs that are not ours, run against the release binary.
//!
//! Our own tests could misread the contract in the same way twice; gorilla, Python's websockets,
//! ws, websocket, Tcl's client and browsers cannot. They connect over plain TCP and over TLS.
//! Publishers with http.client keep their connections; curl and testssl.sh examine TLS itself;
//! nginx is between the server and its doctor; `PyJWT` and jose make tokens like issuers;
//! schemathesis makes requests to the HTTP API from its description; Prometheus scrapes. The
//! programs are in `xtask/interop/`, what they need is installed under `target/interop`, and each
//! prints `ok <case>` or `FAILED <case>: <why>`.

mod poll;
mod client;
mod server;
mod stage;
mod testssl;

use std::path::{Path, PathBuf};
use std::time::Instant;

use xshell::cmd;

use self::client::Client;
use self::server::Server;
use self::stage::{Certificates, Scene};
use crate::project::Project;
use crate::section::Report;
use crate::tally::Tally;

/// Which client to run against which server.
#[derive(Debug)]
pub(crate) struct Choice {
    /// A program to test instead of ours.
    pub(crate) server: Option<PathBuf>,
    /// One client instead of all.
    pub(crate) only: Option<String>,
    /// Whether to install missing tools, which are then required.
    pub(crate) install: bool,
}

/// Runs every chosen client against a server of its own.
pub(crate) fn run(project: &Project, choice: &Choice, report: &mut Report) -> anyhow::Result<()> {
    let sh = &project.sh;
    let clients: Vec<Client> = Client::ALL
        .into_iter()
        .filter(|client| choice.only.as_ref().is_none_or(|only| only == client.name()))
        .collect();
    let names = Client::ALL.map(Client::name).join(", ");
    anyhow::ensure!(!clients.is_empty(), "no such client; there are {names}");

    let program = match &choice.server {
        Some(program) => program.clone(),
        None => {
            cmd!(sh, "cargo build --release --package wserver").run()?;
            project.metadata.target.join("release").join("wserver")
        }
    };
    // Another program can follow the contract, but lack our flags.
    let help = cmd!(sh, "{program} --help").quiet().ignore_status().read()?;
    let home = project.metadata.target.join("interop");
    sh.create_dir(&home)?;

    let mut failed = Vec::new();
    let mut certificates = None;
    for client in clients {
        let name = client.name();
        if let Some(missing) = client.missing(sh, &home) {
            if !choice.install {
                let why = format!("{missing}; `cargo xtask interop --install` gets what it needs");
                report.skip(&format!("interop {name}"), &why);
                continue;
            }
            client.install(sh, &home)?;
        }
        let keys = match client.prepare(sh, &project.root, &home) {
            Ok(keys) => keys,
            Err(err) => {
                eprintln!("interop {name}: {err:#}");
                failed.push(name.to_owned());
                continue;
            }
        };
        for &stage in client.stages() {
            if stage.needs_certificates() && certificates.is_none() {
                certificates = Some(Certificates::make(sh, &home.join("tls"))?);
            }
            let started = Instant::now();
            let scene = stage.scene(certificates.as_ref(), &keys)?;
            if let Some(flag) = scene.unknown_flag(&help) {
                let (what, why) =
                    (format!("{name}{}", stage.suffix()), format!("the server knows no {flag}"));
                if choice.install {
                    eprintln!("interop {what}: {why}");
                    failed.push(what);
                } else {
                    report.skip(&format!("interop {what}"), &why);
                }
                continue;
            }
            let outcome = meet(project, &program, &home, client, &scene, &mut report.tally);
            let name = format!("{name}{}", stage.suffix());
            println!("{name} took {:.1} s", started.elapsed().as_secs_f64());
            if let Err(err) = outcome {
                eprintln!("interop {name}: {err:#}");
                failed.push(name);
            }
        }
    }
    anyhow::ensure!(failed.is_empty(), "failed with {}", failed.join(", "));
    Ok(())
}

/// Runs one client against a server of its own, so that traces of another client neither help nor
/// hurt it.
fn meet(
    project: &Project,
    program: &Path,
    home: &Path,
    client: Client,
    scene: &Scene,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let name = client.name();
    let mut command = client.command(&project.sh, &project.root, home)?;
    scene.tell(&mut command);
    command.env("PROGRAM", program);
    let mut server = Server::start(program, scene, &home.join(format!("{name}-server.log")))?;
    let mut outcome = if client == Client::Testssl {
        testssl::run(command, &server.address(), home, tally)
    } else {
        command.arg(server.origin());
        client::run(name, command, tally)
    };
    if outcome.is_ok() {
        outcome = server.stop();
        let (passed, failed) = (u64::from(outcome.is_ok()), u64::from(outcome.is_err()));
        *tally += Tally { passed, failed };
        println!("{} {name}: the server stops", if outcome.is_ok() { "ok" } else { "FAILED" });
    }
    outcome.map_err(|err| {
        anyhow::anyhow!("{err:#}\nthe server's last words:\n{}", server.last_words())
    })
}

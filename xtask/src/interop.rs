//! `cargo xtask interop`: programs that are not ours, run against an optimised binary.
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
mod install;
mod server;
mod stage;
mod testssl;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::Context as _;
use xshell::{Shell, cmd};

use self::client::Client;
use self::install::Installation;
use self::server::Server;
use self::stage::{Certificates, Scene};
use crate::build;
use crate::project::Project;
use crate::section::Report;
use crate::tally::Tally;

/// How many clients run at a time: one computes while another waits. A small machine has two cores, and
/// some clients drive two browsers or more.
const AT_ONCE: usize = 2;

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

/// Starts to install what this machine lacks for all clients, and these packages of the system.
pub(crate) fn install(project: &Project, more: Vec<&'static str>) -> Installation {
    Installation::begin(project.sh.clone(), project.root.clone(), home(project), more)
}

/// Runs every chosen client, two at a time.
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
        None => build::server(project, "release")?,
    };
    // Another program can follow the contract, but lack our flags.
    let help = cmd!(sh, "{program} --help").quiet().ignore_status().read()?;
    let home = home(project);
    sh.create_dir(&home)?;
    if choice.install {
        install::install(sh, &home, &clients, &[])?;
    }
    let is_needed = |it: &Client| {
        it.stages().iter().any(|it| it.needs_certificates()) && it.missing(sh, &home).is_none()
    };
    let certificates = clients.iter().any(is_needed);
    let certificates =
        certificates.then(|| Certificates::make(sh, &home.join("tls"))).transpose()?;

    let visit = Visit { choice, program, help, root: &project.root, home: &home, certificates };
    let waiting = Mutex::new(clients.into_iter());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let failed = thread::scope(|scope| {
        let guides: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let sh = sh.clone();
                scope.spawn(|| {
                    let (sh, mut report, mut failed) = (sh, Report::default(), Vec::new());
                    while let Some(client) = next() {
                        if let Err(err) = visit.all_stages(&sh, client, &mut report, &mut failed) {
                            eprintln!("interop {}: {err:#}", client.name());
                            failed.push(client.name().to_owned());
                        }
                    }
                    (report, failed)
                })
            })
            .collect();
        let mut all_failed = Vec::new();
        for guide in guides {
            let (its, failed) = guide.join().ok().context("a client's thread panicked")?;
            report.tally += its.tally;
            report.skipped.extend(its.skipped);
            all_failed.extend(failed);
        }
        anyhow::Ok(all_failed)
    })?;
    anyhow::ensure!(failed.is_empty(), "failed with {}", failed.join(", "));
    Ok(())
}

/// Where the clients' libraries, certificates and logs are.
fn home(project: &Project) -> PathBuf {
    project.metadata.target.join("interop")
}

/// What is the same for all clients.
struct Visit<'a> {
    choice: &'a Choice,
    program: PathBuf,
    /// The program's description of its flags.
    help: String,
    root: &'a Path,
    home: &'a Path,
    certificates: Option<Certificates>,
}

impl Visit<'_> {
    /// Runs one client at each of its stages.
    fn all_stages(
        &self,
        sh: &Shell,
        client: Client,
        report: &mut Report,
        failed: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let name = client.name();
        if let Some(missing) = client.missing(sh, self.home) {
            anyhow::ensure!(!self.choice.install, "{missing}, even after installing it");
            let why = format!("{missing}; `cargo xtask interop --install` gets what it needs");
            report.skip(&format!("interop {name}"), &why);
            return Ok(());
        }
        let keys = client.prepare(sh, self.root, self.home)?;
        for &stage in client.stages() {
            let started = Instant::now();
            let scene = stage.scene(self.certificates.as_ref(), &keys)?;
            let what = format!("{name}{}", stage.suffix());
            if let Some(flag) = scene.unknown_flag(&self.help) {
                let why = format!("the server knows no {flag}");
                if self.choice.install {
                    eprintln!("interop {what}: {why}");
                    failed.push(what);
                } else {
                    report.skip(&format!("interop {what}"), &why);
                }
                continue;
            }
            let outcome = self.meet(client, &scene, &mut report.tally);
            println!("{what} took {:.1} s", started.elapsed().as_secs_f64());
            if let Err(err) = outcome {
                eprintln!("interop {what}: {err:#}");
                failed.push(what);
            }
        }
        Ok(())
    }

    /// Runs one client against a server of its own, so that traces of another client neither help nor
    /// hurt it.
    fn meet(&self, client: Client, scene: &Scene, tally: &mut Tally) -> anyhow::Result<()> {
        let name = client.name();
        let mut command = client.command(self.root, self.home)?;
        scene.tell(&mut command);
        command.env("PROGRAM", &self.program);
        let log = self.home.join(format!("{name}-server.log"));
        let mut server = Server::start(&self.program, scene, &log)?;
        let mut outcome = if client == Client::Testssl {
            testssl::run(command, &server.address(), self.home, tally)
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
}

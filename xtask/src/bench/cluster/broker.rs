//! The brokers: how to install and start them.

use std::path::PathBuf;

use anyhow::Context as _;
use xshell::{Shell, cmd};

use super::super::server::Server;
use super::super::setup::{Place, pinned};
use crate::tools;

/// The broker of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bench) enum Broker {
    Redis,
    Nats,
}

impl Broker {
    pub(in crate::bench) const ALL: [Self; 2] = [Self::Redis, Self::Nats];

    pub(in crate::bench) fn name(self) -> &'static str {
        match self {
            Self::Redis => "Redis",
            Self::Nats => "NATS",
        }
    }

    /// The program's name, which is also the name of Debian's package.
    fn program(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Nats => "nats-server",
        }
    }

    /// Installs it, if that is allowed; returns what is missing.
    pub(in crate::bench) fn prepare(
        self,
        sh: &Shell,
        install: bool,
    ) -> anyhow::Result<Option<String>> {
        let program = self.program();
        if install && !tools::found(program) {
            tools::apt_install(sh, &[program])?;
        }
        Ok((!tools::found(program)).then(|| format!("no {program} (Debian package {program})")))
    }

    /// Its name and its version.
    pub(in crate::bench) fn version(self, sh: &Shell) -> Option<(String, String)> {
        let program = self.program();
        let version = cmd!(sh, "{program} --version").quiet().read().ok()?;
        Some((program.to_owned(), version.trim().to_owned()))
    }

    /// Starts an empty broker that keeps nothing on disk, on the core of the nodes.
    pub(super) fn start(self, place: &Place) -> anyhow::Result<Server> {
        let program: PathBuf = tools::path_of(self.program()).context("it was there before")?;
        let log = place.home.join(format!("{}.log", self.program()));
        Server::start(&log, |address| {
            let mut command = pinned(place, 0, &program);
            let (host, port) = (address.ip().to_string(), address.port().to_string());
            match self {
                Self::Redis => command.args(["--bind", &host, "--port", &port]).args([
                    "--save",
                    "",
                    "--appendonly",
                    "no",
                ]),
                Self::Nats => command.args(["--addr", &host, "--port", &port]),
            };
            Ok(command)
        })
    }

    /// Its URL for `cluster_broker`.
    pub(super) fn url(self, server: &Server) -> String {
        let scheme = match self {
            Self::Redis => "redis",
            Self::Nats => "nats",
        };
        format!("{scheme}://{}", server.address())
    }
}

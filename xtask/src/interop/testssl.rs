//! Debian's testssl.sh: protocols, ciphers, forward secrecy and known vulnerabilities. The verdict
//! on each comes from its JSON.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use super::client::without_proxies;
use crate::tally::Tally;
use crate::watch::{self, End};

/// It takes half a minute, most of it waiting.
const EXAMINATION_TIMEOUT: Duration = Duration::from_secs(300);

/// The sections: protocols, standard ciphers, forward secrecy, vulnerabilities.
const SECTIONS: [&str; 4] = ["--protocols", "--std", "--fs", "--vulnerable"];

/// One finding of each section, and of its end, because an examination that broke off is not a
/// clean one.
const EXPECTED: &[&str] =
    &["SSLv2", "TLS1_2", "TLS1_3", "cipherlist_NULL", "heartbleed", "ROBOT", "RC4", "scanTime"];

/// Findings below OK that are not about the server, each with the reason.
const ACKNOWLEDGED: &[(&str, &str)] =
    &[("engine_problem", "the examiner's openssl has no GOST ciphers to offer")];

/// Runs it, shows and counts each finding.
pub(super) fn run(
    mut command: Command,
    address: &str,
    home: &Path,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let json = home.join("testssl.json");
    // It refuses to overwrite a file.
    drop(fs::remove_file(&json));
    command.args(SECTIONS).args(["--quiet", "--color", "0", "--warnings", "batch"]);
    command.arg("--jsonfile").arg(&json).arg(address);
    without_proxies(&mut command);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let mut said = String::new();
    let end = watch::lines(stdout, EXAMINATION_TIMEOUT, |line| {
        said.push_str(line);
        said.push('\n');
    });
    if end == End::Late {
        child.kill()?;
    }
    // Its exit code reflects its own judgement; this module judges the findings.
    child.wait()?;
    anyhow::ensure!(end == End::Closed, "took longer than {EXAMINATION_TIMEOUT:?}:\n{said}");
    let text = fs::read_to_string(&json).with_context(|| format!("it wrote nothing:\n{said}"))?;
    let verdicts = verdicts(&text)?;
    for Verdict { id, problem } in &verdicts {
        match problem {
            None => println!("ok testssl: {id}"),
            Some(problem) => println!("FAILED testssl: {id}: {problem}"),
        }
    }
    let failed = verdicts.iter().filter(|it| it.problem.is_some()).count();
    tally.failed += failed as u64;
    tally.passed += (verdicts.len() - failed) as u64;
    anyhow::ensure!(failed == 0, "testssl.sh has {failed} objection(s)");
    Ok(())
}

#[derive(Debug)]
struct Verdict {
    id: String,
    problem: Option<String>,
}

fn verdicts(json: &str) -> anyhow::Result<Vec<Verdict>> {
    let findings: Vec<Value> = serde_json::from_str(json)?;
    let mut verdicts: Vec<Verdict> = findings.iter().filter_map(judge).collect();
    for expected in EXPECTED {
        if !findings.iter().any(|finding| finding["id"] == **expected) {
            let problem = Some("was not examined".to_owned());
            verdicts.push(Verdict { id: (*expected).to_owned(), problem });
        }
    }
    Ok(verdicts)
}

/// The verdict of a finding; mere remarks have none.
fn judge(finding: &Value) -> Option<Verdict> {
    let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let (id, severity) = (text("id"), text("severity"));
    match severity.as_str() {
        "INFO" => None,
        "OK" => Some(Verdict { id, problem: None }),
        _ => {
            if let Some((_, reason)) = ACKNOWLEDGED.iter().find(|(known, _)| *known == id) {
                println!("testssl: {id} is acknowledged: {reason}");
                return None;
            }
            let problem = Some(format!("{severity}: {}", text("finding")));
            Some(Verdict { id, problem })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(without: &str, more: &str) -> Vec<String> {
        let ids = EXPECTED.iter().filter(|id| **id != without);
        let clean: Vec<String> =
            ids.map(|id| format!(r#"{{"id":"{id}","severity":"OK","finding":"x"}}"#)).collect();
        let verdicts = verdicts(&format!("[{}{more}]", clean.join(","))).unwrap();
        verdicts
            .into_iter()
            .filter_map(|Verdict { id, problem }| problem.map(|problem| format!("{id} {problem}")))
            .collect()
    }

    #[test]
    fn whatever_is_not_good_is_told() {
        for (without, more, told) in [
            ("", "", &[][..]),
            ("RC4", "", &["RC4 was not examined"]),
            ("", r#",{"id":"ALPN","severity":"INFO","finding":"http/1.1"}"#, &[]),
            ("", r#",{"id":"engine_problem","severity":"WARN","finding":"no GOST"}"#, &[]),
            ("", r#",{"id":"BEAST","severity":"LOW","finding":"CBC"}"#, &["BEAST LOW: CBC"]),
            ("", r#",{"id":"x","severity":"WARN","finding":"broke off"}"#, &["x WARN: broke off"]),
            ("", r#",{"id":"x","severity":"NEW","finding":"y"}"#, &["x NEW: y"]),
        ] {
            assert_eq!(problems(without, more), told, "{without} {more}");
        }
        assert!(verdicts("[").is_err());
    }
}

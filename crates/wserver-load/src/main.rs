//! The `wserver-load` binary: settings, one run, the table, the exit code.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use clap::error::ErrorKind;
use wserver_load::{Report, Settings};

/// `EX_USAGE` of sysexits(3).
const EXIT_BAD_SETTINGS: u8 = 64;

fn main() -> ExitCode {
    let settings = match Settings::try_parse() {
        Ok(settings) => settings,
        Err(error) => {
            let is_answer =
                matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // If the terminal is gone, there is nobody to print to.
            let _ = error.print();
            return if is_answer { ExitCode::SUCCESS } else { ExitCode::from(EXIT_BAD_SETTINGS) };
        }
    };
    match wserver_load::run(&settings).and_then(|report| show(&settings, report)) {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn show(settings: &Settings, report: Report) -> Result<ExitCode> {
    print!("{report}");
    let is_true = report.is_true();
    if let Some(path) = &settings.json {
        let json = serde_json::to_string_pretty(&report.into_json())?;
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(if is_true { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::print_stderr, reason = "a run that failed has no table")]
fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("wserver-load: {error:#}");
    ExitCode::FAILURE
}

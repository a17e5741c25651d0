//! Compares two builds of the server: what a change costs, or that it costs nothing.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use xshell::{Shell, cmd};

use super::measure::Measure;
use super::outcome::Outcome;
use super::rounds::measure_all;
use super::setup::{Effort, Place};
use super::subject::Subject;
use super::{budget, machine, page};

/// Measures `files`, two programs separated by a comma, in turns, and prints the ratios.
pub(super) fn run(
    sh: &Shell,
    place: Place,
    effort: Effort,
    measures: &[Measure],
    files: &str,
) -> anyhow::Result<()> {
    let (before, after) =
        files.split_once(',').context("--builds takes two files: BEFORE,AFTER")?;
    let [before, ours] = [before, after].map(PathBuf::from);
    for file in [&before, &ours] {
        anyhow::ensure!(file.is_file(), "--builds: {} is not a file", file.display());
    }
    cmd!(sh, "cargo build --profile dist --package wserver-load").run()?;
    let place = Place { ours, before, ..place };
    let subjects = [Subject::Before, Subject::Ours];
    let of_both = |it: &Measure| subjects.iter().all(|subject| it.concerns(*subject));
    let measures: Vec<Measure> = measures.iter().copied().filter(of_both).collect();
    anyhow::ensure!(!measures.is_empty(), "--builds: no measure of --measures compares two builds");
    let began = Instant::now();
    let mut outcome = Outcome::default();
    measure_all(&place, effort, &subjects, &measures, &mut outcome);
    sh.write_file(place.home.join("builds.json"), outcome.runs.to_json())?;
    let mut facts = machine::describe(sh, &[], &place)?;
    facts.push(("before".to_owned(), place.before.display().to_string()));
    facts.push(("after".to_owned(), place.ours.display().to_string()));
    facts.push(("rounds".to_owned(), effort.rounds.to_string()));
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    facts.push(("this run took".to_owned(), format!("{minutes:.0} minutes")));
    let (table, facts) = (budget::of_builds(&outcome.runs), page::facts_table(&facts));
    println!("\n{table}\n{facts}");
    let wrong = outcome.wrong();
    anyhow::ensure!(wrong.is_empty(), "there were failures:\n{}", wrong.join("\n"));
    Ok(())
}

//! `cargo xtask bench`: what one core carries, for our server, the floor and the peers in one run.
//!
//! Each run starts a fresh server, puts one load on it with `wserver-load`, and keeps the figures.
//! The subjects take turns in every round, so that a disturbance of the machine meets all of them;
//! the page shows medians, and ratios of runs of the same round. `xtask/peers/` has the programs of
//! the floor and the peers; what they need is installed under `target/bench`.

mod setup;
mod subject;
mod measure;
mod programs;
mod server;
mod load;
mod runs;
mod failures;
mod budget;
mod binder;
mod memory;
mod scaling;
mod plot;
mod machine;
mod page;
mod secured;
mod cluster;
mod outcome;
mod rounds;
mod builds;

use std::path::PathBuf;
use std::time::Instant;

use xshell::cmd;

use self::cluster::Broker;
use self::measure::Measure;
use self::outcome::Outcome;
use self::rounds::measure_all;
use self::setup::{Effort, Place};
use self::subject::Subject;
use crate::project::Project;
use crate::section::Report;
use crate::tools;

/// The page that a complete run writes.
const PAGE: &str = "docs/benchmarks.md";
/// The page that every run with clusters writes.
const CLUSTER_PAGE: &str = "docs/benchmarks/cluster.md";
/// With fewer rounds the median has no interval (order statistics, 95 %).
const PAGE_ROUNDS_MIN: u32 = 6;

/// What is measured of ours alone, besides [`Measure`].
const PARTS: [&str; 4] = ["binder", "memory", "scaling", "cluster"];

/// What to run.
#[derive(Debug)]
pub(crate) struct Choice {
    /// One short round that shows whether everything works; its figures mean little.
    pub(crate) quick: bool,
    /// The number of rounds, if not the usual number.
    pub(crate) rounds: Option<u32>,
    /// Names of peers, separated by commas; all if not given.
    pub(crate) peers: Option<String>,
    /// Names of measures, separated by commas; all if not given.
    pub(crate) measures: Option<String>,
    /// Two builds of the server to compare, separated by a comma.
    pub(crate) builds: Option<String>,
    /// Whether to install missing tools.
    pub(crate) install: bool,
}

/// Runs everything chosen and tells how it stands against the budget.
pub(crate) fn run(project: &Project, choice: &Choice, report: &mut Report) -> anyhow::Result<()> {
    let began = Instant::now();
    let sh = &project.sh;
    let home = project.metadata.target.join("bench");
    sh.create_dir(&home)?;
    let dist = project.metadata.target.join("dist");
    let place = Place {
        root: project.root.clone(),
        home,
        ours: dist.join("wserver"),
        before: PathBuf::new(),
        dist,
        is_pinned: tools::found("taskset") && machine::cores() > 1,
    };
    let effort = Effort::new(choice.quick);
    let effort = Effort {
        rounds: choice.rounds.unwrap_or(effort.rounds),
        cluster_rounds: choice.rounds.unwrap_or(effort.cluster_rounds),
        ..effort
    };
    let (measures, parts) = wanted(choice.measures.as_deref())?;
    if let Some(files) = &choice.builds {
        return builds::run(sh, place, effort, &measures, files);
    }
    let mut peers = chosen(&Subject::ALL, choice.peers.as_deref(), Subject::name)?;
    if measures.is_empty() {
        // The parts measure only our server.
        peers.retain(|it| *it == Subject::Ours);
    }

    cmd!(sh, "cargo build --profile dist --package wserver --package wserver-load").run()?;
    let mut subjects = Vec::new();
    for subject in peers {
        let what = format!("bench {}", subject.name());
        match subject.prepare(sh, &place, choice.install) {
            Ok(None) => subjects.push(subject),
            Ok(Some(missing)) => {
                let why = format!("{missing}; `cargo xtask bench --install` gets what it needs");
                report.skip(&what, &why);
            }
            // A package that is unavailable today must not cost the others' figures.
            Err(err) if subject.is_foreign() => report.skip(&what, &format!("{err:#}")),
            Err(err) => return Err(err),
        }
    }
    let built = Instant::now();
    let mut outcome = Outcome::default();
    measure_all(&place, effort, &subjects, &measures, &mut outcome);
    sh.write_file(place.home.join("runs.json"), outcome.runs.to_json())?;
    if parts.contains(&"binder") {
        let binder = binder::run(sh, &place, effort.binder_rounds, choice.quick);
        outcome.binder = outcome.failures.take(Subject::Ours, "binder", binder).unwrap_or_default();
    }
    if parts.contains(&"memory") {
        if choice.install && !tools::found("valgrind") {
            tools::apt_install(sh, &["valgrind"])?;
        }
        if tools::found("valgrind") {
            let memory = memory::run(sh, &place, effort);
            outcome.memory =
                outcome.failures.take(Subject::Ours, "memory by part", memory).unwrap_or_default();
        } else {
            let why = "no valgrind (Debian package valgrind)";
            report.skip("bench memory", why);
        }
    }
    if parts.contains(&"scaling") {
        outcome.scaling = scaling::run(&place, effort, choice.quick, &mut outcome.failures);
    }
    if parts.contains(&"cluster") {
        measure_clusters(project, &place, effort, choice, report, &mut outcome)?;
    }
    let minutes = |since: Instant| format!("{:.0} minutes", since.elapsed().as_secs_f64() / 60.0);
    let took = format!("{}, {} of them after everything was built", minutes(began), minutes(built));

    let rows = budget::rows(&outcome.runs, &outcome.binder);
    println!("\n{}\n{}", budget::table(&rows), page::figures(&outcome.runs));
    let mut facts = machine::describe(sh, &subjects, &place)?;
    facts.push(("this run took".to_owned(), took));
    let page = page::write(&facts, effort, &place, &outcome, &rows);
    // Clusters have a page of their own.
    let has_all = measures.len() == Measure::ALL.len()
        && PARTS.iter().all(|part| *part == "cluster" || parts.contains(part));
    let is_whole =
        !choice.quick && choice.peers.is_none() && has_all && effort.rounds >= PAGE_ROUNDS_MIN;
    let path = if is_whole { project.root.join(PAGE) } else { place.home.join("benchmarks.md") };
    sh.write_file(&path, page)?;
    for (name, svg) in outcome.scaling.pictures() {
        sh.write_file(path.with_extension("").join(name), svg)?;
    }
    println!("written to {}", path.display());
    let wrong = outcome.wrong();
    anyhow::ensure!(wrong.is_empty(), "there were failures:\n{}", wrong.join("\n"));
    Ok(())
}

/// Measures clusters with all available brokers, and writes their page.
fn measure_clusters(
    project: &Project,
    place: &Place,
    effort: Effort,
    choice: &Choice,
    report: &mut Report,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let (sh, began) = (&project.sh, Instant::now());
    let mut brokers = Vec::new();
    for broker in Broker::ALL {
        match broker.prepare(sh, choice.install)? {
            None => brokers.push(broker),
            Some(missing) => report.skip(&format!("bench cluster, {}", broker.name()), &missing),
        }
    }
    outcome.clusters =
        cluster::run(sh, place, effort, choice.quick, &brokers, &mut outcome.failures);
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    let mut facts = machine::describe(sh, &[], place)?;
    facts.extend(brokers.iter().filter_map(|it| it.version(sh)));
    facts.push(("this run took".to_owned(), format!("{minutes:.0} minutes")));
    let is_whole = !choice.quick && brokers.len() == Broker::ALL.len();
    let path = match is_whole {
        true => project.root.join(CLUSTER_PAGE),
        false => place.home.join("cluster.md"),
    };
    sh.write_file(&path, outcome.clusters.page(&facts, place, minutes))?;
    println!("written to {}", path.display());
    outcome.has_cluster_page = is_whole;
    Ok(())
}

/// The measures and parts that are named; all if none is named.
fn wanted(names: Option<&str>) -> anyhow::Result<(Vec<Measure>, Vec<&'static str>)> {
    let Some(names) = names else { return Ok((Measure::ALL.to_vec(), PARTS.to_vec())) };
    let names: Vec<&str> = names.split(',').map(str::trim).collect();
    let known = Measure::ALL.map(Measure::name);
    for name in &names {
        let is_known = known.iter().any(|it| it == name) || PARTS.contains(name);
        let all = [&known[..], &PARTS.map(str::to_owned)].concat().join(", ");
        anyhow::ensure!(is_known, "no {name}; there are {all}");
    }
    let measures = Measure::ALL.into_iter().filter(|it| names.contains(&it.name().as_str()));
    Ok((measures.collect(), PARTS.into_iter().filter(|it| names.contains(it)).collect()))
}

/// The members of `all` that are named, or all of them; always includes our server.
fn chosen<T: Copy + 'static>(
    all: &'static [T],
    names: Option<&str>,
    name: impl Fn(T) -> String,
) -> anyhow::Result<Vec<T>> {
    let Some(names) = names else { return Ok(all.to_vec()) };
    let wanted: Vec<&str> = names.split(',').map(str::trim).collect();
    for it in &wanted {
        let known: Vec<String> = all.iter().map(|&one| name(one)).collect();
        anyhow::ensure!(
            known.iter().any(|known| known == it),
            "no {it}; there are {}",
            known.join(", ")
        );
    }
    let is_wanted = |one: &T| wanted.contains(&name(*one).as_str()) || name(*one) == "wserver";
    Ok(all.iter().copied().filter(is_wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_chosen_by_name() {
        let names = |names| {
            chosen(&Subject::ALL, names, Subject::name)
                .map(|it| it.into_iter().map(Subject::name).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(names(Some("bun,floor")).unwrap(), "floor wserver bun");
        assert_eq!(names(None).unwrap().split(' ').count(), Subject::ALL.len());
        assert!(names(Some("bum")).is_err());
    }

    #[test]
    fn measures_are_chosen_by_name() {
        let (measures, parts) = wanted(Some("unicast, scaling")).unwrap();
        assert_eq!((measures, parts), (vec![Measure::Unicast], vec!["scaling"]));
        let (measures, parts) = wanted(None).unwrap();
        assert_eq!((measures.len(), parts.len()), (Measure::ALL.len(), PARTS.len()));
        assert!(wanted(Some("nicast")).is_err());
    }
}

//! `cargo xtask bench`: what one core carries, for our server, the floor and the peers in one run.
//!
//! Each run starts a fresh server, puts one load on it with `wserver-load`, and keeps the figures.
//! The subjects take turns in every round, so that a disturbance of the machine meets all of them;
//! the page shows medians, and ratios of runs of the same round. `xtask/peers/` has the programs of
//! the floor and the peers; what they need is installed under `target/bench`.

mod subject;
mod measure;
mod server;
mod load;
mod runs;
mod budget;
mod binder;
mod memory;
mod scaling;
mod plot;
mod machine;
mod page;
mod secured;
mod cluster;
mod builds;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use xshell::cmd;

use self::binder::Binder;
use self::cluster::{Broker, Clusters};
use self::measure::Measure;
use self::memory::Memory;
use self::runs::{Run, Runs};
use self::scaling::Scaling;
use self::server::Server;
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

/// How often to try a run that is void; if all tries are, the round lacks it.
const TRIES_MAX: u32 = 6;

/// What is measured only of our server, in addition to [`Measure`].
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

/// How much to measure.
#[derive(Debug, Clone, Copy)]
struct Effort {
    /// Rounds of the measures that the budget judges.
    rounds: u32,
    seconds: u32,
    paced_seconds: u32,
    /// Processes that measure the binder, each with another layout of its memory.
    binder_rounds: u32,
    idle_connections: u32,
    scaling_rounds: u32,
    scaling_seconds: u32,
    cluster_rounds: u32,
    cluster_seconds: u32,
}

impl Effort {
    /// A complete run takes an hour and a half. Of twenty rounds the interval leaves out five at
    /// each end, and more rounds are worth more than longer windows, because runs differ more than
    /// seconds. The exception is a server that is idle nine tenths of the time: figures of 10 s
    /// vary half as much as those of 2 s.
    fn new(is_quick: bool) -> Self {
        match is_quick {
            true => Self {
                rounds: 1,
                seconds: 1,
                paced_seconds: 1,
                binder_rounds: 1,
                idle_connections: 2000,
                scaling_rounds: 1,
                scaling_seconds: 1,
                cluster_rounds: 1,
                cluster_seconds: 1,
            },
            false => Self {
                rounds: 20,
                seconds: 1,
                paced_seconds: 5,
                binder_rounds: 12,
                idle_connections: 15_000,
                scaling_rounds: 2,
                scaling_seconds: 2,
                cluster_rounds: 3,
                cluster_seconds: 2,
            },
        }
    }
}

/// Paths and settings of a run.
#[derive(Debug, Clone, Default)]
struct Place {
    root: PathBuf,
    home: PathBuf,
    dist: PathBuf,
    /// Our server.
    ours: PathBuf,
    /// An earlier build of our server, if two builds are compared.
    before: PathBuf,
    /// Whether the server has one core and the generator another.
    is_pinned: bool,
}

/// All that was measured.
#[derive(Debug, Default)]
struct Outcome {
    runs: Runs,
    binder: Binder,
    memory: Memory,
    scaling: Scaling,
    clusters: Clusters,
    /// Whether this run wrote the page of clusters that the other page links to.
    has_cluster_page: bool,
    /// Runs without figures.
    failed: Vec<(Subject, String)>,
}

impl Outcome {
    /// Returns the result of a part, or notes that the part failed, so that the rest is still
    /// measured.
    fn take<T>(&mut self, subject: Subject, what: &str, found: anyhow::Result<T>) -> Option<T> {
        let note = |err| {
            eprintln!("\n!!! FAILED {what} of {}: {err:#}\n", subject.name());
            self.failed.push((subject, format!("{what} failed: {err:#}")));
        };
        found.map_err(note).ok()
    }

    /// What is wrong with our server: untrue answers, or failed runs.
    fn wrong(&self) -> Vec<String> {
        let failed = self.failed.iter().filter(|(subject, _)| subject.is_ours());
        let failed = failed.map(|(_, what)| what.clone()).collect();
        let ours = Subject::ALL.into_iter().chain([Subject::Before]).filter(|it| it.is_ours());
        let untrue = ours.flat_map(|subject| self.runs.untrue(subject)).collect();
        [untrue, self.scaling.untrue(), self.clusters.untrue(), failed].concat()
    }
}

/// Runs everything chosen, and prints how it compares with the budget.
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
        outcome.binder = outcome.take(Subject::Ours, "binder", binder).unwrap_or_default();
    }
    if parts.contains(&"memory") {
        if choice.install && !tools::found("valgrind") {
            tools::apt_install(sh, &["valgrind"])?;
        }
        if tools::found("valgrind") {
            let memory = memory::run(sh, &place, effort);
            outcome.memory =
                outcome.take(Subject::Ours, "memory by part", memory).unwrap_or_default();
        } else {
            let why = "no valgrind (Debian package valgrind)";
            report.skip("bench memory", why);
        }
    }
    if parts.contains(&"scaling") {
        scaling::run(&place, effort, choice.quick, &mut outcome);
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
    anyhow::ensure!(wrong.is_empty(), "not all was as it should be:\n{}", wrong.join("\n"));
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
    cluster::run(sh, place, effort, choice.quick, &brokers, outcome);
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

fn measure_all(
    place: &Place,
    effort: Effort,
    subjects: &[Subject],
    measures: &[Measure],
    outcome: &mut Outcome,
) {
    for round in 0..effort.rounds {
        for &measure in measures {
            let is_due =
                |it: &Subject| measure.concerns(*it) && round < measure.rounds(*it, effort.rounds);
            let mut order: Vec<Subject> = subjects.iter().copied().filter(is_due).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for turn in 0..measure.turns() {
                for &subject in &order {
                    let (name, number) = (measure.name(), round + 1);
                    println!("round {number} of {}: {name} of {}", effort.rounds, subject.name());
                    measure_one(place, effort, measure, subject, (round, turn), outcome);
                }
                // Reverse the order every other time, so that no subject is always the first.
                order.reverse();
            }
        }
    }
}

/// Repeats a measure until a run is not void, or has been tried often enough.
fn measure_one(
    place: &Place,
    effort: Effort,
    measure: Measure,
    subject: Subject,
    (round, turn): (u32, u32),
    outcome: &mut Outcome,
) {
    let words = measure.words(effort, subject, &outcome.runs, round);
    let what = format!("{}, round {}", measure.name(), round + 1);
    for _ in 0..TRIES_MAX {
        let json = once(place, measure, subject, &words);
        let Some(json) = outcome.take(subject, &what, json) else { break };
        let lateness = json.pointer("/latencies_us/generator lateness/p99");
        let lateness = lateness.and_then(serde_json::Value::as_f64).unwrap_or(0.0);
        let is_void = lateness > measure.lateness_max();
        outcome.runs.push(Run { round, turn, measure, subject, is_void, json });
        if !is_void {
            break;
        }
        println!("void: the generator was {lateness:.0} µs late");
    }
}

/// Starts the server, puts the load on it, and takes the figures.
fn once(
    place: &Place,
    measure: Measure,
    subject: Subject,
    words: &[String],
) -> anyhow::Result<serde_json::Value> {
    let log = place.home.join(format!("{}.log", subject.name()));
    let mut server = Server::start(&log, |address| subject.command(place, address, measure))?;
    let json = load::start(place, subject, &server, words, "run.json")?.finish(&server)?;
    server.stop()?;
    Ok(json)
}

/// A command on one core, if the system supports that.
fn pinned(place: &Place, core: usize, program: &Path) -> Command {
    if !place.is_pinned {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.arg("--cpu-list").arg(core.to_string()).arg(program);
    command
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

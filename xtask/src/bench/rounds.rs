//! The rounds, in which all take turns, so that a mood of the machine meets all of them.

use super::load;
use super::measure::Measure;
use super::outcome::Outcome;
use super::runs::Run;
use super::server::Server;
use super::setup::{Effort, Place};
use super::subject::Subject;

/// How often a run is tried that is void; if all are, its round is without.
pub(super) const TRIES_MAX: u32 = 6;

pub(super) fn measure_all(
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
                // Every other time the other way round, so that nobody is always the first.
                order.reverse();
            }
        }
    }
}

/// Measures it until the run says something of the server, or is tried often enough.
fn measure_one(
    place: &Place,
    effort: Effort,
    measure: Measure,
    subject: Subject,
    (round, turn): (u32, u32),
    outcome: &mut Outcome,
) {
    let words = measure.words(effort, subject, outcome.runs.slower_unicast(round));
    let what = format!("{}, round {}", measure.name(), round + 1);
    for _ in 0..TRIES_MAX {
        let json = once(place, measure, subject, &words);
        let Some(json) = outcome.failures.take(subject, &what, json) else { break };
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

//! The scenarios, one file for each.

mod account;
mod churn;
mod fanout;
mod idle;
mod kept;
mod mass_disconnect;
mod replay;
mod resume;
mod slow_readers;
mod unicast;
mod waits;

use anyhow::Result;

use crate::report::Report;
use crate::settings::{Scenario, Settings};

/// Runs one scenario to its end.
///
/// # Errors
/// When the scenario cannot run. An untrue answer of the server is not an error;
/// [`Report::is_true`] reports it.
pub fn run(settings: &Settings) -> Result<Report> {
    let common = &settings.common;
    match &settings.scenario {
        Scenario::Idle(idle) => idle::run(common, idle),
        Scenario::Fanout(fanout) => fanout::run(common, fanout),
        Scenario::Unicast(unicast) => unicast::run(common, unicast),
        Scenario::Churn(churn) => churn::run(common, churn),
        Scenario::MassDisconnect(mass) => mass_disconnect::run(common, mass),
        Scenario::SlowReaders(slow) => slow_readers::run(common, slow),
        Scenario::Resume(resume) => resume::run(common, resume),
        Scenario::Kept(kept) => kept::run(common, kept),
        Scenario::Waits(waits) => waits::run(common, waits),
    }
}

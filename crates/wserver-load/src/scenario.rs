//! What is done to a server, one file for each scenario.

mod account;
mod churn;
mod fanout;
mod idle;
mod mass_disconnect;
mod slow_readers;
mod unicast;

use anyhow::Result;

use crate::report::Report;
use crate::settings::{Scenario, Settings};

/// Runs one scenario to its end.
///
/// # Errors
/// When it cannot be run. That the server said something untrue is no error, but told by
/// [`Report::is_true`].
pub fn run(settings: &Settings) -> Result<Report> {
    let common = &settings.common;
    match &settings.scenario {
        Scenario::Idle(idle) => idle::run(common, idle),
        Scenario::Fanout(fanout) => fanout::run(common, fanout),
        Scenario::Unicast(unicast) => unicast::run(common, unicast),
        Scenario::Churn(churn) => churn::run(common, churn),
        Scenario::MassDisconnect(mass) => mass_disconnect::run(common, mass),
        Scenario::SlowReaders(slow) => slow_readers::run(common, slow),
    }
}

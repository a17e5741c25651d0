//! `wserver explain`: why a push would arrive, or would not.

use std::process::ExitCode;

use clap::Args;
use wserver_client::v2;

use super::access::Access;
use super::outcome::Outcome;
use super::output::{OneLine, line};
use super::push::EXIT_NOBODY;

/// Say why a push of an event to a user arrives, or why it does not
#[derive(Debug, Args)]
#[command(after_help = "\
The key must be one of a publisher with admin = true, or the server be one without any key, asked
from its own machine. It may be in the environment as WSERVER_PUSH_KEY. A path in --url is what a
proxy puts before /v2.
Exit codes: 0 a push would arrive, 1 it could not be asked, 2 it would not arrive, 64 bad arguments.")]
pub(crate) struct Arguments {
    /// Whom a push is for
    #[arg(long, short)]
    user: String,
    /// What it is about
    #[arg(long, short)]
    event: String,
    /// Print all that the server knows as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

pub(super) async fn run(arguments: Arguments) -> Outcome {
    let Arguments { user, event, json, access } = arguments;
    let explanation = access.api()?.explain(&user, &event).await;
    let explanation = explanation.map_err(|error| access.failure(error))?;
    if json {
        line(v2::encode(&explanation))?;
    } else {
        for sentence in &explanation.sentences {
            line(OneLine(sentence))?;
        }
    }
    let is_delivered = explanation.now.would_deliver_to > 0;
    Ok(if is_delivered { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NOBODY) })
}

//! `wserver explain`: why a push would arrive, or would not.

use std::process::ExitCode;

use clap::Args;
use wserver_client::v2;

use super::access::Access;
use super::outcome::Outcome;
use super::output::{OneLine, line};
use super::push::EXIT_NOBODY;

/// Say whether a push of an event to a user arrives, and if not, why
#[derive(Debug, Args)]
#[command(after_help = "\
The key must belong to a publisher with admin = true. A server without any key answers programs on
its own machine. The key can be in the environment as WSERVER_PUSH_KEY.
A path in --url is the prefix that a proxy puts before /v2.
Exit codes: 0 a push would arrive, 1 the server did not answer the question, 2 a push would not
arrive, 64 bad arguments.")]
pub(crate) struct Arguments {
    /// User of the push
    #[arg(long, short)]
    user: String,
    /// Event of the push
    #[arg(long, short)]
    event: String,
    /// Print everything that the server knows, as JSON
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

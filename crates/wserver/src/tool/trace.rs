//! `wserver trace`: prints what happens to one user, as it happens.

use std::io;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::Args;
use wserver_client::{Trace, TraceUpdate, v2};

use super::access::Access;
use super::outcome::{Failure, Outcome};
use super::output::{OneLine, counted, line};
use crate::signal::Signals;
use crate::tell;

/// Print what happens to a user as it happens, until ctrl-c: registrations, pushes, refusals, ends
#[derive(Debug, Args)]
#[command(after_help = "\
The key must belong to a publisher with admin = true. A server without any key answers programs on
its own machine. The key can be in the environment as WSERVER_PUSH_KEY.
A path in --url is the prefix that a proxy puts before /v2.
Exit codes: 0 after ctrl-c, 1 if the trace could not start or broke off, 64 bad arguments.")]
pub(crate) struct Arguments {
    /// User to watch
    #[arg(long, short)]
    user: String,
    /// Print each entry as a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

pub(super) async fn run(arguments: Arguments) -> Outcome {
    let Arguments { user, json, access } = arguments;
    let mut signals = Signals::new().context("cannot install signal handlers")?;
    let mut trace = access.api()?.trace(&user).await.map_err(|error| access.failure(error))?;
    tell("tracing", OneLine(&user));
    tokio::select! {
        outcome = follow(&mut trace, json) => outcome,
        () = signals.shutdown() => Ok(ExitCode::SUCCESS),
    }
}

async fn follow(trace: &mut Trace, json: bool) -> Outcome {
    while let Some(update) = trace.next_update().await? {
        match show(&update, json) {
            Ok(()) => {}
            // The reader has closed the pipe.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::Failed(anyhow!("the server ended the trace")))
}

fn show(update: &TraceUpdate, json: bool) -> io::Result<()> {
    match update {
        TraceUpdate::Entry(entry) if json => line(v2::encode(&**entry)),
        TraceUpdate::Entry(entry) => {
            line(format_args!("{} {}", OneLine(&entry.at), OneLine(&entry.sentence)))
        }
        TraceUpdate::Missed(missed) => {
            let entries = counted(*missed, "entry", "entries");
            tell("missed", format_args!("{entries}, because this program read too slowly"));
            Ok(())
        }
        _ => Ok(()),
    }
}

//! `wserver ready`: whether a server should be sent anybody, by exit code.

use std::process::ExitCode;

use clap::Args;

use super::Outcome;
use super::access::api;
use super::output::line;
use super::target::Target;

/// Ask a server whether it is ready, as the health check of a container does
#[derive(Debug, Args)]
#[command(after_help = "\
It needs no key. Exit codes: 0 it is ready, 1 it is not or could not be asked, 64 bad arguments.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(arguments: Arguments) -> Outcome {
    api(&arguments.target)?.ready().await?;
    line("ready")?;
    Ok(ExitCode::SUCCESS)
}

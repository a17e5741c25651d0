//! The binary as a tool: what a user can do with a running server, from a shell.
//!
//! The client crate talks to servers; this module has arguments, sentences and exit codes. Secrets
//! come from files and the environment, never from arguments, which every user of a machine can
//! read.

mod outcome;
mod target;
mod secret;
mod output;
mod access;
mod push;
mod listen;
mod explain;
mod trace;
mod doctor;
mod ready;
mod nodes;
mod page;

pub(crate) use output::is_plain;

use std::process::ExitCode;

use clap::{Args, Command, FromArgMatches};

use crate::settings::Sources;
use crate::tell;
use outcome::{Failure, Outcome};

/// The tools, with their arguments.
#[derive(Debug)]
pub(crate) enum Tool {
    Push(push::Arguments),
    Listen(listen::Arguments),
    Explain(explain::Arguments),
    Trace(trace::Arguments),
    Doctor(doctor::Arguments),
    Nodes(nodes::Arguments),
    Ready(ready::Arguments, Sources),
    Completions(page::CompletionsArguments),
    Man(page::ManArguments),
}

/// The subcommands, in the order in which help shows them.
pub(crate) fn commands() -> [Command; 9] {
    [
        push::Arguments::augment_args(Command::new("push")),
        listen::Arguments::augment_args(Command::new("listen")),
        explain::Arguments::augment_args(Command::new("explain")),
        trace::Arguments::augment_args(Command::new("trace")),
        doctor::Arguments::augment_args(Command::new("doctor")),
        nodes::Arguments::augment_args(Command::new("nodes")),
        ready::Arguments::augment_args(Command::new("ready")),
        page::CompletionsArguments::augment_args(Command::new("completions")),
        page::ManArguments::augment_args(Command::new("man")),
    ]
    .map(|command| command.max_term_width(100))
}

impl Tool {
    /// The tool of this subcommand, if it is one.
    ///
    /// # Errors
    /// When the arguments do not fit the command.
    pub(crate) fn of(name: &str, matches: &clap::ArgMatches) -> Result<Option<Self>, clap::Error> {
        Ok(Some(match name {
            "push" => Self::Push(push::Arguments::from_arg_matches(matches)?),
            "listen" => Self::Listen(listen::Arguments::from_arg_matches(matches)?),
            "explain" => Self::Explain(explain::Arguments::from_arg_matches(matches)?),
            "trace" => Self::Trace(trace::Arguments::from_arg_matches(matches)?),
            "doctor" => Self::Doctor(doctor::Arguments::from_arg_matches(matches)?),
            "nodes" => Self::Nodes(nodes::Arguments::from_arg_matches(matches)?),
            "completions" => {
                Self::Completions(page::CompletionsArguments::from_arg_matches(matches)?)
            }
            "man" => Self::Man(page::ManArguments::from_arg_matches(matches)?),
            _ => return Ok(None),
        }))
    }

    /// The tool that asks whether a server with these settings is ready.
    ///
    /// # Errors
    /// When the arguments do not fit the command.
    pub(crate) fn ready(matches: &clap::ArgMatches, sources: Sources) -> Result<Self, clap::Error> {
        Ok(Self::Ready(ready::Arguments::from_arg_matches(matches)?, sources))
    }

    /// Runs the tool; `whole` is the command line that it is part of.
    pub(crate) fn run(self, whole: Command) -> ExitCode {
        let outcome = match self {
            Self::Push(arguments) => wait(push::run(arguments)),
            Self::Listen(arguments) => wait(listen::run(arguments)),
            Self::Explain(arguments) => wait(explain::run(arguments)),
            Self::Trace(arguments) => wait(trace::run(arguments)),
            Self::Doctor(arguments) => wait(doctor::run(arguments)),
            Self::Nodes(arguments) => wait(nodes::run(arguments)),
            Self::Ready(arguments, sources) => wait(ready::run(arguments, sources, whole)),
            Self::Completions(arguments) => page::completions(&arguments, whole),
            Self::Man(arguments) => page::man(&arguments, whole),
        };
        outcome.unwrap_or_else(|failure| match failure {
            Failure::Usage(error) => {
                tell("error", format_args!("{error:#}"));
                ExitCode::from(crate::EXIT_BAD_SETTINGS)
            }
            Failure::Failed(error) => {
                tell("error", format_args!("{error:#}"));
                ExitCode::FAILURE
            }
        })
    }
}

fn wait(work: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(work);
    // A read of standard input can still be under way, and nothing waits for it any more.
    runtime.shutdown_background();
    outcome
}

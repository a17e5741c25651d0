//! The `wserver` binary: settings, parts, run, exit code.

mod flags;
mod command_line;
mod settings;
mod inherited;
mod swap;
mod access;
mod token;
mod assemble;
mod announce;
mod serve;
mod reload;
mod watch;
mod files;
mod permissions;
mod signal;
mod systemd;
mod telemetry;
mod tool;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;

use wserver_auth::PublisherKey;

use command_line::Task;
use inherited::Inherited;
use settings::Sources;
use token::{Made, Verdict};

/// Chosen by measurement: an idle connection costs 180 bytes less than with glibc's, a push 3 %
/// fewer instructions.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// `EX_USAGE` of sysexits(3).
const EXIT_BAD_SETTINGS: u8 = 64;

fn main() -> ExitCode {
    let task = match command_line::parse() {
        Ok(task) => task,
        Err(error) => {
            let is_answer =
                matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // If the terminal is gone, there is nobody to print to.
            let _ = error.print();
            return if is_answer { ExitCode::SUCCESS } else { ExitCode::from(EXIT_BAD_SETTINGS) };
        }
    };
    match task {
        Task::Serve(sources) => {
            serve::run(sources).unwrap_or_else(|problems| bad_settings(&problems))
        }
        Task::Check(sources) => match check(&sources) {
            Ok(effective) => print(&effective),
            Err(problems) => bad_settings(&problems),
        },
        Task::Config => print(&settings::default_file()),
        Task::Key { is_admin } => match PublisherKey::generate() {
            Ok(key) => print(&publisher_lines(&key, is_admin)),
            Err(error) => {
                tell("error", error);
                ExitCode::FAILURE
            }
        },
        Task::MakeToken(sources, draft) => match token::make(&sources, draft) {
            Ok(Made { token, problems }) => {
                for problem in problems {
                    tell(
                        "warning",
                        format_args!("a server with these settings would refuse it: {problem}"),
                    );
                }
                print(&format!("{token}\n"))
            }
            Err(problems) => bad_settings(&problems),
        },
        Task::InspectToken(sources) => inspect(&sources),
        Task::Tool(tool) => tool.run(command_line::command()),
    }
}

fn inspect(sources: &Sources) -> ExitCode {
    if token::is_typed() {
        tell("help", "paste the token, then press ctrl-d");
    }
    let token = match token::read() {
        Ok(token) => token,
        Err(error) => {
            tell("error", format_args!("{error:#}"));
            return ExitCode::FAILURE;
        }
    };
    match token::inspect(sources, &token) {
        Ok(Verdict { text, is_accepted: true }) => print(&text),
        Ok(Verdict { text, is_accepted: false }) => {
            print(&text);
            ExitCode::FAILURE
        }
        Err(problems) => bad_settings(&problems),
    }
}

/// The settings in force, if they make a server.
fn check(sources: &Sources) -> Result<String, Vec<String>> {
    let loaded = sources.load()?;
    assemble::assemble(&loaded, None, &Inherited::default(), None)?;
    for warning in loaded.warnings.iter().chain(&permissions::doubtful(&loaded)) {
        tell("warning", warning);
    }
    Ok(settings::effective(&loaded))
}

/// The lines of a settings file that let a publisher in, with the key in a comment above them, for
/// the user to remove.
fn publisher_lines(key: &PublisherKey, is_admin: bool) -> String {
    let (name, admin) = if is_admin { ("admin", "admin = true\n") } else { ("publisher", "") };
    format!(
        "# The key, for the publisher alone. It is kept nowhere: this is the only time it is shown.\n\
         # {}\n\n\
         # For the settings file, under a name of your choice:\n\
         [[publisher]]\nname = \"{name}\"\nkey_hash = \"{}\"\n{admin}",
        key.as_str(),
        key.hash(),
    )
}

fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has closed the pipe, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            tell("error", format_args!("standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn bad_settings(problems: &[String]) -> ExitCode {
    for problem in problems {
        tell("error", problem);
    }
    tell("help", "see wserver --help; wserver config prints a settings file");
    ExitCode::from(EXIT_BAD_SETTINGS)
}

/// Prints a message for the person at the terminal that is not part of a result.
#[expect(
    clippy::print_stderr,
    reason = "what is wrong is told to whoever typed it, whatever the log filter says"
)]
fn tell(kind: &str, what: impl Display) {
    eprintln!("{kind}: {what}");
}

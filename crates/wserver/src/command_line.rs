//! The command line: what wserver is asked to do, and the flags out of the table of settings.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::flags::{config, file_sources, hidden, sources, with_settings};
use crate::settings::Sources;
use crate::token::Draft;
use crate::tool::{self, Tool};

/// What wserver is asked to do.
#[derive(Debug)]
pub(crate) enum Task {
    /// Serve, until a signal ends it.
    Serve(Sources),
    /// Say whether it would serve, and with which settings.
    Check(Sources),
    /// Print the default file.
    Config,
    /// Make a key for a publisher.
    Key {
        /// One who may administer.
        is_admin: bool,
    },
    /// Make a token to try a server with.
    MakeToken(Sources, Draft),
    /// Say what is in a token, and whether it would be accepted.
    InspectToken(Sources),
    /// Speak to a server that runs, or about this program.
    Tool(Tool),
}

const ABOUT: &str = "The push server a team runs next to its web backend";

const LONG_ABOUT: &str = "\
The push server a team runs next to its web backend.

A browser opens ws://HOST/ws and sends {\"token\":\"…\",\"event\":\"…\"}; a backend posts \
{\"userId\":\"…\",\"event\":\"…\",\"message\":\"…\"} to http://HOST/push; the message arrives at every \
connection of that user and event.

Until pushes need a key (--push-key-file) they have a port of their own that only this machine \
reaches, 22345 beside 12345; the playground is there too.";

const AFTER_HELP: &str = "\
Times are written as 500ms, 30s or 5m, sizes as 4096, 64KiB or 1MiB.
Every setting has one name: of ping_interval the flag is --ping-interval, the environment variable
WSERVER_PING_INTERVAL, the line of the file ping_interval = \"25s\".
A flag wins over the environment, and that over the file. A single push key may be in the
environment as WSERVER_PUSH_KEY; it has no flag, because every user of the machine can read those.
Exit codes: 0 after a shutdown that was asked for, 1 when running failed, 64 for bad settings.
SIGTERM and ctrl-c close all connections in order; a second one ends at once. SIGHUP reloads.";

const SERVER_COMMANDS: &str = "Every flag of `wserver` is one of `wserver check` too.";

/// Reads the arguments of the process.
///
/// # Errors
/// What clap has to say, an answer to `--help` and `--version` included.
pub(crate) fn parse() -> Result<Task, clap::Error> {
    let matches = command().try_get_matches()?;
    Ok(match matches.subcommand() {
        Some(("check", matches)) => Task::Check(sources(matches)),
        Some(("config", _)) => Task::Config,
        Some(("key", matches)) => Task::Key { is_admin: matches.get_flag("admin") },
        Some(("token", matches)) => match matches.subcommand() {
            Some(("make", matches)) => Task::MakeToken(file_sources(matches), draft(matches)),
            Some((_inspect, matches)) => Task::InspectToken(file_sources(matches)),
            None => unreachable!("clap demands one"),
        },
        Some(("ready", matches)) => Task::Tool(Tool::ready(matches, sources(matches))?),
        Some((name, matches)) => match Tool::of(name, matches)? {
            Some(tool) => Task::Tool(tool),
            None => Task::Serve(sources(matches)),
        },
        None => Task::Serve(sources(&matches)),
    })
}

/// The whole command line.
pub(crate) fn command() -> Command {
    let check = Command::new("check")
        .about("Check all settings and print those that hold, with where each comes from")
        .long_about(
            "Check all settings and print those that hold, with where each comes from.\n\n\
             It reads the files that are named and resolves addresses; it does not listen.",
        );
    let config = Command::new("config").about("Print a settings file with all defaults, commented");
    let key = Command::new("key")
        .about("Make a publisher's key and print it once, with the lines for the settings file")
        .arg(
            Arg::new("admin")
                .long("admin")
                .action(ArgAction::SetTrue)
                .help("One that may administer the server too"),
        );
    with_settings(Command::new("wserver"))
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .long_about(LONG_ABOUT)
        .after_help(AFTER_HELP)
        .args_conflicts_with_subcommands(true)
        .subcommand(with_settings(check).after_help(SERVER_COMMANDS))
        .subcommand(config)
        .subcommand(key)
        .subcommands(tool::commands().map(|command| match command.get_name() {
            // There they would hide what is its own.
            "ready" => with_settings(command).mut_args(hidden),
            _ => command,
        }))
        .subcommand(token())
}

fn token() -> Command {
    let make = Command::new("make")
        .about("Make a token to try a server with, and print it")
        .long_about(
            "Make a token to try a server with, and print it.\n\n\
             It says what the [jwt] of the settings demands: their user claim, events claim, the \
             first audience and issuer. It is signed with their secret, or with the issuer's \
             private key. A product's tokens are its issuer's.",
        )
        .max_term_width(100)
        .arg(config())
        .args([
            Arg::new("user")
                .long("user")
                .value_name("USER")
                .required(true)
                .value_parser(NonEmptyStringValueParser::new())
                .help("Whom it stands for"),
            Arg::new("event")
                .long("event")
                .value_name("PATTERN")
                .action(ArgAction::Append)
                .value_parser(NonEmptyStringValueParser::new())
                .help("What it may register, as news or order.*; may be given again. Without it every event"),
            Arg::new("for")
                .long("for")
                .value_name("TIME")
                .default_value("1h")
                .value_parser(lifetime)
                .help("How long it holds"),
            Arg::new("key-file")
                .long("key-file")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("PEM file of the issuer's private key; without it the settings' jwt_secret_file signs"),
            Arg::new("key-id")
                .long("key-id")
                .value_name("KID")
                .help("Which key of the issuer's set that is, by its kid"),
        ]);
    let inspect = Command::new("inspect")
        .about("Read a token from standard input, and say what is in it and whether it is accepted")
        .long_about(
            "Read a token from standard input, and say what is in it and whether it is accepted.\n\n\
             Header and claims are shown, the times in words; with settings that have a [jwt], also \
             whom a server with them takes it for, or everything it has against it.\n\n\
             A token is a secret while it holds, and every user of the machine can read a program's \
             arguments: so it is none of them. Paste it, or pass it on:\n\n  \
             wserver token inspect --config wserver.toml < token",
        )
        .after_help("Exit codes: 0 when it is accepted, or can be read where there are no keys; 1 when not; 64 for bad settings.")
        .max_term_width(100)
        .arg(config());
    Command::new("token")
        .about("Make a JSON Web Token to try a server with, or look at one")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(make)
        .subcommand(inspect)
}

/// How long a token is to hold: whole seconds, as its claims have them.
fn lifetime(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(lifetime) if lifetime >= Duration::from_secs(1) => Ok(lifetime),
        _ => Err("write a time of at least a second, as 30s, 5m or 1h".to_owned()),
    }
}

fn draft(matches: &ArgMatches) -> Draft {
    Draft {
        user: matches.get_one::<String>("user").cloned().expect("it is required"),
        events: matches.get_many("event").into_iter().flatten().cloned().collect(),
        lifetime: matches.get_one("for").copied().expect("it has a default"),
        key_file: matches.get_one("key-file").cloned(),
        key_id: matches.get_one("key-id").cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }
}

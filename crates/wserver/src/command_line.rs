//! The command line: the tasks of wserver, and the flags from the table of settings.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::flags::{config, file_sources, hidden, sources, with_settings};
use crate::settings::Sources;
use crate::token::Draft;
use crate::tool::{self, Tool};

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Task {
    /// Serve until a signal ends the process.
    Serve(Sources),
    /// Say whether the server would start, and with which settings.
    Check(Sources),
    /// Print the default file.
    Config,
    /// Make a key for a publisher.
    Key {
        /// Whether the publisher may administer.
        is_admin: bool,
    },
    /// Make a token to try a server with.
    MakeToken(Sources, Draft),
    /// Say what a token contains, and whether the server would accept it.
    InspectToken(Sources),
    /// Talk to a running server, or print something about this program.
    Tool(Tool),
}

const ABOUT: &str = "The push server a team runs next to its web backend";

const LONG_ABOUT: &str = "\
The push server a team runs next to its web backend.

A browser opens ws://HOST/ws and sends {\"token\":\"…\",\"event\":\"…\"}; a backend posts \
{\"userId\":\"…\",\"event\":\"…\",\"message\":\"…\"} to http://HOST/push; the message arrives at every \
connection of that user and event.

Until you set a push key (--push-key-file), the server takes pushes on a separate port that only \
this machine can reach, 22345 for 12345; the playground is there too.";

const AFTER_HELP: &str = "\
Write times as 500ms, 30s or 5m, and sizes as 4096, 64KiB or 1MiB.
Every setting has one name: ping_interval is the flag --ping-interval, the environment variable
WSERVER_PING_INTERVAL, and the line ping_interval = \"25s\" in the file.
A flag overrides the environment, and the environment overrides the file. A single push key can be
in the environment as WSERVER_PUSH_KEY; it has no flag, because every user of the machine can read
those.
Exit codes: 0 after a requested shutdown, 1 after a failure, 64 for bad settings.
SIGTERM and ctrl-c close all connections in order; a second one ends the process at once. SIGHUP
reloads.";

const SERVER_COMMANDS: &str = "Every flag of `wserver` is also a flag of `wserver check`.";

/// Parses the arguments of the process.
///
/// # Errors
/// The message of clap, which is also the answer to `--help` and `--version`.
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
        .about("Check all settings, and print those in force and where each comes from")
        .long_about(
            "Check all settings, and print those in force and where each comes from.\n\n\
             The command reads the files that settings name and resolves addresses; it does not listen.",
        );
    let config =
        Command::new("config").about("Print a settings file with all defaults, commented out");
    let key = Command::new("key")
        .about("Make a publisher's key, and print it once with the lines for the settings file")
        .arg(
            Arg::new("admin")
                .long("admin")
                .action(ArgAction::SetTrue)
                .help("Make a key that may also administer the server"),
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
            // In its help, the server's flags would hide its own.
            "ready" => with_settings(command).mut_args(hidden),
            _ => command,
        }))
        .subcommand(token())
}

fn token() -> Command {
    let make = Command::new("make")
        .about("Make and print a token to try a server with")
        .long_about(
            "Make and print a token to try a server with.\n\n\
             The token has the claims that [jwt] in the settings requires: the user claim, the \
             events claim, the first audience and the first issuer. It is signed with the secret of \
             the settings, or with the issuer's private key. In production, tokens come from your \
             issuer.",
        )
        .max_term_width(100)
        .arg(config())
        .args([
            Arg::new("user")
                .long("user")
                .value_name("USER")
                .required(true)
                .value_parser(NonEmptyStringValueParser::new())
                .help("User that the token stands for"),
            Arg::new("event")
                .long("event")
                .value_name("PATTERN")
                .action(ArgAction::Append)
                .value_parser(NonEmptyStringValueParser::new())
                .help("Events that the token may register, such as news or order.*; can be repeated. Every event if not given"),
            Arg::new("for")
                .long("for")
                .value_name("TIME")
                .default_value("1h")
                .value_parser(lifetime)
                .help("How long the token is valid"),
            Arg::new("key-file")
                .long("key-file")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("PEM file of the issuer's private key; if not given, jwt_secret_file of the settings signs"),
            Arg::new("key-id")
                .long("key-id")
                .value_name("KID")
                .help("The kid of that key in the issuer's set"),
        ]);
    let inspect = Command::new("inspect")
        .about("Read a token from standard input, and say what it contains and whether it is accepted")
        .long_about(
            "Read a token from standard input, and say what it contains and whether it is accepted.\n\n\
             The command prints header and claims, and times in words. If the settings have a [jwt], \
             it also prints which user a server with these settings takes the token for, or every \
             reason to refuse it.\n\n\
             A valid token is a secret, and every user of the machine can read a program's \
             arguments, so the token is not an argument. Paste it, or redirect it:\n\n  \
             wserver token inspect --config wserver.toml < token",
        )
        .after_help("Exit codes: 0 if the token is accepted, or is readable and there are no keys; 1 if not; 64 for bad settings.")
        .max_term_width(100)
        .arg(config());
    Command::new("token")
        .about("Make a JSON Web Token to try a server with, or inspect one")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(make)
        .subcommand(inspect)
}

/// Parses how long a token is valid: whole seconds, like the claims of a token.
fn lifetime(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(lifetime) if lifetime >= Duration::from_secs(1) => Ok(lifetime),
        _ => Err("write a time of at least one second, such as 30s, 5m or 1h".to_owned()),
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

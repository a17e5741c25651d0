//! The settings as flags, and where a command line says that they are read from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::settings::{Definition, Shape, Sources, definitions};

/// The command, with a flag for each setting.
pub(crate) fn with_settings(command: Command) -> Command {
    command.max_term_width(100).arg(config()).args(definitions().map(argument))
}

/// A setting's flag as a command has it that is not about settings.
pub(crate) fn hidden(argument: Arg) -> Arg {
    let is_setting = definitions().any(|it| it.name == argument.get_id().as_str());
    argument.hide(is_setting)
}

/// The settings for a command that has no flags of the server.
pub(crate) fn file_sources(matches: &ArgMatches) -> Sources {
    Sources::new(BTreeMap::new(), matches.get_one("config").cloned())
}

pub(crate) fn config() -> Arg {
    Arg::new("config")
        .short('c')
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("Settings file, as `wserver config` prints it; WSERVER_CONFIG in the environment. The server searches for no other file")
}

/// The flag of one setting. The layers of settings read its value, not clap.
fn argument(definition: &'static Definition) -> Arg {
    let argument = Arg::new(definition.name)
        .long(definition.long())
        .help(definition.doc())
        .help_heading(definition.heading)
        .value_name(definition.form.value_name)
        .value_parser(ValueParser::os_string());
    let argument = match definition.short {
        Some(short) => argument.short(short),
        None => argument,
    };
    let argument = match definition.default {
        Some(default) if definition.form.shape != Shape::Switch => argument.default_value(default),
        _ => argument,
    };
    match definition.form.shape {
        Shape::One | Shape::File | Shape::Hidden => argument,
        Shape::List => argument.action(ArgAction::Append),
        Shape::Switch => {
            argument.num_args(0..=1).require_equals(true).default_missing_value("true")
        }
        // It is parsed only to report what is wrong with it.
        Shape::Secret | Shape::Records => argument.hide(true),
    }
}

pub(crate) fn sources(matches: &ArgMatches) -> Sources {
    let given = |definition: &Definition| {
        let is_given = matches.value_source(definition.name) == Some(ValueSource::CommandLine);
        let texts = matches.get_many::<OsString>(definition.name).filter(|_| is_given)?;
        Some(texts.cloned().collect())
    };
    let flags: BTreeMap<&'static str, Vec<OsString>> =
        definitions().filter_map(|it| Some((it.name, given(it)?))).collect();
    Sources::new(flags, matches.get_one("config").cloned())
}

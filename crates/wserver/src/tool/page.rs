//! `wserver completions` and `wserver man`, generated from the command line.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::{Args, Command};
use clap_complete::Shell;

use super::outcome::{Failure, Outcome};

/// Print the completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
bash: wserver completions bash > ~/.local/share/bash-completion/completions/wserver
zsh:  wserver completions zsh > a folder of $fpath, as _wserver
fish: wserver completions fish > ~/.config/fish/completions/wserver.fish")]
pub(crate) struct CompletionsArguments {
    /// Name of the shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Print the manual page of wserver or of one command
#[derive(Debug, Args)]
#[command(after_help = "To read it: wserver man | man -l -")]
pub(crate) struct ManArguments {
    /// Command to describe; wserver itself if not given
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

pub(super) fn completions(arguments: &CompletionsArguments, mut whole: Command) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut whole, "wserver", &mut script);
    print(&script)
}

pub(super) fn man(arguments: &ManArguments, mut whole: Command) -> Outcome {
    // Only a built command knows its full name.
    whole.build();
    let mut command = match &arguments.command {
        None => whole,
        Some(name) => match whole.find_subcommand(name) {
            Some(command) => command.clone().display_name(format!("wserver-{name}")),
            None => return Err(Failure::Usage(anyhow!("there is no command {name:?}"))),
        },
    };
    let has_commands = command.has_subcommands();
    let usage = command.render_usage().to_string();
    let man = clap_mangen::Man::new(command);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    // The library's own synopsis names every flag, and the server has a hundred.
    page.extend_from_slice(b".SH SYNOPSIS\n.nf\n");
    for line in usage.trim_start_matches("Usage:").lines() {
        writeln!(page, "{}", line.trim().replace('-', "\\-"))?;
    }
    page.extend_from_slice(b".fi\n");
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if has_commands {
        man.render_subcommands_section(&mut page)?;
    }
    man.render_extra_section(&mut page)?;
    print(&page)
}

fn print(text: &[u8]) -> Outcome {
    let mut stdout = io::stdout();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        // The reader has closed the pipe.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

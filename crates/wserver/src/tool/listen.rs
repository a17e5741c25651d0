//! `wserver listen`: prints each message that arrives, and reconnects when the connection is lost.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, anyhow};
use clap::Args;
use wserver_client::{Client, GaveUp, ReconnectingConnection, RefusedEvent, Update};

use super::outcome::{Failure, Outcome};
use super::output::{OneLine, line};
use super::secret::secret;
use super::target::{Scheme, Target};
use crate::signal::Signals;
use crate::tell;

/// Listen, and print each message that arrives, until ctrl-c
#[derive(Debug, Args)]
#[command(after_help = "\
Standard error reports what happens to the connection and to each registration. When the connection
is lost, the command reconnects; messages pushed in between do not arrive. A server that knows version
1 of the protocol only has no reply to a registration: after a refused token it closes the connection
when its register_timeout, 30s by default, is over and no event is registered.
The token can be in the environment as WSERVER_TOKEN; it is not an argument, because every user of
the machine can read those. If the server does not authenticate clients, the token is the user id:
use --user.
Exit codes: 0 after ctrl-c, 1 if every registration is refused or reconnecting is pointless, 64 bad
arguments.")]
pub(crate) struct Arguments {
    /// Event to register for; can be repeated
    #[arg(long, short, required = true)]
    event: Vec<String>,
    /// File of the token; - means standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// User to listen as, if the server does not authenticate clients
    #[arg(long, short, conflicts_with = "token_file")]
    user: Option<String>,
    /// Print each message as a JSON object with at, event, id and message
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(arguments: Arguments) -> Outcome {
    let Arguments { event, token_file, user, json, target } = arguments;
    let url = target.endpoint(Scheme::WebSocket, "/ws")?;
    let mut client = Client::new(&url).map_err(Failure::usage)?;
    if let Some(authorities) = target.authorities()? {
        client = client.with_ca_pem(&authorities).context("--ca-file").map_err(Failure::Usage)?;
    }
    let token = match user {
        Some(user) => user,
        None => secret(token_file.as_deref(), "WSERVER_TOKEN")?.ok_or_else(|| {
            let what = "no token: name a file with --token-file, set WSERVER_TOKEN in the \
                        environment, or use --user if the server does not authenticate clients";
            Failure::Usage(anyhow!(what))
        })?,
    };
    let mut connection = ReconnectingConnection::new(client);
    for event in &event {
        connection = connection.with_registration(&token, event);
    }
    let mut signals = Signals::new().context("cannot install signal handlers")?;
    let listening = async {
        loop {
            match connection.next_update().await {
                Ok(Update::Registered { events, refused }) if events.is_empty() => {
                    let why = refused.iter().map(|it| {
                        format!("{}: {}", OneLine(&it.event), OneLine(&it.refused.detail))
                    });
                    let why = why.collect::<Vec<_>>().join("; ");
                    return Err(Failure::Failed(anyhow!("every registration is refused: {why}")));
                }
                Ok(update) => match show(update, &event, json) {
                    Ok(()) => {}
                    // The reader has closed the pipe.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                        return Ok(ExitCode::SUCCESS);
                    }
                    Err(error) => return Err(Failure::from(error)),
                },
                Err(GaveUp::Final { cause }) => {
                    let hint = match cause.close_code() {
                        Some(1008) => "; the token may be wrong or expired",
                        Some(4504) => "; connections_per_user_policy lets the newest stay",
                        _ => "",
                    };
                    let cause = anyhow::Error::new(cause);
                    return Err(Failure::Failed(anyhow!("{cause:#}{hint}")));
                }
                Err(error) => return Err(error.into()),
            }
        }
    };
    tokio::select! {
        outcome = listening => outcome,
        () = signals.shutdown() => Ok(ExitCode::SUCCESS),
    }
}

fn show(update: Update, events: &[String], json: bool) -> io::Result<()> {
    match update {
        Update::Message(message) if json => {
            let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
            line(serde_json::json!({ "at": at, "message": message }))?;
        }
        Update::Pushed { event, id, message } if json => {
            let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
            line(serde_json::json!({ "at": at, "event": event, "id": id, "message": message }))?;
        }
        Update::Message(message) | Update::Pushed { message, .. } => line(OneLine(&message))?,
        Update::Registered { events, refused } => {
            tell("registered", format_args!("{}", shown(&events)));
            for RefusedEvent { event, refused } in &refused {
                let (event, detail) = (OneLine(event), OneLine(&refused.detail));
                tell("refused", format_args!("{event}: {detail}"));
            }
        }
        Update::Unregistered(events) => {
            tell("unregistered", format_args!("{}, by an operator", shown(&events)));
        }
        Update::Gap { reason, .. } => {
            tell("gap", format_args!("messages are missing: {}", OneLine(&reason)));
        }
        Update::Expiring { after } => {
            tell("expiring", format_args!("the token expires in {} s", after.as_secs()));
        }
        Update::Connected => {
            let sent = if events.len() == 1 { "the registration" } else { "the registrations" };
            let events = shown(events);
            tell(
                "connected",
                format_args!(
                    "sent {sent} for {events}; version 1 has no reply, so a refused token goes \
                     unnoticed"
                ),
            );
        }
        Update::Interrupted { cause, retry_in } => {
            let cause = anyhow::Error::new(cause);
            tell(
                "interrupted",
                format_args!("{cause:#}; reconnecting in {:.1} s", retry_in.as_secs_f64()),
            );
        }
        _ => {}
    }
    Ok(())
}

fn shown(events: &[String]) -> String {
    events.iter().map(|it| OneLine(it).to_string()).collect::<Vec<_>>().join(", ")
}

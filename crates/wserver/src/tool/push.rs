//! `wserver push`: pushes one message and says who got it.

use std::io::{self, Read};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use wserver_client::v2;

use super::access::Access;
use super::outcome::Outcome;
use super::output::{OneLine, counted, line};

/// Exit code: the server accepted the message, and nobody got it.
pub(super) const EXIT_NOBODY: u8 = 2;

/// Push a message, and say who got it, or why nobody did
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 at least one connection got it, 1 the push failed, 2 nobody got it, 64 bad arguments.
The key can be in the environment as WSERVER_PUSH_KEY; it is not an argument, because every user of
the machine can read those.")]
pub(crate) struct Arguments {
    /// User to push to
    #[arg(long, short)]
    user: String,
    /// Event to push
    #[arg(long, short)]
    event: String,
    /// Message; if it is - or not given, standard input without its last line end
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

pub(super) async fn run(arguments: Arguments) -> Outcome {
    let Arguments { user, event, message, json, access } = arguments;
    let pusher = access.pusher()?;
    let message = match message {
        Some(message) if message != "-" => message,
        _ => read_message()?,
    };
    let answer = pusher.push_json(&user, &event, &message).await;
    let answer = answer.map_err(|error| access.failure(error))?;
    if json {
        line(v2::encode(&answer))?;
    } else {
        line(sentence(&answer.delivery))?;
    }
    let is_delivered = answer.delivery.delivered() > 0;
    Ok(if is_delivered { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NOBODY) })
}

fn sentence(delivery: &v2::Delivery) -> String {
    let connections =
        |count: usize| counted(count.try_into().unwrap_or(u64::MAX), "connection", "connections");
    let mut sentence = match (delivery.delivered(), &delivery.detail) {
        (0, Some(detail)) => format!("nobody got it: {}", OneLine(detail)),
        (0, None) => "nobody got it".to_owned(),
        (delivered, _) => format!("{} got it", connections(delivered)),
    };
    if let Some(events) = delivery.events.as_ref().filter(|events| !events.is_empty()) {
        let events: Vec<String> = events.iter().map(|it| OneLine(it).to_string()).collect();
        sentence = format!("{sentence} (registered: {})", events.join(", "));
    }
    if delivery.queued > 0 {
        sentence = format!("{sentence}, {} of them queued", delivery.queued);
    }
    if delivery.dropped > 0 {
        sentence = format!("{sentence}; {} dropped", connections(delivery.dropped));
    }
    sentence
}

/// Larger than any server accepts.
const MESSAGE_BYTES_MAX: u64 = 256 << 20;

fn read_message() -> anyhow::Result<String> {
    let mut message = String::new();
    let read = io::stdin().take(MESSAGE_BYTES_MAX).read_to_string(&mut message);
    if read.context("standard input")? as u64 == MESSAGE_BYTES_MAX {
        bail!(
            "standard input has {MESSAGE_BYTES_MAX} bytes or more, which is too long for a \
               message"
        );
    }
    for end in ["\n", "\r"] {
        if let Some(rest) = message.strip_suffix(end) {
            message.truncate(rest.len());
        }
    }
    Ok(message)
}

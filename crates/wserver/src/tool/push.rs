//! `wserver push`: pushes one message and says who got it, and who has acknowledged it.

use std::io::{self, Read};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use wserver_client::v2;

use super::access::Access;
use super::outcome::Outcome;
use super::output::{OneLine, counted, line};

/// Exit code: the server accepted the message, and nobody got it.
pub(super) const EXIT_NOBODY: u8 = 2;

/// Exit code: with `--wait`, somebody got the message, and too few have acknowledged it.
const EXIT_NOT_ACKNOWLEDGED: u8 = 3;

/// How much longer than the server the tool waits: for the way, and for a cluster.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Push a message, and say who got it, or why nobody did
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 at least one connection got it, 1 the push failed, 2 nobody got it, 3 with --wait too
few have acknowledged it, 64 bad arguments. With --wait, exit code 0 means that one connection has
acknowledged the message (first), or that every connection that can has, and at least one (all).
Clients that speak version 2 of the protocol can acknowledge.
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
    /// Wait until a client has acknowledged the message, or all that can have. A path in the URL is then the prefix that a proxy puts before /v2
    #[arg(long, value_enum)]
    wait: Option<WaitFor>,
    /// The longest time to wait, at most 30s
    #[arg(long, value_name = "TIME", default_value = "5s", requires = "wait", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum WaitFor {
    /// The first acknowledgement
    First,
    /// Those of every connection that can acknowledge
    All,
}

pub(super) async fn run(arguments: Arguments) -> Outcome {
    let Arguments { user, event, message, wait, timeout, json, access } = arguments;
    let message = match message {
        Some(message) if message != "-" => message,
        _ => read_message()?,
    };
    let answer = match wait {
        None => {
            let answer = access.pusher()?.push_json(&user, &event, &message).await;
            answer.map_err(|error| access.failure(error))?
        }
        Some(wait) => {
            let until = match wait {
                WaitFor::First => v2::WaitFor::First,
                WaitFor::All => v2::WaitFor::All,
            };
            let mut push = v2::Push::new(v2::Recipients::User(user), event, message);
            push.wait = Some(v2::Wait { until, timeout });
            let api = access.api()?.with_timeout(timeout.saturating_add(ANSWER_TIME));
            api.push(&push).await.map_err(|error| access.failure(error))?
        }
    };
    if json {
        line(v2::encode(&answer))?;
    } else {
        line(sentence(&answer.delivery))?;
    }
    Ok(match wait {
        _ if answer.delivery.delivered() == 0 => ExitCode::from(EXIT_NOBODY),
        Some(wait) if !is_acknowledged(wait, answer.delivery.acks.unwrap_or_default()) => {
            ExitCode::from(EXIT_NOT_ACKNOWLEDGED)
        }
        _ => ExitCode::SUCCESS,
    })
}

fn is_acknowledged(wait: WaitFor, acks: v2::Acks) -> bool {
    let v2::Acks { acked, waiting, lost, .. } = acks;
    match wait {
        WaitFor::First => acked > 0,
        WaitFor::All => acked > 0 && waiting == 0 && lost == 0,
    }
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
    if let Some(v2::Acks { acked, waiting, unable, lost }) = delivery.acks {
        sentence = format!("{sentence}; {acked} acknowledged it");
        for (count, what) in [(waiting, "did not yet"), (unable, "cannot"), (lost, "ended first")] {
            if count > 0 {
                sentence = format!("{sentence}, {count} {what}");
            }
        }
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

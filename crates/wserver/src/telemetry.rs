//! Logs: `tracing` events, for people or as JSON, on standard error. The filter can change at run
//! time.

use std::fmt;
use std::io;

use anyhow::{Context, Result, anyhow};
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterFn, LevelFilter, filter_fn};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::settings::{LogFormat, Problem};

/// Exchanges the log filter.
pub(crate) struct LogFilter(Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send>);

impl LogFilter {
    /// Logs only what `filter` selects from now on.
    pub(crate) fn set(&self, filter: EnvFilter) -> Result<(), reload::Error> {
        (self.0)(filter)
    }
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogFilter(..)")
    }
}

/// Parses a filter.
///
/// # Errors
/// When `text` is not a filter.
pub(crate) fn filter(text: &str) -> Result<EnvFilter> {
    let mut directives =
        text.split(',').map(str::trim).filter(|directive| !directive.is_empty()).peekable();
    if directives.peek().is_none() {
        return Err(problem(format!("log is empty: write one of {LEVELS}")).into());
    }
    for directive in directives {
        check(directive).with_context(|| problem(format!("log {text:?}")))?;
    }
    EnvFilter::try_new(with_answers(text))
        .with_context(|| problem(format!("log {text:?} is not a filter")))
}

fn problem(words: String) -> Problem {
    Problem::new(["log"], words)
}

/// To operators `wserver_warp` is all of the edge: what it says of the carrier holds for the answers
/// too, unless these have directives of their own.
fn with_answers(text: &str) -> String {
    const CARRIER: &str = "wserver_warp";
    const ANSWERS: &str = "wserver_api";
    let mut all = text.to_owned();
    if !text.contains(ANSWERS) {
        for directive in text.split(',').map(str::trim) {
            let Some(rest) = directive.strip_prefix(CARRIER) else { continue };
            if rest.is_empty() || rest.starts_with(['=', '[']) {
                all.push_str(&format!(",{ANSWERS}{rest}"));
            }
        }
    }
    all
}

const LEVELS: &str = "off, error, warn, info, debug and trace";

/// Our crates that log.
const TARGETS: [&str; 9] = [
    "wserver",
    "wserver_api",
    "wserver_auth",
    "wserver_client",
    "wserver_cluster",
    "wserver_cluster_nats",
    "wserver_cluster_redis",
    "wserver_node",
    "wserver_warp",
];

/// Refuses directives that the filter's own parser accepts but that never match: to the parser, any
/// single word is the name of a target.
fn check(directive: &str) -> Result<()> {
    if directive.contains(['[', ']', '{', '}']) {
        return Ok(());
    }
    let (target, level) = match directive.split_once('=') {
        Some((target, level)) => (target, Some(level)),
        None => (directive, None),
    };
    let name = target.split("::").next().unwrap_or_default();
    if name.starts_with("wserver") {
        return if TARGETS.contains(&name) {
            Ok(())
        } else {
            Err(anyhow!(
                "{target:?} writes no log; the parts of wserver that do are {}",
                TARGETS.join(", ")
            ))
        };
    }
    if level.is_none() && directive.parse::<LevelFilter>().is_err() {
        return Err(anyhow!(
            "{directive:?} is not a level: write one of {LEVELS}, or TARGET=LEVEL for one crate"
        ));
    }
    Ok(())
}

/// Drops everything that the NATS client logs at trace, whatever the filter says, because it logs
/// all that it reads, including messages and clients' tokens.
fn without_messages() -> FilterFn<fn(&Metadata<'_>) -> bool> {
    filter_fn(|metadata| {
        *metadata.level() != Level::TRACE || !metadata.target().starts_with("async_nats")
    })
}

/// Starts to log what `filter` selects.
pub(crate) fn init(format: LogFormat, filter: EnvFilter) -> LogFilter {
    // The library reports an event that it cannot write on standard error, and panics if it cannot
    // write that either. But the reader of the log can go away, and the server must go on.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .log_internal_errors(false)
        // Logs how long each stage of a push took; spans exist only if the filter includes trace.
        .with_span_events(FmtSpan::CLOSE);
    match format {
        LogFormat::Human => {
            use io::IsTerminal;
            let is_terminal = io::stderr().is_terminal();
            let builder = builder.with_target(false).with_ansi(is_terminal).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.finish().with(without_messages()).init();
            LogFilter(Box::new(move |filter| handle.reload(filter)))
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.finish().with(without_messages()).init();
            LogFilter(Box::new(move |filter| handle.reload(filter)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_logged_with_their_carrier() {
        for (text, all) in [
            ("info", "info"),
            ("info,wserver_warp=trace", "info,wserver_warp=trace,wserver_api=trace"),
            ("wserver_warp", "wserver_warp,wserver_api"),
            ("wserver_warp[push]=trace", "wserver_warp[push]=trace,wserver_api[push]=trace"),
            ("wserver_warp::listen=debug", "wserver_warp::listen=debug"),
            ("wserver_api=off,wserver_warp=debug", "wserver_api=off,wserver_warp=debug"),
        ] {
            assert_eq!(with_answers(text), all);
        }
    }

    #[test]
    fn a_filter_that_lets_nothing_through_by_mistake_is_refused() {
        for (text, told) in [
            ("", "log is empty"),
            ("verbose", "\"verbose\" is not a level: write one of off, error"),
            ("info,verbose", "\"verbose\" is not a level"),
            (" , ", "log is empty"),
            ("debg", "\"debg\" is not a level"),
            ("wserver_wrap=debug", "\"wserver_wrap\" writes no log"),
            ("wserver_core", "\"wserver_core\" writes no log"),
            ("hyper=verbose", "is not a filter"),
        ] {
            let error = filter(text).map(|_| ()).unwrap_err();
            assert!(format!("{error:#}").contains(told), "{text}: {error:#}");
        }
        for text in [
            "off",
            "INFO",
            "info,",
            "info,wserver_node=trace,wserver_warp=trace",
            "wserver_warp",
            "wserver_warp::accept=debug",
            "warn,hyper=debug",
            "wserver_warp[push{event=\"a\"}]=trace",
        ] {
            filter(text).unwrap();
        }
    }
}

//! Logs: `tracing` events, for people or as JSON, on standard error; what is logged may change.

use std::fmt;
use std::io;

use anyhow::{Context, Result};
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterFn, filter_fn};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::settings::LogFormat;

/// Changes what is logged.
pub(crate) struct LogFilter(Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send>);

impl LogFilter {
    /// Logs from now on what `filter` lets through.
    pub(crate) fn set(&self, filter: EnvFilter) -> Result<(), reload::Error> {
        (self.0)(filter)
    }
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogFilter(..)")
    }
}

/// The filter that `text` describes.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn filter(text: &str) -> Result<EnvFilter> {
    EnvFilter::try_new(text).with_context(|| format!("log {text:?} is not a filter"))
}

/// Leaves out what the client of NATS logs at trace, whatever the filter says: all that it reads, with
/// the messages and the tokens of listeners in it.
fn without_messages() -> FilterFn<fn(&Metadata<'_>) -> bool> {
    filter_fn(|metadata| {
        *metadata.level() != Level::TRACE || !metadata.target().starts_with("async_nats")
    })
}

/// Starts to log what `filter` lets through.
pub(crate) fn init(format: LogFormat, filter: EnvFilter) -> LogFilter {
    // An event that cannot be written would be told on standard error, and that it cannot be told
    // there is a panic: whoever reads the log may go away, and the server goes on.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .log_internal_errors(false)
        // How long each stage of a push took; there are spans only where the filter asks for trace.
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

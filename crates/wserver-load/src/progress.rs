//! Progress messages while a scenario runs.

/// Prints a message for the person who waits.
#[expect(clippy::print_stderr, reason = "the table goes to standard output, progress must not")]
pub(crate) fn progress(text: &str) {
    eprintln!("wserver-load: {text}");
}

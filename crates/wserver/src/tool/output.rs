//! Standard output for results, standard error for everything else.

use std::fmt::{self, Display};
use std::io::{self, Write};

use tokio::time::Instant;

/// Writes one line of the result at once.
///
/// # Errors
/// When the reader of the output is gone.
pub(super) fn line(line: impl Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

/// Text from outside on one line. It escapes control characters, which could move a terminal's
/// cursor or end the line.
pub(super) struct OneLine<'a>(pub(super) &'a str);

impl Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            if is_plain(letter) {
                write!(f, "{letter}")?;
            } else {
                write!(f, "{}", letter.escape_default())?;
            }
        }
        Ok(())
    }
}

/// Whether a terminal shows the letter as it is, and does not take it for a command. Letters that
/// reverse the direction of writing, end lines or have no width change what a line seems to say;
/// joiners are allowed, because many scripts and emoji need them.
pub(crate) fn is_plain(letter: char) -> bool {
    !letter.is_control()
        && !matches!(
            letter,
            '\u{ad}'
                | '\u{61c}'
                | '\u{200b}'
                | '\u{200e}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
        )
}

/// The time since then, printed as `1.2 ms`.
pub(super) struct Milliseconds(pub(super) Instant);

impl Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ms", 1000.0 * self.0.elapsed().as_secs_f64())
    }
}

/// An error with its causes.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_told = cause.to_string();
        if !told.ends_with(&cause_told) {
            told = format!("{told}: {cause_told}");
        }
        source = cause.source();
    }
    told
}

/// "1 connection", "2 connections".
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one() {
        let shown = |text| OneLine(text).to_string();
        assert_eq!(shown("Grüße, 世界 \"\\ 🚀"), "Grüße, 世界 \"\\ 🚀");
        assert_eq!(shown("نام\u{200c}ها 👩\u{200d}🚀"), "نام\u{200c}ها 👩\u{200d}🚀");
        assert_eq!(
            shown("a\u{200b}\u{200f}\u{61c}\u{2066}b"),
            r"a\u{200b}\u{200f}\u{61c}\u{2066}b"
        );
        assert_eq!(shown("a\r\n\t\u{1b}[2J\u{85}\u{202e}b"), r"a\r\n\t\u{1b}[2J\u{85}\u{202e}b");
    }
}

//! Standard output for results, standard error for everything else.

use std::fmt::{self, Display};
use std::io::{self, Write};

use tokio::time::Instant;

/// Writes one line of the result, at once.
///
/// # Errors
/// When nobody reads any more.
pub(super) fn line(line: impl Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

/// A stranger's text on one line: control characters, which could move a terminal's cursor or end
/// the line, are escaped.
pub(super) struct OneLine<'a>(pub(super) &'a str);

impl Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Those that turn the direction of writing around change what a line seems to say.
        let is_bidi = |letter| matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}');
        for letter in self.0.chars() {
            if letter.is_control() || is_bidi(letter) {
                write!(f, "{}", letter.escape_default())?;
            } else {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// The time since then, as `1.2 ms`.
pub(super) struct Milliseconds(pub(super) Instant);

impl Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ms", 1000.0 * self.0.elapsed().as_secs_f64())
    }
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
        assert_eq!(shown("a\r\n\t\u{1b}[2J\u{85}\u{202e}b"), r"a\r\n\t\u{1b}[2J\u{85}\u{202e}b");
    }
}

//! The server's words, truncated and escaped for use in an error.

/// The longest part of an answer that an error's text shows.
const SHOWN_BYTES_MAX: usize = 200;

/// The longest prefix of `text` that fits into `bytes_max`, in whole characters.
pub(crate) fn head(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// `text` for use in a log: quoted, escaped and of limited length.
pub(crate) fn shown(text: &str) -> String {
    let head = head(text, SHOWN_BYTES_MAX);
    let more = if head.len() < text.len() { "…" } else { "" };
    format!("{head:?}{more}")
}

/// An optional reason, as the end of an error's text.
pub(crate) fn reason_shown(reason: Option<&str>) -> String {
    reason.map(|reason| format!(" ({})", shown(reason))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_between_characters_and_escaped() {
        assert_eq!(["", "ab", "abc", "aéb"].map(|text| head(text, 2)), ["", "ab", "ab", "a"]);
        assert_eq!(shown("a\n\u{1b}[1m"), r#""a\n\u{1b}[1m""#);
        assert_eq!(shown(&"é".repeat(101)), format!("\"{}\"…", "é".repeat(100)));
        assert_eq!(reason_shown(Some("why")), r#" ("why")"#);
    }
}

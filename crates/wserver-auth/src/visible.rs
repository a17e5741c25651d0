//! Invisible characters in secrets: a key with one of them looks right and opens nothing.

/// The mark that some editors write before the first character of a text.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The text of a file without the byte order mark that some editors put before it.
///
/// ```
/// assert_eq!(wserver_auth::without_byte_order_mark("\u{feff}aaa jack"), "aaa jack");
/// ```
pub fn without_byte_order_mark(text: &str) -> &str {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// The first invisible character of a secret, except a plain space: a control character, another
/// space such as U+00A0, or a character without width.
///
/// ```
/// use wserver_auth::invisible_character;
///
/// assert_eq!(invisible_character("correct horse"), None);
/// assert_eq!(invisible_character("correct\u{200b}horse"), Some('\u{200b}'));
/// ```
pub fn invisible_character(text: &str) -> Option<char> {
    text.chars().find(|character| *character != ' ' && is_invisible(*character))
}

fn is_invisible(character: char) -> bool {
    character.is_control()
        || character.is_whitespace()
        || matches!(
            character,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | BYTE_ORDER_MARK
                | '\u{ffa0}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_found() {
        for hidden in ['\0', '\t', '\n', '\u{7f}', '\u{a0}', '\u{200b}', '\u{202e}', '\u{feff}'] {
            assert_eq!(invisible_character(&format!("key{hidden}")), Some(hidden), "{hidden:?}");
        }
        for seen in ["", "a b", "schlüssel", "鍵", "🔑", "~!@#$%^&*()"] {
            assert_eq!(invisible_character(seen), None, "{seen}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_one_at_the_beginning() {
        assert_eq!(without_byte_order_mark("\u{feff}\u{feff}a"), "\u{feff}a");
        assert_eq!(without_byte_order_mark("a\u{feff}"), "a\u{feff}");
    }
}

//! Blanks the comments and literals of Rust source, so that a search finds only code.
//!
//! It is not a parser: it knows only where comments, strings and test modules begin and end. Line
//! numbers do not change.

/// Blanks comments and the insides of string and character literals.
pub(super) fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_word = out.ends_with(|it: char| it.is_alphanumeric() || it == '_');
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest).filter(|_| !after_word) {
            length
        } else if first == '"' {
            string(rest)
        } else if let Some(length) = character(rest) {
            length
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        let (blanked, left) = rest.split_at(length);
        out.extend(blanked.chars().map(|it| if it == '\n' { '\n' } else { ' ' }));
        rest = left;
    }
    out
}

/// Blanks items marked `#[cfg(test)]`, in code that [`code`] has scrubbed.
pub(super) fn without_tests(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    let marks = ["#[cfg(test)]", "#[cfg(all(test"];
    while let Some(start) = marks.iter().filter_map(|mark| rest.find(mark)).min() {
        let (before, marked) = rest.split_at(start);
        let (item, left) = marked.split_at(item_length(marked));
        out.push_str(before);
        out.extend(item.chars().map(|it| if it == '\n' { '\n' } else { ' ' }));
        rest = left;
    }
    out + rest
}

/// The length up to the `;` that ends the item, or to the brace that closes its body.
fn item_length(item: &str) -> usize {
    let mut depth = 0_usize;
    for (at, it) in item.char_indices() {
        match it {
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// `r"…"`, `r#"…"#`, `br"…"`.
fn raw_string(text: &str) -> Option<usize> {
    let after_r = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let body = after_r.trim_start_matches('#');
    let hashes = &after_r[..after_r.len() - body.len()];
    let body = body.strip_prefix('"')?;
    let end = format!("\"{hashes}");
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(text.len() - body.len() + length)
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, it) in text.char_indices().skip(1) {
        match it {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A character literal, not a lifetime.
fn character(text: &str) -> Option<usize> {
    let body = text.strip_prefix('\'')?;
    let mut chars = body.char_indices();
    let (_, first) = chars.next()?;
    if first != '\\' {
        return chars.next().filter(|(_, it)| *it == '\'').map(|(at, _)| 1 + at + 1);
    }
    chars.next();
    chars.find(|(_, it)| *it == '\'').map(|(at, _)| 1 + at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_go_and_code_stays() {
        for (text, code_left) in [
            ("a // b\nc", "a\nc"),
            ("a /* b /* c */ d */ e", "a e"),
            ("/* ä", ""),
            (r#"f("a \" b", c)"#, "f( , c)"),
            (r##"f(r#"a " b"#, c)"##, "f( , c)"),
            (r#"f(br"a\", c)"#, "f( , c)"),
            (r#"for"x""#, "for"),
            ("f('\"', '\\'', 'ä', '\\u{1F600}', b)", "f( , , , , b)"),
            ("fn f<'a>(x: &'a str) -> &'static str", "fn f<'a>(x: &'a str) -> &'static str"),
            ("\"a\nb\" c", "\n c"),
        ] {
            let scrubbed = code(text);
            assert_eq!(scrubbed.lines().count(), text.lines().count(), "{text}");
            let squeezed = |it: &str| it.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(squeezed(&scrubbed), squeezed(code_left), "{text}");
        }
    }

    #[test]
    fn test_modules_go() {
        for (text, left) in [
            ("a();\n#[cfg(test)]\nmod tests { fn f() { b(); } }\nc();", "a(); c();"),
            ("a();\n#[cfg(test)]\nmod tests;\nc();", "a(); c();"),
            ("#[cfg(all(test, x))] fn f() {} c();", "c();"),
            ("a();", "a();"),
        ] {
            let rest = without_tests(text);
            assert_eq!(rest.lines().count(), text.lines().count(), "{text}");
            assert_eq!(rest.split_whitespace().collect::<Vec<_>>().join(" "), left, "{text}");
        }
    }
}

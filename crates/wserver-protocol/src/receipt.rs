//! The answer to a push: the exact bodies that clients of the ancestor compare.

use std::borrow::Cow;

/// The body of every `400`; the `Wserver-Error` header says what was wrong.
pub const REQUEST_ILLEGAL: &str = "request data illegal";

/// The body of the `200` for a message that `clients` connections took.
#[must_use]
pub fn sent(clients: usize) -> Cow<'static, str> {
    // If each user has one connection, hardly any other answer occurs.
    match clients {
        0 => Cow::Borrowed("message sent to 0 clients"),
        1 => Cow::Borrowed("message sent to 1 clients"),
        _ => Cow::Owned(format!("message sent to {clients} clients")),
    }
}

/// Reads the number of connections that took the message from the body of a `200`.
///
/// White space around the text is allowed, because older servers and proxies add a line end.
#[must_use]
pub fn parse_sent(body: &str) -> Option<usize> {
    let digits = body.trim_ascii().strip_prefix("message sent to ")?.strip_suffix(" clients")?;
    // `parse` alone would take a sign too.
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

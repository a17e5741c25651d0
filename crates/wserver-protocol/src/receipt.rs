//! What a push is answered with: the exact bodies that clients of the ancestor compare with.

use std::borrow::Cow;

/// The body of every `400`; what was wrong goes into the `Wserver-Error` header.
pub const REQUEST_ILLEGAL: &str = "request data illegal";

/// The body of the `200` for a message that `clients` connections took.
#[must_use]
pub fn sent(clients: usize) -> Cow<'static, str> {
    // Hardly anything else is answered where each user has one connection.
    match clients {
        0 => Cow::Borrowed("message sent to 0 clients"),
        1 => Cow::Borrowed("message sent to 1 clients"),
        _ => Cow::Owned(format!("message sent to {clients} clients")),
    }
}

/// Reads the body of a `200` back as the number of connections that took the message.
///
/// White space around it is accepted, since servers before this one and proxies add a line end.
#[must_use]
pub fn parse_sent(body: &str) -> Option<usize> {
    let digits = body.trim_ascii().strip_prefix("message sent to ")?.strip_suffix(" clients")?;
    // `parse` alone would take a sign too.
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

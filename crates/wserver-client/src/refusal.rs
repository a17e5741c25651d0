//! What a server says when it refuses: the one header and the one content type in which it tells why.

use http::header::{CONTENT_TYPE, HeaderMap};
use http::response::Parts;
use wserver_protocol::v2::Problem;

use crate::text::{reason_shown, shown};

/// What the `Wserver-Error` header says.
pub(crate) fn reason(headers: &HeaderMap) -> Option<String> {
    let reason = headers.get("wserver-error")?;
    Some(String::from_utf8_lossy(reason.as_bytes()).into_owned())
}

/// The body, if it is one that programs can act on.
pub(crate) fn problem(head: &Parts, body: &[u8]) -> Option<Box<Problem>> {
    let kind = head.headers.get(CONTENT_TYPE)?;
    let is_problem = kind.as_bytes().starts_with(Problem::CONTENT_TYPE.as_bytes());
    is_problem.then(|| Problem::parse(body).ok()).flatten().map(Box::new)
}

/// What stands behind the status in an error's text.
pub(crate) fn refusal_shown(body: &str, reason: Option<&str>, problem: Option<&Problem>) -> String {
    match problem {
        Some(Problem { title, detail: Some(detail), .. }) => {
            format!(": {} ({})", shown(title), shown(detail))
        }
        Some(Problem { title, .. }) => format!(": {}", shown(title)),
        None => format!(": {}{}", shown(body), reason_shown(reason)),
    }
}

//! The content of a server's refusal: the one header and the one content type that say why.

use http::header::{CONTENT_TYPE, HeaderMap};
use http::response::Parts;
use wserver_protocol::v2::Problem;

use crate::text::{reason_shown, shown};

/// The value of the `Wserver-Error` header.
pub(crate) fn reason(headers: &HeaderMap) -> Option<String> {
    let reason = headers.get("wserver-error")?;
    Some(String::from_utf8_lossy(reason.as_bytes()).into_owned())
}

/// The body, if it is in the form that programs can act on.
pub(crate) fn problem(head: &Parts, body: &[u8]) -> Option<Box<Problem>> {
    let kind = head.headers.get(CONTENT_TYPE)?;
    let is_problem = kind.as_bytes().starts_with(Problem::CONTENT_TYPE.as_bytes());
    is_problem.then(|| Problem::parse(body).ok()).flatten().map(Box::new)
}

/// The part of an error's text that comes after the status.
pub(crate) fn refusal_shown(body: &str, reason: Option<&str>, problem: Option<&Problem>) -> String {
    match problem {
        Some(Problem { title, detail: Some(detail), .. }) => {
            format!(": {} ({})", shown(title), shown(detail))
        }
        Some(Problem { title, .. }) => format!(": {}", shown(title)),
        None => format!(": {}{}", shown(body), reason_shown(reason)),
    }
}

//! What a refusal says in its headers, in either format.

use std::time::Duration;

use http::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
};
use wserver_protocol::v2::Problem;

use super::Format;
use super::details::{ProblemDetails, WSERVER_ERROR};
use super::kind::ProblemKind;
use super::refused::Refused;

/// A client that waits as told must not come too early, and a connection with an unread body must
/// not carry another request.
#[test]
fn headers_say_what_to_do_next() {
    let rate = |wait| Refused::PushRate { wait: Duration::from_millis(wait) };
    let (busy, key) = ("other requests are", "the push key is missing");
    for (refused, status, retry, allow, authenticate, connection) in [
        (rate(2000), 429, Some("2"), None, None, Some("close")),
        (rate(2001), 429, Some("3"), None, None, Some("close")),
        (rate(1), 429, Some("1"), None, None, Some("close")),
        (Refused::Busy { why: busy, setting: None }, 503, Some("1"), None, None, Some("close")),
        (Refused::Unauthorized { why: key }, 401, None, None, Some("Bearer"), Some("close")),
        (Refused::Method { allow: "POST" }, 405, None, Some("POST"), None, None),
        (Refused::KeyInUse, 409, Some("1"), None, None, None),
        (Refused::TracesFull { max: 16 }, 503, Some("5"), None, None, None),
        (Refused::BodyTooLarge { bytes_max: 8 }, 413, None, None, None, Some("close")),
        (Refused::NotAdmin, 403, None, None, None, Some("close")),
        (Refused::Draining, 503, Some("1"), None, None, Some("close")),
    ] {
        let details = refused.details();
        for format in [Format::Text, Format::Json] {
            let reply = details.reply(format);
            assert_eq!(reply.status(), status, "{refused:?}");
            let headers = [RETRY_AFTER, ALLOW, WWW_AUTHENTICATE, CONNECTION]
                .map(|name| reply.headers().get(name).map(|it| it.to_str().unwrap()));
            assert_eq!(headers, [retry, allow, authenticate, connection], "{refused:?}");
            assert_eq!(reply.headers()[WSERVER_ERROR], details.detail(), "{refused:?}");
            let text = str::from_utf8(reply.body()).unwrap();
            if format == Format::Json {
                assert_eq!(reply.headers()[CONTENT_TYPE], "application/problem+json");
                let problem: Problem = serde_json::from_str(text).unwrap();
                assert_eq!(problem.retry_after.map(|it| it.to_string()).as_deref(), retry);
            } else {
                assert_eq!(text, format!("{}: {}", details.title(), details.detail()));
            }
        }
    }
}

/// Version 1 fixes the bodies of status 400; what exactly was wrong is in the header.
#[test]
fn a_400_has_the_body_of_version_1() {
    let reply = Refused::BodyBroken.details().reply(Format::Text);
    assert_eq!((reply.status().as_u16(), &**reply.body()), (400, &b"request data illegal"[..]));
    assert_eq!(reply.headers()[WSERVER_ERROR], "the body ended before it was complete");
}

#[test]
fn another_version_of_websocket_is_told_the_right_one() {
    let details = ProblemDetails::new(ProblemKind::WebsocketVersion, "upgrade required", "why");
    let reply = details.reply(Format::Text);
    assert_eq!(reply.status(), 426);
    let headers = [SEC_WEBSOCKET_VERSION, UPGRADE, CONNECTION].map(|it| &reply.headers()[it]);
    assert_eq!(headers, ["13", "websocket", "upgrade, close"]);
}

//! The playground: one embedded page, which loads nothing from elsewhere.

use bytes::Bytes;
use data_encoding::BASE64;
use http::Response;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use sha2::{Digest, Sha256};

use crate::reply::Reply;

const PAGE: &str = include_str!("demo/page.html");
const STYLE: &str = include_str!("demo/style.css");
/// One module; the parts are in the order in which they are read. The client is the one that is served
/// by itself.
const SCRIPT: &str = concat!(
    include_str!("../client/wserver.js"),
    include_str!("demo/counters.js"),
    include_str!("demo/pane.js"),
    include_str!("demo/push.js"),
    include_str!("demo/code.js"),
    include_str!("demo/theme.js"),
);

/// The page, and the policy that the browser enforces on it.
#[derive(Debug)]
pub struct DemoPage {
    body: Bytes,
    policy: HeaderValue,
}

impl DemoPage {
    /// The page for a server that listens and accepts pushes at these addresses. `sockets` is the
    /// origin of its WebSockets, such as `ws://127.0.0.1:12345`, if it differs from the page's own.
    #[must_use]
    pub fn new(ws_path: &str, push_path: &str, sockets: Option<&str>) -> Self {
        let sockets = sockets.unwrap_or_default();
        let body = PAGE
            .replace("{{sockets}}", &escape(sockets))
            .replace("{{ws_path}}", &escape(ws_path))
            .replace("{{push_path}}", &escape(push_path))
            .replace("{{style}}", STYLE)
            .replace("{{script}}", SCRIPT);
        // Only the page's own style and script run, even if something else gets into the page. It
        // talks only to this server, no other page can frame it, and it cannot turn text into
        // markup.
        let policy = format!(
            "default-src 'none'; style-src {}; script-src {}; connect-src 'self'{}{sockets}; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'; trusted-types 'none'",
            source(STYLE),
            source(SCRIPT),
            if sockets.is_empty() { "" } else { " " },
        );
        let policy = HeaderValue::try_from(policy).expect("a digest in base64 fits a header");
        Self { body: body.into(), policy }
    }

    /// The page as an answer.
    pub(crate) fn reply(&self) -> Reply {
        let mut reply = Response::new(self.body.clone());
        let headers = reply.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        reply
    }
}

/// The name of an inline text in a policy.
fn source(text: &str) -> String {
    format!("'sha256-{}'", BASE64.encode(&Sha256::digest(text)))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever gets into the page is not run, read as another type, framed or kept.
    #[test]
    fn the_page_is_shut_off() {
        let headers =
            DemoPage::new("/ws", "/push", Some("ws://127.0.0.1:1")).reply().headers().clone();
        let policy = headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
        for rule in [
            "default-src 'none'",
            "connect-src 'self' ws://127.0.0.1:1",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            &*format!("script-src {}", source(SCRIPT)),
        ] {
            assert!(policy.split("; ").any(|it| it.trim() == rule), "{rule} is not in {policy}");
        }
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[REFERRER_POLICY], "no-referrer");
        assert_eq!(headers[CACHE_CONTROL], "no-store");
        assert_eq!(headers[CONTENT_TYPE], "text/html; charset=utf-8");
    }

    #[test]
    fn paths_are_text_to_the_page() {
        let page = DemoPage::new("/w\"s", "/p<script>", None);
        let body = std::str::from_utf8(&page.body).unwrap();
        assert!(body.contains(r#"content="/w&quot;s""#) && body.contains("/p&lt;script&gt;"));
        assert!(!body.contains("{{"), "a placeholder was left in the page");
        // Otherwise the hashed texts would differ from those between the tags.
        assert!(!STYLE.contains("</style") && !SCRIPT.contains("</script"));
    }
}

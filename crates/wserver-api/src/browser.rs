//! The browser client, as pages load it from this server.

use std::sync::LazyLock;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
    IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, Response, StatusCode};
use sha2::{Digest, Sha256};

use crate::reply::Reply;

/// For so long a browser uses what it has without asking. A release that changes it waits no longer.
const CACHED: HeaderValue = HeaderValue::from_static("public, max-age=3600");
/// Where Deno finds the types of a module.
const TYPES: HeaderName = HeaderName::from_static("x-typescript-types");

/// A file of the client.
pub(crate) struct File {
    text: &'static str,
    content_type: HeaderValue,
    types: Option<HeaderValue>,
    etag: HeaderValue,
}

/// The client.
pub(crate) static MODULE: LazyLock<File> = LazyLock::new(|| {
    let types = HeaderValue::from_static("./wserver.d.ts");
    File::new(include_str!("../client/wserver.js"), "text/javascript; charset=utf-8", Some(types))
});

/// Its types.
pub(crate) static DECLARATIONS: LazyLock<File> = LazyLock::new(|| {
    File::new(include_str!("../client/wserver.d.ts"), "text/plain; charset=utf-8", None)
});

impl File {
    fn new(text: &'static str, content_type: &'static str, types: Option<HeaderValue>) -> Self {
        let etag = format!("\"{}\"", &HEXLOWER.encode(&Sha256::digest(text))[..32]);
        let etag = HeaderValue::try_from(etag).expect("digits and quotes fit a header");
        Self { text, content_type: HeaderValue::from_static(content_type), types, etag }
    }

    /// The file, or that it is the one that the browser has.
    pub(crate) fn reply(&self, headers: &HeaderMap) -> Reply {
        let has_it = headers.get_all(IF_NONE_MATCH).iter().any(|tags| {
            let own = self.etag.to_str().unwrap_or_default();
            tags.to_str().is_ok_and(|tags| tags.split(',').any(|tag| tag.trim() == own))
        });
        let text = if has_it { "" } else { self.text };
        let mut reply = Response::new(Bytes::from_static(text.as_bytes()));
        if has_it {
            *reply.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = reply.headers_mut();
        headers.insert(ETAG, self.etag.clone());
        headers.insert(CACHE_CONTROL, CACHED);
        // Pages of any origin may load it; whether they may connect is for the handshake to say.
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        if !has_it {
            headers.insert(CONTENT_TYPE, self.content_type.clone());
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        }
        if let Some(types) = &self.types {
            headers.insert(TYPES, types.clone());
        }
        reply
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_that_has_it_is_told_so() {
        let first = MODULE.reply(&HeaderMap::new());
        assert_eq!((first.status(), first.body().len()), (StatusCode::OK, MODULE.text.len()));
        let etag = first.headers()[ETAG].clone();
        for (tags, status) in [
            (etag.clone(), StatusCode::NOT_MODIFIED),
            (HeaderValue::from_static("\"other\""), StatusCode::OK),
            (
                HeaderValue::try_from(format!("\"other\", {}", etag.to_str().unwrap())).unwrap(),
                StatusCode::NOT_MODIFIED,
            ),
        ] {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, tags)]);
            let again = MODULE.reply(&headers);
            assert_eq!(again.status(), status);
            assert_eq!(again.body().is_empty(), status == StatusCode::NOT_MODIFIED);
            assert_eq!(again.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
            assert_eq!(again.headers()[CACHE_CONTROL], "public, max-age=3600");
            assert_eq!(again.headers()[TYPES], "./wserver.d.ts");
            let types = [CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS]
                .map(|name| again.headers().get(name).map(|it| it.to_str().unwrap()));
            let whole = [Some("text/javascript; charset=utf-8"), Some("nosniff")];
            assert_eq!(types, if status == StatusCode::OK { whole } else { [None; 2] });
        }
        assert_ne!(DECLARATIONS.etag, etag);
    }
}

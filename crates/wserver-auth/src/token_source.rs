//! Where a client's token comes from if the register message has none.

use std::fmt;
use std::str::FromStr;

use http::{HeaderMap, Uri};

use crate::head;

/// Where a client's token comes from.
///
/// With any source except [`Message`](Self::Message), the token of the handshake authenticates each
/// registration whose message has no token, or an empty one; a token in the message takes
/// precedence. With `Message`, such a registration is ignored, as in the v1 contract.
///
/// A browser sends a cookie with every request, whichever page makes it, so a server that takes
/// tokens from a cookie must check origins.
///
/// The text forms are `message`, `authorization`, `cookie:NAME` and `query:NAME`.
///
/// ```
/// use http::header::{COOKIE, HeaderMap, HeaderValue};
/// use wserver_auth::TokenSource;
///
/// let source: TokenSource = "cookie:session".parse()?;
/// let mut headers = HeaderMap::new();
/// headers.insert(COOKIE, HeaderValue::from_static("theme=dark; session=abc"));
/// assert_eq!(source.token(&headers, &"/ws".parse()?), Some("abc".to_owned()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenSource {
    /// Only the register message.
    #[default]
    Message,
    /// The handshake's `Authorization: Bearer` header. Browsers cannot set it; other clients can.
    Authorization,
    /// The handshake's cookie of this name.
    Cookie(String),
    /// The parameter of this name in the handshake's query. Proxies log queries and browsers keep
    /// them in their history, so use it only for clients that cannot do anything else.
    Query(String),
}

impl TokenSource {
    /// The token that a handshake with this head presents.
    ///
    /// `None` if there is none, if it is empty or not UTF-8, and if there are several.
    pub fn token(&self, headers: &HeaderMap, uri: &Uri) -> Option<String> {
        match self {
            Self::Message => None,
            Self::Authorization => head::bearer(headers).map(ToOwned::to_owned),
            Self::Cookie(name) => head::cookie(headers, name).map(ToOwned::to_owned),
            Self::Query(name) => head::parameter(uri, name),
        }
    }

    /// Whether browsers send the token by themselves, whichever page makes the request.
    pub fn is_ambient(&self) -> bool {
        matches!(self, Self::Cookie(_))
    }

    /// Checks the name of the cookie or parameter.
    ///
    /// # Errors
    ///
    /// If the name is empty, or has a character that the name of a cookie cannot have.
    pub fn check(&self) -> Result<(), TokenSourceError> {
        match self {
            Self::Cookie(name) | Self::Query(name) if name.is_empty() => {
                Err(TokenSourceError::NameEmpty)
            }
            Self::Cookie(name) if !name.bytes().all(is_token) => Err(TokenSourceError::CookieName),
            _ => Ok(()),
        }
    }
}

/// Whether a byte is allowed in a token of HTTP (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl FromStr for TokenSource {
    type Err = TokenSourceError;

    fn from_str(text: &str) -> Result<Self, TokenSourceError> {
        let source = match text.split_once(':') {
            None if text == "message" => Self::Message,
            None if text == "authorization" => Self::Authorization,
            Some(("cookie", name)) => Self::Cookie(name.to_owned()),
            Some(("query", name)) => Self::Query(name.to_owned()),
            _ => return Err(TokenSourceError::Unknown),
        };
        source.check()?;
        Ok(source)
    }
}

impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message => f.write_str("message"),
            Self::Authorization => f.write_str("authorization"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
        }
    }
}

/// Why a text does not name a source of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenSourceError {
    /// The text is none of the four forms.
    #[error("the token source must be message, authorization, cookie:NAME or query:NAME")]
    Unknown,
    /// The name is missing.
    #[error("the name of the cookie or query parameter is missing")]
    NameEmpty,
    /// The name of a cookie cannot have these characters.
    #[error(
        "the name of a cookie cannot contain spaces, separators, control characters or letters \
             beyond ASCII"
    )]
    CookieName,
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::HeaderName;

    use super::*;

    fn check(source: &str, head: &[(&str, &str)], target: &str, expected: Option<&str>) {
        let source: TokenSource = source.parse().unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in head {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let found = source.token(&headers, &target.parse().unwrap());
        assert_eq!(found.as_deref(), expected, "{source} {head:?} {target}");
    }

    #[test]
    fn the_message_alone_means_no_handshake() {
        let head = [("authorization", "Bearer a"), ("cookie", "message=b")];
        check("message", &head, "/ws?message=c", None);
    }

    #[test]
    fn bearers() {
        let bearer = |values: &[&str], expected| {
            let head: Vec<_> = values.iter().map(|value| ("authorization", *value)).collect();
            check("authorization", &head, "/ws", expected);
        };
        bearer(&[], None);
        bearer(&["Bearer abc"], Some("abc"));
        bearer(&["bearer  abc "], Some("abc"));
        bearer(&["Bearer "], None);
        bearer(&["Basic abc"], None);
        bearer(&["Bearer a", "Bearer b"], None);
    }

    #[test]
    fn cookies() {
        let cookie = |values: &[&str], expected| {
            let head: Vec<_> = values.iter().map(|value| ("cookie", *value)).collect();
            check("cookie:session", &head, "/ws", expected);
        };
        cookie(&[], None);
        cookie(&["session=abc"], Some("abc"));
        cookie(&["a=b; session=abc; c=d"], Some("abc"));
        cookie(&["a=b;session=abc ;c=d"], Some("abc"));
        cookie(&["a=b", "session=abc"], Some("abc"));
        cookie(&["session=a=b=="], Some("a=b=="));
        cookie(&["session=\"abc\""], Some("abc"));
        cookie(&["session=\"abc"], Some("\"abc"));
        cookie(&["session=%61"], Some("%61"));
        cookie(&["session="], None);
        cookie(&["session=\"\""], None);
        cookie(&["session"], None);
        cookie(&["Session=abc"], None);
        cookie(&["xsession=abc; session.x=abc; __Host-session=abc"], None);
        cookie(&["a=\"; session=abc\""], Some("abc\""));
        // One of them may be an attacker's, set from a neighbouring domain.
        cookie(&["session=abc; session=def"], None);
        cookie(&["session=abc", "session=abc"], None);
        cookie(&["session=ключ"], Some("ключ"));
    }

    #[test]
    fn a_cookie_that_is_no_text_is_none() {
        let mut headers = HeaderMap::new();
        headers.insert("cookie", HeaderValue::from_bytes(b"session=\xff; other=a").unwrap());
        let uri = "/ws".parse().unwrap();
        assert_eq!(TokenSource::Cookie("session".to_owned()).token(&headers, &uri), None);
        let other = TokenSource::Cookie("other".to_owned()).token(&headers, &uri);
        assert_eq!(other.as_deref(), Some("a"));
    }

    #[test]
    fn queries() {
        let query = |target: &str, expected| check("query:token", &[], target, expected);
        query("/ws", None);
        query("/ws?", None);
        query("/ws?token", None);
        query("/ws?token=", None);
        query("/ws?token=abc", Some("abc"));
        query("/ws?a=b&token=a%2Bb+c&d", Some("a+b c"));
        query("/ws?token=a&token=b", None);
        query("/ws?Token=a", None);
        query("/ws?%74oken=a", Some("a"));
    }

    #[test]
    fn names_are_checked() {
        for (text, expected) in [
            ("message", Ok(TokenSource::Message)),
            ("authorization", Ok(TokenSource::Authorization)),
            ("cookie:__Host-id", Ok(TokenSource::Cookie("__Host-id".to_owned()))),
            ("query:access_token", Ok(TokenSource::Query("access_token".to_owned()))),
            ("", Err(TokenSourceError::Unknown)),
            ("header", Err(TokenSourceError::Unknown)),
            ("Cookie:a", Err(TokenSourceError::Unknown)),
            ("message:a", Err(TokenSourceError::Unknown)),
            ("cookie", Err(TokenSourceError::Unknown)),
            ("cookie:", Err(TokenSourceError::NameEmpty)),
            ("query:", Err(TokenSourceError::NameEmpty)),
            ("cookie:a b", Err(TokenSourceError::CookieName)),
            ("cookie:a=b", Err(TokenSourceError::CookieName)),
            ("cookie:ü", Err(TokenSourceError::CookieName)),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
            if let Ok(source) = expected {
                assert_eq!(source.to_string(), text);
                assert_eq!(source.is_ambient(), text.starts_with("cookie"));
            }
        }
    }
}

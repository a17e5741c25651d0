//! The WebSocket handshake (RFC 6455, section 4.2), and the step from hyper's connection to our
//! own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use headers::{HeaderMapExt, SecWebsocketAccept, SecWebsocketKey};
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Method, Response, StatusCode, Uri};
use tracing::{debug, info};
use wserver_api::{Cluster, ProblemDetails, ProblemKind, Reply, Request};
use wserver_auth::TokenSource;
use wserver_node::{OpenError, Reservation};
use wserver_protocol::Protocol;

use crate::connection::driver::Driver;
use crate::connection::registering::Handshake;
use crate::connection::shared::Shared;
use crate::connection::wire::Socket;
use crate::http::io::HttpIo;
use crate::http::refused::Refused;
use crate::upgrade::addresses::{Addresses, HandshakeRates};
use crate::upgrade::origin::OriginPolicy;
use crate::upgrade::public_page::PublicPage;

/// The limits of handshakes, and what connections need after them.
pub(crate) struct Handshakes {
    /// The state that their connections will share.
    pub(crate) shared: Arc<Shared>,
    /// The node's part in a cluster, if it has one.
    pub(crate) cluster: Option<Cluster<Socket>>,
    pub(crate) origin: OriginPolicy,
    pub(crate) token_source: TokenSource,
    pub(crate) addresses: Arc<Addresses>,
    /// `None` when `handshakes_per_address_per_second` is 0.
    pub(crate) rates: Option<HandshakeRates>,
    /// Set if pushes need no key where browsers connect.
    pub(crate) public_page: Option<PublicPage>,
}

impl Handshakes {
    /// Answers a handshake. If it is accepted, the connection's task starts as soon as hyper
    /// returns the socket.
    pub(crate) fn answer(
        &self,
        Request { method, uri, headers, client: peer, .. }: Request,
        on_upgrade: Option<OnUpgrade>,
    ) -> Reply {
        let node = &self.shared.node;
        let accepted = self
            .within_rate(peer)
            .and_then(|()| self.check(&method, &headers))
            .and_then(|accept| Ok((accept, self.addresses.acquire(peer)?)))
            .and_then(|(accept, address)| {
                let on_upgrade = on_upgrade.ok_or(Refused::Upgrade {
                    why: "a WebSocket handshake needs HTTP/1.1 and Connection: Upgrade",
                })?;
                let token = self.token(&headers, &uri)?;
                if self.cluster.as_ref().is_some_and(Cluster::refuses_connections) {
                    return Err(Refused::CutOff);
                }
                let reservation = node.reserve().map_err(|error| match error {
                    OpenError::Full { max } => Refused::Full { max },
                    _ => Refused::Draining,
                })?;
                Ok((accept, address, token, on_upgrade, reservation))
            });
        let (accept, address, token, on_upgrade, reservation) = match accepted {
            Ok(accepted) => accepted,
            Err(refused) => {
                debug!(%peer, ?refused, "handshake refused");
                self.count_refused(&refused.details());
                return refused.reply();
            }
        };
        if let Some(public_page) = &self.public_page {
            public_page.look(&headers);
        }
        let protocol = Protocol::negotiate(tokens(&headers, &SEC_WEBSOCKET_PROTOCOL));
        if protocol.is_none() && headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
            // Browsers then end the connection themselves, with 1006 and without a reason.
            debug!(%peer, "the client offered only subprotocols that the server does not speak");
        }
        let handshake = Handshake::new(self.kept_headers(&headers), token, address);
        let shared = Arc::clone(&self.shared);
        node.tasks().spawn(take_over(
            shared,
            reservation,
            protocol.unwrap_or_default(),
            peer,
            on_upgrade,
            handshake,
        ));
        let mut reply = Response::new(Bytes::new());
        *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = reply.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.typed_insert(accept);
        if let Some(protocol) = protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol.name()));
        }
        reply
    }

    /// Counts a handshake that is refused; the log says so once a minute for each kind.
    pub(super) fn count_refused(&self, details: &ProblemDetails) {
        let (reason, detail) = (details.kind.as_str(), details.detail());
        let refused_total = &self.shared.counters.handshakes_refused_total;
        refused_total.increment_and_log(details.kind, Instant::now(), |total| {
            info!(reason, total, detail, "WebSocket handshakes are being refused");
        });
    }

    /// Counts every attempt, also those that are refused.
    pub(super) fn within_rate(&self, peer: SocketAddr) -> Result<(), Refused> {
        let Some(rates) = &self.rates else { return Ok(()) };
        let evicted_total = &self.shared.counters.handshake_addresses_evicted_total;
        rates.acquire(peer.ip(), Instant::now(), evicted_total)
    }

    /// Checks a handshake; returns the value of `Sec-WebSocket-Accept`.
    fn check(&self, method: &Method, headers: &HeaderMap) -> Result<SecWebsocketAccept, Refused> {
        let accept = check_form(method, headers)?;
        if !self.origin.permits(headers) {
            return Err(Refused::of_origin(headers));
        }
        Ok(accept)
    }

    /// The token for register messages without one.
    pub(super) fn token(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
    ) -> Result<Option<Box<str>>, Refused> {
        self.token_source.token(headers, uri).map(|token| self.within_length(token)).transpose()
    }

    pub(super) fn within_length(&self, token: String) -> Result<Box<str>, Refused> {
        let bytes_max = self.shared.limits.name_bytes_max;
        if token.len() > bytes_max {
            return Err(Refused::TokenTooLong { bytes: token.len(), bytes_max });
        }
        Ok(token.into())
    }

    /// The headers that the authenticator reads. An authenticator may change its list, but the
    /// policy of origins does not change: with `any`, a cookie would let any page act as its
    /// visitor.
    pub(super) fn kept_headers(&self, headers: &HeaderMap) -> HeaderMap {
        let mut kept = HeaderMap::new();
        for name in self.shared.authenticator.handshake_headers() {
            if name == COOKIE && self.origin.is_any() {
                continue;
            }
            for value in headers.get_all(&name) {
                kept.append(&name, value.clone());
            }
        }
        kept
    }
}

/// Checks the form of a handshake (RFC 6455, section 4.2.1); returns the value of
/// `Sec-WebSocket-Accept`.
fn check_form(method: &Method, headers: &HeaderMap) -> Result<SecWebsocketAccept, Refused> {
    if method != Method::GET {
        return Err(Refused::Method { allow: "GET" });
    }
    if !has_token(headers, &UPGRADE, "websocket") {
        return Err(Refused::Upgrade { why: "the Upgrade header must name websocket" });
    }
    if !has_token(headers, &CONNECTION, "upgrade") {
        return Err(Refused::Upgrade { why: "the Connection header must name upgrade" });
    }
    if !matches!(single(headers, &SEC_WEBSOCKET_VERSION), Some(version) if version == "13") {
        return Err(Refused::UpgradeVersion);
    }
    let is_good = single(headers, &SEC_WEBSOCKET_KEY).is_some_and(|key| is_key(key.as_bytes()));
    let Some(key) = headers.typed_get::<SecWebsocketKey>().filter(|_| is_good) else {
        return Err(Refused::Upgrade { why: "Sec-WebSocket-Key must be sixteen bytes in base64" });
    };
    if has_body(headers) {
        return Err(Refused::Upgrade { why: "a WebSocket handshake has no body" });
    }
    Ok(SecWebsocketAccept::from(key))
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

/// Whether a list of tokens, over all lines of the header, contains `token`, ignoring case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|item| item.eq_ignore_ascii_case(token))
}

/// The items of a list, over all lines of the header.
fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|value| value.split(',')).map(str::trim)
}

/// Whether a body is announced. Its bytes would be frames here, but a body for a proxy in front.
fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers.get_all(CONTENT_LENGTH).iter().any(|length| length != "0")
}

/// Sixteen bytes in base64 are 22 digits and two padding characters. The last digit has four unused
/// bits, which need not be zero: the example in section 4.1 of the RFC has some set.
fn is_key(key: &[u8]) -> bool {
    let Some((digits, b"==")) = key.split_at_checked(22) else { return false };
    digits.iter().all(|digit| digit.is_ascii_alphanumeric() || matches!(digit, b'+' | b'/'))
}

/// Takes the socket back from hyper and starts the small task for the connection.
async fn take_over(
    shared: Arc<Shared>,
    reservation: Reservation<Socket>,
    protocol: Protocol,
    peer: SocketAddr,
    on_upgrade: OnUpgrade,
    handshake: Option<Box<Handshake>>,
) {
    let upgraded = match on_upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            debug!(%peer, %error, "gone before the handshake was answered");
            return;
        }
    };
    let Ok(parts) = upgraded.downcast::<HttpIo>() else {
        debug_assert!(false, "every connection is served through HttpIo");
        return;
    };
    let (transport, ahead) = parts.io.into_parts();
    let Some(socket) = transport.into_socket() else {
        debug_assert!(false, "a Unix socket serves no upgrade");
        return;
    };
    let attachment = match reservation.open(socket, protocol) {
        Ok(attachment) => attachment,
        Err(error) => {
            shared.counters.handshakes_refused_total.increment(ProblemKind::Draining);
            debug!(%peer, %error, "no longer open to connections");
            return;
        }
    };
    let tasks = shared.node.tasks().clone();
    let mut driver = Driver::new(shared, attachment, peer, handshake);
    driver.preload(&[&parts.read_buf, &ahead]);
    // Drop both here: each may be as large as a whole request.
    drop((parts.read_buf, ahead));
    tasks.spawn(driver);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        for (key, is_good) in [
            ("dGhlIHNhbXBsZSBub25jZQ==", true),
            ("AAAAAAAAAAAAAAAAAAAAAA==", true),
            ("", false),
            ("dGhlIHNhbXBsZSBub25jZQ", false),
            ("AQIDBAUGBwgJCgsMDQ4PEC==", true),
            ("dGhlIHNhbXBsZSBub25j!Q==", false),
            ("AAAAAAAAAAAAAAAAAAAAAAAAAAAA", false),
        ] {
            assert_eq!(is_key(key.as_bytes()), is_good, "{key}");
        }
    }

    #[test]
    fn token_lists() {
        let mut headers = HeaderMap::new();
        headers.append(CONNECTION, "keep-alive , UPGRADE".parse().unwrap());
        assert!(has_token(&headers, &CONNECTION, "upgrade"));
        headers.insert(CONNECTION, "keep-alive".parse().unwrap());
        assert!(!has_token(&headers, &CONNECTION, "upgrade"));
        headers.append(CONNECTION, "Upgrade".parse().unwrap());
        assert!(has_token(&headers, &CONNECTION, "upgrade"));
        headers.insert(CONNECTION, "upgraded".parse().unwrap());
        assert!(!has_token(&headers, &CONNECTION, "upgrade"));
    }
}

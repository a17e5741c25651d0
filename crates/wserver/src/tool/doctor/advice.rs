//! Advice for each finding: the only table from findings to remedies.

use std::io;

use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use wserver_client::{Code, PlainAnswer, PushError, Seen, TlsFault, UpgradeError};

use super::proxy::{Fault, Proxy};
use crate::tool::output::with_causes;

pub(super) const NAME: &str = "is the name spelled correctly, and is its DNS record published?";
pub(super) const TCP: &str = "nothing listens there, or a firewall drops the connection: is the \
                              server (or the proxy in front of it) running, and is the port open?";
pub(super) const TCP_SOME: &str = "clients that try this address first have to wait: remove its \
                                   DNS record, or make the address reachable";
pub(super) const PLAIN: &str = "tokens and messages can be read in transit: use wss or https";
pub(super) const PING: &str = "something between this machine and the server holds small frames back, or does not speak \
     WebSocket";
pub(super) const BROKEN: &str = "something between this machine and the server ends connections \
                                 right after the upgrade";
pub(super) const TOKEN: &str = "the server did not accept the registration: does it authenticate \
                                clients? name a token with --token-file, and its user with --user";
pub(super) const UNKNOWN_TOKEN: &str = "the server did not accept the token, or the token is not \
                                         of this --user: version 1 does not say which; wserver \
                                         token inspect reads a JWT";
pub(super) const NOBODY: &str = "the registration was accepted: is the token of this --user, and \
                                 do pushes go to this server or its cluster? name another URL with \
                                 --push-url";
pub(super) const SILENT: &str = "the server takes longer than that to check a token, or something \
                                 in between holds small frames back";
pub(super) const OLDER: &str = "the server is older than version 2 of the protocol, or a proxy \
                                removes the Sec-WebSocket-Protocol header: browser clients that \
                                need version 2 cannot connect here";
pub(super) const NO_PINGS: &str = "no ping arrived: either ping_interval is longer than this, or \
                                   something in between answers pings itself";
pub(super) const CLOSE: &str = "something in between drops the closing handshake: browsers will \
                                see 1006 instead of the server's close codes, such as 1008 for an \
                                expired token";

/// For a given token with which the server refuses to register.
pub(super) fn registration(code: Code) -> &'static str {
    match code {
        Code::TokenExpired => "get a new token",
        Code::TokenMissing | Code::TokenRefused => {
            "is it a token for this server, and complete? wserver token inspect reads a JWT; with \
             log = \"debug\", the server's log says more"
        }
        Code::NotPermitted => {
            "name an event that the token permits with --event; the user's other connections get \
             the message as well"
        }
        Code::Busy | Code::Draining => "try again in a moment",
        _ => "with log = \"debug\", the server's log says more",
    }
}

/// For messages that arrive late.
pub(super) fn held_back(proxy: &Proxy) -> String {
    let cure = proxy.cure(Fault::Buffering);
    format!("something in between buffers data before it passes it on; {cure}")
}

/// For a connection that was cut while it was silent.
pub(super) fn idle(proxy: &Proxy) -> String {
    let cure = proxy.cure(Fault::Impatience);
    format!(
        "something in between closes idle connections: its timeout must be longer than \
         ping_interval, 25s by default; {cure}"
    )
}

/// For a TLS handshake that failed.
pub(super) fn tls(error: &io::Error) -> &'static str {
    match TlsFault::of(error) {
        Some(TlsFault::UnknownIssuer) => {
            "the server must also send the intermediate certificates (fullchain.pem); for a \
             private authority or a self-signed certificate, use --ca-file"
        }
        Some(TlsFault::WrongName) => "the certificate is for other names: get one for this name",
        Some(TlsFault::Expired) => "renew the certificate",
        Some(TlsFault::NotYetValid) => "the certificate is not valid yet, or a clock is wrong",
        Some(TlsFault::NotTls) => {
            "this port does not speak TLS: should the URL begin with ws:// \
                                   or http://?"
        }
        Some(TlsFault::NothingInCommon) => {
            "the two sides have no version or cipher in common: TLS 1.2 or 1.3 is needed"
        }
        Some(TlsFault::VersionTooOld) => {
            "the server speaks a version that is too old: TLS 1.2 or 1.3 is needed"
        }
        Some(TlsFault::ClientCertificate) => {
            "the server demands client certificates, which browsers rarely have"
        }
        _ => "the TLS handshake failed: does this port speak TLS?",
    }
}

/// For an upgrade that failed: the finding and the remedy.
pub(super) fn upgrade(error: &UpgradeError) -> (String, String) {
    match error {
        UpgradeError::Refused { status, headers, .. } => {
            let what = format!("answered with {status} ({})", by(headers));
            let advice = match text(headers, WSERVER_ERROR) {
                Some(reason) => refused_by_wserver(&reason, *status, headers),
                None => refused_by_another(*status, headers),
            };
            (what, advice)
        }
        error => (
            with_causes(error),
            "the answer does not match this handshake: a proxy changed its headers, or this is not \
             a WebSocket server"
                .to_owned(),
        ),
    }
}

/// For an upgrade without an answer, and a request for the same URL without an upgrade.
pub(super) fn unanswered(
    error: &UpgradeError,
    plain: &io::Result<PlainAnswer>,
) -> (String, String) {
    let PlainAnswer { status, headers, .. } = match plain {
        Ok(plain) => plain,
        Err(plain) => {
            let what = format!("{}; a plain GET: {}", with_causes(error), with_causes(plain));
            let advice = "the port is open, but nothing answers, not even a plain request: does \
                          the proxy reach the server, and does this port speak HTTP?";
            return (what, advice.to_owned());
        }
    };
    let what =
        format!("{}; a plain GET is answered with {status} ({})", with_causes(error), by(headers));
    let proxy = Proxy::of(headers);
    let advice = if text(headers, WSERVER_ERROR).is_some() {
        format!(
            "requests reach wserver, but upgrades do not: {} drops them; {}",
            proxy.shown(),
            proxy.cure(Fault::Upgrade)
        )
    } else {
        refused_by_another(*status, headers)
    };
    (what, advice)
}

const WSERVER_ERROR: &str = "wserver-error";

/// The program that answered.
fn by(headers: &HeaderMap) -> String {
    match (text(headers, WSERVER_ERROR), Proxy::of(headers).name()) {
        (Some(reason), _) => format!("wserver says: {reason}"),
        (None, Some(server)) => format!("by {server}, not by wserver"),
        (None, None) => "not by wserver".to_owned(),
    }
}

fn refused_by_wserver(reason: &str, status: StatusCode, headers: &HeaderMap) -> String {
    let upgrade = [
        ("needs HTTP/1.1", "a proxy uses HTTP/1.0 to the server"),
        ("the Upgrade header", "a proxy removed the Upgrade header"),
        ("the Connection header", "a proxy removed the Connection header"),
    ];
    if let Some((_, what)) = upgrade.iter().find(|(words, _)| reason.contains(words)) {
        return format!("{what}; {}", Proxy::of(headers).cure(Fault::Upgrade));
    }
    let table = [
        ("Sec-WebSocket-Key", "a proxy removed or changed the Sec-WebSocket-Key header"),
        ("Sec-WebSocket-Version", "a proxy removed or changed the Sec-WebSocket-Version header"),
        ("Origin", "add the origin to the setting origin"),
        (
            "no such path",
            "the server has another ws_path: give the whole URL, such as wss://HOST/ws; if there \
             is a proxy, does it change the path?",
        ),
        (
            "connections_per_address_max",
            "the server counts all clients of a proxy as one address: set trusted_proxies",
        ),
        (
            "handshakes_per_address",
            "the server counts all clients of a proxy as one address: set trusted_proxies",
        ),
        (
            "connections_max",
            "the server is full: raise connections_max, or the limit of open files",
        ),
        ("shutting down", "try again in a moment"),
    ];
    let found = table.iter().find(|(words, _)| reason.contains(words));
    let advice = found.map_or_else(
        || match status {
            StatusCode::SERVICE_UNAVAILABLE => "try again in a moment",
            _ => "with log = \"debug\", the server's log says more",
        },
        |(_, advice)| advice,
    );
    advice.to_owned()
}

fn refused_by_another(status: StatusCode, headers: &HeaderMap) -> String {
    if status.is_redirection() {
        let place = text(headers, LOCATION.as_str()).unwrap_or_else(|| "another place".to_owned());
        return format!(
            "WebSocket clients do not follow redirects: use the URL of the redirect, \
                        {place}"
        );
    }
    let proxy = Proxy::of(headers);
    let advice = match status.as_u16() {
        400 => "the proxy itself refused the handshake, or this server is not wserver",
        401 | 403 => {
            "something in front of the server authenticates or filters requests: let the \
                      handshake through"
        }
        404 | 405 => {
            "the proxy passes this path to nothing, or to another program: pass /ws to wserver"
        }
        426 => {
            let cure = proxy.cure(Fault::Upgrade);
            return format!(
                "the proxy demands another protocol: let it speak HTTP/1.1 here; {cure}"
            );
        }
        200..300 => {
            "the answer is a page instead of the upgrade: the proxy passes this path to another \
             program"
        }
        502..=504 => {
            let cure = proxy.cure(Fault::Backend);
            return format!(
                "the proxy does not reach wserver: is wserver running, and is its address correct \
                 ({cure})?"
            );
        }
        _ => "see the proxy's log",
    };
    advice.to_owned()
}

/// For a connection that ended: the finding and the remedy.
pub(super) fn lost(seen: &Seen) -> (String, String) {
    match seen {
        Seen::Closed(frame) => {
            (format!("closed by the server with {frame}"), closed(frame.code).to_owned())
        }
        Seen::Lost(error) => (with_causes(error), BROKEN.to_owned()),
        _ => (String::new(), String::new()),
    }
}

/// For a Close from the server.
pub(super) fn closed(code: Option<u16>) -> &'static str {
    match code {
        Some(1001 | 4000) => "the server was shutting down: try again",
        Some(1008 | 4003 | 4501) => {
            "the registration was not accepted or has expired, so the server closed the \
             connection: name a token with --token-file"
        }
        Some(4503) => "an operator disconnected this user",
        Some(4504 | 4505) => "the user has connections_per_user_max connections",
        Some(1013) => "the server's queues are full",
        _ => "with log = \"debug\", the server's log says more",
    }
}

/// For a push that failed: the finding and the remedy.
pub(super) fn refused_push(error: &PushError) -> (String, &'static str) {
    let advice = match error {
        PushError::Refused { status, .. } => match status.as_u16() {
            401 => "name a push key with --key-file",
            403 => {
                "pushes from here need a key: name one with --key-file, or another URL with \
                    --push-url"
            }
            404 => "the server accepts pushes at another URL: name it with --push-url",
            429 => "this key has reached its rate: try again",
            _ => "does this path lead to wserver? name another URL with --push-url",
        },
        PushError::NoReceipt { .. } => {
            "this server is not wserver: name the URL of wserver with \
                                        --push-url"
        }
        _ => "is the server reachable from here? name another URL with --push-url",
    };
    (with_causes(error), advice)
}

/// For a push whose key was refused: the finding and the remedy. `None` if that is not the error.
pub(super) fn key(error: &PushError) -> Option<(String, String)> {
    let PushError::Refused { status: StatusCode::UNAUTHORIZED, reason, headers, .. } = error else {
        return None;
    };
    let proxy = Proxy::of(headers);
    let (what, advice) = match reason {
        Some(reason) if reason.contains("missing") => (
            "the push key was sent, but did not arrive".to_owned(),
            format!(
                "{} removed the Authorization header; {}",
                proxy.shown(),
                proxy.cure(Fault::Authorization)
            ),
        ),
        Some(reason) => {
            (format!("wserver says: {reason}"), "is it a current key of this server?".to_owned())
        }
        None => (
            format!("the push was answered with 401 ({})", by(headers)),
            format!(
                "something in front of the server authenticates requests, so the key never reached \
                 wserver; {}",
                proxy.cure(Fault::Authorization)
            ),
        ),
    };
    Some((what, advice))
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned())
}

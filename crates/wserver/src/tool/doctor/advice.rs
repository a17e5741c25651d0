//! Advice for each finding: the only table from findings to remedies.

use std::io;

use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use wserver_client::{PlainAnswer, PushError, Seen, TlsFault, UpgradeError};

use super::proxy::{Fault, Proxy};
use crate::tool::output::with_causes;

pub(super) const NAME: &str = "is the name spelt right, and its DNS record published?";
pub(super) const TCP: &str = "nobody listens there, or a firewall drops it: is the server, or the \
                              proxy in front, running, and the port open?";
pub(super) const TCP_SOME: &str = "clients that try this address first wait for it: take its DNS \
                                   record out, or make it answer";
pub(super) const PLAIN: &str = "tokens and messages can be read on their way: use wss or https";
pub(super) const PING: &str =
    "something on the way holds small frames back, or does not speak WebSocket";
pub(super) const BROKEN: &str = "something on the way ends connections right after the upgrade";
pub(super) const TOKEN: &str = "the registration was not taken: does the server authenticate \
                                listeners? name a token with --token-file, and whose it is with --user";
pub(super) const NO_PINGS: &str = "no ping came: either ping_interval is longer than this, or \
                                   something on the way answers pings itself";
pub(super) const CLOSE: &str = "the goodbye gets lost on the way: browsers will see 1006 in place of \
                                the server's codes, as 1008 for a token that has expired";

/// For messages that arrive late.
pub(super) fn held_back(proxy: &Proxy) -> String {
    let cure = proxy.cure(Fault::Buffering);
    format!("something on the way collects data before it passes it on; {cure}")
}

/// For a connection that was cut while it was silent.
pub(super) fn idle(proxy: &Proxy) -> String {
    let cure = proxy.cure(Fault::Impatience);
    format!(
        "somebody on the way cuts silent connections: its time must be longer than ping_interval, 25s by \
         default; {cure}"
    )
}

/// For a TLS handshake that failed.
pub(super) fn tls(error: &io::Error) -> &'static str {
    match TlsFault::of(error) {
        Some(TlsFault::UnknownIssuer) => {
            "the server must send the intermediate certificates too (fullchain.pem); an \
             authority of your own, or a certificate that has signed itself, is named with --ca-file"
        }
        Some(TlsFault::WrongName) => "the certificate is for other names: get one for this name",
        Some(TlsFault::Expired) => "renew the certificate",
        Some(TlsFault::NotYetValid) => "the certificate, or a clock, is ahead of time",
        Some(TlsFault::NotTls) => "no TLS is spoken at this port: is it ws:// or http://?",
        Some(TlsFault::NothingInCommon) => {
            "the two sides have no version or cipher in common: TLS 1.2 or 1.3 is needed"
        }
        Some(TlsFault::VersionTooOld) => {
            "the server speaks a version that is too old: TLS 1.2 or 1.3 is needed"
        }
        Some(TlsFault::ClientCertificate) => {
            "the server asks clients for a certificate, which browsers hardly have"
        }
        _ => "TLS did not come about: is it a TLS port at all?",
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
            "the answer is no upgrade of this handshake: a proxy changed its headers, or this is \
             no WebSocket server"
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
            let advice = "the port is open and nobody answers, plain requests neither: does the proxy \
                          reach the server, and is it a port of HTTP?";
            return (what, advice.to_owned());
        }
    };
    let what =
        format!("{}; a plain GET is answered with {status} ({})", with_causes(error), by(headers));
    let proxy = Proxy::of(headers);
    let advice = if text(headers, WSERVER_ERROR).is_some() {
        format!(
            "requests reach wserver, and upgrades do not: {} drops them; {}",
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
        ("needs HTTP/1.1", "a proxy asks the server with HTTP/1.0"),
        ("the Upgrade header", "a proxy took the header Upgrade away"),
        ("the Connection header", "a proxy took the header Connection away"),
    ];
    if let Some((_, what)) = upgrade.iter().find(|(words, _)| reason.contains(words)) {
        return format!("{what}; {}", Proxy::of(headers).cure(Fault::Upgrade));
    }
    let table = [
        ("Sec-WebSocket-Key", "a proxy took the header Sec-WebSocket-Key away, or changed it"),
        (
            "Sec-WebSocket-Version",
            "a proxy took the header Sec-WebSocket-Version away, or changed it",
        ),
        ("Origin", "add the origin to the setting origin"),
        (
            "no such path",
            "ws_path is another: give the whole URL, as wss://HOST/ws; with a proxy, does \
             it change the path?",
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
            _ => "the server's log says more, with log = \"debug\"",
        },
        |(_, advice)| advice,
    );
    advice.to_owned()
}

fn refused_by_another(status: StatusCode, headers: &HeaderMap) -> String {
    if status.is_redirection() {
        let place = text(headers, LOCATION.as_str()).unwrap_or_else(|| "another place".to_owned());
        return format!("WebSockets follow no redirect: use the URL it leads to, {place}");
    }
    let proxy = Proxy::of(headers);
    let advice = match status.as_u16() {
        400 => "the proxy itself refused the handshake, or this is no wserver",
        401 | 403 => "something in front asks who comes, or filters: let the handshake through",
        404 | 405 => {
            "the proxy passes this path on to nobody, or to another program: pass /ws on to wserver"
        }
        426 => {
            let cure = proxy.cure(Fault::Upgrade);
            return format!("the proxy wants another protocol: let it speak HTTP/1.1 here; {cure}");
        }
        200..300 => {
            "a page came in place of the upgrade: the proxy passes this path on to another program"
        }
        502..=504 => {
            let cure = proxy.cure(Fault::Backend);
            return format!(
                "the proxy does not reach wserver: is it running, and the address right ({cure})?"
            );
        }
        _ => "look at the proxy's log",
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
        Some(1001) => "the server was shutting down: try again",
        Some(1008) => {
            "the server did not take the registration, so it does not keep the connection: \
                       name a token with --token-file"
        }
        Some(1013) => "the server's queues are full",
        _ => "the server's log says more, with log = \"debug\"",
    }
}

/// For a push that failed: the finding and the remedy.
pub(super) fn refused_push(error: &PushError) -> (String, &'static str) {
    let advice = match error {
        PushError::Refused { status, .. } => match status.as_u16() {
            401 => "name a push key with --key-file",
            403 => "pushes from here need a key: --key-file; or another place, with --push-url",
            404 => "pushes are taken elsewhere: name it with --push-url",
            429 => "this key pushes too often: try again",
            _ => "does this path lead to wserver? --push-url names another",
        },
        PushError::NoReceipt { .. } => "this is no wserver: name its URL with --push-url",
        _ => "is it reachable from here? --push-url names another place",
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
            "a push key was sent, and did not arrive".to_owned(),
            format!(
                "the header Authorization was taken away by {}; {}",
                proxy.shown(),
                proxy.cure(Fault::Authorization)
            ),
        ),
        Some(reason) => (
            format!("wserver says: {reason}"),
            "is it a key of this server, and the newest?".to_owned(),
        ),
        None => (
            format!("the push was answered with 401 ({})", by(headers)),
            format!(
                "something in front asks who comes, and wserver never saw the key; {}",
                proxy.cure(Fault::Authorization)
            ),
        ),
    };
    Some((what, advice))
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned())
}

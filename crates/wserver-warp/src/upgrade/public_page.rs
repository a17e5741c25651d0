//! Notices a page of another site that reaches a server with open pushes.

use std::sync::atomic::{AtomicBool, Ordering};

use hyper::HeaderMap;
use hyper::header::ORIGIN;
use tracing::warn;
use wserver_api::is_loopback_host;

/// Notices that pages of other sites reach a server whose pushes are open to every client.
#[derive(Debug, Default)]
pub(crate) struct PublicPage {
    is_told: AtomicBool,
}

impl PublicPage {
    /// Checks the head of an accepted WebSocket; logs only once.
    pub(crate) fn look(&self, headers: &HeaderMap) {
        if self.is_told.load(Ordering::Relaxed) {
            return;
        }
        let Some(origin) = headers.get(ORIGIN).and_then(|it| it.to_str().ok()) else { return };
        if is_public(origin) && !self.is_told.swap(true, Ordering::Relaxed) {
            warn!(
                origin = %origin.escape_debug().take(64).collect::<String>(),
                "a page of another site has opened a WebSocket, so strangers can reach this port, and everyone who reaches it may push to all users: set push_key_file, or remove \
                 allow_open_push"
            );
        }
    }
}

/// Whether a page of this origin comes from another machine.
fn is_public(origin: &str) -> bool {
    origin.split_once("://").is_some_and(|(_, host)| !host.is_empty() && !is_loopback_host(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_this_machine_are_not_public() {
        for (origin, expected) in [
            ("https://app.example.com", true),
            ("http://192.0.2.1:3000", true),
            ("http://localhost.evil.example", true),
            ("http://localhost:3000", false),
            ("http://127.0.0.1:22345", false),
            ("http://[::1]:8", false),
            ("null", false),
            ("file://", false),
            ("", false),
        ] {
            assert_eq!(is_public(origin), expected, "{origin}");
        }
    }
}

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

    /// Counts what is logged on this thread.
    #[derive(Clone, Default)]
    struct Logged(std::sync::Arc<std::sync::atomic::AtomicUsize>);

    impl tracing::Subscriber for Logged {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }

        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

        fn event(&self, _: &tracing::Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn enter(&self, _: &tracing::span::Id) {}

        fn exit(&self, _: &tracing::span::Id) {}
    }

    /// One page is reason enough, and the log of a server is not for strangers to fill.
    #[test]
    fn the_first_page_of_another_site_is_told_of() {
        let logged = Logged::default();
        let page = PublicPage::default();
        tracing::subscriber::with_default(logged.clone(), || {
            for (origin, total) in [
                ("http://localhost:3000", 0),
                ("https://app.example.com", 1),
                ("https://app.example.com", 1),
                ("https://other.example.com", 1),
            ] {
                let mut headers = HeaderMap::new();
                headers.insert(ORIGIN, origin.parse().unwrap());
                page.look(&headers);
                assert_eq!(logged.0.load(Ordering::Relaxed), total, "{origin}");
            }
        });
    }
}

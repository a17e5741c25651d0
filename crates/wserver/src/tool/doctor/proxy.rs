//! Recognises the proxy in front by its headers, and names the setting to change there.

use http::HeaderMap;
use http::header::{SERVER, VIA};

/// A program that passes requests on to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Nginx,
    Apache,
    Haproxy,
    Caddy,
    Lighttpd,
    Varnish,
    Squid,
    Envoy,
}

/// A fault of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It does not pass the upgrade on.
    Upgrade,
    /// It ends connections that are silent for some time.
    Impatience,
    /// It buffers what it should pass on.
    Buffering,
    /// It removes the header `Authorization`.
    Authorization,
    /// It does not reach the server.
    Backend,
}

use Program::{Apache, Caddy, Envoy, Haproxy, Lighttpd, Nginx, Squid, Varnish};

/// The names of programs in `Server` and `Via`, in lower case; the first that the header contains
/// counts.
const NAMES: [(&str, Program); 11] = [
    ("nginx", Nginx),
    ("openresty", Nginx),
    ("tengine", Nginx),
    ("lighttpd", Lighttpd),
    ("apache", Apache),
    ("httpd", Apache),
    ("haproxy", Haproxy),
    ("caddy", Caddy),
    ("varnish", Varnish),
    ("squid", Squid),
    ("envoy", Envoy),
];

/// The programs to give advice for if no proxy has named itself: the most common ones, and one that
/// never names itself.
const LIKELY: [Program; 3] = [Nginx, Apache, Haproxy];

/// The proxy in front, as the headers of an answer show it.
#[derive(Debug, Clone, Default)]
pub(super) struct Proxy {
    /// Its own name for itself.
    shown: Option<String>,
    program: Option<Program>,
}

impl Proxy {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        // A proxy names itself in one of these headers; our own server sends neither.
        let told: Vec<String> = [VIA, SERVER]
            .iter()
            .flat_map(|name| headers.get_all(name))
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        let program = told.iter().find_map(|told| {
            let told = told.to_ascii_lowercase();
            NAMES.iter().find(|(name, _)| told.contains(name)).map(|(_, program)| *program)
        });
        let shown = (!told.is_empty()).then(|| told.join(", "));
        Self { shown, program }
    }

    /// Its name, for a sentence.
    pub(super) fn shown(&self) -> &str {
        self.shown.as_deref().unwrap_or("a program that sends neither Server nor Via")
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.shown.as_deref()
    }

    /// The setting to change there, or the settings of likely programs if it has not named itself.
    pub(super) fn cure(&self, fault: Fault) -> String {
        if let Some(program) = self.program {
            return format!("{}: {}", program.name(), program.cure(fault));
        }
        let likely = LIKELY.map(|it| format!("{}: {}", it.name(), it.cure(fault)));
        likely.join("; ")
    }
}

impl Program {
    const fn name(self) -> &'static str {
        match self {
            Nginx => "nginx",
            Apache => "Apache",
            Haproxy => "HAProxy",
            Caddy => "Caddy",
            Lighttpd => "lighttpd",
            Varnish => "Varnish",
            Squid => "Squid",
            Envoy => "Envoy",
        }
    }

    const fn cure(self, fault: Fault) -> &'static str {
        match (self, fault) {
            (Nginx, Fault::Upgrade) => {
                "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header \
                 Connection \"upgrade\""
            }
            (Nginx, Fault::Impatience) => "proxy_read_timeout 75s",
            (Nginx, Fault::Buffering) => "proxy_buffering off",
            (Nginx, Fault::Authorization) => {
                "proxy_set_header Authorization $http_authorization instead of proxy_set_header \
                 Authorization \"\""
            }
            (Nginx, Fault::Backend) => "proxy_pass",
            (Apache, Fault::Upgrade) => {
                "ProxyPass \"/ws\" \"http://127.0.0.1:12345/ws\" upgrade=websocket (2.4.47 or later)"
            }
            (Apache, Fault::Impatience) => "ProxyTimeout 75, or timeout=75 after its ProxyPass",
            (Apache, Fault::Buffering) => "flushpackets=on after its ProxyPass",
            (Apache, Fault::Authorization) => {
                "no RequestHeader unset Authorization, and no AuthType for this path"
            }
            (Apache, Fault::Backend) => "ProxyPass",
            (Haproxy, Fault::Upgrade) => {
                "no http-request del-header upgrade, and no option httpclose: HAProxy passes \
                 upgrades on by default"
            }
            (Haproxy, Fault::Impatience) => "timeout tunnel 75s",
            (Haproxy, Fault::Buffering) => "no option http-buffer-request",
            (Haproxy, Fault::Authorization) => "no http-request del-header authorization",
            (Haproxy, Fault::Backend) => "server",
            (Caddy, Fault::Upgrade) => {
                "no header_up that changes Upgrade or Connection: reverse_proxy passes upgrades on \
                 by default"
            }
            (Caddy, Fault::Impatience) => "no stream_timeout in its reverse_proxy",
            (Caddy, Fault::Buffering) => "flush_interval -1",
            (Caddy, Fault::Authorization) => "no header_up -Authorization, and no basic_auth",
            (Caddy, Fault::Backend) => "reverse_proxy",
            (Lighttpd, Fault::Upgrade) => "proxy.header = ( \"upgrade\" => \"enable\" )",
            (Lighttpd, Fault::Impatience) => {
                "server.max-read-idle and server.max-write-idle of 75 or more"
            }
            (Lighttpd, Fault::Buffering) => "server.stream-response-body = 2",
            (Lighttpd, Fault::Authorization) => "no auth.require for this path",
            (Lighttpd, Fault::Backend) => "proxy.server",
            (Varnish, Fault::Upgrade) => {
                "in vcl_recv: if (req.http.upgrade ~ \"(?i)websocket\") { return (pipe); }; in vcl_pipe: \
                 set bereq.http.upgrade = req.http.upgrade; set bereq.http.connection = \
                 req.http.connection;"
            }
            (Varnish, Fault::Impatience) => "its parameter pipe_timeout of 75 s or more",
            (Varnish, Fault::Buffering) => "set beresp.do_stream = true;",
            (Varnish, Fault::Authorization) => {
                "no unset req.http.Authorization, and return (pass) for this path"
            }
            (Varnish, Fault::Backend) => "backend",
            (Squid, Fault::Upgrade) => {
                "http_upgrade_request_protocols websocket allow all (version 5 or later)"
            }
            (Squid, Fault::Impatience) => "read_timeout and client_lifetime above 75 seconds",
            (Squid, Fault::Buffering) => "read_ahead_gap 0 KB",
            (Squid, Fault::Authorization) => "login=PASSTHRU after its cache_peer",
            (Squid, Fault::Backend) => "cache_peer",
            (Envoy, Fault::Upgrade) => "upgrade_configs: [{ upgrade_type: websocket }]",
            (Envoy, Fault::Impatience) => "stream_idle_timeout of the route, above 75s",
            (Envoy, Fault::Buffering) => "no buffer filter",
            (Envoy, Fault::Authorization) => "no authorization in request_headers_to_remove",
            (Envoy, Fault::Backend) => "cluster",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cure_is_that_of_whoever_stands_between() {
        for (name, value, expected) in [
            ("server", "nginx/1.22.1", "nginx: proxy_http_version 1.1"),
            ("server", "openresty", "nginx: "),
            ("server", "Apache/2.4.65 (Debian)", "Apache: ProxyPass"),
            ("server", "lighttpd/1.4.69", "lighttpd: proxy.header"),
            ("via", "1.1 varnish (Varnish/7.1)", "Varnish: in vcl_recv"),
            ("via", "1.1 host (squid/5.7)", "Squid: http_upgrade_request_protocols"),
            ("server", "Caddy", "Caddy: "),
            ("server", "envoy", "Envoy: "),
            ("server", "unheard-of", "nginx: "),
        ] {
            let headers = [(name.parse().unwrap(), value.parse().unwrap())];
            let proxy = Proxy::of(&headers.into_iter().collect());
            let cure = proxy.cure(Fault::Upgrade);
            assert!(cure.starts_with(expected), "{value}: {cure}");
            assert_eq!(cure.contains("HAProxy"), value == "unheard-of", "{value}: {cure}");
            assert_eq!(proxy.name(), Some(value));
        }
        assert_eq!(Proxy::of(&HeaderMap::new()).name(), None);
    }
}

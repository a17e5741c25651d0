//! The start-up log: where the server listens, who may do what, and how to try it with the settings in force.

use std::net::SocketAddr;

use tracing::{info, warn};
use wserver_warp::{BoundServer, TokenSource};

use crate::access::{Access, is_plain_http};
use crate::settings::{Limits, Loaded, Origin, Settings};

/// The facts that the start-up log reports.
#[derive(Debug)]
pub(crate) struct Announcement<'a> {
    pub(crate) loaded: &'a Loaded,
    pub(crate) limits: &'a Limits,
    pub(crate) access: &'a Access,
    /// Where pushes were placed, by a setting or by the program that started this one.
    pub(crate) private: Option<String>,
    pub(crate) server: &'a BoundServer,
}

impl Announcement<'_> {
    /// Logs all of it.
    pub(crate) fn tell(&self) {
        self.tell_addresses();
        self.tell_listeners();
        self.tell_plain_http();
        self.tell_publishers();
        self.tell_limits();
        self.tell_how_to_try();
    }

    fn settings(&self) -> &Settings {
        &self.loaded.settings
    }

    /// The address of pushes, if it is not the address of browsers.
    fn private(&self) -> Option<String> {
        let bound = self.server.private_addr().map(|it| it.to_string());
        bound.or_else(|| self.private.clone())
    }

    fn tell_addresses(&self) {
        let settings = self.settings();
        if let Some(config) = &self.loaded.config {
            info!(config = %config.display(), "settings file");
        }
        let address = self.server.local_addr();
        info!(version = env!("CARGO_PKG_VERSION"), %address, ws_path = settings.ws_path, push_path = settings.push_path, "listening");
        if let Some(address) = self.private() {
            info!(address, push_path = settings.push_path, "pushes have a separate address");
        }
    }

    fn tell_listeners(&self) {
        let settings = self.settings();
        if self.access.authenticator.is_none() {
            warn!(
                "clients are not authenticated: the token is the user id; to authenticate them, \
                 use --tokens-file FILE, or write [jwt] or [callback] into a settings file \
                 (`wserver config` shows them)"
            );
        } else {
            let methods = [
                (settings.tokens_file.is_some(), "tokens_file"),
                (has_jwt(settings), "jwt"),
                (settings.callback_url.is_some(), "callback"),
            ];
            info!(by = named(methods), "clients are authenticated");
        }
        if settings.origin == ["any"] {
            info!("web pages of every origin may connect; restrict them with --origin");
        }
        if matches!(settings.token_source, TokenSource::Query(_)) {
            warn!(
                "tokens are read from the URL's query, which proxies log and browsers remember \
                 (token_source)"
            );
        }
    }

    fn tell_plain_http(&self) {
        let settings = self.settings();
        let urls = [
            ("jwt_allow_plain_http", settings.jwt_allow_plain_http, &settings.jwt_jwks_url),
            (
                "push_jwt_allow_plain_http",
                settings.push_jwt_allow_plain_http,
                &settings.push_jwt_jwks_url,
            ),
            (
                "callback_allow_plain_http",
                settings.callback_allow_plain_http,
                &settings.callback_url,
            ),
        ];
        for (setting, is_allowed, url) in urls {
            if is_allowed && url.as_deref().is_some_and(is_plain_http) {
                warn!(
                    setting,
                    "plain HTTP is allowed: anyone on the network path can read and change the \
                     requests, and so gain access"
                );
            }
        }
    }

    fn tell_publishers(&self) {
        let settings = self.settings();
        if self.access.push_authorizer.is_some() {
            let methods = [
                (settings.push_key_file.is_some(), "push_key_file"),
                (settings.push_key.is_some(), "push_key"),
                (!settings.publisher.is_empty(), "publisher"),
                (has_push_jwt(settings), "push_jwt"),
            ];
            info!(by = named(methods), "publishers are authenticated");
        } else if settings.allow_open_push {
            warn!("everyone who can reach this port may push to all users (allow_open_push)");
        } else if self.asks_for_certificates() {
            info!(by = "client certificates", "publishers are authenticated");
        } else {
            info!(
                "pushes need no key, so only programs on this machine may push; to require one, \
                 use --push-key-file FILE, or write [[publisher]] or [push_jwt] into a settings \
                 file (`wserver key` makes a publisher)"
            );
        }
    }

    fn asks_for_certificates(&self) -> bool {
        let settings = self.settings();
        match self.private() {
            Some(_) => settings.private_client_ca_file.is_some(),
            None => settings.tls_client_ca_file.is_some(),
        }
    }

    fn tell_limits(&self) {
        let Limits { session: limits, http } = self.limits;
        if limits.connections_max < self.loaded.limits.session.connections_max {
            warn!(
                connections_max = limits.connections_max,
                http_connections_max = http.http_connections_max,
                "the limit of open files lowers the connection limits; raise it (ulimit -n, \
                 LimitNOFILE)"
            );
        }
        info!(
            connections_max = limits.connections_max,
            bindings_per_connection_max = limits.bindings_per_connection_max,
            message_bytes_max = limits.message_bytes_max,
            outbox_bytes_max = limits.outbox_bytes_max,
            inbound_message_bytes_max = limits.inbound_message_bytes_max,
            register_timeout = ?limits.register_timeout,
            ping_interval = ?limits.ping_interval,
            pong_timeout = ?limits.pong_timeout,
            "limits"
        );
    }

    /// Logs commands that work with the settings in force, because a command that fails is worse
    /// than none.
    fn tell_how_to_try(&self) {
        let settings = self.settings();
        let hint = self.token_hint();
        if let Some(hint) = &hint {
            info!("to try it, you need a token: {hint}");
        }
        let pushes = self.pushes();
        let sockets = web(self.server.local_addr(), "ws", settings.tls_certificate_file.is_some());
        if self.server.serves_demo_page() {
            let what = match hint {
                None => "push from there",
                Some(_) => "enter the token instead of a name, push from there",
            };
            info!("try it: open {}/, {what}, or from a shell:", pushes.url);
        } else {
            let token = if hint.is_none() { "demo" } else { "TOKEN" };
            info!(
                "try it: connect to {sockets}{} and send {{\"token\":\"{token}\",\"event\":\"notify\"}}, then run:",
                settings.ws_path
            );
        }
        let key = match &self.access.push_authorizer {
            Some(_) if is_push_jwt_alone(settings) => "-H 'Authorization: Bearer PUSH_TOKEN' ",
            Some(_) => "-H 'Authorization: Bearer PUSH_KEY' ",
            None => "",
        };
        let user = if hint.is_none() || self.is_token_made() { "demo" } else { "USER" };
        info!(
            "  curl {key}{}{}{} -d '{{\"userId\":\"{user}\",\"event\":\"notify\",\"message\":\"hello\"}}'",
            pushes.flags, pushes.url, settings.push_path
        );
    }

    /// The URL to which a shell pushes.
    fn pushes(&self) -> Pushes {
        let settings = self.settings();
        match (self.private().as_deref(), self.server.private_addr()) {
            (Some(private), None) => Pushes {
                flags: format!("--unix-socket {} ", private.trim_start_matches("unix:")),
                url: "http://localhost".to_owned(),
            },
            (_, Some(address)) => {
                Pushes::at(address, settings.private_tls_certificate_file.is_some())
            }
            (None, None) => {
                Pushes::at(self.server.local_addr(), settings.tls_certificate_file.is_some())
            }
        }
    }

    /// Whether this program can make a token.
    fn is_token_made(&self) -> bool {
        self.access.authenticator.is_some() && has_jwt(self.settings())
    }

    /// Where to get a token for a try; `None` if clients need no authentication.
    fn token_hint(&self) -> Option<String> {
        let settings = self.settings();
        self.access.authenticator.as_ref()?;
        if self.is_token_made() {
            return Some(format!("`{}` makes one", self.token_make()));
        }
        if let Some(file) = &settings.tokens_file {
            return Some(format!("{} lists them, one TOKEN USER per line", file.display()));
        }
        let url = settings.callback_url.as_deref().unwrap_or_default();
        Some(format!("one that {url} accepts; USER is the user that it returns"))
    }

    /// The command that makes a token which these settings accept.
    fn token_make(&self) -> String {
        let mut command = String::new();
        // The command has no flags for them.
        for it in &self.loaded.effective {
            let is_flag = it.origin == Origin::Flag && it.definition.name.starts_with("jwt_");
            if let Some(shown) = it.shown.as_deref().filter(|_| is_flag) {
                let plain = shown.trim_matches(['[', ']']).replace("\", \"", ",").replace('"', "");
                command += &format!("{}={} ", it.definition.variable(), quoted(&plain));
            }
        }
        command += "wserver token make --user demo";
        if let Some(config) = &self.loaded.config {
            command += &format!(" --config {}", quoted(&config.display().to_string()));
        }
        if self.settings().jwt_secret_file.is_none() {
            command += " --key-file ISSUER_PRIVATE_KEY.pem";
        }
        command
    }
}

/// A URL without its path, and the options that curl needs for it.
struct Pushes {
    flags: String,
    url: String,
}

impl Pushes {
    fn at(address: SocketAddr, is_tls: bool) -> Self {
        Self { flags: String::new(), url: web(address, "http", is_tls) }
    }
}

fn has_jwt(settings: &Settings) -> bool {
    settings.jwt_secret_file.is_some()
        || settings.jwt_public_key_file.is_some()
        || settings.jwt_jwks_file.is_some()
        || settings.jwt_jwks_url.is_some()
}

fn has_push_jwt(settings: &Settings) -> bool {
    settings.push_jwt_secret_file.is_some()
        || settings.push_jwt_public_key_file.is_some()
        || settings.push_jwt_jwks_file.is_some()
        || settings.push_jwt_jwks_url.is_some()
}

fn is_push_jwt_alone(settings: &Settings) -> bool {
    has_push_jwt(settings)
        && settings.push_key_file.is_none()
        && settings.push_key.is_none()
        && settings.publisher.is_empty()
}

/// The names of the methods that are on.
fn named<const N: usize>(methods: [(bool, &str); N]) -> String {
    let on = methods.iter().filter(|(is_on, _)| *is_on);
    on.map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}

/// A word, quoted for a shell.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-,:=".contains(&byte);
    if text.bytes().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// The URL at which a person reaches `address` from this machine.
fn web(address: SocketAddr, scheme: &str, is_tls: bool) -> String {
    let secure = if is_tls { "s" } else { "" };
    if address.ip().is_unspecified() {
        format!("{scheme}{secure}://localhost:{}", address.port())
    } else {
        format!("{scheme}{secure}://{address}")
    }
}

//! All settings of an operator, in one table.
//!
//! One line here defines a setting completely. Its name is the key in the file; with dashes it is
//! the flag, and in capitals after `WSERVER_` the environment variable. Its comment is the help
//! text, the comment in the default file, and the reference in docs/configuration.md. The name also
//! determines the table of the file that contains the setting, see
//! [`TABLES`](super::definition::TABLES).
//!
//! This module names and reads settings; [`Server::builder`] checks whether they fit together.
//!
//! [`Server::builder`]: wserver_warp::Server::builder

use wserver_warp::{ConnectionsPerUserPolicy, HttpLimitSettings, LimitSettings};

use super::define::settings;
use super::definition::Definition;
use super::kind::{
    Choice, Count, EventPatterns, File, List, LogFormat, Records, Secret, Size, Switch, Text, Time,
    TokenFrom, WebPath,
};
use super::layers::Record;
use super::publisher::Publisher;

/// Every setting, in the order of the help.
pub(crate) fn definitions() -> impl Iterator<Item = &'static Definition> {
    Settings::DEFINITIONS.iter().chain(Limits::DEFINITIONS)
}

settings! {
    /// All settings except the limits.
    struct Settings

    "Addresses and paths" {
        /// Public address, where browsers connect: host:port; `:port` means every IPv4 address of this machine, `[::]:port` IPv6 too
        address: Text = wserver_warp::DEFAULT_ADDRESS, short('a');
        /// Path where browsers open their WebSocket
        ws_path: WebPath = "/ws";
        /// Path where backends post pushes
        push_path: WebPath = "/push";
        /// Separate address for pushes, so that the public address serves only WebSockets: host:port, or `unix:/path`. If it is not set and pushes need no key, only this machine can push, at the port of the public address plus 10000: 22345 for 12345
        private_address: Option<Text>;
        /// Do not serve the playground. It is at / where pushes are taken. If this is not set, it is served only where only this machine can reach it: at a loopback address, without trusted_proxies and, where pushes have an address of their own, only with origin any. `false` also serves it to other machines
        no_demo: Option<Switch>;
    }

    "TLS" {
        /// PEM file with the certificate and its chain, the server's own certificate first. With tls_key_file, the public address speaks only TLS. The server reloads the file when it changes
        tls_certificate_file: Option<File>;
        /// PEM file with the certificate's private key, not encrypted
        tls_key_file: Option<File>;
        /// PEM file of certificate authorities; only clients with a certificate from one of them can connect, and browsers rarely have one
        tls_client_ca_file: Option<File>;
        /// Like tls_certificate_file, for the private address
        private_tls_certificate_file: Option<File>;
        /// Like tls_key_file, for the private address
        private_tls_key_file: Option<File>;
        /// Like tls_client_ca_file, for the private address; if no key is set, a client's certificate is enough to push
        private_client_ca_file: Option<File>;
    }

    "Access for clients and publishers" {
        /// Web pages that may connect: any, same-origin, or a comma-separated list of origins as browsers send them, such as `https://app.example.com`; null means pages without an origin, `file://` pages from files
        origin: List = "any";
        /// Proxies whose X-Forwarded-For gives the client's address: a comma-separated list of addresses, or of networks such as 10.0.0.0/8
        trusted_proxies: Option<List>;
        /// Where the token comes from if a register message has none: message (nowhere), authorization (the Bearer header of the handshake), cookie:NAME (requires an origin other than any), query:NAME (appears in logs of proxies)
        token_source: TokenFrom = "message";
        /// File of clients' tokens, with one TOKEN USER per line. If it is not set, the token is the user id
        tokens_file: Option<File>, reloads_listeners();
        /// File of push keys, one per line, each at least 16 bytes; several keys allow rotation
        push_key_file: Option<File>, reloads_publishers();
        /// A single push key, for when there is no file of keys
        push_key: Option<Secret>;
        /// Publishers by name, each with a key, a scope and a rate, in addition to the keys above. `wserver key` makes one
        publisher: Records<Publisher>, reloads_publishers();
        /// Take pushes without a key at the public address, from everyone who can reach it, including the clients of a proxy on this machine. Web pages of other sites are refused, unless their name was rebound to this server's address. If this is off and no key is set, only this machine can push, at a separate port: see private_address
        allow_open_push: Switch = "false";
    }

    "JSON Web Tokens for clients" {
        /// File of a shared secret of at least 32 bytes, for HS256, HS384 and HS512; one line end after the secret is ignored. Setting one of the four sources of keys turns on JSON Web Tokens for clients
        jwt_secret_file: Option<File>, reloads_listeners();
        /// PEM file of the issuer's public key
        jwt_public_key_file: Option<File>, reloads_listeners();
        /// File of the issuer's JSON Web Key Set
        jwt_jwks_file: Option<File>, reloads_listeners();
        /// URL of the issuer's JSON Web Key Set; https, or http on this machine. The server fetches the set at the start, when the set is old, and when a token names a key that the set lacks
        jwt_jwks_url: Option<Text>, reloads_listeners();
        /// PEM file of the certificate authorities to trust for jwks_url, in place of the system's
        jwt_ca_file: Option<File>, reloads_listeners();
        /// Allow http for jwks_url beyond this machine. An attacker between the two can then make tokens, so use it only in a network that nobody else can enter
        jwt_allow_plain_http: Switch = "false", reloads_listeners();
        /// Maximum duration of one fetch of the set
        jwt_jwks_timeout: Time = "5s", reloads_listeners();
        /// Age at which a set is old; the server fetches it again when it next needs it
        jwt_jwks_renew_after: Time = "10m", reloads_listeners();
        /// Minimum time between two fetches, whatever keys tokens name
        jwt_jwks_fetch_interval_min: Time = "10s", reloads_listeners();
        /// How long the keys stay valid while the issuer cannot be reached
        jwt_jwks_stale_max: Time = "1day", reloads_listeners();
        /// Algorithms to accept, out of those that the keys permit; all of these if not set
        jwt_algorithms: Option<List>, reloads_listeners();
        /// Accepted audiences; a token must name one of them. any also accepts tokens that are meant for other services
        jwt_audience: Option<List>, reloads_listeners();
        /// Accepted issuers; any issuer with the key if not set
        jwt_issuer: Option<List>, reloads_listeners();
        /// Maximum difference between the issuer's clock and this machine's
        jwt_leeway: Time = "30s", reloads_listeners();
        /// Claim that holds the user id
        jwt_user_claim: Text = "sub", reloads_listeners();
        /// Claim that lists, as patterns, the events that a token may register; every event if not set
        jwt_events_claim: Option<Text>, reloads_listeners();
    }

    "JSON Web Tokens for publishers" {
        /// Like jwt.secret_file, for tokens of publishers. Such a token must have the claims users and events, which list, as patterns, the users and events that it may push to
        push_jwt_secret_file: Option<File>, reloads_publishers();
        /// Like jwt.public_key_file
        push_jwt_public_key_file: Option<File>, reloads_publishers();
        /// Like jwt.jwks_file
        push_jwt_jwks_file: Option<File>, reloads_publishers();
        /// Like jwt.jwks_url
        push_jwt_jwks_url: Option<Text>, reloads_publishers();
        /// Like jwt.ca_file
        push_jwt_ca_file: Option<File>, reloads_publishers();
        /// Like jwt.allow_plain_http
        push_jwt_allow_plain_http: Switch = "false", reloads_publishers();
        /// Like jwt.jwks_timeout
        push_jwt_jwks_timeout: Time = "5s", reloads_publishers();
        /// Like jwt.jwks_renew_after
        push_jwt_jwks_renew_after: Time = "10m", reloads_publishers();
        /// Like jwt.jwks_fetch_interval_min
        push_jwt_jwks_fetch_interval_min: Time = "10s", reloads_publishers();
        /// Like jwt.jwks_stale_max
        push_jwt_jwks_stale_max: Time = "1day", reloads_publishers();
        /// Like jwt.algorithms
        push_jwt_algorithms: Option<List>, reloads_publishers();
        /// Like jwt.audience; preferably an audience that clients' tokens do not have
        push_jwt_audience: Option<List>, reloads_publishers();
        /// Like jwt.issuer
        push_jwt_issuer: Option<List>, reloads_publishers();
        /// Like jwt.leeway
        push_jwt_leeway: Time = "30s", reloads_publishers();
    }

    "Callback: a backend that checks tokens" {
        /// URL to which the server posts tokens; https, or http on this machine
        callback_url: Option<Text>, reloads_listeners();
        /// PEM file of the certificate authorities to trust for the backend, in place of the system's
        callback_ca_file: Option<File>, reloads_listeners();
        /// Allow http for the url beyond this machine. An attacker between the two then sees every token, so use it only in a network that nobody else can enter
        callback_allow_plain_http: Switch = "false", reloads_listeners();
        /// File of a secret that each call carries as `Authorization: Bearer`
        callback_secret_file: Option<File>, reloads_listeners();
        /// Headers of the handshake that each call carries; a change applies to connections that are opened after it
        callback_forward_headers: Option<List>, reloads_listeners();
        /// Maximum duration of one call
        callback_timeout: Time = "3s", reloads_listeners();
        /// Maximum number of calls at once; one address can have at most three quarters of them
        callback_concurrency_max: Count<usize> = "64", reloads_listeners();
        /// Maximum number of registrations that wait for a call while concurrency_max calls run. Addresses take turns; beyond the maximum, the server refuses a registration of the address that has the most waiting
        callback_waiting_max: Count<usize> = "1024", reloads_listeners();
        /// Maximum time that a registration waits for a call
        callback_wait_max: Time = "1s", reloads_listeners();
        /// How long to remember an answer; 0 disables it
        callback_cache_for: Time = "10s", reloads_listeners();
        /// How long to remember a refusal; 0 disables it
        callback_cache_refusals_for: Time = "5s", reloads_listeners();
        /// Maximum number of answers to remember, and of refusals; beyond it the server forgets the oldest
        callback_cache_entries_max: Count<usize> = "10000", reloads_listeners();
        /// Number of failures in a row after which the server stops calling the backend and refuses registrations at once. It counts failed connections, and addresses whose call got no answer in time, or 502, 503 or 504
        callback_failures_max: Count<u32> = "5", reloads_listeners();
        /// How long the server does not call a failing backend; after that, one call tests whether it works again
        callback_rest: Time = "5s", reloads_listeners();
    }

    "Cluster" {
        /// URL of the broker that connects the nodes: `redis://host:6379`, `redis-sentinel://a:26379,b:26379/mastername`, `redis-cluster://a:6379,b:6379` (with TLS rediss, rediss-sentinel, rediss-cluster), or `nats://a:4222,b:4222` (with TLS tls). If it is not set, the server runs alone
        cluster_broker: Option<Text>;
        /// Name of the cluster at its broker, which several clusters can share; the same on every node
        cluster_name: Text = "wserver";
        /// Name of this node in answers and logs; if not set, its id, which changes at each start
        cluster_node_name: Option<Text>;
        /// User at the broker
        cluster_username: Option<Text>;
        /// File of the password at the broker
        cluster_password_file: Option<File>;
        /// File of NATS credentials, as `nsc` makes it: a JWT and the seed of a key
        cluster_credentials_file: Option<File>;
        /// PEM file of the certificate authorities to trust for the broker, in place of the system's
        cluster_ca_file: Option<File>;
        /// Start even if the broker is unavailable, and join as soon as it is available; until then the server is not ready
        cluster_wait_for_broker: Switch = "false";
        /// How long to keep waiting for a node that has gone silent
        cluster_lease: Time = "5s";
        /// Close connections when the node has been cut off from the other nodes for longer than lease, so that clients reconnect to a node that is not cut off
        cluster_release_when_cut_off: Switch = "true";
        /// After being cut off for this long, the node closes its remaining connections and refuses new ones until it is back, so that the other nodes know that it has none; `0s` means never
        cluster_cut_off_max: Time = "1h";
        /// How long a push waits for the answers of other nodes; a node that gets the push later discards it
        cluster_answer_timeout: Time = "1s";
        /// Maximum bytes that wait for the broker, and also maximum bytes from the broker that wait
        cluster_queue_bytes_max: Size = "16MiB";
        /// Maximum number of pushes and questions that wait for the answers of other nodes
        cluster_requests_max: Count<usize> = "65536";
    }

    "Shutdown" {
        /// Close code for a shutdown: 1001 (going away) or 1012 (service restart)
        drain_close_code: Count<u16> = "1001";
    }

    "Log and reload" {
        /// Format of log lines, which go to standard error
        log_format: Choice<LogFormat> = "human";
        /// Log level (off, error, warn, info, debug, trace), or a filter such as `wserver_warp=debug,info`; any other word is an error
        log: Text = "info", reloads();
        /// How often to check the files that settings name for changes; 0 means never. SIGHUP reloads at any time
        reload_interval: Time = "5s", reloads();
    }
}

/// The limits, in the order in which they are shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Limits {
    /// Those of sessions and their node.
    pub(crate) session: LimitSettings,
    /// Those of HTTP.
    pub(crate) http: HttpLimitSettings,
}

settings! {
    fill Limits by parts

    "Limits" {
        /// How long a connection may stay without a registration; 0 means forever
        session.register_timeout: Time = "30s";
        /// Maximum duration of the check of one token
        session.authenticate_timeout: Time = "10s";
        /// Time between two pings
        session.ping_interval: Time = "25s";
        /// How long to wait for a pong
        session.pong_timeout: Time = "10s";
        /// How long a closing connection waits for the client's own Close
        session.close_timeout: Time = "5s";
        /// How long a client may take nothing of its queue before the server closes it as too slow
        session.stall_timeout: Time = "1m";
        /// Maximum size of a message from a client
        session.inbound_message_bytes_max: Size = "64KiB";
        /// Maximum number of fragments of one message from a client
        session.inbound_fragments_max: Count<usize> = "256";
        /// Messages and pings that a client may send per second in the long run
        session.inbound_messages_per_second: Count<u32> = "50";
        /// Messages and pings that a client may send at once
        session.inbound_messages_burst: Count<u32> = "200";
        /// Maximum number of registrations that wait behind one whose token is being checked
        session.registrations_pending_max: Count<usize> = "8";
        /// Maximum number of registrations of one connection
        session.bindings_per_connection_max: Count<usize> = "128";
        /// Maximum bytes of user ids and events in the registrations of one connection
        session.names_per_connection_bytes_max: Size = "64KiB";
        /// Maximum bytes of user ids and events in the registrations of all connections; the server refuses a registration beyond it
        session.names_bytes_max: Size = "1GiB";
        /// Maximum bytes of clients' messages that are incomplete or wait, over all connections
        session.inbound_bytes_max: Size = "256MiB";
        /// Maximum length of a user id, an event or a token
        session.name_bytes_max: Size = "4KiB";
        /// Maximum size of the message of a push
        session.message_bytes_max: Size = "1MiB";
        /// Maximum size of the body of a push; at least six times message_bytes_max plus 64KiB, because of JSON escapes
        http.push_body_bytes_max: Size = "8MiB";
        /// Maximum time for the whole body of a push to arrive
        http.push_body_timeout: Time = "20s";
        /// Maximum bytes of push bodies held at once
        http.push_bodies_bytes_max: Size = "256MiB";
        /// Maximum number of pushes in one batch, and of users in one request, over all its pushes
        http.batch_pushes_max: Count<usize> = "1000";
        /// Maximum bytes of answers to remember for requests with an Idempotency-Key, each for ten minutes
        http.idempotency_bytes_max: Size = "16MiB";
        /// Maximum time for a request head to arrive, counted from its first byte; for the first head, from the opening of the connection
        http.header_timeout: Time = "10s";
        /// How long to keep an HTTP connection for its next request; answers state it as `Keep-Alive: timeout=`. Make it longer than a proxy in front keeps its connections
        http.http_idle_timeout: Time = "75s";
        /// Maximum size of a request head
        http.head_bytes_max: Size = "16KiB";
        /// Maximum bytes queued for one connection; beyond it the server closes the connection as too slow
        session.outbox_bytes_max: Size = "4MiB";
        /// Maximum bytes queued over all connections; beyond it the server closes the connections with the most
        session.outboxes_bytes_max: Size = "2GiB";
        /// Maximum bytes for one user that wait for a fan-out under way; a push beyond it waits
        session.walk_bytes_max: Size = "128KiB";
        /// Events whose messages are kept for clients that come back: a comma-separated list of names, and of beginnings of names with `*`, such as order.*; nothing is kept if not set
        session.replay: EventPatterns = "";
        /// How long a message is kept
        session.replay_window: Time = "2m";
        /// Maximum bytes of the messages that are kept for one user; beyond it the oldest go
        session.replay_bytes_per_user_max: Size = "64KiB";
        /// Maximum bytes of all messages that are kept, with what keeping them costs; beyond it a user's oldest messages make room for its own
        session.replay_bytes_max: Size = "256MiB";
        /// Maximum number of WebSocket connections; lowered to what the limit of open files allows
        session.connections_max: Count<usize> = "100000";
        /// Maximum number of WebSocket connections from one address (IPv6: one /64); 0 means no limit
        http.connections_per_address_max: Count<usize> = "0";
        /// Maximum number of connections of one user; 0 means no limit
        session.connections_per_user_max: Count<usize> = "0";
        /// What to do with one connection more: refuse_new closes it, close_oldest closes the one opened first
        session.connections_per_user_policy: Choice<ConnectionsPerUserPolicy> = "refuse_new";
        /// WebSocket handshakes from one address (IPv6: one /64) per second in the long run; 0 means no limit
        http.handshakes_per_address_per_second: Count<u32> = "0";
        /// WebSocket handshakes from one address at once, if there is a limit
        http.handshakes_per_address_burst: Count<u32> = "50";
        /// Maximum number of HTTP connections of a listener, including handshakes
        http.http_connections_max: Count<usize> = "4096";
        /// Maximum number of HTTP connections from one address (IPv6: one /64), including TLS handshakes. It does not apply to trusted_proxies or to the private address. A browser opens six; 0 means no limit
        http.http_connections_per_address_max: Count<usize> = "0";
        /// Maximum duration of a whole shutdown
        session.drain_timeout: Time = "30s";
        /// How long a shutdown keeps serving, but not ready, so that load balancers notice
        session.drain_delay: Time = "0s";
        /// Time over which a shutdown closes connections, at most half of the time that is left; it closes at least 500 a second
        session.drain_spread: Time = "15s";
        /// Maximum bytes of the journal of recent refusals, drops and ends, which explains why a message did not arrive; 0 disables it
        session.journal_bytes_max: Size = "4MiB";
        /// Maximum number of users that are traced at once
        session.traces_max: Count<usize> = "16";
        /// Maximum number of push requests that wait for acknowledgements at once
        session.waits_max: Count<usize> = "1000";
        /// Maximum number of connections whose acknowledgements one request waits for; a push to more is refused
        session.wait_connections_max: Count<usize> = "1000";
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::super::definition::OnReload;
    use super::super::sources::{Loaded, Sources};
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_library() {
        assert_eq!(Loaded::defaults().limits, Limits::default());
    }

    #[test]
    fn every_limit_of_the_library_is_a_setting() {
        let shown = format!("{:?}", Limits::default());
        let names = shown.split([' ', '{', ',']).filter_map(|word| word.strip_suffix(':'));
        let names: HashSet<&str> =
            names.filter(|name| !["session", "http"].contains(name)).collect();
        assert_eq!(names, Limits::DEFINITIONS.iter().map(|it| it.name).collect());
    }

    #[test]
    fn every_setting_has_one_name_and_says_what_it_is() {
        let names: HashSet<&str> = definitions().map(|it| it.name).collect();
        assert_eq!(names.len(), definitions().count());
        for definition in definitions() {
            let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            assert!(definition.name.bytes().all(is_plain), "{}", definition.name);
            assert!(definition.doc().len() > 10, "{}", definition.name);
        }
    }

    /// Or a reload would apply half of what says who may listen or push, and hold back the rest.
    #[test]
    fn what_says_who_may_do_a_thing_is_reloaded_as_one() {
        for definition in definitions().filter(|it| it.on_reload != OnReload::NeedsRestart) {
            let name = definition.name;
            let of = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
            let expected = if of(&["jwt_", "callback_", "tokens_"]) {
                OnReload::AppliedToListeners
            } else if of(&["push_", "publisher"]) {
                OnReload::AppliedToPublishers
            } else {
                OnReload::Applied
            };
            assert_eq!(definition.on_reload, expected, "{name}");
        }
    }

    #[test]
    fn a_misspelt_variable_is_noticed() {
        let names = [
            "WSERVER_PING_INTERVALL",
            "WSERVER_PING_INTERVAL",
            "WSERVER_PUSH_KEY",
            "WSERVER_CONFIG",
            "WSERVER_X",
        ];
        let environment = names.iter().map(|name| ((*name).to_owned(), "1s".into())).collect();
        let sources = Sources { flags: BTreeMap::new(), config: None, environment };
        let warnings = sources.unknown_variables();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("did you mean WSERVER_PING_INTERVAL?"), "{warnings:?}");
        assert!(!warnings[1].contains("did you mean"), "{warnings:?}");
    }
}

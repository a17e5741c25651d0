//! What an operator may set: the one table of settings.
//!
//! A line here is everything there is to a new setting. Its name is its key in the file, with
//! dashes its flag, and in capitals behind `WSERVER_` its variable; its comment is the help, the
//! default file and the reference in docs/configuration.md. Which table of the file a setting
//! stands in follows from its name, see
//! [`TABLES`](super::definition::TABLES).
//!
//! It reads and names; whether the settings hold together is for [`Server::builder`] to say.
//!
//! [`Server::builder`]: wserver_warp::Server::builder

use wserver_warp::{ConnectionsPerUserPolicy, LimitSettings};

use super::define::settings;
use super::definition::Definition;
use super::kind::{
    Choice, Count, File, List, LogFormat, Records, Secret, Size, Switch, Text, Time, TokenFrom,
    WebPath,
};
use super::layers::Record;
use super::publisher::Publisher;

/// Every setting, in the order in which they are shown.
pub(crate) fn definitions() -> impl Iterator<Item = &'static Definition> {
    Settings::DEFINITIONS.iter().chain(LimitSettings::DEFINITIONS)
}

settings! {
    /// All settings but the limits.
    struct Settings

    "Addresses and paths" {
        /// Where to listen: host:port; :port is every IPv4 address of this machine, `[::]:port` IPv6 too
        address: Text = wserver_warp::DEFAULT_ADDRESS, short('a');
        /// Where browsers open their WebSocket
        ws_path: WebPath = "/ws";
        /// Where backends post messages
        push_path: WebPath = "/push";
        /// Where to serve pushes instead, so that the address carries WebSockets alone: host:port, or `unix:/path`. Without it, and where pushes need no key, they are served on this machine alone, at the port of the address and 10000: 22345 beside 12345
        private_address: Option<Text>;
        /// Do not serve the playground; false serves it to other machines too. It is at / where pushes are taken. Without either it is served where only this machine reaches it: on a loopback address, without trusted_proxies; and where pushes have a port of their own, only while origin is any
        no_demo: Option<Switch>;
    }

    "TLS" {
        /// PEM file of the certificate and its chain, the server's own first; with tls_key_file the address speaks TLS and nothing else. What stands in it is read anew when it changes
        tls_certificate_file: Option<File>;
        /// PEM file of the certificate's private key, not encrypted
        tls_key_file: Option<File>;
        /// PEM file of authorities: only clients with a certificate of theirs may connect, which browsers hardly have
        tls_client_ca_file: Option<File>;
        /// As tls_certificate_file, for the private_address
        private_tls_certificate_file: Option<File>;
        /// As tls_key_file, for the private_address
        private_tls_key_file: Option<File>;
        /// As tls_client_ca_file, for the private_address; a client's certificate is then enough to push, where no key is asked for
        private_client_ca_file: Option<File>;
    }

    "Who may listen, who may push" {
        /// Which web pages may connect: any, same-origin, or origins as browsers send them, `https://app.example.com`, separated by commas; null is pages without an origin, `file://` those from files
        origin: List = "any";
        /// Proxies in front whose X-Forwarded-For tells the client's address: networks as 10.0.0.0/8, or addresses, separated by commas
        trusted_proxies: Option<List>;
        /// Where a token comes from when a register message has none: message (nowhere), authorization (the handshake's Bearer header), cookie:NAME (needs an origin other than any), query:NAME (ends up in logs of proxies)
        token_source: TokenFrom = "message";
        /// File of listeners' tokens, a line each: TOKEN USER. Without it the token is the user id
        tokens_file: Option<File>, reloads_listeners();
        /// File of push keys, a line each, of at least 16 bytes; several allow rotation
        push_key_file: Option<File>, reloads_publishers();
        /// A single push key, where there is no file of them
        push_key: Option<Secret>;
        /// Publishers by name, each with a key, a scope and a rate; beside the keys above. `wserver key` makes one
        publisher: Records<Publisher>, reloads_publishers();
        /// Take pushes at the address itself though they need no key, from everyone who reaches it, as the clients of a proxy on this machine do; web pages of other sites are refused, unless their name was rebound to this server's address. Without it they have a port of their own that only this machine reaches, see private_address
        allow_open_push: Switch = "false";
    }

    "JSON Web Tokens for listeners" {
        /// File of a shared secret of at least 32 bytes, for HS256, HS384 and HS512; one line end behind it is no part of it. One of the four that name keys turns tokens of this kind on
        jwt_secret_file: Option<File>, reloads_listeners();
        /// PEM file of the issuer's public key
        jwt_public_key_file: Option<File>, reloads_listeners();
        /// File of the issuer's JSON Web Key Set
        jwt_jwks_file: Option<File>, reloads_listeners();
        /// Where the issuer serves its JSON Web Key Set; https, or http on this machine. It is fetched at the start, when it is old, and when a token names a key that is not in it
        jwt_jwks_url: Option<Text>, reloads_listeners();
        /// PEM file of the authorities that the server of jwks_url is known by, in place of the system's
        jwt_ca_file: Option<File>, reloads_listeners();
        /// Let jwks_url be http beyond this machine: whoever sits between can then make tokens, so it is for networks that nobody else is in
        jwt_allow_plain_http: Switch = "false", reloads_listeners();
        /// How long one fetch of the set may take
        jwt_jwks_timeout: Time = "5s", reloads_listeners();
        /// When a set is old; it is fetched anew when it is next needed
        jwt_jwks_renew_after: Time = "10m", reloads_listeners();
        /// The least time between two fetches, whatever tokens name
        jwt_jwks_fetch_interval_min: Time = "10s", reloads_listeners();
        /// How long the keys of an issuer that cannot be reached are good
        jwt_jwks_stale_max: Time = "1day", reloads_listeners();
        /// Which algorithms are accepted, of those that the keys permit; without it all of these
        jwt_algorithms: Option<List>, reloads_listeners();
        /// Whom tokens must be meant for, one of these; any accepts what was meant for somebody else as well
        jwt_audience: Option<List>, reloads_listeners();
        /// Who may have issued them; without it anybody with the key
        jwt_issuer: Option<List>, reloads_listeners();
        /// How far the issuer's clock and this machine's may differ
        jwt_leeway: Time = "30s", reloads_listeners();
        /// The claim that is the user id
        jwt_user_claim: Text = "sub", reloads_listeners();
        /// The claim that lists the events a token may register, as patterns; without it every event
        jwt_events_claim: Option<Text>, reloads_listeners();
    }

    "JSON Web Tokens for publishers" {
        /// As jwt.secret_file, for tokens that come with pushes. Such a token lists to whom and what it may push in its claims users and events, as patterns, and both must be there
        push_jwt_secret_file: Option<File>, reloads_publishers();
        /// As jwt.public_key_file
        push_jwt_public_key_file: Option<File>, reloads_publishers();
        /// As jwt.jwks_file
        push_jwt_jwks_file: Option<File>, reloads_publishers();
        /// As jwt.jwks_url
        push_jwt_jwks_url: Option<Text>, reloads_publishers();
        /// As jwt.ca_file
        push_jwt_ca_file: Option<File>, reloads_publishers();
        /// As jwt.allow_plain_http
        push_jwt_allow_plain_http: Switch = "false", reloads_publishers();
        /// As jwt.jwks_timeout
        push_jwt_jwks_timeout: Time = "5s", reloads_publishers();
        /// As jwt.jwks_renew_after
        push_jwt_jwks_renew_after: Time = "10m", reloads_publishers();
        /// As jwt.jwks_fetch_interval_min
        push_jwt_jwks_fetch_interval_min: Time = "10s", reloads_publishers();
        /// As jwt.jwks_stale_max
        push_jwt_jwks_stale_max: Time = "1day", reloads_publishers();
        /// As jwt.algorithms
        push_jwt_algorithms: Option<List>, reloads_publishers();
        /// As jwt.audience; best one that listeners' tokens are not meant for
        push_jwt_audience: Option<List>, reloads_publishers();
        /// As jwt.issuer
        push_jwt_issuer: Option<List>, reloads_publishers();
        /// As jwt.leeway
        push_jwt_leeway: Time = "30s", reloads_publishers();
    }

    "A backend that is asked whose token it is" {
        /// Where tokens are posted to; https, or http on this machine
        callback_url: Option<Text>, reloads_listeners();
        /// PEM file of the authorities that the backend is known by, in place of the system's
        callback_ca_file: Option<File>, reloads_listeners();
        /// Let the url be http beyond this machine: whoever sits between sees every token, so it is for networks that nobody else is in
        callback_allow_plain_http: Switch = "false", reloads_listeners();
        /// File of a secret that is sent along as `Authorization: Bearer`
        callback_secret_file: Option<File>, reloads_listeners();
        /// Headers of the handshake that are sent along, for connections that are opened from then on
        callback_forward_headers: Option<List>, reloads_listeners();
        /// How long one call may take
        callback_timeout: Time = "3s", reloads_listeners();
        /// The most calls at once; one address has three quarters of them at most
        callback_concurrency_max: Count<usize> = "64", reloads_listeners();
        /// How many registrations may wait for a call to end, where there are as many as may be; they are called for in turns by address, and beyond it the address with most of them has one refused
        callback_waiting_max: Count<usize> = "1024", reloads_listeners();
        /// How long they may wait
        callback_wait_max: Time = "1s", reloads_listeners();
        /// How long an answer is remembered; 0 is not at all
        callback_cache_for: Time = "10s", reloads_listeners();
        /// How long a refusal is remembered; 0 is not at all
        callback_cache_refusals_for: Time = "5s", reloads_listeners();
        /// How many answers are remembered, and as many refusals; beyond it the oldest are forgotten
        callback_cache_entries_max: Count<usize> = "10000", reloads_listeners();
        /// After failures in a row for so many addresses (no answer in time, or 502, 503, 504), or so many failed connections, the backend is left alone, and registrations are refused at once
        callback_failures_max: Count<u32> = "5", reloads_listeners();
        /// How long it is left alone, before one call tries whether it is back
        callback_rest: Time = "5s", reloads_listeners();
    }

    "A cluster of several nodes" {
        /// Where the nodes find each other: `redis://host:6379`, `redis-sentinel://a:26379,b:26379/mastername`, `redis-cluster://a:6379,b:6379` (with TLS rediss, rediss-sentinel, rediss-cluster), or `nats://a:4222,b:4222` (with TLS tls). Without it the server stands alone
        cluster_broker: Option<Text>;
        /// What the cluster is called at its broker, which several may share; the same on every node
        cluster_name: Text = "wserver";
        /// What answers and logs call this node; without it its id, another one at each start
        cluster_node_name: Option<Text>;
        /// The user at the broker
        cluster_username: Option<Text>;
        /// File of the password at the broker
        cluster_password_file: Option<File>;
        /// File of credentials at NATS, as `nsc` makes it: a JWT and the seed of a key
        cluster_credentials_file: Option<File>;
        /// PEM file of the authorities that the broker is known by, in place of the system's
        cluster_ca_file: Option<File>;
        /// Start even if the broker cannot be used, and join as soon as it can; until then the server is not ready
        cluster_wait_for_broker: Switch = "false";
        /// How long a node is waited for that is not heard of any more
        cluster_lease: Time = "5s";
        /// Let connections go when the node has been cut off from the others for longer than that, so that they come back where they are reached
        cluster_release_when_cut_off: Switch = "true";
        /// Cut off for so long, the node takes nobody in until it is back, so that the others know it has no connections; `0s` is never
        cluster_cut_off_max: Time = "1h";
        /// How long a push waits for the answers of other nodes; what reaches them later they let go
        cluster_answer_timeout: Time = "1s";
        /// Bytes that may wait for the broker, and as many from it
        cluster_queue_bytes_max: Size = "16MiB";
        /// Pushes and questions that may wait for the answers of other nodes
        cluster_requests_max: Count<usize> = "65536";
    }

    "Shutdown" {
        /// The code with which connections are closed: 1001 (going away) or 1012 (service restart)
        drain_close_code: Count<u16> = "1001";
    }

    "Log and reload" {
        /// How log lines look, on standard error
        log_format: Choice<LogFormat> = "human";
        /// What is logged: off, error, warn, info, debug, trace, or a filter as `wserver_warp=debug,info`; a word that is neither is an error
        log: Text = "info", reloads();
        /// How often the files that settings name are looked at for changes; 0 is never, and SIGHUP reloads at any time
        reload_interval: Time = "5s", reloads();
    }
}

settings! {
    fill LimitSettings

    "Limits" {
        /// How long a connection may stay without a registration; 0 is for ever
        register_timeout: Time = "30s";
        /// How long the check of one token may take
        authenticate_timeout: Time = "10s";
        /// Time between two pings
        ping_interval: Time = "25s";
        /// How long a pong may take
        pong_timeout: Time = "10s";
        /// How long a connection that is closing waits for the client's own Close
        close_timeout: Time = "5s";
        /// How long a client may take nothing of what is queued for it, before it is closed as too slow
        stall_timeout: Time = "1m";
        /// The largest message a client may send
        inbound_message_bytes_max: Size = "64KiB";
        /// The most fragments of one message of a client
        inbound_fragments_max: Count<usize> = "256";
        /// Messages and pings a client may send per second in the long run
        inbound_messages_per_second: Count<u32> = "50";
        /// Messages and pings a client may send at once
        inbound_messages_burst: Count<u32> = "200";
        /// Registrations that wait behind one whose token is being checked
        registrations_pending_max: Count<usize> = "8";
        /// The most registrations of one connection
        bindings_per_connection_max: Count<usize> = "128";
        /// The most bytes of user ids and events of one connection's registrations
        names_per_connection_bytes_max: Size = "64KiB";
        /// The same over all connections; a registration beyond it is refused
        names_bytes_max: Size = "1GiB";
        /// The most bytes of clients' messages that are half read or wait, over all connections
        inbound_bytes_max: Size = "256MiB";
        /// The longest user id, event or token
        name_bytes_max: Size = "4KiB";
        /// The largest message of a push
        message_bytes_max: Size = "1MiB";
        /// The largest body of a push; at least six messages and 64KiB, because JSON escapes
        push_body_bytes_max: Size = "8MiB";
        /// How long the whole body of a push may take
        push_body_timeout: Time = "20s";
        /// The most bytes of push bodies held at once
        push_bodies_bytes_max: Size = "256MiB";
        /// The most pushes of one batch, and the most users of one request, over all its pushes
        batch_pushes_max: Count<usize> = "1000";
        /// The most bytes of answers remembered for requests with an Idempotency-Key, each for ten minutes
        idempotency_bytes_max: Size = "16MiB";
        /// How long a request head may take, and the first one to come
        header_timeout: Time = "10s";
        /// How long an HTTP connection is kept for its next request, which answers tell as `Keep-Alive: timeout=`; longer than a proxy in front keeps it
        http_idle_timeout: Time = "75s";
        /// The largest request head
        head_bytes_max: Size = "16KiB";
        /// The most bytes queued for one connection; a slower reader is disconnected
        outbox_bytes_max: Size = "4MiB";
        /// The most bytes queued over all connections; beyond it those with the most are disconnected
        outboxes_bytes_max: Size = "2GiB";
        /// The most bytes to one user that wait for a fan-out under way; a push beyond waits
        walk_bytes_max: Size = "128KiB";
        /// The most WebSocket connections; lowered to what the descriptor limit allows
        connections_max: Count<usize> = "100000";
        /// The most WebSocket connections from one address (IPv6: one /64); 0 is no bound
        connections_per_address_max: Count<usize> = "0";
        /// The most connections of one user; 0 is no bound
        connections_per_user_max: Count<usize> = "0";
        /// What becomes of one more: refuse_new closes it, close_oldest closes the one opened first
        connections_per_user_policy: Choice<ConnectionsPerUserPolicy> = "refuse_new";
        /// WebSocket handshakes from one address (IPv6: one /64) per second in the long run; 0 is no bound
        handshakes_per_address_per_second: Count<u32> = "0";
        /// WebSocket handshakes from one address at once, where there is a bound
        handshakes_per_address_burst: Count<u32> = "50";
        /// The most HTTP connections of a listener, handshakes included
        http_connections_max: Count<usize> = "4096";
        /// The most of them from one address (IPv6: one /64) that is none of trusted_proxies, TLS handshakes included; not counted at a private_address. A browser opens six; 0 is no bound
        http_connections_per_address_max: Count<usize> = "0";
        /// How long a shutdown may take, all of it
        drain_timeout: Time = "30s";
        /// How long a shutdown waits, serving but not ready, for balancers to notice
        drain_delay: Time = "0s";
        /// Over how long a shutdown tells connections to go, at most half of the time that is left; 500 a second are told in any case
        drain_spread: Time = "15s";
        /// Bytes kept of what happened of late: refusals, drops and ends, so that it can be told why a message did not arrive; 0 is none
        journal_bytes_max: Size = "4MiB";
        /// The most users that are traced at once
        traces_max: Count<usize> = "16";
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
        assert_eq!(Loaded::defaults().limits, LimitSettings::default());
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

//! `[jwt]`: tokens of issuers and of attackers, keys that rotate, an issuer that is down.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::backend::{Backend, Gate, Reply};
use crate::judge::{IssuerKey, Judge, SECRET, claims, hears, hs256, jwks, now, sign, unsigned};
use crate::raw::{Closed, Socket, Way, leave, leaving, register};
use crate::settings::file;

/// The reason and the fault that the log names for each.
type Refused<'a> = (String, &'a str, &'a str);

fn check_refused(judge: &mut Judge, cases: &[Refused<'_>]) {
    for (token, reason, fault) in cases {
        let reason = format!(r#""reason":"{reason}""#);
        judge.refuse(token, "news", &[&reason, fault]);
    }
    assert_eq!(judge.count("jack", "news"), 0);
}

/// Keys that are fetched as often as a token asks for it, and never for their age.
fn by_url(url: &str) -> String {
    format!(
        "[jwt]\njwks_url = '{url}'\naudience = 'listeners'\njwks_fetch_interval_min = 0\n\
         jwks_renew_after = '1h'\n"
    )
}

#[test]
fn a_shared_secret_lets_in_whom_its_tokens_name() {
    let secret = file("jwt-secret", format!("{SECRET}\n"));
    let mut judge = Judge::start(&format!(
        "[jwt]\nsecret_file = '{}'\naudience = ['listeners', 'both']\nissuer = 'https://issuer.test'\n",
        secret.path()
    ));
    let claims = |changes: Value| {
        let mut claims = claims(&json!({"iss": "https://issuer.test"}));
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    };
    let signed = |changes: Value| hs256(SECRET.as_bytes(), &claims(changes));
    let mut rose = judge.accept(&signed(json!({"sub": "rose", "aud": ["others", "both"]})), "news");
    let mut seven = judge.accept(&signed(json!({"sub": 7, "nbf": now()})), "news");
    for (user, socket) in [("rose", &mut rose), ("7", &mut seven)] {
        assert_eq!(judge.count(user, "news"), 1);
        hears(socket);
    }
    let good = signed(json!({}));
    let (message, _) = good.rsplit_once('.').unwrap();
    let none = |alg: &str| unsigned(&json!({"alg": alg, "typ": "JWT"}), &claims(json!({})));
    let is_none = "its algorithm is unknown, or none";
    check_refused(
        &mut judge,
        &[
            (none("none"), "unknown", is_none),
            (none("None"), "unknown", is_none),
            (none("nOnE"), "unknown", is_none),
            (none("HS256"), "unknown", "its signature is wrong"),
            (format!("{message}."), "unknown", "its signature is wrong"),
            (hs256(&[b'x'; 44], &claims(json!({}))), "unknown", "its signature is wrong"),
            (signed(json!({"exp": now() - 40})), "expired", "it expired "),
            (signed(json!({"exp": null})), "unknown", "it has no exp"),
            (signed(json!({"nbf": now() + 600})), "not_yet_valid", "it becomes valid in"),
            (signed(json!({"aud": "publishers"})), "unknown", "its aud contains none of"),
            (signed(json!({"aud": null})), "unknown", "it has no aud"),
            (signed(json!({"iss": "https://evil.test"})), "unknown", "its iss is not one of"),
            (signed(json!({"sub": ""})), "unknown", "its sub is not a non-empty string"),
            ("jack".to_owned(), "unknown", "it is not a token"),
        ],
    );
    // Whoever was refused may try again on the same connection.
    let mut socket = Socket::open(&judge.server);
    judge.register(&mut socket, &none("none"), "news");
    let told = judge.register(&mut socket, &good, "news");
    assert!(told.contains(r#""message":"registered""#), "{told}");
    assert_eq!(judge.count("jack", "news"), 1);
    hears(&mut socket);
}

/// Whoever knows the public key, and that is everybody, cannot sign with it as if it were a secret.
#[test]
fn a_public_key_lets_in_by_its_own_algorithm_alone() {
    for key in [IssuerKey::es256("k"), IssuerKey::rs256("k")] {
        let pem = file("jwt-key.pem", &key.public_pem);
        let mut judge = Judge::start(&format!(
            "[jwt]\npublic_key_file = '{}'\naudience = 'listeners'\n",
            pem.path()
        ));
        let good = claims(&json!({}));
        let mut rose = judge.accept(&key.token(&claims(&json!({"sub": "rose"}))), "news");
        assert_eq!(judge.count("rose", "news"), 1);
        hears(&mut rose);
        let stranger = IssuerKey::es256("k");
        let foreign = if key.algorithm == Algorithm::ES256 {
            "its signature is wrong"
        } else {
            "the configured keys do not permit its algorithm"
        };
        let unfit = "the configured keys do not permit its algorithm";
        let pem = key.public_pem.as_bytes();
        check_refused(
            &mut judge,
            &[
                (hs256(pem, &good), "unknown", unfit),
                (hs256(key.public_pem.trim().as_bytes(), &good), "unknown", unfit),
                (stranger.token(&good), "unknown", foreign),
                (unsigned(&json!({"alg": "none"}), &good), "unknown", "or none"),
            ],
        );
    }
}

#[test]
fn an_issuers_keys_rotate_under_live_connections() {
    let [old, new, foreign] = ["2026", "2027", "2028"].map(IssuerKey::es256);
    let issuer = Backend::saying(200, jwks(&[&old]));
    let mut judge = Judge::start(&by_url(&issuer.url("/keys")));
    // They are fetched at the start, and the log says which there are.
    let told = judge.log.until("the JWKS has new keys");
    assert!(told.contains("2026"), "{told}");
    assert!(issuer.asked(1).head.starts_with("GET /keys HTTP/1.1\r\n"));
    let of = |user: &str| claims(&json!({"sub": user}));
    let mut first = judge.accept(&old.token(&of("jack")), "news");
    assert_eq!(issuer.count(), 1, "keys that are known are not fetched");

    issuer.say(200, jwks(&[&old, &new]));
    let mut second = judge.accept(&new.token(&of("rose")), "news");
    assert_eq!(issuer.count(), 2, "a name that is not known fetches them");
    let _kate = judge.accept(&old.token(&of("kate")), "news");
    assert_eq!(issuer.count(), 2);

    issuer.say(200, jwks(&[&new]));
    let unknown = [r#""reason":"unknown""#, "no configured key matches its kid"];
    judge.refuse(&foreign.token(&of("mallory")), "news", &unknown);
    judge.refuse(&old.token(&of("mallory")), "news", &unknown);
    assert_eq!(judge.count("mallory", "news"), 0);
    // Who came by the key that is gone stays until the token ends.
    for (user, socket) in [("jack", &mut first), ("rose", &mut second)] {
        assert_eq!(judge.count(user, "news"), 1);
        hears(socket);
    }
    judge.accept(&new.token(&of("third")), "news");
}

#[test]
fn nothing_is_fetched_that_a_token_names() {
    let [key, attackers] = ["ours", "theirs"].map(IssuerKey::es256);
    let issuer = Backend::saying(200, jwks(&[&key]));
    let elsewhere = Backend::saying(200, jwks(&[&attackers]));
    let mut judge = Judge::start(&by_url(&issuer.url("/keys")));
    let good = claims(&json!({}));
    for header in [
        Header { jku: Some(elsewhere.url("/keys")), ..attackers.header() },
        Header { x5u: Some(elsewhere.url("/cert")), ..attackers.header() },
    ] {
        let foreign = sign(&header, &good, &attackers.private);
        judge.refuse(&foreign, "news", &["no configured key matches its kid"]);
        let ours = Header { kid: Some("ours".to_owned()), ..header.clone() };
        judge.refuse(&sign(&ours, &good, &attackers.private), "news", &["its signature is wrong"]);
        // It is not looked at, so by itself it does no harm either.
        let _socket = judge.accept(&sign(&ours, &good, &key.private), "news");
    }
    let secret = EncodingKey::from_secret(key.public_pem.as_bytes());
    let header = Header { kid: Some("ours".to_owned()), ..Header::new(Algorithm::HS256) };
    judge.refuse(&sign(&header, &good, &secret), "news", &["the configured keys do not permit"]);
    assert_eq!(elsewhere.count(), 0);
}

/// Down, or answering nonsense: who has a token by a known key goes on, also behind a reload.
#[test]
fn known_keys_outlive_their_issuer() {
    let [key, unheard] = ["k1", "k2"].map(IssuerKey::es256);
    let issuer = Backend::saying(200, jwks(&[&key]));
    let settings = by_url(&issuer.url("/keys")).replace("'1h'", "0");
    let mut judge = Judge::start(&settings);
    judge.log.until("the JWKS has new keys");
    let of = |user: &str| claims(&json!({"sub": user}));
    for (user, status, body, why) in [
        ("a", 500, "canary", "the answer is 500 Internal Server Error"),
        ("b", 200, "<html>canary", "this is not a JWKS"),
        ("c", 200, r#"{"keys":[]}"#, "its list of keys is empty"),
    ] {
        issuer.say(status, body);
        let mut socket = judge.accept(&key.token(&of(user)), "news");
        let told =
            judge.log.read.lines().rfind(|line| line.contains("could not fetch the JWKS")).unwrap();
        assert!(told.contains("WARN") && told.contains(why) && !told.contains("canary"), "{told}");
        assert_eq!(judge.count(user, "news"), 1);
        hears(&mut socket);
    }
    // It is a new key, or none: nobody can tell.
    judge.refuse(&unheard.token(&of("jack")), "news", &[r#""reason":"unavailable""#]);
    drop(issuer);
    judge.config.replace(format!("{settings}leeway = '31s'\n"));
    assert!(judge.reload().contains(r#""changed":"jwt_leeway""#));
    let mut socket = judge.accept(&key.token(&of("jack")), "news");
    assert!(judge.log.read.contains("no connection: "), "{}", judge.log.read);
    assert_eq!(judge.count("jack", "news"), 1);
    hears(&mut socket);
}

#[test]
fn an_issuer_that_is_down_at_the_start_is_told_and_tried_again() {
    let key = IssuerKey::es256("k1");
    let issuer = Backend::saying(503, "");
    let mut judge = Judge::start(&by_url(&issuer.url("/keys")));
    let told = judge.log.until("could not fetch the JWKS");
    assert!(told.contains("the answer is 503 Service Unavailable"), "{told}");
    let token = key.token(&claims(&json!({})));
    judge.refuse(&token, "news", &[r#""reason":"unavailable""#]);
    issuer.say(200, jwks(&[&key]));
    judge.accept(&token, "news");
}

/// Over https the issuer must prove its name, by the authorities that are named.
#[test]
fn an_issuer_is_known_by_its_authority() {
    let key = IssuerKey::es256("k1");
    let [own, foreign] = [(); 2].map(|()| crate::secure::certificate());
    let issuer = Backend::saying_by_tls(200, &jwks(&[&key]), &own.0, &own.1);
    let url = format!("https://localhost:{}/keys", issuer.port());
    let authority = file("jwt-ca.pem", &foreign.0);
    let mut judge = Judge::start(&(by_url(&url) + &format!("ca_file = '{}'", authority.path())));
    let told = judge.log.until("could not fetch the JWKS");
    assert!(told.contains("no TLS connection: "), "{told}");
    let token = key.token(&claims(&json!({})));
    judge.refuse(&token, "news", &[r#""reason":"unavailable""#]);
    assert_eq!(issuer.count(), 0);
    authority.replace(&own.0);
    assert!(judge.reload().contains(r#""changed":"jwt_ca_file""#));
    judge.accept(&token, "news");
}

/// An address of the documentation net: no machine has it.
#[test]
fn plain_http_beyond_this_machine_is_told_at_the_start() {
    let settings = by_url("http://192.0.2.1/keys") + "allow_plain_http = true\n";
    let mut judge = Judge::start(&settings);
    let told = judge.log.until("plain HTTP is allowed");
    assert!(told.contains("WARN") && told.contains("jwt_allow_plain_http"), "{told}");
    let loopback = Backend::saying(200, jwks(&[&IssuerKey::es256("k1")]));
    let mut judge = Judge::start(&by_url(&loopback.url("/keys")));
    judge.log.until("the JWKS has new keys");
    assert!(!judge.log.read.contains("plain HTTP is allowed"), "{}", judge.log.read);
}

#[test]
fn events_are_those_of_the_claim() {
    let secret = file("jwt-secret", SECRET);
    let mut judge = Judge::start(&format!(
        "[jwt]\nsecret_file = '{}'\naudience = 'any'\nuser_claim = 'uid'\nevents_claim = 'events'\n",
        secret.path()
    ));
    let forbidden = [r#""reason":"forbidden""#];
    for (user, events, permitted, refused) in [
        ("a", json!(["order.*", "news"]), &["order.paid", "order.", "news"][..], &["orders"][..]),
        ("b", json!("order.* news"), &["order.paid", "news"], &["chat", "new"]),
        ("c", json!(["*"]), &["chat"], &[]),
        ("d", json!([]), &[], &["chat", "*"]),
        ("e", json!(null), &[], &["chat"]),
    ] {
        let token = hs256(
            SECRET.as_bytes(),
            &claims(&json!({"uid": user, "sub": null, "aud": null, "events": events})),
        );
        for event in permitted {
            let mut socket = judge.accept(&token, event);
            assert_eq!(judge.count(user, event), 1, "{events} {event}");
            hears(&mut socket);
        }
        for event in refused {
            judge.refuse(&token, event, &forbidden);
            assert_eq!(judge.count(user, event), 0, "{events} {event}");
        }
    }
    let wrong = claims(&json!({"uid": "jack", "events": {"chat": true}}));
    judge.refuse(
        &hs256(SECRET.as_bytes(), &wrong),
        "chat",
        &["its events is not a list of strings, or one string of names with spaces between them"],
    );
}

#[test]
fn a_token_that_runs_out_ends_its_connection() {
    let secret = file("jwt-secret", SECRET);
    let mut judge = Judge::start(&format!(
        "[jwt]\nsecret_file = '{}'\naudience = 'listeners'\nleeway = 0\n",
        secret.path()
    ));
    // Long enough on most machines; a busy one gets more time.
    for seconds in [2, 8, 32] {
        let of = |seconds| hs256(SECRET.as_bytes(), &claims(&json!({"exp": now() + seconds})));
        let mut lasting = judge.accept(&of(3600), &format!("chat {seconds}"));
        let mut socket = Socket::open(&judge.server);
        socket.send(register(&of(seconds), "news"));
        if judge.verdict().contains("expired") {
            continue;
        }
        let expired = Closed { code: 1008, reason: "token expired".to_owned() };
        assert_eq!(socket.closed(), expired);
        assert_eq!(
            (judge.count("jack", "news"), judge.count("jack", &format!("chat {seconds}"))),
            (0, 1)
        );
        hears(&mut lasting);
        return;
    }
    panic!("nothing was registered in time");
}

/// Whoever leaves while the keys are being fetched is bound to nothing once they are there.
#[test]
fn who_leaves_while_the_keys_are_fetched_is_not_bound() {
    let key = IssuerKey::es256("k1");
    let gate = Gate::default();
    let reply = Reply::Behind(gate.clone(), 200, jwks(&[&key]));
    let issuer = Backend::start(move |_| reply.clone());
    let mut judge = Judge::start(&by_url(&issuer.url("/keys")));
    issuer.asked(1);
    let of = |user: &str| key.token(&claims(&json!({"sub": user})));
    for way in Way::ALL {
        let socket = leaving(&judge.server, way, &of("jack"));
        leave(socket, way);
        judge.log.until("connection closed");
    }
    gate.open();
    let _rose = judge.accept(&of("rose"), "news");
    assert_eq!((judge.count("jack", "news"), judge.count("rose", "news")), (0, 1));
}

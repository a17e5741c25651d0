//! `[push_jwt]`: what a publisher's token opens, and what opens nothing.

use serde_json::{Value, json};

use crate::backend::Backend;
use crate::judge::{IssuerKey, Judge, SECRET, claims, hears, hs256, jwks, now, unsigned};
use crate::raw::Socket;
use crate::settings::file;

/// What a publisher's token says, with these changes.
fn publishing(changes: &Value) -> Value {
    let mut said = json!({"sub": "shop", "aud": "publishers", "users": ["shop:*", "jack"], "events": "order.* news"});
    for (name, value) in changes.as_object().unwrap() {
        said[name] = value.clone();
    }
    claims(&said)
}

fn signed(changes: &Value) -> String {
    hs256(SECRET.as_bytes(), &publishing(changes))
}

fn sent(count: usize) -> (u16, String) {
    (200, format!("message sent to {count} clients"))
}

fn refused(status: u16, why: &str) -> (u16, String) {
    (status, why.to_owned())
}

#[test]
fn a_token_pushes_what_it_lists() {
    let secret = file("push-jwt-secret", SECRET);
    let judge = Judge::start(&format!(
        "[push_jwt]\nsecret_file = '{}'\naudience = 'publishers'\n",
        secret.path()
    ));
    let mut jack = Socket::registered(&judge.server, "jack", "news");
    let token = signed(&json!({}));
    assert_eq!(judge.push(&token, "jack", "news"), sent(1));
    hears(&mut jack);
    assert_eq!(judge.push(&token, "shop:7", "order.paid"), sent(0));
    for (user, event, why) in [
        ("rose", "news", "this push key may not push to this userId"),
        ("shop", "news", "this push key may not push to this userId"),
        ("jack", "chat", "this push key may not push this event"),
        ("jack", "orders", "this push key may not push this event"),
    ] {
        assert_eq!(judge.push(&token, user, event), refused(403, why), "{user} {event}");
    }
    let everything = signed(&json!({"users": ["*"], "events": ["*"]}));
    assert_eq!(judge.push(&everything, "rose", "chat"), sent(0));
    let missing = "the push key is missing";
    assert_eq!(judge.push("", "jack", "news"), refused(401, missing));
    let wrong = "the push key is wrong";
    for (token, why) in [
        (signed(&json!({"exp": now() - 40})), "the push key is expired"),
        (signed(&json!({"nbf": now() + 600})), "the push key is not yet valid"),
        (signed(&json!({"exp": null})), wrong),
        (signed(&json!({"aud": "listeners"})), wrong),
        (signed(&json!({"aud": null})), wrong),
        (signed(&json!({"users": null})), wrong),
        (signed(&json!({"events": null})), wrong),
        (signed(&json!({"users": {"jack": true}})), wrong),
        (hs256(&[b'x'; 44], &publishing(&json!({}))), wrong),
        (unsigned(&json!({"alg": "none"}), &publishing(&json!({}))), wrong),
        (format!("{token}x"), wrong),
        ("short".to_owned(), wrong),
        (SECRET.to_owned(), wrong),
    ] {
        assert_eq!(judge.push(&token, "jack", "news"), refused(401, why), "{token}");
    }
    jack.sync();
}

/// One issuer for both, as is usual: neither's token is good for the other's door.
#[test]
fn listeners_and_publishers_have_tokens_of_their_own() {
    let key = IssuerKey::es256("k1");
    let issuer = Backend::saying(200, jwks(&[&key]));
    let url = issuer.url("/keys");
    let mut judge = Judge::start(&format!(
        "[jwt]\njwks_url = '{url}'\naudience = 'listeners'\nevents_claim = 'events'\n\
         [push_jwt]\njwks_url = '{url}'\naudience = 'publishers'\n"
    ));
    judge.log.until("the JWKS has new keys");
    let listening = json!({"events": ["*"]});
    let listener = key.token(&claims(&listening));
    let publisher = key.token(&publishing(&json!({})));
    let mut jack = judge.accept(&listener, "news");
    judge.refuse(&publisher, "news", &["its aud contains none of the configured audiences"]);
    assert_eq!(judge.push(&publisher, "jack", "news"), sent(1));
    hears(&mut jack);
    assert_eq!(judge.push(&listener, "jack", "news"), refused(401, "the push key is wrong"));
    judge.log.until("publisher's token refused");
    // Also where the audience tells them apart no more.
    let both = claims(&json!({"events": ["*"], "aud": ["listeners", "publishers"]}));
    assert_eq!(
        judge.push(&key.token(&both), "jack", "news"),
        refused(401, "the push key is wrong")
    );
    let told = judge.log.until("publisher's token refused");
    assert!(told.contains("it has no users"), "{told}");
    jack.sync();
    assert_eq!(issuer.count(), 1, "two who ask the same share the keys");
}

#[test]
fn tokens_stand_beside_keys_and_both_are_reloaded() {
    let secret = file("push-jwt-secret", SECRET);
    let keys = file("push-keys", "key-0123456789abcdef");
    let mut judge = Judge::start(&format!(
        "push_key_file = '{}'\n[push_jwt]\nsecret_file = '{}'\naudience = 'publishers'\n",
        keys.path(),
        secret.path()
    ));
    let token = signed(&json!({}));
    for good in ["key-0123456789abcdef", &token] {
        assert_eq!(judge.push(good, "jack", "news"), sent(0));
    }
    assert_eq!(judge.push("key-0123456789abcdeX", "jack", "news").0, 401);
    let next = "another-secret-that-is-long-enough-0123456789";
    secret.replace(next);
    let told = judge.reload();
    assert!(told.contains(r#""changed":"push_jwt_secret_file""#), "{told}");
    assert_eq!(judge.push(&token, "jack", "news"), refused(401, "the push key is wrong"));
    let token = hs256(next.as_bytes(), &publishing(&json!({})));
    assert_eq!(judge.push(&token, "jack", "news"), sent(0));
    // What is wrong changes nothing.
    secret.replace("short");
    judge.server.signal("HUP");
    let told = judge.log.until("a setting is wrong");
    assert!(told.contains("the secret has 5 bytes, but needs at least 32"), "{told}");
    assert_eq!(judge.push(&token, "jack", "news"), sent(0));
}

/// Nobody can tell whether the token is good: that is no 401, and a publisher tries again.
#[test]
fn without_the_issuers_keys_nobody_pushes_and_nobody_is_called_wrong() {
    let key = IssuerKey::es256("k1");
    let issuer = Backend::saying(500, "");
    let judge = Judge::start(&format!(
        "[push_jwt]\njwks_url = '{}'\naudience = 'publishers'\njwks_fetch_interval_min = 0\n",
        issuer.url("/keys")
    ));
    let token = key.token(&publishing(&json!({})));
    let (status, _) = judge.push(&token, "jack", "news");
    assert_eq!(status, 503);
    assert_eq!(judge.push("no-token-at-all", "jack", "news").0, 401);
    issuer.say(200, jwks(&[&key]));
    assert_eq!(judge.push(&token, "jack", "news"), sent(0));
}

/// Beyond this machine pushes must ask for something, and a token is something.
#[test]
fn with_tokens_for_publishers_it_listens_beyond_this_machine() {
    let secret = file("push-jwt-secret", SECRET);
    let config = file(
        "push-jwt.toml",
        format!("[push_jwt]\nsecret_file = '{}'\naudience = 'publishers'\n", secret.path()),
    );
    let flags = ["--config", config.path()];
    let mut server = crate::harness::Server::start_at("0.0.0.0:0", &flags, &[]);
    server.address.set_ip([127, 0, 0, 1].into());
    let mut raw = crate::raw::Raw::connect(&server);
    raw.send(crate::raw::push_request("jack", "news", "m"));
    assert_eq!(raw.answer().status, 401);
}

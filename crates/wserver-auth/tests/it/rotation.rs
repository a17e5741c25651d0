//! Keys from a URL: rotated, withheld, broken and forged.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use wserver_auth::{
    Authenticator, HttpEndpoint, Identity, JwksUrl, JwtAuthenticator, JwtDraft, JwtKeys, JwtSigner,
    Refusal,
};

use crate::http::{HttpServer, Reply};
use crate::signing::pair;
use crate::{credentials, fixture, tls, verifier};

/// Far longer than any test.
const LONG: Duration = Duration::from_secs(3600);

/// A key of an issuer: it signs, and it shows its public half.
struct IssuerKey {
    kid: Option<&'static str>,
    signer: JwtSigner,
    jwk: Value,
}

impl IssuerKey {
    fn new(kid: Option<&'static str>) -> Self {
        let [private, public] = pair("ed25519");
        let base64: String = public.lines().filter(|line| !line.starts_with('-')).collect();
        let der = data_encoding::BASE64.decode(base64.as_bytes()).unwrap();
        let x = BASE64URL_NOPAD.encode(&der[der.len() - 32..]);
        let mut jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
        let mut signer = JwtSigner::private_key_pem(&private, None).unwrap();
        if let Some(kid) = kid {
            jwk["kid"] = json!(kid);
            signer = signer.with_kid(kid);
        }
        Self { kid, signer, jwk }
    }

    fn token(&self) -> String {
        let draft = JwtDraft::new(SystemTime::now(), Duration::from_secs(600))
            .with_text("sub", self.kid.unwrap_or("jack"))
            .with_text("aud", "wserver-tests")
            .with_text("iss", "https://pyjwt.test");
        self.signer.sign(&draft).unwrap()
    }
}

fn set(keys: &[&IssuerKey]) -> Reply {
    let keys: Vec<&Value> = keys.iter().map(|key| &key.jwk).collect();
    Reply::Say(200, json!({"keys": keys}).to_string())
}

fn always(reply: Reply) -> impl Fn(&crate::http::Received) -> Reply + Send + Sync {
    move |_| reply.clone()
}

/// Never renewed by age, and fetched anew as often as anybody likes.
fn url(server: &HttpServer) -> JwksUrl {
    let mut url = JwksUrl::new(HttpEndpoint::new(&server.url("/keys")).unwrap());
    url.renew_after = LONG;
    url.fetch_interval_min = Duration::ZERO;
    url.timeout = crate::PATIENCE;
    url
}

fn authenticator(url: JwksUrl) -> Arc<JwtAuthenticator> {
    Arc::new(JwtAuthenticator::new(verifier(JwtKeys::jwks_url(url))))
}

async fn ask(authenticator: &JwtAuthenticator, token: &str) -> Result<Identity, Refusal> {
    authenticator.authenticate(credentials(token)).await
}

async fn check(authenticator: &JwtAuthenticator, token: &str, expected: &str) {
    let answered = match ask(authenticator, token).await {
        Ok(identity) => identity.user,
        Err(refusal) => refusal.as_str().to_owned(),
    };
    assert_eq!(answered, expected);
}

/// What is behind an unavailable answer.
async fn cause(authenticator: &JwtAuthenticator, token: &str) -> String {
    match ask(authenticator, token).await {
        Err(Refusal::Unavailable { source }) => source.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn many_who_need_the_keys_fetch_them_once() {
    let key = IssuerKey::new(Some("k1"));
    let permits = Arc::new(Semaphore::new(0));
    let server =
        HttpServer::start(always(Reply::After(Arc::clone(&permits), set(&[&key]).into()))).await;
    let authenticator = authenticator(url(&server));
    let mut asking = JoinSet::new();
    for _ in 0..50 {
        let (authenticator, token) = (Arc::clone(&authenticator), key.token());
        asking.spawn(async move { ask(&authenticator, &token).await.unwrap().user });
    }
    server.asked(1).await;
    permits.add_permits(50);
    assert!(asking.join_all().await.iter().all(|user| user == "k1"));
    check(&authenticator, &key.token(), "k1").await;
    assert_eq!(server.count(), 1);
    let received = &server.received()[0];
    assert!(received.head.starts_with("GET /keys HTTP/1.1\r\n"), "{received:?}");
    assert_eq!((received.body.as_str(), received.connection), ("", 1));
}

#[tokio::test]
async fn keys_rotate() {
    let [first, second, third] = ["k1", "k2", "k3"].map(|kid| IssuerKey::new(Some(kid)));
    let server = HttpServer::start(always(set(&[&first]))).await;
    let authenticator = authenticator(url(&server));
    check(&authenticator, &first.token(), "k1").await;
    check(&authenticator, &second.token(), "unknown").await;
    server.respond(always(set(&[&first, &second])));
    check(&authenticator, &second.token(), "k2").await;
    check(&authenticator, &first.token(), "k1").await;
    let fetched = server.count();
    check(&authenticator, &second.token(), "k2").await;
    assert_eq!(server.count(), fetched, "known keys are not fetched");
    server.respond(always(set(&[&second, &third])));
    check(&authenticator, &third.token(), "k3").await;
    check(&authenticator, &first.token(), "unknown").await;
}

/// The name says nothing when there is none: then the signature does.
#[tokio::test]
async fn keys_without_names_rotate_too() {
    let [first, second] = [(), ()].map(|()| IssuerKey::new(None));
    let server = HttpServer::start(always(set(&[&first]))).await;
    let authenticator = authenticator(url(&server));
    check(&authenticator, &first.token(), "jack").await;
    server.respond(always(set(&[&second])));
    check(&authenticator, &second.token(), "jack").await;
    check(&authenticator, &first.token(), "unknown").await;
}

/// Whoever sends tokens with made-up names makes us ask the issuer no more often than allowed.
#[tokio::test]
async fn made_up_names_cause_no_flood_of_fetches() {
    let key = IssuerKey::new(Some("k1"));
    let foreign = IssuerKey::new(Some("made-up"));
    let server = HttpServer::start(always(set(&[&key]))).await;
    let mut url = url(&server);
    url.fetch_interval_min = LONG;
    let authenticator = authenticator(url);
    for _ in 0..20 {
        check(&authenticator, &foreign.token(), "unknown").await;
    }
    check(&authenticator, &key.token(), "k1").await;
    assert_eq!(server.count(), 1);
}

/// A forged signature under a known name is no reason to ask the issuer.
#[tokio::test]
async fn wrong_signatures_cause_no_fetch() {
    let key = IssuerKey::new(Some("k1"));
    let forged = IssuerKey::new(Some("k1"));
    let server = HttpServer::start(always(set(&[&key]))).await;
    let authenticator = authenticator(url(&server));
    check(&authenticator, &forged.token(), "unknown").await;
    check(&authenticator, &forged.token(), "unknown").await;
    check(&authenticator, "no token at all", "unknown").await;
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn old_keys_are_kept_while_the_issuer_is_down() {
    let [first, second] = ["k1", "k2"].map(|kid| IssuerKey::new(Some(kid)));
    let server = HttpServer::start(always(set(&[&first]))).await;
    let mut url = url(&server);
    url.renew_after = Duration::ZERO;
    let authenticator = authenticator(url);
    check(&authenticator, &first.token(), "k1").await;
    for reply in [
        Reply::Say(500, "down".to_owned()),
        Reply::Say(404, "moved".to_owned()),
        Reply::Say(200, "<html>".to_owned()),
        Reply::Say(200, json!({"keys": []}).to_string()),
        Reply::Raw(Vec::new()),
        Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec()),
    ] {
        server.respond(always(reply));
        let asked = server.count();
        check(&authenticator, &first.token(), "k1").await;
        assert!(server.count() > asked, "it was tried");
        // Whether this is a new key nobody can tell.
        check(&authenticator, &second.token(), "unavailable").await;
    }
    server.respond(always(set(&[&second])));
    check(&authenticator, &second.token(), "k2").await;
    check(&authenticator, &first.token(), "unknown").await;
}

/// An issuer that takes the connection and says nothing does not hold registrations up for longer
/// than a moment.
#[tokio::test]
async fn old_keys_are_used_while_the_issuer_is_silent() {
    let key = IssuerKey::new(Some("k1"));
    let server = HttpServer::start(always(set(&[&key]))).await;
    let mut url = url(&server);
    url.renew_after = Duration::ZERO;
    let authenticator = authenticator(url);
    check(&authenticator, &key.token(), "k1").await;
    server.respond(always(Reply::Hang));
    check(&authenticator, &key.token(), "k1").await;
}

#[tokio::test]
async fn keys_that_are_too_old_are_not_used() {
    let key = IssuerKey::new(Some("k1"));
    let server = HttpServer::start(always(set(&[&key]))).await;
    let mut url = url(&server);
    url.stale_max = Duration::ZERO;
    let authenticator = authenticator(url);
    check(&authenticator, &key.token(), "k1").await;
    server.respond(always(Reply::Say(503, String::new())));
    check(&authenticator, &key.token(), "unavailable").await;
}

#[tokio::test]
async fn an_issuer_may_be_down_at_the_start() {
    let key = IssuerKey::new(Some("k1"));
    let server = HttpServer::start(always(Reply::Say(503, String::new()))).await;
    let patient = authenticator(url(&server));
    let mut once = url(&server);
    once.fetch_interval_min = LONG;
    let keys = JwtKeys::jwks_url(once);
    let error = keys.prefetch().await.unwrap_err().to_string();
    assert_eq!(
        error,
        "could not fetch the JWKS from 127.0.0.1: the answer is 503 Service \
                       Unavailable"
    );
    let resting = JwtAuthenticator::new(verifier(keys));
    assert_eq!(cause(&resting, &key.token()).await, error);
    assert_eq!(server.count(), 1, "it is not tried again so soon");
    check(&patient, &key.token(), "unavailable").await;
    server.respond(always(set(&[&key])));
    check(&patient, &key.token(), "k1").await;
    check(&resting, &key.token(), "unavailable").await;
}

/// Clients that disconnect drop their authentication. The fetch goes on for the next one.
#[tokio::test]
async fn who_goes_away_leaves_the_fetch_to_others() {
    let key = IssuerKey::new(Some("k1"));
    let permits = Arc::new(Semaphore::new(0));
    let server =
        HttpServer::start(always(Reply::After(Arc::clone(&permits), set(&[&key]).into()))).await;
    let mut url = url(&server);
    url.fetch_interval_min = LONG;
    let authenticator = authenticator(url);
    for _ in 0..3 {
        let token = key.token();
        let mut asked = authenticator.authenticate(credentials(&token));
        tokio::select! {
            biased;
            answered = &mut asked => panic!("{answered:?}"),
            () = server.asked(1) => {}
        }
        drop(asked);
    }
    permits.add_permits(1);
    check(&authenticator, &key.token(), "k1").await;
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn what_is_no_key_set_is_told() {
    let token = IssuerKey::new(Some("k1")).token();
    let elsewhere = HttpServer::start(always(set(&[]))).await;
    let redirect = format!(
        "HTTP/1.1 302 x\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
        elsewhere.url("/canary")
    );
    let body = |head: &str, bytes: usize| {
        [format!("HTTP/1.1 200 x\r\n{head}\r\n\r\n").into_bytes(), vec![b' '; bytes]].concat()
    };
    let secret = json!({"keys": [{"kty": "oct", "kid": "k1", "k": "A".repeat(86)}]});
    for (reply, expected) in [
        (redirect.into_bytes(), "a redirect (302 Found), which the server does not follow"),
        (body("content-length: 1000001", 1_000_001), "longer than the limit of 1000 bytes"),
        (body("connection: close", 1_000_001), "longer than the limit of 1000 bytes"),
        (body("content-length: 2\r\ncontent-encoding: gzip", 2), "content-encoding"),
        (body(&format!("a: {}", "x".repeat(70_000)), 0), "HTTP broke off"),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "HTTP broke off"),
        (body("content-length: 2", 2), "this is not a JWKS: EOF while parsing"),
        (
            format!("HTTP/1.1 200 x\r\n\r\n{secret}").into_bytes(),
            "it is a shared secret, which a set from a URL must not contain",
        ),
    ] {
        let server = HttpServer::start(always(Reply::Raw(reply))).await;
        let mut url = url(&server);
        url.bytes_max = 1000;
        let cause = cause(&authenticator(url), &token).await;
        assert!(cause.contains(expected), "{cause}");
    }
    assert_eq!(elsewhere.count(), 0);
    let server = HttpServer::start(always(Reply::Hang)).await;
    let mut url = url(&server);
    url.timeout = Duration::from_millis(10);
    let cause = cause(&authenticator(url), &token).await;
    assert_eq!(cause, "could not fetch the JWKS from 127.0.0.1: no answer within 10ms");
}

/// With keys from a URL HMAC is out of the question before any key is looked for.
#[tokio::test]
async fn no_shared_secret_comes_from_a_url() {
    let endpoint = HttpEndpoint::new("http://localhost:1/").unwrap();
    let keys = JwtKeys::jwks_url(JwksUrl::new(endpoint));
    let error = keys.only([wserver_auth::JwtAlgorithm::HS256]).unwrap_err().to_string();
    assert!(error.starts_with("none of the keys fits HS256; they permit RS256, "), "{error}");
}

/// PyJWT's own key set, served by a real server.
#[tokio::test]
async fn pyjwts_set_serves_its_tokens() {
    let server = HttpServer::start(always(Reply::Say(200, fixture("keys.json")))).await;
    let authenticator = authenticator(url(&server));
    let tokens: Vec<Value> = serde_json::from_str(&fixture("tokens.json")).unwrap();
    for token in &tokens {
        let expected = if token["kid"] == "secret" { "unknown" } else { "jack" };
        check(&authenticator, token["token"].as_str().unwrap(), expected).await;
    }
}

/// As by `cat`, of files without a line end.
#[test]
fn authorities_joined_on_one_line_are_not_half_read() {
    let [(_, one), (_, other)] = [tls::acceptor(), tls::acceptor()];
    let (one, other) = (one.trim_end(), other.trim_end());
    let trusting = |pem: &str| HttpEndpoint::trusting("https://localhost/", pem);
    trusting(&format!("{one}\n{other}")).unwrap();
    let told = trusting(&format!("{one}{other}")).unwrap_err().to_string();
    assert!(told.contains("on a line of its own"), "{told}");
}

#[tokio::test]
async fn https_is_for_who_has_the_right_certificate() {
    let key = IssuerKey::new(Some("k1"));
    let (acceptor, authority) = tls::acceptor();
    let server = HttpServer::start_with(Some(acceptor), always(set(&[&key]))).await;
    let port = server.address.port();
    let fetch = async |host: &str, authority: &str| {
        let endpoint = HttpEndpoint::trusting(&format!("https://{host}:{port}/keys"), authority);
        let mut url = url(&server);
        url.endpoint = endpoint.unwrap();
        JwtKeys::jwks_url(url).prefetch().await.map_err(|error| error.to_string())
    };
    assert_eq!(fetch("localhost", &authority).await, Ok(()));
    let stranger = tls::acceptor().1;
    let wrong_name = fetch("127.0.0.1", &authority).await.unwrap_err();
    assert!(wrong_name.contains("no TLS connection: "), "{wrong_name}");
    let wrong_authority = fetch("localhost", &stranger).await.unwrap_err();
    assert!(wrong_authority.contains("no TLS connection: "), "{wrong_authority}");
    assert_eq!(server.count(), 1);
    // Nor does one who speaks no TLS at all.
    let plain = HttpServer::start(always(Reply::Say(200, String::new()))).await;
    let url = format!("https://localhost:{}/", plain.address.port());
    let mut jwks = JwksUrl::new(HttpEndpoint::trusting(&url, &authority).unwrap());
    jwks.timeout = Duration::from_millis(100);
    assert!(JwtKeys::jwks_url(jwks).prefetch().await.is_err());
}

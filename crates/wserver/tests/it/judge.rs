//! Tokens as issuers make them and as attackers do, and a server whose verdict on each can be read.

use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::{Value, json};
use wserver_protocol::frame::Opcode;

use crate::harness::{Log, Server};
use crate::raw::{Frame, Raw, Socket, post, push_body, register};
use crate::settings::{File, file};

/// What is shared by an issuer of HS256 and the server.
pub(crate) const SECRET: &str = "canary-secret-that-is-long-enough-0123456789";

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The claims of a good token of jack's, with these changes; `null` takes one away.
pub(crate) fn claims(changes: &Value) -> Value {
    let mut claims = json!({"sub": "jack", "aud": "listeners", "exp": now() + 600});
    for (name, value) in changes.as_object().expect("an object") {
        if value.is_null() {
            claims.as_object_mut().expect("an object").remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

/// A token with any header, signed by `key`.
pub(crate) fn sign(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    jsonwebtoken::encode(header, claims, key).unwrap()
}

/// A token by a shared secret.
pub(crate) fn hs256(secret: &[u8], claims: &Value) -> String {
    sign(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret))
}

/// A token with this header and no signature.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    format!("{}.{}.", part(header), part(claims))
}

/// A pair of keys of an issuer.
pub(crate) struct IssuerKey {
    pub(crate) algorithm: Algorithm,
    pub(crate) private: EncodingKey,
    pub(crate) public_pem: String,
    kid: &'static str,
}

impl IssuerKey {
    pub(crate) fn es256(kid: &'static str) -> Self {
        let pair = KeyPair::generate().unwrap();
        let private = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self { algorithm: Algorithm::ES256, private, public_pem: pair.public_key_pem(), kid }
    }

    pub(crate) fn rs256(kid: &'static str) -> Self {
        let pair = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let private = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self { algorithm: Algorithm::RS256, private, public_pem: pair.public_key_pem(), kid }
    }

    /// A token's header by which this key is found.
    pub(crate) fn header(&self) -> Header {
        Header { kid: Some(self.kid.to_owned()), ..Header::new(self.algorithm) }
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        sign(&self.header(), claims, &self.private)
    }
}

/// The key set that an issuer serves.
pub(crate) fn jwks(keys: &[&IssuerKey]) -> String {
    let jwk = |key: &&IssuerKey| {
        let jwk = Jwk::from_encoding_key(&key.private, key.algorithm).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = json!(key.kid);
        jwk
    };
    json!({"keys": keys.iter().map(jwk).collect::<Vec<_>>()}).to_string()
}

/// A server whose log tells what becomes of each registration.
#[derive(Debug)]
pub(crate) struct Judge {
    pub(crate) config: File,
    pub(crate) server: Server,
    pub(crate) log: Log,
}

impl Judge {
    /// With this settings file. It reloads by signal alone.
    pub(crate) fn start(content: &str) -> Self {
        let config = file("judge.toml", content);
        let flags = ["--config", config.path(), "--log", "debug,wserver_warp=trace"];
        let flags = [&flags[..], &["--reload-interval", "0"]].concat();
        let mut server = Server::start_with(&flags, &[]);
        let log = server.follow_log();
        Self { config, server, log }
    }

    /// Registers, and what the log says up to the verdict. Whatever that is, the client sees
    /// nothing.
    pub(crate) fn register(&mut self, socket: &mut Socket, token: &str, event: &str) -> String {
        let from = self.log.read.len();
        socket.send(register(token, event));
        self.verdict();
        socket.sync();
        self.log.read[from..].to_owned()
    }

    /// What the log says next of one registration.
    pub(crate) fn verdict(&mut self) -> String {
        loop {
            let line = self.log.until(r#""message":"regist"#);
            // This one speaks of all that are refused.
            if !line.contains("registrations are being refused") {
                return line;
            }
        }
    }

    /// Registers with a token that is good; who is then heard of by pushes.
    pub(crate) fn accept(&mut self, token: &str, event: &str) -> Socket {
        let mut socket = Socket::open(&self.server);
        let told = self.register(&mut socket, token, event);
        assert!(told.contains(r#""message":"registered""#), "{told}");
        socket
    }

    /// Registers with a token that is not; `words` are what the log says.
    pub(crate) fn refuse(&mut self, token: &str, event: &str, words: &[&str]) {
        let mut socket = Socket::open(&self.server);
        let told = self.register(&mut socket, token, event);
        let words = [&[r#""message":"registration refused""#], words].concat();
        for words in words {
            assert!(told.contains(words), "{words} not in {told}");
        }
        if token.len() > 20 {
            assert!(!told.contains(token), "{told}");
        }
    }

    /// Reloads; the line that tells how it went.
    pub(crate) fn reload(&mut self) -> String {
        self.server.signal("HUP");
        self.log.until(r#""cause":"SIGHUP""#)
    }

    /// Pushes with this token; the status and the body, or the reason.
    pub(crate) fn push(&self, token: &str, user: &str, event: &str) -> (u16, String) {
        let mut raw = Raw::connect(&self.server);
        let bearer = format!("Bearer {token}");
        raw.send(post(&[("authorization", &bearer)], push_body(user, event, "m")));
        let answer = raw.answer();
        let told = if answer.error().is_empty() { &answer.body } else { answer.error() };
        (answer.status, told.to_owned())
    }

    /// How many take a push that needs no token.
    pub(crate) fn count(&self, user: &str, event: &str) -> usize {
        crate::raw::push(&self.server, user, event, "m")
    }
}

/// Whoever is bound hears of it.
pub(crate) fn hears(socket: &mut Socket) {
    assert_eq!(socket.next(), Frame::new(Opcode::Text, "m"));
}

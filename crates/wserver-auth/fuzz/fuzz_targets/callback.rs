//! A backend's answers: none is a panic, and what is accepted was said.

#![no_main]

use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use wserver_auth::{CallbackAuthenticator, EventScope};

fuzz_target!(|body: &[u8]| {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let Ok(identity) = CallbackAuthenticator::read_answer(body, now) else { return };
    assert!(!identity.user.is_empty() && !identity.is_expired(now));
    let said: Value = serde_json::from_slice(body).unwrap();
    match &said["userId"] {
        Value::String(user) => assert_eq!(identity.user, *user),
        user => assert_eq!(identity.user, user.to_string()),
    }
    assert_eq!(identity.expires_at.is_none(), said["expiresAt"].is_null());
    assert_eq!(identity.events == EventScope::Any, said["events"].is_null());
});

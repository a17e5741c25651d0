//! Pushes: what is read has the shape it promises and survives a round trip, and what is
//! refused as no JSON is none to `serde_json::Value` either.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde_json::Value;
use wserver_protocol::{JsonError, PushError, PushRequest};

fuzz_target!(|input: &[u8]| {
    let value = Value::deserialize(&mut serde_json::Deserializer::from_slice(input));
    match PushRequest::parse(input) {
        Ok(push) => {
            let texts = [&push.user_id, &push.event, &push.message];
            assert!(texts.iter().all(|text| !text.is_empty()));
            let encoded = push.encode();
            assert_eq!(PushRequest::parse(encoded.as_bytes()).as_ref(), Ok(&push));
            assert!(value.is_ok_and(|value| value.is_object()));
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < 120 && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            match error {
                PushError::Json(JsonError::Syntax { byte, .. }) => {
                    assert!(value.is_err());
                    assert!(byte <= input.len());
                }
                PushError::Json(JsonError::NotAnObject) => {
                    assert!(!value.is_ok_and(|value| value.is_object()));
                }
                _ => assert!(value.is_ok_and(|value| value.is_object())),
            }
        }
    }
});

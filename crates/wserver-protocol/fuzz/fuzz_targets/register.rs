//! Registrations: what is read has the shape it promises and survives a round trip, and what is
//! refused as no JSON is none to `serde_json::Value` either.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde_json::Value;
use wserver_protocol::{JsonError, Register, RegisterError};

fuzz_target!(|input: &[u8]| {
    let value = Value::deserialize(&mut serde_json::Deserializer::from_slice(input));
    match Register::parse(input) {
        Ok(register) => {
            assert!(!register.token.is_empty() && !register.event.is_empty());
            let encoded = register.encode();
            assert_eq!(Register::parse(encoded.as_bytes()).as_ref(), Ok(&register));
            assert!(value.is_ok_and(|value| value.is_object()));
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < 120 && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            match error {
                RegisterError::Json(JsonError::Syntax { byte, .. }) => {
                    assert!(value.is_err());
                    assert!(byte <= input.len());
                }
                RegisterError::Json(JsonError::NotAnObject) => {
                    assert!(!value.is_ok_and(|value| value.is_object()));
                }
                _ => assert!(value.is_ok_and(|value| value.is_object())),
            }
        }
    }
});

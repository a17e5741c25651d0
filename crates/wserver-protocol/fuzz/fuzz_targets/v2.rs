//! Bodies of the HTTP API: what is read survives a round trip and is JSON, and what is said of
//! anything else is one short line of visible ASCII.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use wserver_protocol::v2::{Batch, BodyError, Disconnect, Presence, Push, Registration};

/// Whether it was read.
fn check<T>(input: &[u8], read: Result<T, BodyError>) -> Option<T> {
    match read {
        Ok(read) => {
            assert!(serde_json::from_slice::<Value>(input).is_ok_and(|value| value.is_object()));
            Some(read)
        }
        Err(error) => {
            check_told(&error);
            None
        }
    }
}

fn check_told(error: &BodyError) {
    let text = error.to_string();
    assert!(text.len() < 400, "{text}");
    assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text}");
}

fuzz_target!(|input: &[u8]| {
    if let Some(push) = check(input, Push::parse(input)) {
        assert!(!push.event.is_empty() && !push.message.is_empty());
        let encoded = push.encode();
        let again = Push::parse(encoded.as_bytes()).unwrap();
        assert_eq!((&again.event, &again.message), (&push.event, &push.message));
        assert_eq!(again.recipients, push.recipients);
    }
    // What is in its items is judged one by one.
    match Batch::parse(input) {
        Ok(batch) => assert_eq!(batch.pushes().count(), batch.len()),
        Err(error) => check_told(&error),
    }
    if let Some(disconnect) = check(input, Disconnect::parse(input)) {
        assert_eq!(Disconnect::parse(disconnect.encode().as_bytes()), Ok(disconnect));
    }
    check(input, Presence::parse(input));
    check(input, Registration::parse(input));
});

//! Version 2 of the protocol: what is read has the shape it promises and survives a round trip,
//! what is refused is told in one line, and a push is read as it was written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use wserver_protocol::connection::{Asked, FromClient, FromServer, Head, Request, RequestError};
use wserver_protocol::{events, frame};

fuzz_target!(|input: &[u8]| {
    let is_object = serde_json::from_slice::<Value>(input).is_ok_and(|value| value.is_object());
    match Request::parse(input) {
        Ok(request) => {
            assert!(is_object);
            if let Asked::Register { events, token, .. } = &request.asked {
                assert!(!events.is_empty() && events.iter().all(|event| !event.is_empty()));
                assert!(token.as_ref().is_none_or(|token| !token.is_empty()));
            }
            assert_eq!(Request::parse(request.encode().as_bytes()), Ok(request));
        }
        Err(RequestError::NotAnObject) => assert!(!is_object),
        Err(RequestError::Refused { detail, .. }) => {
            assert!(is_object);
            assert!(detail.len() < 100 && detail.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        }
    }
    if let Ok(message) = FromClient::parse(input) {
        assert_eq!(FromClient::parse(message.encode().as_bytes()), Ok(message));
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    match FromServer::parse(text) {
        Some(FromServer::Reply(reply)) => {
            let encoded = reply.encode();
            assert_eq!(FromServer::parse(&encoded), Some(FromServer::Reply(reply)));
        }
        Some(FromServer::Notice(notice)) => {
            let encoded = notice.encode();
            assert_eq!(FromServer::parse(&encoded), Some(FromServer::Notice(notice)));
        }
        Some(FromServer::Push { .. } | FromServer::Unknown) | None => {}
        Some(_) => unreachable!("a kind without a check"),
    }
    // The first half as an event, the rest as a message.
    let mut middle = text.len() / 2;
    while !text.is_char_boundary(middle) {
        middle -= 1;
    }
    let (event, message) = text.split_at(middle);
    let ack = text.len() % 2 == 1;
    let at = (text.len() % 3 == 0).then_some("5f3a9c01b2d4.0000002a");
    let head = Head { event, id: "5f3a9c01-12", at, ack };
    let written = head.frame(message);
    assert_eq!(written.len(), head.frame_len(message.len()));
    let payload = (2..=10)
        .find(|head| frame::frame_len(written.len() - head) == written.len())
        .map(|head| &written[head..])
        .unwrap();
    let read = FromServer::parse(std::str::from_utf8(payload).unwrap());
    let (event, id) = (event.to_owned(), "5f3a9c01-12".to_owned());
    assert_eq!(read, Some(FromServer::Push { event, id, at: at.map(str::to_owned), ack, message }));
    // As a stream of events, whatever ends its lines.
    let block = events::event("order", at, message);
    assert_eq!(block.len(), events::event_len("order", at, message));
    let lines = std::str::from_utf8(&block).unwrap().lines();
    let data: Vec<&str> = lines.filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(data.join("\n"), message.replace("\r\n", "\n").replace('\r', "\n"));
});

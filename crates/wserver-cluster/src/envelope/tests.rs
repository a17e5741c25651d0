//! Bodies that are cut into parts, and messages of other releases.

use proptest::prelude::*;

use super::*;

fn request(message: &[u8]) -> Item {
    let push = Push {
        user: "jack".to_owned(),
        event: "news".to_owned(),
        message: Bytes::copy_from_slice(message),
        exclude: 7,
        ttl_ms: Some(0),
        id_process: 0x5f3a_9c01,
        id_number: 12,
        wait: None,
    };
    let wanted = Some(Wanted::Push(push));
    Content::Request(Request { id: 3, budget_ms: 1000, wanted, asked_ms: 7 }).into()
}

fn read_all(messages: &[Bytes]) -> Body {
    let mut body = Vec::new();
    let mut left = messages.len();
    for message in messages {
        let part = Part::read(message.clone()).unwrap();
        left -= 1;
        assert_eq!(part.parts_left as usize, left);
        body.extend_from_slice(&part.body);
    }
    Body::read(body.into()).unwrap()
}

#[test]
fn what_is_too_large_for_a_broker_is_cut_into_parts() {
    let item = request(&[b'x'; 10_000]);
    for (bytes_max, count) in [(1 << 20, 1), (4096, 3), (10_110, 1), (10_096, 2)] {
        let mut head = Part { origin: 1, sequence: 5, sent_ms: 9, ..Part::default() };
        let messages = write(&mut head, encode(item.clone()), bytes_max);
        assert_eq!(messages.len(), count, "{bytes_max}");
        assert_eq!(head.sequence, 5 + count as u64);
        assert!(messages.iter().all(|message| message.len() <= bytes_max));
        assert_eq!(read_all(&messages).items, std::slice::from_ref(&item));
    }
}

#[test]
fn a_message_of_a_later_release_is_read_as_far_as_it_is_known() {
    /// As it may look one day.
    #[derive(Clone, PartialEq, Message)]
    struct LaterHeartbeat {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(uint64, tag = "90")]
        temperature: u64,
    }
    #[derive(Clone, PartialEq, Message)]
    struct LaterItem {
        #[prost(message, optional, tag = "1")]
        heartbeat: Option<LaterHeartbeat>,
        #[prost(message, optional, tag = "99")]
        novelty: Option<LaterHeartbeat>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct LaterBody {
        #[prost(message, repeated, tag = "1")]
        items: Vec<LaterItem>,
    }
    let later = LaterHeartbeat { name: "b".to_owned(), temperature: 40 };
    let body = LaterBody {
        items: vec![
            LaterItem { heartbeat: None, novelty: Some(later.clone()) },
            LaterItem { heartbeat: Some(later), novelty: None },
        ],
    };
    let read = Body::read(Bytes::from(body.encode_to_vec())).unwrap();
    assert_eq!(read.items[0].content, None, "what is new is passed over");
    let heartbeat = Heartbeat { name: "b".to_owned(), ..Heartbeat::default() };
    assert_eq!(read.items[1].content, Some(Content::Heartbeat(heartbeat)));
}

#[test]
fn what_says_that_it_would_be_misunderstood_is_let_go() {
    let part = Part { origin: 1, sequence: 1, readable_from: VERSION + 1, ..Part::default() };
    let encoded = Bytes::from(part.encode_to_vec());
    assert_eq!(Part::read(encoded), Err(Unreadable::TooNew));
    let of_nobody = Part { sequence: 1, ..Part::default() }.encode_to_vec();
    for malformed in [&b""[..], b"\x00", b"hello", &[0xff; 40], &of_nobody] {
        let read = Part::read(Bytes::copy_from_slice(malformed));
        assert_eq!(read, Err(Unreadable::Malformed), "{malformed:?}");
    }
}

#[test]
fn a_number_that_no_node_can_have_reached_is_implausible() {
    let read = |sequence, sent_ms| {
        let part = Part { origin: 1, sequence, sent_ms, ..Part::default() };
        Part::read(part.encode_to_vec().into()).map(|part| part.sequence)
    };
    // A channel that began a moment ago, and one that has had a million messages a second since
    // its node began.
    for (sequence, sent_ms) in [((5000 << 16) + 1, 5000), (5_000_000, 5000), (7, 0)] {
        assert_eq!(read(sequence, sent_ms), Ok(sequence));
    }
    for (sequence, sent_ms) in
        [(1 << 62, 5000), (5002 << 16, 5000), (1 << 62, 1 << 46), (u64::MAX, u64::MAX)]
    {
        assert_eq!(read(sequence, sent_ms), Err(Unreadable::Implausible), "{sequence}");
    }
}

#[test]
fn a_name_that_no_node_may_have_is_not_believed() {
    let believed = |name: &str| Heartbeat { name: name.to_owned(), ..Heartbeat::default() };
    let longest = "x".repeat(64);
    for name in ["web-1", &longest] {
        assert_eq!(believed(name).believed().name, name);
    }
    let of_release = Heartbeat { release: "1\n2".to_owned(), ..believed("web-1") }.believed();
    assert_eq!((&*of_release.name, &*of_release.release), ("web-1", ""));
    let long = "x".repeat(65);
    for name in ["two words", "line\nline", "caf\u{e9}", "\u{202e}x", &long] {
        assert_eq!(believed(name).believed().name, "", "{name:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzz(&bytes);
    }
}

//! Valid streams: what is delivered does not depend on how the bytes were cut, and nothing is kept
//! between messages.

use std::ops::ControlFlow;

use proptest::prelude::*;
use wserver_protocol::frame::{self, Fin, Opcode};
use wserver_protocol::{CloseCode, DecodeLimits, Decoder, Inbound, Role};

use crate::{Event, LIMITS, decode};

/// What a peer does, from which both the bytes and the expected events follow.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) event: Event,
    /// Where the payload of a message is cut into fragments.
    cuts: Vec<prop::sample::Index>,
    /// A Ping after each fragment but the last.
    pings: bool,
    key: [u8; 4],
}

impl Step {
    /// The frames, masked as a client does unless `role` reads as a client.
    pub(crate) fn encode(&self, role: Role, out: &mut Vec<u8>) {
        let key = (role == Role::Server).then_some(self.key);
        let (opcode, payload) = match &self.event {
            Event::Text(text) => (Opcode::Text, text.as_bytes().to_vec()),
            Event::Binary(payload) => (Opcode::Binary, payload.clone()),
            Event::Ping(payload) => (Opcode::Ping, payload.clone()),
            Event::Pong(payload) => (Opcode::Pong, payload.clone()),
            Event::Close(None) => (Opcode::Close, Vec::new()),
            Event::Close(Some((code, reason))) => {
                (Opcode::Close, [&code.to_be_bytes()[..], reason.as_bytes()].concat())
            }
        };
        if opcode.is_control() {
            return frame::append(out, Fin::Last, opcode, key, &payload);
        }
        let mut cuts: Vec<usize> =
            self.cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
        cuts.sort_unstable();
        let mut from = 0;
        let mut opcode = opcode;
        for cut in cuts {
            frame::append(out, Fin::More, opcode, key, &payload[from..cut]);
            if self.pings {
                frame::append(out, Fin::Last, Opcode::Ping, key, b"between");
            }
            (from, opcode) = (cut, Opcode::Continuation);
        }
        frame::append(out, Fin::Last, opcode, key, &payload[from..]);
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = Event> + '_ {
        let is_message = matches!(self.event, Event::Text(_) | Event::Binary(_));
        let pings = if is_message && self.pings { self.cuts.len() } else { 0 };
        std::iter::repeat_n(Event::Ping(b"between".to_vec()), pings).chain([self.event.clone()])
    }
}

fn event() -> impl Strategy<Value = Event> {
    let bytes = |max| prop::collection::vec(any::<u8>(), 0..=max);
    prop_oneof![
        4 => any::<String>().prop_map(Event::Text),
        2 => bytes(300).prop_map(Event::Binary),
        1 => (any::<u8>(), 65_400..65_700_usize)
            .prop_map(|(byte, len)| Event::Binary(vec![byte; len])),
        1 => bytes(125).prop_map(Event::Ping),
        1 => bytes(125).prop_map(Event::Pong),
    ]
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..5);
    (event(), cuts, any::<bool>(), any::<[u8; 4]>()).prop_map(|(event, cuts, pings, key)| Step {
        event,
        cuts,
        pings,
        key,
    })
}

/// Cuts `stream` into chunks of the given lengths, in turn.
fn chunks<'a>(mut stream: &'a [u8], lens: &[usize]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    let mut lens = lens.iter().cycle();
    while !stream.is_empty() {
        let len = lens.next().map_or(stream.len(), |len| (*len).min(stream.len()));
        let (front, back) = stream.split_at(len);
        chunks.push(front);
        stream = back;
    }
    chunks
}

fn lens() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![3 => 1..4_usize, 2 => 4..64_usize, 1 => 64..5000_usize], 1..8)
}

proptest! {
    #[test]
    fn whole_or_in_pieces_as_it_was_sent(
        steps in prop::collection::vec(step(), 0..8),
        lens in lens(),
        close in prop::option::of(any::<bool>()),
        as_client in any::<bool>(),
    ) {
        let role = if as_client { Role::Client } else { Role::Server };
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for step in &steps {
            step.encode(role, &mut stream);
            expected.extend(step.events());
        }
        if let Some(with_code) = close {
            let event = Event::Close(with_code.then(|| (1001, "bye ☃".into())));
            let step = Step { event, cuts: Vec::new(), pings: false, key: [1, 2, 3, 4] };
            step.encode(role, &mut stream);
            expected.extend(step.events());
            // Data after a Close is ignored, whatever it is.
            stream.extend_from_slice(b"\xff\xff\xff");
        }
        for chunks in [vec![&stream[..]], chunks(&stream, &lens)] {
            let (events, res) = decode(role, &LIMITS, chunks);
            prop_assert_eq!(&events, &expected);
            let decoder = res.unwrap();
            prop_assert!(!decoder.is_partial());
            prop_assert_eq!(decoder.is_ended(), close.is_some());
        }
    }

    /// The same for streams that somebody broke: the same events, and the same refusal.
    #[test]
    fn pieces_make_no_difference_to_a_broken_stream(
        steps in prop::collection::vec(step(), 1..5),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        lens in lens(),
    ) {
        let mut stream = Vec::new();
        for step in &steps {
            step.encode(Role::Server, &mut stream);
        }
        for (at, byte) in flips {
            *at.get_mut(&mut stream) = byte;
        }
        let limits = DecodeLimits { message_bytes_max: 65_536, fragments_max: 4 };
        let (whole, whole_res) = decode(Role::Server, &limits, [&stream[..]]);
        let (pieces, pieces_res) = decode(Role::Server, &limits, chunks(&stream, &lens));
        prop_assert_eq!(whole, pieces);
        prop_assert_eq!(
            whole_res.map(|decoder| decoder.is_ended()),
            pieces_res.map(|decoder| decoder.is_ended())
        );
    }

    /// A sink that breaks after each event sees the same as one that never does.
    #[test]
    fn breaking_off_loses_nothing(
        steps in prop::collection::vec(step(), 0..6),
        lens in lens(),
    ) {
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for step in &steps {
            step.encode(Role::Server, &mut stream);
            expected.extend(step.events());
        }
        let mut decoder = Decoder::new(Role::Server);
        let mut events = Vec::new();
        for chunk in chunks(&stream, &lens) {
            let mut input = chunk.to_vec();
            let mut rest = &mut input[..];
            while !rest.is_empty() {
                let before = events.len();
                let consumed = decoder.decode(&LIMITS, rest, |inbound| {
                    events.push(Event::from(inbound));
                    ControlFlow::Break(())
                }).unwrap();
                prop_assert!(events.len() <= before + 1);
                prop_assert!(consumed > 0);
                if events.len() == before {
                    prop_assert_eq!(consumed, rest.len());
                }
                rest = &mut rest[consumed..];
            }
        }
        prop_assert_eq!(events, expected);
        prop_assert!(!decoder.is_partial());
    }

    /// Every boundary of a run of server frames is found, and nothing else is.
    #[test]
    fn boundaries_are_where_frames_end(payloads in prop::collection::vec(0..400_usize, 0..8)) {
        let mut run = Vec::new();
        let mut ends = vec![0];
        for len in payloads {
            run.extend_from_slice(&frame::binary(&vec![7; len]));
            ends.push(run.len());
        }
        for offset in 0..=run.len() {
            let next = ends.iter().copied().find(|end| *end >= offset);
            prop_assert_eq!(Some(frame::boundary_after(&run, offset)), next);
        }
        prop_assert_eq!(frame::boundary_after(&run, run.len() + 1), run.len());
    }
}

/// What comes after a break behind a Close is ignored as well.
#[test]
fn a_close_ends_the_stream() {
    let mut input = frame::masked(Opcode::Close, b"", [1, 2, 3, 4]).to_vec();
    let close_len = input.len();
    input.extend_from_slice(b"\xff\xff");
    let mut decoder = Decoder::new(Role::Server);
    let consumed = decoder.decode(&LIMITS, &mut input, |_| ControlFlow::Break(())).unwrap();
    assert_eq!(consumed, close_len);
    assert!(decoder.is_ended());
    let consumed = decoder
        .decode(&LIMITS, &mut input[consumed..], |_| panic!("nothing follows a Close"))
        .unwrap();
    assert_eq!(consumed, 2);
}

#[test]
fn an_idle_decoder_is_small_and_keeps_nothing() {
    assert!(size_of::<Decoder>() <= 16);
    assert!(size_of::<Option<Decoder>>() <= 16);
    let message = frame::masked(Opcode::Text, &[b'a'; 1000], [9, 8, 7, 6]);
    let mut fragments = Vec::new();
    frame::append(&mut fragments, Fin::More, Opcode::Text, Some([9, 8, 7, 6]), b"ab");
    frame::append(&mut fragments, Fin::Last, Opcode::Ping, Some([9, 8, 7, 6]), b"p");
    frame::append(&mut fragments, Fin::Last, Opcode::Continuation, Some([0; 4]), b"c");
    for stream in [&message[..], &fragments] {
        let mut decoder = Decoder::new(Role::Server);
        for (at, byte) in stream.iter().enumerate() {
            assert_eq!(decoder.is_partial(), at > 0);
            decoder.decode(&LIMITS, &mut [*byte], |_| ControlFlow::Continue(())).unwrap();
        }
        assert!(!decoder.is_partial());
        // A frame that is there as a whole is never copied at all.
        decoder.decode(&LIMITS, &mut message.to_vec(), |_| ControlFlow::Continue(())).unwrap();
        assert!(!decoder.is_partial());
    }
}

/// A frame that is there as a whole is lent from the input, not copied, whatever follows it.
#[test]
fn a_whole_frame_is_lent() {
    let frame = frame::masked(Opcode::Binary, b"payload", [9, 8, 7, 6]);
    for behind in [&b""[..], b"\x82"] {
        let mut input = [&frame[..], behind].concat();
        let lent_from = input.as_ptr_range();
        let mut is_lent = false;
        let mut decoder = Decoder::new(Role::Server);
        decoder
            .decode(&LIMITS, &mut input, |inbound| {
                let Inbound::Binary(payload) = inbound else { panic!("{inbound:?}") };
                is_lent = lent_from.contains(&payload.as_ptr());
                ControlFlow::Continue(())
            })
            .unwrap();
        assert!(is_lent, "before {behind:?}");
    }
}

/// The decoder tells the memory that it holds, and holds none after a message, nor after a Close
/// in the middle of one.
#[test]
fn held_bytes_are_the_memory_of_a_message() {
    let key = [9, 8, 7, 6];
    let long = frame::masked(Opcode::Binary, &[7; 100], key);
    let head_len = frame::head_len(100) + key.len();
    let mut decoder = Decoder::new(Role::Server);
    let mut feed = |bytes: &[u8]| {
        decoder.decode(&LIMITS, &mut bytes.to_vec(), |_| ControlFlow::Continue(())).unwrap();
        (decoder.held_bytes(), decoder.is_partial())
    };
    assert_eq!(feed(&long[..head_len]), (0, true), "an announcement costs nothing");
    let (held, _) = feed(&long[head_len..head_len + 10]);
    assert!(held >= 10, "{held}");
    // The room doubles, so eleven bytes stand in room for twenty.
    let (held, _) = feed(&long[head_len + 10..head_len + 11]);
    assert!(held >= 20, "{held}");
    assert_eq!(feed(&long[head_len + 11..]), (0, false));

    let mut begun = Vec::new();
    frame::append(&mut begun, Fin::More, Opcode::Binary, Some(key), b"abc");
    let (held, _) = feed(&begun);
    assert!(held >= 3, "{held}");
    assert_eq!(feed(&frame::masked(Opcode::Close, b"", key)), (0, false));
}

/// `Debug` is for logs, so it tells no contents.
#[test]
fn debug_tells_nothing() {
    let mut input = frame::masked(Opcode::Text, b"secret", [0; 4]).to_vec();
    let mut decoder = Decoder::new(Role::Server);
    decoder.decode(&LIMITS, &mut input[..9], |_| panic!("not whole")).unwrap();
    let debug = format!("{decoder:?}");
    assert!(debug.contains("is_partial: true") && !debug.contains("sec"), "{debug}");
    decoder
        .decode(&LIMITS, &mut input[9..], |inbound| {
            assert_eq!(format!("{inbound:?}"), "Text(6 bytes)");
            ControlFlow::Continue(())
        })
        .unwrap();
}

/// The encoders give these bytes, in one allocation of their length.
#[test]
fn frames_to_the_byte() {
    assert_eq!(&frame::text("hé")[..], b"\x81\x03h\xc3\xa9");
    assert_eq!(&frame::text("")[..], b"\x81\x00");
    assert_eq!(&frame::binary(b"\x00")[..], b"\x82\x01\x00");
    assert_eq!(&frame::ping()[..], b"\x89\x00");
    assert_eq!(&frame::pong(b"p")[..], b"\x8a\x01p");
    assert_eq!(frame::pong(&[0; 200]).len(), 127);
    assert_eq!(&frame::close(CloseCode::GOING_AWAY, "bye")[..], b"\x88\x05\x03\xe9bye");
    assert_eq!(
        &frame::masked(Opcode::Text, b"abcde", *b"\x01\x02\x03\x04")[..],
        b"\x81\x85\x01\x02\x03\x04````d"
    );
    for (len, head) in [
        (0, &b"\x82\x00"[..]),
        (125, b"\x82\x7d"),
        (126, b"\x82\x7e\x00\x7e"),
        (65_535, b"\x82\x7e\xff\xff"),
        (65_536, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ] {
        let frame = frame::binary(&vec![5; len]);
        assert_eq!(frame.len(), frame::frame_len(len));
        assert_eq!(&frame[..frame::head_len(len)], head);
        assert_eq!(frame::boundary_after(&frame, 1), frame.len());
        let vec = Vec::from(frame);
        assert_eq!(vec.capacity(), vec.len());
    }
    // Not a run of whole frames: the end is all that is left to say.
    for run in
        [&b"\x82"[..], b"\x82\x05abc", b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", b"\x82\x7e\x00"]
    {
        assert_eq!(frame::boundary_after(run, 1), run.len());
    }
}

//! A socket that is no socket: it takes what its script says, and remembers every byte.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use wserver_core::{CloseReason, EventName, LimitSettings, Limits, PushId, UserId};
use wserver_node::{Node, Wire};
use wserver_protocol::{CloseCode, Protocol, frame};

/// Random numbers whose seed is printed: splitmix64.
#[derive(Debug, Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub(crate) fn chance(&mut self, in_hundred: usize) -> bool {
        self.below(100) < in_hundred
    }

    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }
}

/// What a wire does once it has taken so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Goes on.
    Flow,
    /// Takes nothing more, until it is told to.
    StallAfter(usize),
    /// Fails.
    BreakAfter(usize),
}

/// The far end of a [`FakeWire`].
pub(crate) struct Line {
    state: Mutex<State>,
}

struct State {
    /// With it, writes come up short or not at all.
    moods: Option<Rng>,
    fate: Fate,
    /// Questions for readiness that are still answered with "not yet".
    blocked: usize,
    waker: Option<Waker>,
    /// The next write is held back for so many questions.
    hold: usize,
    /// Run in the middle of the next write.
    interruption: Option<Box<dyn FnOnce() + Send>>,
    /// Taken by the wire, not yet by the socket: what encryption would hold back.
    held: Vec<u8>,
    taken: Vec<u8>,
    /// Where each write ended.
    write_ends: Vec<usize>,
}

impl Line {
    /// A line that takes everything at once.
    pub(crate) fn calm() -> Arc<Self> {
        Self::new(None, Fate::Flow)
    }

    pub(crate) fn new(moods: Option<Rng>, fate: Fate) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                moods,
                fate,
                blocked: 0,
                waker: None,
                hold: 0,
                interruption: None,
                held: Vec::new(),
                taken: Vec::new(),
                write_ends: Vec::new(),
            }),
        })
    }

    /// Ends a stall; a line that is to fail still does.
    pub(crate) fn unstall(&self) {
        let waker = {
            let mut state = self.lock();
            if let Fate::StallAfter(_) = state.fate {
                state.fate = Fate::Flow;
            }
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes nothing beyond so many bytes in all, from now on.
    pub(crate) fn stall_after(&self, bytes: usize) {
        self.lock().fate = Fate::StallAfter(bytes);
    }

    /// Holds the next write back, until it was asked for readiness so many times.
    pub(crate) fn hold(&self, questions: usize) {
        self.lock().hold = questions;
    }

    /// Has `interruption` run in the middle of the next write.
    pub(crate) fn interrupt(&self, interruption: impl FnOnce() + Send + 'static) {
        self.lock().interruption = Some(Box::new(interruption));
    }

    pub(crate) fn taken(&self) -> Vec<u8> {
        self.lock().taken.clone()
    }

    pub(crate) fn write_ends(&self) -> Vec<usize> {
        self.lock().write_ends.clone()
    }

    /// What was sent, each frame as text, a Close as its code.
    pub(crate) fn texts(&self) -> Vec<String> {
        let (frames, rest) = read_frames(&self.taken());
        assert_eq!(rest, 0, "no half frame");
        frames.iter().map(Frame::to_text).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn room(&self) -> usize {
        match self.fate {
            Fate::Flow => usize::MAX,
            Fate::StallAfter(bytes) | Fate::BreakAfter(bytes) => {
                bytes.saturating_sub(self.taken.len() + self.held.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        if self.blocked > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.taken.append(&mut self.held);
        Ok(())
    }
}

/// The near end, which a node writes to.
pub(crate) struct FakeWire(pub(crate) Arc<Line>);

impl Wire for FakeWire {
    fn try_write(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let interruption = self.0.lock().interruption.take();
        if let Some(interruption) = interruption {
            interruption();
        }
        let mut state = self.0.lock();
        state.flush()?;
        let mut left = state.room();
        if left == 0 {
            return Err(match state.fate {
                Fate::BreakAfter(_) => io::ErrorKind::ConnectionReset.into(),
                Fate::Flow | Fate::StallAfter(_) => io::ErrorKind::WouldBlock.into(),
            });
        }
        if state.blocked > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let offered: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        if let Some(moods) = &mut state.moods {
            match moods.below(10) {
                0 => {
                    state.blocked = 1 + moods.below(6);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                1..=2 => left = left.min(1 + moods.below(offered)),
                _ => {}
            }
        }
        let mut written = 0;
        for buffer in buffers {
            let part = buffer.len().min(left);
            state.held.extend_from_slice(&buffer[..part]);
            left -= part;
            written += part;
        }
        let end = state.taken.len() + state.held.len();
        state.write_ends.push(end);
        if state.hold > 0 {
            state.blocked = std::mem::take(&mut state.hold);
        }
        if let Some(moods) = &mut state.moods
            && moods.chance(20)
        {
            state.blocked = 1 + moods.below(6);
        }
        let _ = state.flush();
        Ok(written)
    }

    fn try_flush(&self) -> io::Result<()> {
        self.0.lock().flush()
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        if state.room() == 0 && matches!(state.fate, Fate::StallAfter(_)) {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.blocked = state.blocked.saturating_sub(1);
        if state.blocked > 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

/// One frame of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) start: usize,
    pub(crate) head: u8,
    pub(crate) payload: Vec<u8>,
}

pub(crate) const TEXT: u8 = 0x81;
pub(crate) const CLOSE: u8 = 0x88;

impl Frame {
    pub(crate) fn close_code(&self) -> Option<u16> {
        let code: [u8; 2] = self.payload.get(..2)?.try_into().ok()?;
        (self.head == CLOSE).then_some(u16::from_be_bytes(code))
    }

    fn to_text(&self) -> String {
        match self.close_code() {
            Some(code) => format!("close {code}"),
            None => String::from_utf8(self.payload.clone()).unwrap(),
        }
    }
}

/// Reads a record frame by frame; also the bytes of a half frame at its end.
pub(crate) fn read_frames(record: &[u8]) -> (Vec<Frame>, usize) {
    let mut frames = Vec::new();
    let mut start = 0;
    loop {
        let rest = &record[start..];
        let (head, len) = match rest {
            [_, len @ ..=125, ..] => (2, usize::from(*len)),
            [_, 126, a, b, ..] => (4, usize::from(u16::from_be_bytes([*a, *b]))),
            [_, 127, eight @ ..] if eight.len() >= 8 => {
                let len = u64::from_be_bytes(eight[..8].try_into().unwrap());
                (10, usize::try_from(len).unwrap())
            }
            _ => return (frames, rest.len()),
        };
        assert!(matches!(rest[0], TEXT | CLOSE), "a frame begins at {start}: {:#x}", rest[0]);
        let Some(payload) = rest.get(head..head + len) else { return (frames, rest.len()) };
        frames.push(Frame { start, head: rest[0], payload: payload.to_vec() });
        start += head + len;
    }
}

/// A node on the runtime of the test.
pub(crate) fn node(limits: LimitSettings) -> Node<FakeWire> {
    let limits: Limits = limits.build().unwrap();
    Node::new(limits, close_frame, tokio::runtime::Handle::current())
}

pub(crate) const fn close_code(reason: CloseReason, protocol: Protocol) -> CloseCode {
    match reason {
        CloseReason::Slow if matches!(protocol, Protocol::V2) => CloseCode::TOO_SLOW,
        CloseReason::Slow => CloseCode::TRY_AGAIN_LATER,
        CloseReason::Shutdown => CloseCode::GOING_AWAY,
        CloseReason::Internal => CloseCode::INTERNAL,
        _ => CloseCode::NORMAL,
    }
}

fn close_frame(reason: CloseReason, protocol: Protocol) -> Option<Bytes> {
    Some(frame::close(close_code(reason, protocol), reason.as_str()))
}

/// What pushes are known by whose id is not looked at.
pub(crate) const PUSH: PushId = PushId::new(0x5f3a_9c01, 12);

pub(crate) fn user(name: &str) -> UserId {
    UserId::parse(name, 64).unwrap()
}

pub(crate) fn event(name: &str) -> EventName {
    EventName::parse(name, 64).unwrap()
}

/// As long as names of the tests are.
const NAME_BYTES_MAX: usize = 4;

/// The smallest queue that goes with these sizes. The node trusts its owner that no message is longer,
/// and tests of a bound in bytes push longer ones.
pub(crate) fn limits(message_bytes_max: usize, walk_bytes_max: usize) -> LimitSettings {
    LimitSettings {
        message_bytes_max,
        walk_bytes_max,
        outbox_bytes_max: 2 * (message_bytes_max + 10 + 96 + 6 * NAME_BYTES_MAX + walk_bytes_max),
        name_bytes_max: NAME_BYTES_MAX,
        ..LimitSettings::default()
    }
}

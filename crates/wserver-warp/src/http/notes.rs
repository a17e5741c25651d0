//! What is known of one HTTP connection: how far a request is read, and whether it is answered.
//!
//! Those who read and those who answer share it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::HeaderMap;
use hyper::body::SizeHint;
use hyper::header::TRANSFER_ENCODING;

use crate::http::framing::{Body, Chunks, Head};
use crate::listen::places::Seat;

/// What those who read and answer one connection know of it. A clone is the same connection's.
#[derive(Debug, Clone)]
pub(crate) struct Notes(Arc<Noted>);

#[derive(Debug)]
struct Noted {
    seat: Arc<Seat>,
    /// Of one task, so nobody ever waits for it.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    reading: Reading,
    exchange: Exchange,
    /// Requests that have come.
    requests: u64,
    /// Bytes have come since the last request that was served, so some may be left unread.
    has_unserved: bool,
}

/// What comes next.
#[derive(Debug)]
enum Reading {
    Head(Head),
    /// Nothing, until somebody has seen the head that has come.
    Seen(Head),
    Body(Body),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exchange {
    /// No request is under way.
    Waiting,
    Asked,
    /// Answered, and the answer is not out yet.
    Answered,
    /// Answered by what has no end of its own: whoever reads it is gone when they end their side.
    Streaming,
}

/// What is waited for, and for some time only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// The first request, or the rest of a head.
    Head,
    Request,
    /// The client has ended its side, and waits for its answer.
    Answer,
}

impl Notes {
    pub(crate) fn new(seat: Arc<Seat>) -> Self {
        let state = State {
            reading: Reading::Head(Head::default()),
            exchange: Exchange::Waiting,
            requests: 0,
            has_unserved: false,
        };
        Self(Arc::new(Noted { seat, state: Mutex::new(state) }))
    }

    /// A request's head has been seen, whose body is of this size; false when the end of that body
    /// could be read in two ways: by two lengths, by a length and a transfer encoding, or by any
    /// encoding but `chunked`.
    pub(crate) fn begin(&self, headers: &HeaderMap, body: &SizeHint) -> bool {
        let mut state = self.lock();
        let head = match std::mem::replace(&mut state.reading, Reading::Head(Head::default())) {
            Reading::Seen(head) => Some(head),
            // hyper and we do not agree on where the head ends.
            Reading::Head(_) | Reading::Body(_) => None,
        };
        match body.exact() {
            Some(0) => {}
            Some(bytes) => state.reading = Reading::Body(Body::Bytes(bytes)),
            None => state.reading = Reading::Body(Body::Chunks(Chunks::default())),
        }
        drop(state);
        self.asked();
        let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
        let lengths_max = match (encodings.next(), encodings.next()) {
            (None, _) => 1,
            (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"chunked") => 0,
            (Some(_), _) => return false,
        };
        head.is_some_and(|head| head.lengths <= lengths_max)
    }

    /// A request is under way.
    pub(crate) fn asked(&self) {
        self.0.seat.begin();
        let mut state = self.lock();
        state.exchange = Exchange::Asked;
        state.requests += 1;
    }

    /// The answer is there and is written next; `is_stream` when it has no end of its own.
    pub(crate) fn answered(&self, is_stream: bool) {
        self.lock().exchange = if is_stream { Exchange::Streaming } else { Exchange::Answered };
    }

    /// The answer is out.
    pub(crate) fn waits(&self) {
        self.lock().exchange = Exchange::Waiting;
    }

    /// A request was read whole and served.
    pub(crate) fn served(&self) {
        self.lock().has_unserved = false;
    }

    /// Remembers that the client may be sending what will not be read.
    pub(crate) fn leave_unserved(&self) {
        self.lock().has_unserved = true;
    }

    /// Whether something is left of the body of the request under way.
    pub(crate) fn has_unread_body(&self) -> bool {
        matches!(self.lock().reading, Reading::Body(_))
    }

    pub(crate) fn seat(&self) -> &Seat {
        &self.0.seat
    }

    /// How many of these bytes, which have come, may be handed over: those of one head, or of one body.
    pub(crate) fn take(&self, bytes: &[u8]) -> usize {
        self.lock().take(bytes)
    }

    /// What is waited for, if anything is, and after how many requests.
    pub(crate) fn awaited(&self) -> Option<(Awaited, u64)> {
        let state = self.lock();
        state.awaited().map(|awaited| (awaited, state.requests))
    }

    /// The client has ended its side: nothing if that may be told, and otherwise in how manieth
    /// request.
    pub(crate) fn ended_in(&self) -> Option<u64> {
        let state = self.lock();
        (!state.may_end()).then_some(state.requests)
    }

    /// What was to be written is out; whether the end of what the client sends may be told then.
    /// Nothing while an answer is not there: without hyper it is [said](Self::waits) what is out.
    pub(crate) fn flushed(&self) -> Option<bool> {
        let mut state = self.lock();
        if matches!(state.exchange, Exchange::Asked | Exchange::Waiting) {
            return None;
        }
        if state.exchange == Exchange::Answered {
            state.exchange = Exchange::Waiting;
        }
        Some(state.may_end())
    }

    /// Whether the client may be sending what will not be read.
    pub(crate) fn has_unserved(&self) -> bool {
        self.lock().has_unserved
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How many of these bytes may be handed over: those of one head, or of one body.
    fn take(&mut self, bytes: &[u8]) -> usize {
        self.has_unserved = true;
        match &mut self.reading {
            Reading::Head(head) => match head.take(bytes) {
                Some(end) => {
                    self.reading = Reading::Seen(std::mem::take(head));
                    end
                }
                None => bytes.len(),
            },
            Reading::Seen(_) => 0,
            Reading::Body(body) => match body.take(bytes) {
                Some(end) => {
                    self.reading = Reading::Head(Head::default());
                    end
                }
                None => bytes.len(),
            },
        }
    }

    /// Whether the end of what the client sends may be told.
    fn may_end(&self) -> bool {
        matches!(self.exchange, Exchange::Waiting | Exchange::Streaming)
            || matches!(self.reading, Reading::Body(_))
    }

    fn awaited(&self) -> Option<Awaited> {
        match &self.reading {
            _ if self.exchange != Exchange::Waiting => None,
            Reading::Head(head) if self.requests > 0 && !head.has_begun => Some(Awaited::Request),
            Reading::Head(_) | Reading::Seen(_) | Reading::Body(_) => Some(Awaited::Head),
        }
    }
}

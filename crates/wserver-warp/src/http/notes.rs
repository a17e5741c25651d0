//! The state of one HTTP connection: how far a request is read, and whether it is answered.
//!
//! The reading and the answering side share it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::HeaderMap;
use hyper::body::SizeHint;
use hyper::header::TRANSFER_ENCODING;

use crate::http::framing::{Body, Chunks, Head};
use crate::listen::places::Seat;

/// The state that the reading and the answering side of one connection share. A clone refers to the
/// same connection.
#[derive(Debug, Clone)]
pub(crate) struct Notes(Arc<Noted>);

#[derive(Debug)]
struct Noted {
    seat: Arc<Seat>,
    /// Only one task uses it, so nobody ever waits for it.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    reading: Reading,
    exchange: Exchange,
    /// The number of requests so far.
    requests: u64,
    /// Bytes have come since the last request that was served, so some may stay unread.
    has_unserved: bool,
}

/// What comes next in the input.
#[derive(Debug)]
enum Reading {
    Head(Head),
    /// Nothing, until the head that has come is processed.
    Seen(Head),
    Body(Body),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exchange {
    /// No request is under way.
    Waiting,
    Asked,
    /// The answer is there, but not written yet.
    Answered,
    /// The answer is endless, so a client that ends its side is considered gone.
    Streaming,
}

/// What the connection waits for, within a time limit.
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

    /// Notes the head of a request whose body has this size. Returns false if the end of that body
    /// is ambiguous: with two lengths, a length and a transfer encoding, or any encoding but
    /// `chunked`.
    pub(crate) fn begin(&self, headers: &HeaderMap, body: &SizeHint) -> bool {
        let mut state = self.lock();
        let head = match std::mem::replace(&mut state.reading, Reading::Head(Head::default())) {
            Reading::Seen(head) => Some(head),
            // hyper and this module disagree on where the head ends.
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

    /// The answer is there and will be written; `is_stream` if it is endless.
    pub(crate) fn answered(&self, is_stream: bool) {
        self.lock().exchange = if is_stream { Exchange::Streaming } else { Exchange::Answered };
    }

    /// The answer is written.
    pub(crate) fn waits(&self) {
        self.lock().exchange = Exchange::Waiting;
    }

    /// A request was read to its end and served.
    pub(crate) fn served(&self) {
        self.lock().has_unserved = false;
    }

    /// Notes that the client may be sending something that will not be read.
    pub(crate) fn leave_unserved(&self) {
        self.lock().has_unserved = true;
    }

    /// Whether a part of the body of the current request is unread.
    pub(crate) fn has_unread_body(&self) -> bool {
        matches!(self.lock().reading, Reading::Body(_))
    }

    pub(crate) fn seat(&self) -> &Seat {
        &self.0.seat
    }

    /// How many of these new bytes may be handed over: those of one head, or of one body.
    pub(crate) fn take(&self, bytes: &[u8]) -> usize {
        self.lock().take(bytes)
    }

    /// What the connection waits for, if anything, and after how many requests.
    pub(crate) fn awaited(&self) -> Option<(Awaited, u64)> {
        let state = self.lock();
        state.awaited().map(|awaited| (awaited, state.requests))
    }

    /// For a client that has ended its side: `None` if hyper may see that now, otherwise the number
    /// of the request.
    pub(crate) fn ended_in(&self) -> Option<u64> {
        let state = self.lock();
        (!state.may_end()).then_some(state.requests)
    }

    /// Notes that everything is written; returns whether hyper may now see the end of the client's
    /// side. `None` while there is no answer. Without hyper, [`waits`](Self::waits) reports what is
    /// written.
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

    /// Whether the client may be sending something that will not be read.
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

    /// Whether hyper may see the end of the client's side.
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

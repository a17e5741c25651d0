//! The one loop: every socket of the generator, the clock, and the ledger.
//!
//! It waits for events and hands each to its socket; the scenario decides what to push and when.

mod probe;
mod pushers;

use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::connection::{Connection, End, Phase, Progress};
use crate::frames::{HEADROOM, Message, Word};
use crate::ledger::Ledger;
use crate::pusher::{Answer, Pusher};
use crate::sampler::{Sampler, histogram, wrapped};
use crate::settings::{Common, Versions};
use crate::socket::Tls;
use crate::stamp::first_of;
use crate::target::{self, Ask, Target, Tokens};

/// Bytes of one read: large enough to read a server that merges frames with few calls.
const READ_BYTES: usize = 256 * 1024;

/// Connections to serve before the pushers' turn: an answer must not wait behind a thousand frames,
/// because it would not if the generator had its own machine.
const CONNECTIONS_PER_TURN: usize = 32;

/// The token of all pushers together; their epoll is one of the sources.
const ALL_PUSHERS: usize = usize::MAX;

/// How long opening all connections can go without progress.
const OPENING_PATIENCE: Duration = Duration::from_secs(20);

/// The longest time that a server needs to accept a handful of connections.
const REST: Duration = Duration::from_millis(100);

/// If nothing has arrived for this long, nothing more is under way.
const QUIET: Duration = Duration::from_millis(20);

/// How often a held generator checks whether it can go on.
const HOLD_TURN: Duration = Duration::from_millis(20);

/// What is told when a connection changes its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Opened(usize),
    Ended(usize),
}

/// Sockets, clock and books.
#[derive(Debug)]
pub(crate) struct Engine {
    poll: Poll,
    /// Taken out while a turn looks at them.
    events: Option<Events>,
    pusher_poll: Poll,
    buffer: Vec<u8>,
    clock: Instant,
    pub(crate) target: Target,
    versions: Versions,
    /// Connections take these addresses in turn; never empty.
    connection_addresses: Vec<SocketAddr>,
    /// The same for pushers.
    pusher_addresses: Vec<SocketAddr>,
    tls: Option<Tls>,
    push_key: Option<String>,
    /// What pushers ask.
    ask: Ask,
    tokens: Tokens,
    sources: u16,
    message_bytes: usize,
    opening_max: usize,
    patience: Duration,
    is_held: bool,
    /// Events that each connection registers.
    registered_events: u32,
    /// Users that each connection registers for; a connection's number counts these groups.
    pub(crate) registered_users: u32,
    pub(crate) receive_buffer: Option<usize>,
    pub(crate) connections: Vec<Connection>,
    pushers: Vec<Pusher>,
    opening: usize,
    pub(crate) ledger: Ledger,
    /// Registrations of version 2 that were granted, and how many of them were told of a gap.
    pub(crate) granted: u64,
    pub(crate) gaps: u64,
    pub(crate) latency: Sampler,
    /// The time from connect to the answer that opens the WebSocket.
    pub(crate) openings: Histogram<u64>,
    /// The answers of this turn; the caller takes them.
    pub(crate) answers: Vec<Answer>,
    /// The changes of this turn; the caller takes them.
    pub(crate) changes: Vec<Change>,
}

impl Engine {
    /// A loop without sockets, for messages in this many streams.
    pub(crate) fn new(common: &Common, streams: usize, registered_events: u32) -> Result<Self> {
        ensure!(
            common.target == Target::Wserver || common.protocol == Versions::V1,
            "only --target wserver speaks version 2"
        );
        rlimit::increase_nofile_limit(u64::MAX).context("no descriptor limit")?;
        let read = |file: &PathBuf| {
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
        };
        let push_key = common.push_key_file.as_ref().map(read).transpose()?;
        let tokens = common.tokens_file.as_ref().map(read).transpose()?;
        let tls = common.ca_file.as_ref().map(|file| Tls::new(file, common.address)).transpose()?;
        let poll = Poll::new().context("no epoll")?;
        let pusher_poll = Poll::new().context("no epoll")?;
        let descriptor = pusher_poll.as_raw_fd();
        let interest = Interest::READABLE;
        poll.registry().register(&mut SourceFd(&descriptor), Token(ALL_PUSHERS), interest)?;
        Ok(Self {
            poll,
            events: Some(Events::with_capacity(CONNECTIONS_PER_TURN)),
            pusher_poll,
            buffer: vec![0; HEADROOM + READ_BYTES],
            clock: Instant::now(),
            target: common.target,
            versions: common.protocol,
            connection_addresses: addresses(&common.listener_addresses, common.address),
            pusher_addresses: addresses(&common.pusher_addresses, common.address),
            tls,
            push_key: push_key.map(|key| key.trim().to_owned()),
            ask: Ask::Push,
            tokens: tokens.as_deref().map(target::tokens).unwrap_or_default(),
            sources: common.sources,
            message_bytes: common.message_bytes,
            opening_max: common.opening_max,
            patience: common.patience,
            is_held: common.hold,
            registered_events,
            registered_users: 1,
            receive_buffer: None,
            connections: Vec::new(),
            pushers: Vec::new(),
            opening: 0,
            ledger: Ledger::new(streams, common.message_bytes),
            granted: 0,
            gaps: 0,
            latency: Sampler::idle(),
            openings: histogram(),
            answers: Vec::new(),
            changes: Vec::new(),
        })
    }

    /// Microseconds since the engine started.
    pub(crate) fn now(&self) -> u64 {
        micros(self.clock.elapsed())
    }

    /// How long to wait while frames are missing and none arrives.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// The number of connections that are not open yet.
    pub(crate) fn opening(&self) -> usize {
        self.opening
    }

    pub(crate) fn is_accepted(&self, status: u16) -> bool {
        self.target.is_accepted(status)
    }

    /// Samples messages that are due within `length` microseconds from `from`: one in `every`, a
    /// power of two.
    pub(crate) fn sample(&mut self, from: u64, length: u64, every: u32) {
        self.latency = Sampler::new(from, length, every);
    }

    /// Opens a connection for `user`; returns its number.
    pub(crate) fn open(&mut self, user: u32) -> Result<usize> {
        let number = self.connections.len();
        let connection = self.connect(number, user)?;
        self.connections.push(connection);
        self.ledger.open(first_of(user));
        Ok(number)
    }

    /// Opens a connection in place of one that ended.
    pub(crate) fn reopen(&mut self, number: usize) -> Result<()> {
        let user = self.connections[number].user;
        self.connections[number] = self.connect(number, user)?;
        self.ledger.reopen(number);
        Ok(())
    }

    /// Opens a connection for `user` that has come to this position before; returns its number.
    pub(crate) fn open_behind(&mut self, user: u32, position: Option<Word>) -> Result<usize> {
        let number = self.open(user)?;
        self.connections[number].position = position;
        Ok(number)
    }

    /// Opens a connection in place of one that ended, behind its position: it must get everything
    /// from there on.
    pub(crate) fn come_back(&mut self, number: usize) -> Result<()> {
        let Connection { user, position, .. } = self.connections[number];
        self.connections[number] = self.connect(number, user)?;
        self.connections[number].position = position;
        Ok(())
    }

    fn connect(&mut self, number: usize, user: u32) -> Result<Connection> {
        let source = match u16::try_from(number % usize::from(self.sources.max(1))) {
            Ok(source) if self.sources > 0 => Some(source + 1),
            _ => None,
        };
        let mut connection = Connection::connect(
            in_turn(&self.connection_addresses, number),
            self.tls.as_ref(),
            source,
            self.receive_buffer,
            user,
            self.versions.of(number),
            self.now(),
        )?;
        let stream = connection.socket.as_mut().expect("it has just begun").stream();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(stream, Token(number), interest)?;
        self.opening += 1;
        Ok(connection)
    }

    /// Opens one connection for each of `users`, a limited number at a time, and waits for all of
    /// them.
    pub(crate) fn open_all(&mut self, users: impl IntoIterator<Item = u32>) -> Result<()> {
        let mut users = users.into_iter();
        let mut is_more = true;
        let mut progress_at = Instant::now();
        while is_more || self.opening > 0 {
            while is_more && self.opening < self.opening_max {
                match users.next() {
                    Some(user) => {
                        self.open(user)?;
                    }
                    None => is_more = false,
                }
            }
            self.turn(Some(Duration::from_millis(100)))?;
            for change in std::mem::take(&mut self.changes) {
                match change {
                    Change::Opened(_) => progress_at = Instant::now(),
                    Change::Ended(number) => {
                        bail!("connection {number} ended: {:?}", self.connections[number].phase)
                    }
                }
            }
            ensure!(
                progress_at.elapsed() < OPENING_PATIENCE,
                "{} connections did not open",
                self.opening
            );
        }
        Ok(())
    }

    /// Prints that all connections are open; if a caller holds the generator, answers heartbeats
    /// until the caller lets it go on.
    pub(crate) fn hold(&mut self) -> Result<()> {
        if !self.is_held {
            return Ok(());
        }
        writeln!(io::stdout(), "open")
            .context("cannot write to standard output that all connections are open")?;
        // The thread ends with its line, or with the process.
        let line = thread::spawn(|| io::stdin().read_line(&mut String::new()));
        while !line.is_finished() {
            self.turn(Some(HOLD_TURN))?;
            if let Some(Change::Ended(number)) = self.changes.first() {
                bail!("connection {number} ended: {:?}", self.connections[*number].phase);
            }
        }
        let bytes = line.join().ok().context("cannot read standard input")??;
        ensure!(bytes > 0, "standard input ended without a line to continue");
        Ok(())
    }

    /// Waits for events, at most this long, and serves sockets that have one: some connections, all
    /// pushers.
    pub(crate) fn turn(&mut self, timeout: Option<Duration>) -> Result<()> {
        let mut events = self.events.take().expect("a turn is not taken within another");
        let outcome = self.take_turn(&mut events, timeout);
        self.events = Some(events);
        outcome
    }

    fn take_turn(&mut self, events: &mut Events, timeout: Option<Duration>) -> Result<()> {
        wait(&mut self.poll, events, timeout)?;
        for event in events.iter().filter(|event| event.token() != Token(ALL_PUSHERS)) {
            let Token(number) = event.token();
            self.handle_connection(number, event.is_writable(), event.is_read_closed())
                .with_context(|| format!("connection {number}"))?;
        }
        loop {
            wait(&mut self.pusher_poll, events, Some(Duration::ZERO))?;
            if events.is_empty() {
                return Ok(());
            }
            for event in &*events {
                self.handle_pusher(event)?;
            }
        }
    }

    /// Resumes reading a connection that was stalled.
    pub(crate) fn resume(&mut self, number: usize) -> Result<()> {
        self.connections[number].is_stalled = false;
        self.handle_connection(number, false, true)
    }

    fn handle_connection(
        &mut self,
        number: usize,
        is_writable: bool,
        is_read_closed: bool,
    ) -> Result<()> {
        let connection = &mut self.connections[number];
        let (target, events, users) = (self.target, self.registered_events, self.registered_users);
        if is_writable && matches!(connection.phase, Phase::Connecting) {
            let address = in_turn(&self.connection_addresses, number);
            let protocol = connection.protocol();
            return connection.handle_writable(|user| target.handshake(address, user, protocol));
        }
        if matches!(connection.phase, Phase::Connecting | Phase::Closed(_)) {
            // An event of a connection that has just ended.
            return Ok(());
        }
        let (was_open, protocol) = (connection.is_open(), connection.protocol());
        let now = wrapped(micros(self.clock.elapsed()));
        let (ledger, latency, tokens) = (&mut self.ledger, &mut self.latency, &self.tokens);
        let (granted, gaps) = (&mut self.granted, &mut self.gaps);
        let progress = connection.handle_readable(
            &mut self.buffer,
            is_read_closed,
            |user, after| {
                let users = user * users..(user + 1) * users;
                let after = after.as_ref().map(Word::text);
                users
                    .flat_map(|user| target.registration(user, events, tokens, protocol, after))
                    .collect()
            },
            |message| match message {
                Message::Push(stamp, payload_len) | Message::Asked(stamp, payload_len, _) => {
                    ledger.record(number, stamp, payload_len);
                    latency.record(stamp, now);
                }
                Message::Granted { is_gap, .. } => {
                    *granted += 1;
                    *gaps += u64::from(is_gap);
                }
                Message::Said => {}
                Message::Foreign => ledger.record_foreign(),
            },
        )?;
        if progress == Progress::Opened {
            let began = connection.began;
            self.opening -= 1;
            self.openings.saturating_record(self.now() - began);
            self.changes.push(Change::Opened(number));
        } else if progress == Progress::Ended {
            if !was_open {
                self.opening -= 1;
            }
            self.changes.push(Change::Ended(number));
        }
        Ok(())
    }

    /// Gives the server time to accept all connections.
    pub(crate) fn rest(&mut self) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < REST {
            self.turn(Some(REST))?;
        }
        Ok(())
    }

    /// Waits until `expected` messages have come in all, or none comes any more.
    pub(crate) fn drain(&mut self, expected: u64) -> Result<()> {
        let mut progress_at = Instant::now();
        while self.ledger.received() < expected && progress_at.elapsed() < self.patience {
            let before = self.ledger.received();
            self.turn(Some(Duration::from_millis(50)))?;
            if self.ledger.received() > before {
                progress_at = Instant::now();
            }
        }
        // Frames that arrive now are surplus, and must be noticed. A turn serves only some
        // connections, and a server that sends without end must not keep this loop going.
        let began = Instant::now();
        let (mut quiet_since, mut before) = (began, self.ledger.seen());
        while quiet_since.elapsed() < QUIET && began.elapsed() < self.patience {
            self.turn(Some(QUIET))?;
            if self.ledger.seen() > before {
                (quiet_since, before) = (Instant::now(), self.ledger.seen());
            }
        }
        Ok(())
    }

    /// How many connections ended in any way other than leaving.
    pub(crate) fn cut_off(&self) -> usize {
        let is_cut = |it: &&Connection| matches!(it.phase, Phase::Closed(end) if end != End::Left);
        self.connections.iter().filter(is_cut).count()
    }
}

/// The chosen addresses, or the one address that all use.
fn addresses(chosen: &[SocketAddr], otherwise: SocketAddr) -> Vec<SocketAddr> {
    if chosen.is_empty() { vec![otherwise] } else { chosen.to_vec() }
}

fn in_turn(addresses: &[SocketAddr], number: usize) -> SocketAddr {
    addresses[number % addresses.len()]
}

fn wait(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> Result<()> {
    match poll.poll(events, timeout) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => {
            Err(error).context("cannot wait")
        }
        _ => Ok(()),
    }
}

/// Whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    duration.as_secs() * 1_000_000 + u64::from(duration.subsec_micros())
}

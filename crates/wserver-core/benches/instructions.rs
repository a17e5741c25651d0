//! The binder's work, for `cargo xtask instructions` to count under callgrind.
//!
//! With the name of a case it runs that one among a hundred thousand users, and tells how many
//! operations stand inside [`measured`]; with `--list` it tells the names. Any other way to run it
//! goes through all of them at a small size.
#![expect(clippy::print_stdout, reason = "the counts are for the one who asked")]

use std::env;
use std::hint::black_box;
use std::sync::Arc;

use wserver_core::{Binder, ConnectionId, EventName, UserId};

const NAME_BYTES_MAX: usize = 64;
type Case = (&'static str, fn(u64) -> u64);

const CASES: [Case; 3] = [("bind", bind), ("unbind", unbind), ("lookup", lookup)];

fn main() {
    let wanted = env::args().nth(1);
    for (name, case) in CASES {
        match wanted.as_deref() {
            Some("--list") => println!("{name}"),
            Some(wanted) if wanted == name => println!("{}", case(100_000)),
            Some(wanted) if !wanted.starts_with('-') => {}
            _ => assert!(case(10) > 0),
        }
    }
}

/// What is counted, and nothing else.
#[inline(never)]
fn measured(work: impl FnOnce()) {
    work();
}

/// One more user with one connection, among `users`.
fn bind(users: u64) -> u64 {
    let filled = Filled::new(users);
    let more = filled.more();
    measured(|| more.iter().for_each(|(id, user)| filled.bind(*id, user)));
    more.len() as u64
}

fn unbind(users: u64) -> u64 {
    let filled = Filled::new(users);
    let more = filled.more();
    more.iter().for_each(|(id, user)| filled.bind(*id, user));
    measured(|| {
        for (id, _) in &more {
            black_box(filled.binder.unbind_connection(*id));
        }
    });
    more.len() as u64
}

/// As a push to one connection does it: found by user and event, and its handle cloned.
fn lookup(users: u64) -> u64 {
    let filled = Filled::new(users);
    let wanted: Vec<UserId> = (0..users).step_by(97).map(user).collect();
    measured(|| {
        for user in &wanted {
            let handle = filled.binder.with_user(user, |group| {
                let event = group.members.event(&filled.event)?;
                let mut members = group.members.iter();
                members
                    .find(|it| it.registered(event).is_some())
                    .map(|member| member.handle().clone())
            });
            assert!(black_box(handle).flatten().is_some());
        }
    });
    wanted.len() as u64
}

struct Filled {
    binder: Binder<Arc<u64>>,
    event: EventName,
    handle: Arc<u64>,
    users: u64,
}

impl Filled {
    fn new(users: u64) -> Self {
        let event = EventName::parse("news", NAME_BYTES_MAX).expect("it is within the limit");
        let filled = Self { binder: Binder::new(128), event, handle: Arc::new(0), users };
        (0..users).for_each(|number| filled.bind(ConnectionId::new(number), &user(number)));
        filled
    }

    fn bind(&self, id: ConnectionId, user: &UserId) {
        let token = self.binder.digest("some token");
        assert!(self.binder.bind(id, &self.handle, user, &self.event, token).is_ok());
    }

    /// A tenth more connections, each of a user of its own: so many that the odd table that
    /// grows meanwhile is shared by many.
    fn more(&self) -> Vec<(ConnectionId, UserId)> {
        let count = self.users.div_ceil(10);
        (self.users..self.users + count).map(|it| (ConnectionId::new(it), user(it))).collect()
    }
}

/// A user id of 36 bytes, as backends like them.
fn user(number: u64) -> UserId {
    UserId::parse(&format!("user-{number:031}"), NAME_BYTES_MAX).expect("it is within the limit")
}

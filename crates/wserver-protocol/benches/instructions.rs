//! The wire's work on a push, for `cargo xtask instructions` to count under callgrind.
//!
//! With the name of a case it runs that one, and tells how many operations stand inside
//! [`measured`]; with `--list` it tells the names. Any other way to run it goes through all of them
//! at a small size.
#![expect(clippy::print_stdout, reason = "the counts are for the one who asked")]

use std::env;
use std::hint::black_box;

use wserver_protocol::{PushRequest, Register, frame};

type Case = (&'static str, fn(u64) -> u64);

const CASES: [Case; 3] = [
    ("encode-frame", encode_frame),
    ("parse-push", parse_push),
    ("parse-register", parse_register),
];

fn main() {
    let wanted = env::args().nth(1);
    for (name, case) in CASES {
        match wanted.as_deref() {
            Some("--list") => println!("{name}"),
            Some(wanted) if wanted == name => println!("{}", case(1000)),
            Some(wanted) if !wanted.starts_with('-') => {}
            _ => assert!(case(3) > 0),
        }
    }
}

/// What is counted, and nothing else.
#[inline(never)]
fn measured(work: impl FnOnce()) {
    work();
}

/// A text frame of 128 bytes.
fn encode_frame(count: u64) -> u64 {
    let message = "x".repeat(128);
    measured(|| (0..count).for_each(|_| drop(black_box(frame::text(black_box(&message))))));
    count
}

/// A message of 128 bytes to a user id of 36.
fn parse_push(count: u64) -> u64 {
    let (user, message) = (format!("user-{:031}", 7), "x".repeat(128));
    let push = PushRequest { user_id: user.into(), event: "news".into(), message: message.into() };
    let body = push.encode();
    measured(|| {
        for _ in 0..count {
            assert!(black_box(PushRequest::parse(black_box(body.as_bytes()))).is_ok());
        }
    });
    count
}

/// A token of 36 bytes.
fn parse_register(count: u64) -> u64 {
    let register = Register { token: format!("user-{:031}", 7).into(), event: "news".into() };
    let text = register.encode();
    measured(|| {
        for _ in 0..count {
            assert!(black_box(Register::parse(black_box(text.as_bytes()))).is_ok());
        }
    });
    count
}

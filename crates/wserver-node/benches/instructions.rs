//! The fan-out's work, for `cargo xtask instructions` to count under callgrind.
//!
//! With the name of a case it runs that one, and tells how many deliveries stand inside
//! [`measured`]; with `--list` it tells the names. Any other way to run it goes through all of them
//! at a small size. The wires take everything at once and cost next to nothing: what is counted is
//! ours.
#![expect(clippy::print_stdout, reason = "the counts are for the one who asked")]

use std::env;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use wserver_core::{EventName, Limits, PushId, UserId};
use wserver_node::{Message, Node, Wire};
use wserver_protocol::Protocol;

const NAME_BYTES_MAX: usize = 64;
/// Of 128 bytes of text, with the head of its frame.
const FRAME_BYTES: usize = 132;
/// One that the pusher serves itself, and one that is left to a walker.
const CASES: [(&str, usize); 2] = [("fan-out-32", 32), ("fan-out-1000", 1000)];

fn main() {
    let wanted = env::args().nth(1);
    for (name, members) in CASES {
        match wanted.as_deref() {
            Some("--list") => println!("{name}"),
            Some(wanted) if wanted == name => println!("{}", fan_out(members, 100)),
            Some(wanted) if !wanted.starts_with('-') => {}
            _ => assert!(fan_out(members, 1) > 0),
        }
    }
}

/// What is counted, and nothing else.
#[inline(never)]
fn measured(work: impl FnOnce()) {
    work();
}

/// Counts what it is given.
struct Sink(Arc<AtomicUsize>);

impl Wire for Sink {
    fn try_write(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes = buffers.iter().map(|buffer| buffer.len()).sum();
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Ok(bytes)
    }

    fn poll_write_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// So many pushes to one user, each written to every member before the next.
fn fan_out(members: usize, pushes: usize) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("it needs no resource that can be missing");
    let node = Node::new(Limits::default(), |_, _| None, runtime.handle().clone());
    let user = UserId::parse("somebody", NAME_BYTES_MAX).expect("it is within the limit");
    let event = EventName::parse("news", NAME_BYTES_MAX).expect("it is within the limit");
    let taken = Arc::new(AtomicUsize::new(0));
    let token = node.digest("some token");
    let attachments: Vec<_> = (0..members)
        .map(|_| {
            let attachment =
                node.open(Sink(Arc::clone(&taken)), Protocol::V1).expect("there is room");
            attachment.register(&user, &event, token).expect("it is the first registration");
            attachment
        })
        .collect();
    let text = "x".repeat(128);
    let push_all = async |pushes: usize| {
        for _ in 0..pushes {
            let goal = taken.load(Ordering::Relaxed) + members * FRAME_BYTES;
            assert_eq!(
                node.push(&user, Message::new(&event, PushId::new(0, 1), &text)).await.delivered(),
                members
            );
            while taken.load(Ordering::Relaxed) < goal {
                tokio::task::yield_now().await;
            }
        }
    };
    // The first push allocates what all others use.
    runtime.block_on(push_all(1));
    measured(|| runtime.block_on(push_all(pushes)));
    drop(attachments);
    members * pushes
}

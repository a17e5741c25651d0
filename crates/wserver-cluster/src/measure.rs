//! Measures the directory for its benchmark; not part of the public interface.

use std::time::{Duration, Instant};

use crate::directory::{Digest, Directory, OwnUsers, Seat};

/// The number of nodes that have the users.
const NODES: u64 = 99;

/// Fills a directory with `users` of 99 nodes, and returns what that and its use cost.
#[doc(hidden)]
#[must_use]
pub fn measure_directory(users: u64) -> Vec<(&'static str, String)> {
    let directory = Directory::new();
    // Digests are spread evenly, and so are these.
    let digest = |number: u64| Digest::new(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16);
    let since = Instant::now();
    for number in 0..users {
        directory.insert(digest(number), Seat::try_from(number % NODES).unwrap_or_default());
    }
    let inserting = since.elapsed();
    let looked_up = users.min(100_000);
    let step = users / looked_up.max(1);
    let since = Instant::now();
    let found = (0..looked_up).filter(|number| !directory.seats(digest(number * step)).is_empty());
    let found = found.count();
    let finding = since.elapsed();
    let since = Instant::now();
    let strangers =
        (0..looked_up).filter(|number| directory.seats(digest(users + number)).is_empty());
    let missed = strangers.count();
    let missing = since.elapsed();
    let bytes = directory.bytes();
    let since = Instant::now();
    let longest = directory.forget(7);
    let forgetting = since.elapsed();
    let own = OwnUsers::new();
    let since = Instant::now();
    for number in 0..looked_up {
        own.count(digest(number), 1);
    }
    let counting = since.elapsed();
    let each =
        |time: Duration, count: u64| format!("{} ns", time.as_nanos() / u128::from(count.max(1)));
    vec![
        ("a user of another node comes", each(inserting, users)),
        ("bytes of a user of another node", format!("{:.1}", bytes as f64 / users.max(1) as f64)),
        ("a user is looked up who is elsewhere", format!("{} ({found})", each(finding, looked_up))),
        ("a user is looked up who is nowhere", format!("{} ({missed})", each(missing, looked_up))),
        (
            "a node with a 99th of the users goes",
            format!("{:.1} ms", forgetting.as_secs_f64() * 1e3),
        ),
        (
            "the longest that a lock is held for that",
            format!("{:.2} ms", longest.as_secs_f64() * 1e3),
        ),
        ("a user of this node comes", each(counting, looked_up)),
    ]
}

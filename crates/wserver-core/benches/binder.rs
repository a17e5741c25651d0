//! What the binder costs: time per bind, lookup and filter, and bytes per binding.
//!
//! `cargo bench -p wserver-core` measures with a million users; any other way to run it goes
//! through the same code at a small size. What criterion does not time is told in lines that
//! begin with `figure`, for those who read them by machine.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "a benchmark reports")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use wserver_core::{Binder, ConnectionId, EventName, Member, TokenDigest, UserId};

const NAME_BYTES_MAX: usize = 64;
const BINDINGS_MAX: usize = 128;
/// Operations between two looks at the clock: few enough that the names asked for stay in the
/// cache, as a name that was just read from a request does.
const BATCH: u64 = 256;

type Handle = Arc<u64>;

struct Sizes {
    users: u64,
    members: u64,
    group: u64,
}

fn main() {
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let sizes = if measuring {
        Sizes { users: 1_000_000, members: 100_000, group: 1000 }
    } else {
        Sizes { users: 1000, members: 100, group: 10 }
    };
    let handles: Vec<Handle> = (0..sizes.users).map(Arc::new).collect();
    let (binder, event) = fill(&handles);

    let mut criterion = Criterion::default().configure_from_args();
    bench_bind(&mut criterion, &binder, &event, &handles);
    bench_lookup(&mut criterion, &binder, &event, sizes.users);
    bench_filter(&mut criterion, &event, &handles, sizes.group);
    bench_disconnect(&mut criterion, &event, &handles, sizes.members);
    criterion.final_summary();
    report_slowest_unbind(&event, &handles, sizes.members);
    report_scan(&binder);
    report_memory_latency(sizes.users);
}

/// Binds one connection to each user, and tells what that took in memory and time.
fn fill(handles: &[Handle]) -> (Binder<Handle>, EventName) {
    let binder = Binder::new(BINDINGS_MAX);
    let event = event("news");
    // The name buffers and the allocator's own start-up are not the binder's.
    black_box(user(0));
    let before = resident_bytes();
    let started = Instant::now();
    for (number, handle) in (0..).zip(handles) {
        let token = binder.digest("some token");
        let bound = binder.bind(ConnectionId::new(number), handle, &user(number), &event, token);
        assert!(bound.is_ok());
    }
    let elapsed = started.elapsed();
    let users = handles.len();
    if let (Some(before), Some(after)) = (before, resident_bytes()) {
        println!("figure bytes per binding: {} at {users} users", (after - before) / users);
    }
    let each = elapsed.as_nanos() / users as u128;
    println!("figure bind, one of all in a row, making its name included, ns: {each}");
    (binder, event)
}

fn bench_bind(
    criterion: &mut Criterion,
    binder: &Binder<Handle>,
    event: &EventName,
    handles: &[Handle],
) {
    let token = binder.digest("some token");
    let mut next = handles.len() as u64;
    let mut one_more = |name: &str, unbind: &dyn Fn(ConnectionId, &UserId)| {
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                in_batches(iterations, |batch| {
                    let users: Vec<UserId> = (next..next + batch).map(user).collect();
                    let started = Instant::now();
                    for (number, user) in (next..).zip(&users) {
                        let id = ConnectionId::new(number);
                        let _ = black_box(binder.bind(id, &handles[0], user, event, token));
                        unbind(id, user);
                    }
                    next += batch;
                    started.elapsed()
                })
            });
        });
    };
    one_more("bind + unbind, one more user among all", &|id, user| {
        black_box(binder.unbind(id, user, event));
    });
    // The way that every disconnect takes.
    one_more("bind + unbind_connection, one more user among all", &|id, _| {
        black_box(binder.unbind_connection(id));
    });
    criterion.bench_function(
        "bind + unbind_connection, a second tab of a random user",
        |bencher| {
            bencher.iter_custom(|iterations| {
                in_batches(iterations, |batch| {
                    let users: Vec<UserId> = (next..next + batch)
                        .map(|n| random_user(n, handles.len() as u64))
                        .collect();
                    let started = Instant::now();
                    for (number, user) in (next..).zip(&users) {
                        let id = ConnectionId::new(number);
                        let _ = black_box(binder.bind(id, &handles[0], user, event, token));
                        black_box(binder.unbind_connection(id));
                    }
                    next += batch;
                    started.elapsed()
                })
            });
        },
    );
}

fn bench_lookup(criterion: &mut Criterion, binder: &Binder<Handle>, event: &EventName, users: u64) {
    let hot = user(users / 2);
    // Another allocation than the one that is stored, as a push would bring.
    let event = EventName::parse(event.as_str(), NAME_BYTES_MAX).unwrap_or_else(|_| event.clone());
    criterion.bench_function("lookup of a user's connection, hot", |bencher| {
        bencher.iter(|| find(binder, black_box(&hot), &event, |member| member.id()));
    });
    criterion.bench_function("lookup of a user's connection, hot, handle cloned", |bencher| {
        bencher.iter(|| find(binder, black_box(&hot), &event, |member| member.handle().clone()));
    });
    let mut seed = 0;
    let mut random = |name: &str, lookup: &dyn Fn(&UserId) -> bool| {
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                in_batches(iterations, |batch| {
                    let wanted: Vec<UserId> =
                        (seed..seed + batch).map(|n| random_user(n, users)).collect();
                    seed += batch;
                    let started = Instant::now();
                    for user in &wanted {
                        assert!(lookup(user));
                    }
                    started.elapsed()
                })
            });
        });
    };
    random("lookup of a user's connection, random", &|user| {
        black_box(find(binder, user, &event, |member| member.id())).is_some()
    });
    // One cold place more: the clone counts itself in the handle's memory.
    random("lookup of a user's connection, random, handle cloned", &|user| {
        black_box(find(binder, user, &event, |member| member.handle().clone())).is_some()
    });
}

/// What `f` makes of the user's first connection that is registered for the event.
fn find<R>(
    binder: &Binder<Handle>,
    user: &UserId,
    event: &EventName,
    f: impl FnOnce(Member<'_, Handle>) -> R,
) -> Option<R> {
    binder.with_user(user, |group| {
        let event = group.members.event(event)?;
        group.members.iter().find(|member| member.registered(event).is_some()).map(f)
    })?
}

fn bench_filter(criterion: &mut Criterion, event: &EventName, handles: &[Handle], members: u64) {
    let (binder, owner) = crowd(event, handles, members);
    let mut group = criterion.benchmark_group("event filter");
    group.throughput(Throughput::Elements(members));
    group.bench_function("a whole group", |bencher| {
        bencher.iter(|| {
            binder.with_user(&owner, |group| {
                let event = group.members.event(event)?;
                let wanted = group.members.iter().filter(|one| one.registered(event).is_some());
                Some(wanted.map(|member| **member.handle()).fold(0, u64::wrapping_add))
            })
        });
    });
    group.finish();
}

fn bench_disconnect(
    criterion: &mut Criterion,
    event: &EventName,
    handles: &[Handle],
    members: u64,
) {
    let mut group = criterion.benchmark_group("mass disconnect");
    group.throughput(Throughput::Elements(members)).sample_size(10);
    group.bench_function("every connection of one user", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut elapsed = Duration::ZERO;
            for _ in 0..iterations {
                let (binder, _) = crowd(event, handles, members);
                let started = Instant::now();
                for number in 0..members {
                    black_box(binder.unbind_connection(shuffled(number, members)));
                }
                elapsed += started.elapsed();
                assert_eq!(binder.counts().connections, 0);
            }
            elapsed
        });
    });
    group.finish();
}

/// No lock is held for longer than the slowest call takes. What the scheduler takes away comes on
/// top of that, so it is told of the pass that it disturbed least, and beside it of the other end.
/// One thread has the binder alone here: nobody waits for a lock.
fn report_slowest_unbind(event: &EventName, handles: &[Handle], members: u64) {
    let slowest = [(); 3].map(|()| {
        let (binder, _) = crowd(event, handles, members);
        let timed = |number| {
            let started = Instant::now();
            black_box(binder.unbind_connection(shuffled(number, members)));
            started.elapsed()
        };
        (0..members).map(timed).max().unwrap_or_default()
    });
    for (which, slowest) in [("least", slowest.iter().min()), ("most", slowest.iter().max())] {
        let micros = slowest.map_or(0.0, |it| it.as_secs_f64() * 1e6);
        println!(
            "figure slowest unbind, the {which} disturbed of three passes, µs: {micros:.1} of {members}"
        );
    }
}

fn report_scan(binder: &Binder<Handle>) {
    let started = Instant::now();
    assert_eq!(binder.token_connections(binder.digest("a token nobody has")).len(), 0);
    let elapsed = started.elapsed().as_secs_f64() * 1e3;
    println!("figure search of all users for a token, ms: {elapsed:.1}");
}

/// What one load from a cold place costs here and now: a random lookup is two of them (the
/// index, the user) and some, so the figures can be compared between machines.
fn report_memory_latency(users: u64) {
    // As large as the binder is, in cache lines; each names the next, all in one cycle.
    let lines = usize::try_from(users * 2).unwrap_or_default();
    let mut order: Vec<usize> = (0..lines).collect();
    for at in (1..lines).rev() {
        let other = usize::try_from(mixed(at as u64)).unwrap_or_default() % at;
        order.swap(at, other);
    }
    let memory: Vec<[usize; 8]> = order.into_iter().map(|next| [next; 8]).collect();
    let mut at = 0;
    let started = Instant::now();
    for _ in 0..lines {
        at = memory[at][0];
    }
    black_box(at);
    let each = started.elapsed().as_nanos() / lines as u128;
    println!("figure one load from a cold place, ns: {each}");
}

/// One user with so many members.
fn crowd(event: &EventName, handles: &[Handle], members: u64) -> (Binder<Handle>, UserId) {
    let binder = Binder::new(BINDINGS_MAX);
    let owner = user(u64::MAX);
    let token: TokenDigest = binder.digest("some token");
    for (number, handle) in (0..members).zip(handles) {
        let bound = binder.bind(ConnectionId::new(number), handle, &owner, event, token);
        assert!(bound.is_ok());
    }
    (binder, owner)
}

fn in_batches(iterations: u64, mut batch: impl FnMut(u64) -> Duration) -> Duration {
    let mut elapsed = Duration::ZERO;
    let mut done = 0;
    while done < iterations {
        let size = BATCH.min(iterations - done);
        elapsed += batch(size);
        done += size;
    }
    elapsed
}

/// Every number below `members` once, in no order (the multiplier shares no factor with them).
fn shuffled(number: u64, members: u64) -> ConnectionId {
    ConnectionId::new(number * 7_368_787 % members)
}

fn random_user(number: u64, users: u64) -> UserId {
    user(mixed(number) % users)
}

/// A user id of 36 bytes, as backends like them.
fn user(number: u64) -> UserId {
    let (high, low) = (mixed(number), mixed(!number));
    let id = format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xFFFF,
        high & 0xFFFF,
        low >> 48,
        low & 0xFFFF_FFFF_FFFF
    );
    UserId::parse(&id, NAME_BYTES_MAX).expect("36 bytes are within the limit")
}

fn event(name: &str) -> EventName {
    EventName::parse(name, NAME_BYTES_MAX).expect("it is within the limit")
}

fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// What the process has in memory, where the system tells.
fn resident_bytes() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

//! The limits: the last value that each accepts, and the first that it refuses.

use super::*;

#[test]
fn defaults_hold_together() {
    let _ = Limits::default();
}

#[test]
fn policies_are_written_as_they_are_read() {
    for policy in ConnectionsPerUserPolicy::ALL {
        assert_eq!(policy.to_string().parse(), Ok(policy));
    }
    assert_eq!("oldest".parse::<ConnectionsPerUserPolicy>(), Err(UnknownPolicy));
}

#[test]
fn no_time_is_too_long_for_the_clock() {
    let settings = LimitSettings {
        drain_timeout: Duration::MAX,
        register_timeout: Duration::MAX,
        ..LimitSettings::default()
    };
    assert_eq!(settings.build().unwrap_err().problems().len(), 2);
}

/// The problems of the defaults after a change.
fn problems(change: impl FnOnce(&mut LimitSettings)) -> Vec<String> {
    let mut settings = LimitSettings::default();
    change(&mut settings);
    settings.build().map_or_else(
        |error| error.problems().iter().map(ToString::to_string).collect(),
        |_| Vec::new(),
    )
}

#[test]
fn times_are_longer_than_zero_and_at_most_a_year() {
    type Time = fn(&mut LimitSettings) -> &mut Duration;
    let times: [(&str, Time, bool); 9] = [
        ("register_timeout", |it| &mut it.register_timeout, true),
        ("authenticate_timeout", |it| &mut it.authenticate_timeout, false),
        ("ping_interval", |it| &mut it.ping_interval, false),
        ("pong_timeout", |it| &mut it.pong_timeout, false),
        ("close_timeout", |it| &mut it.close_timeout, false),
        ("stall_timeout", |it| &mut it.stall_timeout, false),
        ("drain_timeout", |it| &mut it.drain_timeout, false),
        ("drain_delay", |it| &mut it.drain_delay, true),
        ("drain_spread", |it| &mut it.drain_spread, true),
    ];
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    let nanosecond = Duration::from_nanos(1);
    for (name, time, may_be_zero) in times {
        // A change of one time may break its relation to another too.
        let refused = |value, problem| {
            let problem = format!("{name} {problem}");
            problems(|it| *time(it) = value).contains(&problem)
        };
        let zero = "must be longer than zero";
        assert_eq!(refused(Duration::ZERO, zero), !may_be_zero, "{name}");
        assert!(!refused(nanosecond, zero), "{name}");
        let long = "must be at most a year";
        assert!(!refused(YEAR, long), "{name}");
        assert!(refused(YEAR + nanosecond, long), "{name}");
    }
}

#[test]
fn counts_are_at_least_one() {
    type Count = fn(&mut LimitSettings, u32);
    let counts: [(&str, Count); 9] = [
        ("inbound_fragments_max", |it, n| it.inbound_fragments_max = n as usize),
        ("registrations_pending_max", |it, n| it.registrations_pending_max = n as usize),
        ("bindings_per_connection_max", |it, n| it.bindings_per_connection_max = n as usize),
        ("name_bytes_max", |it, n| it.name_bytes_max = n as usize),
        ("message_bytes_max", |it, n| it.message_bytes_max = n as usize),
        ("walk_bytes_max", |it, n| it.walk_bytes_max = n as usize),
        ("connections_max", |it, n| it.connections_max = n as usize),
        ("inbound_messages_per_second", |it, n| it.inbound_messages_per_second = n),
        ("inbound_messages_burst", |it, n| it.inbound_messages_burst = n),
    ];
    for (name, set) in counts {
        assert_eq!(problems(|it| set(it, 0)), [format!("{name} must be at least 1")]);
        assert_eq!(problems(|it| set(it, 1)), [""; 0], "{name}");
    }
}

#[test]
fn sizes_are_at_most_a_gibibyte() {
    type Size = fn(&mut LimitSettings) -> &mut usize;
    let sizes: [(&str, Size); 5] = [
        ("inbound_message_bytes_max", |it| &mut it.inbound_message_bytes_max),
        ("names_per_connection_bytes_max", |it| &mut it.names_per_connection_bytes_max),
        ("message_bytes_max", |it| &mut it.message_bytes_max),
        ("outbox_bytes_max", |it| &mut it.outbox_bytes_max),
        ("walk_bytes_max", |it| &mut it.walk_bytes_max),
    ];
    for (name, size) in sizes {
        // A large size can require other large sizes.
        let refused = |value| {
            let problem = format!("{name} is {value}, but must be at most 1 GiB");
            problems(|it| *size(it) = value).contains(&problem)
        };
        assert!(!refused(1024 * MIB) && refused(1024 * MIB + 1), "{name}");
    }
}

/// Each relation holds exactly: the last value that satisfies it, and the first that breaks it.
#[test]
fn relations_hold_to_the_unit() {
    type Least = (&'static str, fn(&mut LimitSettings) -> &mut usize, usize, &'static str);
    let relations: [Least; 6] = [
        (
            "inbound_message_bytes_max",
            |it| &mut it.inbound_message_bytes_max,
            2 * 4 * KIB + 64,
            "a register message contains a token and an event of up to name_bytes_max each",
        ),
        (
            "names_per_connection_bytes_max",
            |it| &mut it.names_per_connection_bytes_max,
            2 * 4 * KIB,
            "a registration has a user id and an event of up to name_bytes_max each",
        ),
        (
            "names_bytes_max",
            |it| &mut it.names_bytes_max,
            64 * KIB,
            "it must hold the names of at least one connection",
        ),
        (
            "inbound_bytes_max",
            |it| &mut it.inbound_bytes_max,
            2 * 64 * KIB,
            "a message of inbound_message_bytes_max takes up to twice its length while it \
             arrives",
        ),
        (
            "outbox_bytes_max",
            |it| &mut it.outbox_bytes_max,
            2 * (128 * KIB + MIB + 10 + 96 + 6 * 4 * KIB),
            "it must hold twice the sum of walk_bytes_max, the largest message, and the longest \
             event with each byte escaped",
        ),
        (
            "outboxes_bytes_max",
            |it| &mut it.outboxes_bytes_max,
            4 * MIB,
            "it must hold at least one queue of outbox_bytes_max",
        ),
    ];
    for (name, size, least, why) in relations {
        assert_eq!(problems(|it| *size(it) = least), [""; 0], "{name}");
        let less = least - 1;
        assert_eq!(
            problems(|it| *size(it) = less),
            [format!("{name} is {less}, but must be at least {least}: {why}")]
        );
    }

    assert_eq!(problems(|it| it.journal_bytes_max = 0), [""; 0], "nothing is remembered");
    assert_eq!(problems(|it| it.journal_bytes_max = 64 * MIB), [""; 0]);
    assert_eq!(
        problems(|it| it.journal_bytes_max = 64 * MIB + 1),
        ["journal_bytes_max is 67108865, but must be at most 64 MiB"]
    );
    let just_shorter = Duration::from_secs(30) - Duration::from_nanos(1);
    assert_eq!(problems(|it| it.drain_delay = just_shorter), [""; 0]);
    assert_eq!(
        problems(|it| it.drain_delay = it.drain_timeout),
        ["drain_delay is 30s, but must be shorter than drain_timeout, which is 30s"]
    );
}

/// What replay needs is asked for only where there is replay.
#[test]
fn replay_has_its_relations() {
    let with_replay = |change: fn(&mut LimitSettings)| {
        problems(|it| {
            it.replay = ["order.*"].into_iter().collect();
            change(it);
        })
    };
    let frame = MIB + 10 + 96 + 37 + 6 * 4 * KIB;
    assert_eq!(with_replay(|_| {}), [""; 0]);
    assert_eq!(problems(|it| it.replay_bytes_max = 0), [""; 0]);
    assert_eq!(
        with_replay(|it| it.replay_bytes_max = 64 * KIB - 1),
        [
            "replay_bytes_max is 65535, but must be at least 65536: it must hold what is kept for at \
          least one user"
        ]
    );
    assert_eq!(
        problems(|it| {
            it.replay = ["*"].into_iter().collect();
            it.outbox_bytes_max = 2 * (128 * KIB + frame) + 64 * KIB;
        }),
        [""; 0]
    );
    let found = with_replay(|it| it.replay_bytes_per_user_max = 4 * MIB);
    let least = 2 * (128 * KIB + frame) + 4 * MIB;
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with(&format!(
            "outbox_bytes_max is 4194304, but must be at least {least}: with replay "
        )),
        "{found:?}"
    );
}

#[test]
fn every_problem_is_found_at_once_by_its_setting() {
    let settings = LimitSettings {
        ping_interval: Duration::ZERO,
        outbox_bytes_max: MIB,
        ..LimitSettings::default()
    };
    let error = settings.build().unwrap_err();
    let found: Vec<_> = error.problems().iter().map(LimitProblem::settings).collect();
    assert_eq!(
        found,
        [
            &["ping_interval"][..],
            &["outbox_bytes_max", "walk_bytes_max", "message_bytes_max", "name_bytes_max"],
        ]
    );
}

//! The sentence for each fact.

use wserver_core::{CloseReason, ConnectionId};
use wserver_node::{Acks, GapReason, NoDelivery, NodeId, What};

use super::*;

fn name(name: &str) -> EventName {
    EventName::parse(name, 4096).unwrap()
}

fn account(would_deliver_to: usize, count: usize, events: &[&str]) -> Account {
    let connections = (1..=count as u64).map(|id| connection(id, 0, 0)).collect();
    Account {
        user: UserId::parse("jack", 4096).unwrap(),
        event: name("news"),
        here: facts(would_deliver_to, connections),
        events: events.iter().map(|event| (*event).to_owned()).collect(),
        others: Vec::new(),
        nodes_missing: Vec::new(),
        not_ready: None,
        silence_max: Duration::from_secs(35),
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
    }
}

fn facts(would_deliver_to: usize, connections: Vec<v2::Connection>) -> Explanation {
    Explanation {
        user: "jack".to_owned(),
        event: "news".to_owned(),
        now: Now { would_deliver_to, connection_count: None, connections, replay: None },
        recent: Vec::new(),
        strangers: Vec::new(),
        sentences: Vec::new(),
        nodes_missing: Vec::new(),
    }
}

fn connection(id: u64, queued_bytes: usize, silent_seconds: u64) -> v2::Connection {
    v2::Connection {
        id: id.to_string(),
        node: None,
        peer: None,
        registrations: [("jack".to_owned(), vec!["mail".to_owned()])].into(),
        age_seconds: 0,
        silent_seconds,
        queued_bytes,
        written_bytes: 0,
    }
}

/// An entry of connection 7, so many seconds old.
fn entry(account: &Account, seconds: u64, event: Option<&str>, what: What) -> Entry {
    let at = account.now - Duration::from_secs(seconds);
    let event = event.map(name);
    show::entry(&wserver_node::Entry::new(at, Some(ConnectionId::new(7)), None, event, what))
}

#[test]
fn the_first_sentence_is_the_answer() {
    for (account, expected) in [
        (
            account(1, 1, &["news"]),
            "a push of news to user jack would go to 1 connection, all there are",
        ),
        (
            account(2, 2, &["news"]),
            "a push of news to user jack would go to 2 connections, all there are",
        ),
        (
            account(1, 3, &["news", "chat"]),
            "a push of news to user jack would go to 1 of the user's 3 connections",
        ),
        (
            account(0, 2, &["chat", "mail"]),
            "user jack has 2 connections, none registered for news, but for: chat, mail",
        ),
        (
            account(0, 1, &[]),
            "user jack has 1 connection, no longer registered for anything, so a push of news \
             goes to nobody",
        ),
        (account(0, 0, &[]), "user jack has no connection, so a push of news goes to nobody"),
    ] {
        assert_eq!(account.sentences()[0], expected);
    }
}

#[test]
fn every_close_is_told() {
    for reason in CloseReason::ALL {
        let mut account = account(0, 0, &[]);
        account.here.recent = vec![entry(&account, 12, None, What::Closed { reason })];
        let told = account.sentences();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[1].starts_with("12 s ago: connection 7 was closed: "), "{told:?}");
    }
}

#[test]
fn what_is_known_is_told_in_words() {
    let refused = |reason| What::RegistrationRefused { reason };
    let acks = |acked, lost| Acks { acked, waiting: 1, unable: 0, lost };
    let cases: [(Option<&str>, What, &str); 14] = [
        (
            Some("news"),
            refused("forbidden"),
            "connection 7 was refused a registration for news: its token is valid, but not for this event",
        ),
        (
            Some("news"),
            refused("user_full"),
            "connection 7 was refused a registration for news: the user had connections_per_user_max connections already",
        ),
        (
            Some("news"),
            refused("expired"),
            "connection 7 was refused a registration for news: its token has expired",
        ),
        (
            Some("news"),
            refused("unavailable"),
            "connection 7 was refused a registration for news: nobody could check its token: the authenticator did not answer",
        ),
        (
            None,
            refused("of_a_later_list"),
            "connection 7 was refused a registration: of_a_later_list",
        ),
        (
            None,
            What::Gap { reason: GapReason::NodeGone },
            "connection 7 was told that messages are missing: the node that kept them is gone or did not answer",
        ),
        (
            None,
            What::Resumed { count: 1 },
            "connection 7 came back and got 1 message that it had missed",
        ),
        (None, What::Resumed { count: 0 }, "connection 7 came back and had missed nothing"),
        (
            Some("news"),
            What::Waited { acks: acks(2, 3) },
            "a push for news waited: 2 connections acknowledged it, 1 did not yet, 3 ended first",
        ),
        (
            Some("news"),
            What::Waited { acks: acks(0, 0) },
            "a push for news waited: no connection acknowledged it, 1 did not yet",
        ),
        (
            Some("news"),
            What::Dropped { reason: NoDelivery::SlowConsumer },
            "a message for news did not reach connection 7: it read too slowly",
        ),
        (
            None,
            What::Dropped { reason: NoDelivery::Expired },
            "a message did not reach connection 7: its time to live had passed",
        ),
        (
            Some("news"),
            What::PushRefused { reason: "out_of_scope" },
            "a push for news was refused: it is not within the scope of its key",
        ),
        (
            None,
            What::PushRefused { reason: "push_rate" },
            "a push was refused: its key has reached its pushes_per_second",
        ),
    ];
    for (event, what, expected) in cases {
        let mut account = account(1, 1, &["news"]);
        account.here.recent = vec![entry(&account, 300, event, what)];
        assert_eq!(account.sentences()[1], format!("5 min ago: {expected}"));
    }
}

#[test]
fn every_gap_is_told() {
    for reason in GapReason::ALL {
        let mut account = account(1, 1, &["news"]);
        account.here.recent = vec![entry(&account, 12, None, What::Gap { reason })];
        let told = account.sentences();
        let start = "12 s ago: connection 7 was told that messages are missing: ";
        let why = told[1].strip_prefix(start).expect("it is told");
        assert!(why.contains(' '), "{why} is a label");
    }
}

#[test]
fn what_is_kept_is_told_of_all_nodes() {
    let log = |messages, bytes| LogNow { node: None, messages, bytes };
    let told = |is_kept, logs: &[LogNow], elsewhere: Option<LogNow>| {
        let mut account = account(1, 1, &["news"]);
        account.here.now.replay = Some(ReplayNow { is_kept, logs: logs.to_vec() });
        account.others = elsewhere
            .into_iter()
            .map(|log| {
                let mut other = facts(0, Vec::new());
                other.now.replay = Some(ReplayNow { is_kept, logs: vec![log] });
                (NodeName::new(NodeId::new(2), "b"), other)
            })
            .collect();
        let sentence = account.sentences()[1].clone();
        (sentence, account.explanation().now.replay.unwrap())
    };
    let (sentence, replay) = told(true, &[log(2, 840)], None);
    assert_eq!(
        sentence,
        "a push of news is kept for replay; kept for user jack: 2 messages (840 bytes)"
    );
    assert_eq!(replay, ReplayNow { is_kept: true, logs: vec![log(2, 840)] });

    let (sentence, replay) = told(true, &[log(0, 0)], Some(log(1, 420)));
    assert_eq!(
        sentence,
        "a push of news is kept for replay; kept for user jack: no message, \
         1 message (420 bytes) on node b"
    );
    let of_b = LogNow { node: Some("b".to_owned()), ..log(1, 420) };
    assert_eq!(replay.logs, [log(0, 0), of_b]);

    assert_eq!(
        told(true, &[], None).0,
        "a push of news is not kept for replay yet: no client of version 2 has registered an event \
         that is kept as user jack within replay_window"
    );
    assert_eq!(
        told(false, &[log(1, 420)], None).0,
        "a push of news is not kept for replay: the setting replay does not name it; kept for user \
         jack: 1 message (420 bytes)"
    );
    assert_eq!(account(1, 1, &["news"]).sentences().len(), 1, "nothing is kept at all");
}

#[test]
fn connections_that_give_cause_are_told() {
    let mut account = account(3, 5, &["news"]);
    account.here.now.connections =
        vec![connection(1, 0, 35), connection(2, 4096, 0), connection(3, 0, 36)];
    account.here.now.connection_count = Some(5);
    assert_eq!(
        account.sentences()[1..],
        [
            "connection 2 has 4096 bytes waiting: it reads more slowly than it is sent to",
            "connection 3 was last heard of 36 s ago: its client, or the network to it, may \
             have vanished",
            "2 connections more were not examined",
        ]
    );
}

#[test]
fn strangers_are_told_apart_and_what_repeats_once() {
    let mut account = account(0, 0, &[]);
    let unknown = || What::RegistrationRefused { reason: "unknown" };
    let closed = What::Closed { reason: CloseReason::NotRegistered };
    account.here.strangers = vec![
        entry(&account, 9, None, What::PushRefused { reason: "unauthorized" }),
        entry(&account, 8, Some("news"), unknown()),
        entry(&account, 7, Some("other"), unknown()),
        entry(&account, 6, None, closed),
        entry(&account, 5, Some("news"), unknown()),
        entry(&account, 4, Some("news"), unknown()),
    ];
    let whose = "its user was never authenticated, so it may be this user's";
    assert_eq!(
        account.sentences()[1..],
        [
            "the journal has no entry of user jack: nobody has registered as this user since \
             the server started, or it was too long ago"
                .to_owned(),
            format!(
                "4 s ago, and 2 times before: connection 7 was refused a registration for news: its token is unknown; {whose}"
            ),
            "9 s ago: a push was refused: its key is missing, wrong or expired; the user is \
             not known"
                .to_owned(),
        ]
    );
}

#[test]
fn there_is_never_too_much_to_read() {
    let mut account = account(0, 0, &[]);
    let entries = (0..50).map(|number| {
        entry(
            &account,
            number,
            Some(&format!("event-{number}")),
            What::RegistrationRefused { reason: "unknown" },
        )
    });
    account.here.recent = entries.collect();
    assert_eq!(account.sentences().len(), 1 + SENTENCES_OF_ENTRIES_MAX);
}

/// Other nodes send only facts, which this one words like its own.
#[test]
fn what_another_node_knows_is_told_as_its_in_the_same_words() {
    let mut here = account(1, 1, &["news"]);
    let mut other = facts(0, vec![connection(9, 4096, 0)]);
    let closed = What::Closed { reason: CloseReason::Slow };
    other.recent = vec![entry(&here, 12, None, closed)];
    assert_eq!(other.recent[0].sentence, "", "facts are told without words");
    here.here.recent = other.recent.clone();
    here.others = vec![(NodeName::new(NodeId::new(2), "b"), other)];
    here.nodes_missing = vec!["c".to_owned()];
    let told = here.sentences();
    let slow = "12 s ago: connection 7 was closed: it read too slowly, so its queue reached \
                outbox_bytes_max or all queues outboxes_bytes_max, or it read nothing for \
                stall_timeout";
    assert_eq!(
        told,
        [
            "a push of news to user jack would go to 1 of the user's 2 connections".to_owned(),
            "c did not answer, so this answer leaves out what happened there".to_owned(),
            slow.to_owned(),
            "node b: connection 9 has 4096 bytes waiting: it reads more slowly than it is sent to"
                .to_owned(),
            format!("node b: {slow}"),
        ]
    );
    let whole = here.explanation();
    assert_eq!((whole.now.connection_count, whole.recent.len()), (None, 2));
    assert!(whole.recent.iter().all(|it| it.sentence.starts_with("connection 7 was closed: ")));
    assert_eq!(whole.now.connections[1].node.as_deref(), Some("b"));
}

/// A node of a later release has facts for which this one has no words.
#[test]
fn what_only_a_later_release_knows_is_told_by_its_name() {
    let mut here = account(0, 0, &[]);
    let mut other = facts(0, Vec::new());
    let known = entry(&here, 12, Some("news"), What::Registered);
    let moved = Entry { what: "moved".to_owned(), reason: Some("balance".to_owned()), ..known };
    let closed = Entry { what: "closed".to_owned(), ..moved.clone() };
    let broken = Entry { what: "protocol_broken".to_owned(), ..moved.clone() };
    other.recent = vec![moved, closed, broken];
    here.others = vec![(NodeName::new(NodeId::new(2), "b"), other)];
    assert_eq!(
        here.sentences()[1..],
        [
            "node b: 12 s ago: connection 7 broke the WebSocket protocol: balance",
            "node b: 12 s ago: connection 7 was closed: balance",
            "node b: 12 s ago: connection 7 for news: moved (balance)",
        ]
    );
}

/// Nodes have clocks and journals of their own; a user with a connection to any of them is no
/// stranger.
#[test]
fn entries_of_all_nodes_are_in_the_order_of_time() {
    for (connections, strangers) in
        [(Vec::new(), vec!["2", "1"]), (vec![connection(9, 0, 0)], vec![])]
    {
        let mut here = account(0, 0, &[]);
        let mut other = facts(0, connections);
        let refused = What::RegistrationRefused { reason: "unknown" };
        let closed = What::Closed { reason: CloseReason::Slow };
        let told = |seconds: u64, what| Entry {
            connection: Some(seconds.to_string()),
            ..entry(&account(0, 0, &[]), seconds, None, what)
        };
        here.here.recent = vec![told(9, closed), told(3, closed)];
        other.recent = vec![told(12, closed), told(6, closed)];
        here.here.strangers = vec![told(1, refused)];
        other.strangers = vec![told(2, refused)];
        here.others = vec![(NodeName::new(NodeId::new(2), "b"), other)];
        let whole = here.explanation();
        let ids = |entries: &[Entry]| -> Vec<String> {
            entries.iter().map(|it| it.connection.clone().unwrap()).collect()
        };
        assert_eq!(ids(&whole.recent), ["12", "9", "6", "3"]);
        assert_eq!(ids(&whole.strangers), strangers);
    }
}

#[test]
fn connections_of_all_nodes_are_added_up_and_some_are_listed() {
    let mut here = account(2, 60, &["news"]);
    let others = (1..=60).map(|id| connection(id, 0, 0)).collect();
    here.others = vec![(NodeName::new(NodeId::new(2), "b"), facts(3, others))];
    let first = "a push of news to user jack would go to 5 of the user's 120 connections";
    assert_eq!(here.sentences()[0], first);
    let now = here.explanation().now;
    assert_eq!((now.would_deliver_to, now.connection_count), (5, Some(120)));
    let nodes: Vec<_> = now.connections.iter().map(|it| it.node.as_deref()).collect();
    assert_eq!(nodes, [[None; 60].as_slice(), &[Some("b"); 40]].concat());

    // The events of another node's connections are among those that they have registered.
    let mut here = account(0, 1, &["mail", "chat"]);
    let registrations = [("jack".to_owned(), vec!["mail".to_owned(), "alarm".to_owned()])].into();
    let theirs = v2::Connection { registrations, ..connection(9, 0, 0) };
    here.others = vec![(NodeName::new(NodeId::new(2), "b"), facts(0, vec![theirs]))];
    here.not_ready = Some("its link is broken".to_owned());
    assert_eq!(
        here.sentences(),
        [
            "user jack has 2 connections, none registered for news, but for: alarm, chat, mail",
            "this node is not ready: its link is broken",
        ]
    );
}

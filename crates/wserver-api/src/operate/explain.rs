//! Why a push of an event to a user would arrive, or does not: facts, and the same in plain words.

use std::time::{Duration, SystemTime};

use http::Uri;
use wserver_cluster::{Gathered, NodeName, Whom};
use wserver_core::{ConnectionId, EventName, UserId};
use wserver_node::{ConnectionInfo, Entry, What, Wire};
use wserver_protocol::v2::{self, Answer, Explanation, Now, Question};

use super::show;
use super::words::{Ago, Count, Name, of_entry, verdict};
use crate::api::Api;
use crate::cluster::ask;
use crate::parameters;
use crate::reply::refused::Refused;
use crate::reply::{self, Reply};

/// Connections that are told at most.
const CONNECTIONS_MAX: usize = 100;
/// Entries that are told at most, of the user and of strangers.
const ENTRIES_MAX: usize = 50;
/// What is said behind a refusal of somebody who was never proven to be a user.
const OF_PUBLISHERS: &str = "; the user is not known";
const OF_LISTENERS: &str = "; its user was never authenticated, so it may be this user's";
/// Entries that become a sentence each, the newest ones.
const SENTENCES_OF_ENTRIES_MAX: usize = 10;

pub(crate) async fn explain<W: Wire>(api: &Api<W>, uri: &Uri) -> Result<Reply, Refused> {
    let [user, event] = parameters::query(uri, ["user", "event"])?;
    let facts = Facts::of(api, &user, &event)?;
    let Some(cluster) = &api.cluster else {
        return Ok(reply::json(v2::encode(&facts.explanation(facts.sentences()))));
    };
    let question = v2::encode(&Question::Explain { user, event }).into();
    let said = |answer: &[u8], _took| match Answer::parse(answer)? {
        Answer::Ok(explanation) => Some(explanation),
        Answer::Problem(_) => None,
    };
    let here = std::future::ready(facts.explanation(Vec::new()));
    let gathered = cluster.ask(Whom::Everybody, question, here, said).await;
    let nodes_missing = ask::missing(&gathered);
    let Gathered { here: mut whole, others, .. } = gathered;
    whole.nodes_missing = nodes_missing;
    let not_ready = cluster.ready().err();
    Ok(reply::json(v2::encode(&facts.explanation_of_all(whole, others, not_ready))))
}

/// What this node alone knows, for another one.
pub(crate) fn explain_here<W: Wire>(
    api: &Api<W>,
    user: &str,
    event: &str,
) -> Result<Explanation, Refused> {
    let facts = Facts::of(api, user, event)?;
    Ok(facts.explanation(facts.sentences()))
}

/// All that is known of a user and an event.
struct Facts {
    user: UserId,
    event: EventName,
    would_deliver_to: usize,
    /// All connections of the user.
    count: usize,
    /// The first of them.
    connections: Vec<ConnectionInfo>,
    /// What of these may be worth a sentence.
    lines: Vec<Line>,
    /// What they registered.
    events: Vec<EventName>,
    recent: Vec<Entry>,
    strangers: Vec<Entry>,
    /// After which time without a word a connection is worth a sentence.
    silence_max: Duration,
    now: SystemTime,
}

/// What of a connection may be worth a sentence.
struct Line {
    id: ConnectionId,
    queued_bytes: usize,
    silence: Duration,
}

impl Line {
    fn of(info: &ConnectionInfo) -> Self {
        Self { id: info.id, queued_bytes: info.queued_bytes, silence: info.last_sign_of_life }
    }
}

impl Facts {
    fn of<W: Wire>(api: &Api<W>, user: &str, event: &str) -> Result<Self, Refused> {
        let (user, event) =
            (parameters::user(&api.limits, "user", user)?, parameters::event(&api.limits, event)?);
        let node = &api.node;
        let connections = node.user_connections(&user, CONNECTIONS_MAX);
        let count = node.presence(std::slice::from_ref(&user)).first().copied();
        Ok(Self {
            would_deliver_to: node.registered(&user, &event),
            // Some may have gone or come between the looks.
            count: count.unwrap_or_default().max(connections.len()),
            events: node.user_events(&user),
            recent: node.recent(&user, ENTRIES_MAX),
            strangers: if connections.is_empty() {
                node.recent_strangers(ENTRIES_MAX)
            } else {
                Vec::new()
            },
            silence_max: api.limits.ping_interval + api.limits.pong_timeout,
            now: SystemTime::now(),
            user,
            event,
            lines: connections.iter().map(Line::of).collect(),
            connections,
        })
    }

    fn explanation(&self, sentences: Vec<String>) -> Explanation {
        let connections = show::connections(&self.connections);
        Explanation {
            user: self.user.as_str().to_owned(),
            event: self.event.as_str().to_owned(),
            now: Now {
                would_deliver_to: self.would_deliver_to,
                connection_count: (self.count > connections.len()).then_some(self.count),
                connections,
            },
            recent: self.recent.iter().map(show::entry).collect(),
            strangers: self.strangers.iter().map(show::entry).collect(),
            sentences,
            nodes_missing: Vec::new(),
        }
    }

    /// What this node and the others know: the first sentence is about all of them, and what another
    /// node says is told as its.
    fn explanation_of_all(
        &self,
        mut whole: Explanation,
        others: Vec<(NodeName, Explanation)>,
        not_ready: Option<String>,
    ) -> Explanation {
        let mut total = self.count;
        let mut told = Vec::new();
        let mut events: Vec<String> =
            self.events.iter().map(|event| event.as_str().to_owned()).collect();
        for (node, other) in others {
            let count = other.now.connection_count.unwrap_or(other.now.connections.len());
            // Its verdict is part of that of all, and so is that it remembers nothing.
            let spared = if count == 0 && other.recent.is_empty() { 2 } else { 1 };
            let more = other.sentences.into_iter().skip(spared);
            told.extend(more.map(|sentence| format!("node {node}: {sentence}")));
            total = total.saturating_add(count);
            whole.now.would_deliver_to =
                whole.now.would_deliver_to.saturating_add(other.now.would_deliver_to);
            let theirs =
                other.now.connections.iter().flat_map(|it| it.registrations.get(&whole.user));
            events.extend(theirs.flatten().cloned());
            let left = CONNECTIONS_MAX.saturating_sub(whole.now.connections.len());
            let connections = other.now.connections.into_iter().take(left);
            whole.now.connections.extend(connections.map(|it| ask::named(&node, it)));
            let recent = other.recent.into_iter().map(|entry| ask::told_by(&node, entry));
            whole.recent.extend(recent);
            let strangers = other.strangers.into_iter().map(|entry| ask::told_by(&node, entry));
            whole.strangers.extend(strangers);
        }
        whole.recent.sort_by(|one, next| one.at.cmp(&next.at));
        whole.strangers.sort_by(|one, next| one.at.cmp(&next.at));
        if total > whole.now.connections.len() {
            whole.now.connection_count = Some(total);
        }
        events.sort_unstable();
        events.dedup();
        let reached = whole.now.would_deliver_to;
        let mut sentences = vec![verdict(&self.user, &self.event, reached, total, &events)];
        sentences.extend(not_ready.map(|why| format!("this node is not ready: {why}")));
        if !whole.nodes_missing.is_empty() {
            let names = whole.nodes_missing.join(", ");
            sentences.push(format!(
                "{names} did not answer, so this answer leaves out what \
                                    happened there"
            ));
        }
        self.tell_connections(&mut sentences);
        sentences.extend(self.folded(&self.recent, |_| true, |_| ""));
        sentences.append(&mut told);
        if total == 0 && whole.recent.is_empty() {
            sentences.push(self.nothing());
        }
        if total == 0 {
            self.tell_strangers(&mut sentences);
        } else {
            // Whoever has a connection is none of them, on whichever node.
            whole.strangers.clear();
            let is_of_stranger =
                |it: &String| it.ends_with(OF_PUBLISHERS) || it.ends_with(OF_LISTENERS);
            sentences.retain(|sentence| !is_of_stranger(sentence));
        }
        whole.sentences = sentences;
        whole
    }

    /// What this node has to say. What matters most comes first.
    fn sentences(&self) -> Vec<String> {
        let events: Vec<String> =
            self.events.iter().map(|event| event.as_str().to_owned()).collect();
        let (reached, count) = (self.would_deliver_to, self.count);
        let mut sentences = vec![verdict(&self.user, &self.event, reached, count, &events)];
        self.tell_connections(&mut sentences);
        sentences.extend(self.folded(&self.recent, |_| true, |_| ""));
        if self.count == 0 && self.recent.is_empty() {
            sentences.push(self.nothing());
        }
        self.tell_strangers(&mut sentences);
        sentences
    }

    fn nothing(&self) -> String {
        let user = Name(self.user.as_str());
        format!(
            "the journal has no entry of user {user}: nobody has registered as this user since the \
             server started, or it was too long ago"
        )
    }

    fn tell_connections(&self, sentences: &mut Vec<String>) {
        for Line { id, queued_bytes, silence } in &self.lines {
            if *queued_bytes > 0 {
                sentences.push(format!(
                    "connection {id} has {queued_bytes} bytes waiting: it reads more slowly than it \
                     is sent to"
                ));
            }
            if *silence > self.silence_max {
                sentences.push(format!(
                    "connection {id} was last heard of {}: its client, or the network to it, may \
                     have vanished",
                    Ago(*silence)
                ));
            }
        }
        let left_out = self.count.saturating_sub(self.lines.len());
        if left_out > 0 {
            sentences.push(format!("{} more were not examined", Count(left_out, "connection")));
        }
    }

    /// Refusals of connections whose user was never proven: this user may be among them, and it
    /// cannot be known.
    fn tell_strangers(&self, sentences: &mut Vec<String>) {
        let is_telling = |entry: &Entry| match entry.what {
            What::RegistrationRefused { .. } => {
                entry.event.as_ref().is_none_or(|event| *event == self.event)
            }
            What::PushRefused { .. } | What::ProtocolBroken { .. } => true,
            What::Registered
            | What::Unregistered
            | What::Dropped { .. }
            | What::Closed { .. }
            | What::Pushed { .. } => false,
        };
        sentences.extend(self.folded(&self.strangers, is_telling, |entry| match entry.what {
            What::PushRefused { .. } => OF_PUBLISHERS,
            _ => OF_LISTENERS,
        }));
    }

    /// Entries as sentences, the newest first; what came many times is told once.
    fn folded(
        &self,
        entries: &[Entry],
        is_telling: impl Fn(&Entry) -> bool,
        remark: impl Fn(&Entry) -> &'static str,
    ) -> Vec<String> {
        let mut told: Vec<(Ago, String, usize)> = Vec::new();
        for entry in entries.iter().rev().filter(|entry| is_telling(entry)) {
            let words = of_entry(entry) + remark(entry);
            if let Some((_, _, times)) = told.iter_mut().find(|(_, known, _)| *known == words) {
                *times += 1;
            } else if told.len() < SENTENCES_OF_ENTRIES_MAX {
                told.push((Ago::since(entry.at, self.now), words, 0));
            }
        }
        let sentence = |(ago, words, before): (Ago, String, usize)| match before {
            0 => format!("{ago}: {words}"),
            _ => format!("{ago}, and {} before: {words}", Count(before, "time")),
        };
        told.into_iter().map(sentence).collect()
    }
}

#[cfg(test)]
mod tests {
    use wserver_core::CloseReason;
    use wserver_node::NoDelivery;

    use super::*;

    fn name(name: &str) -> EventName {
        EventName::parse(name, 4096).unwrap()
    }

    fn facts(would_deliver_to: usize, count: usize, events: &[&str]) -> Facts {
        Facts {
            user: UserId::parse("jack", 4096).unwrap(),
            event: name("news"),
            would_deliver_to,
            count,
            connections: Vec::new(),
            lines: (1..=count as u64).map(|id| line(id, 0, 0)).collect(),
            events: events.iter().map(|event| name(event)).collect(),
            recent: Vec::new(),
            strangers: Vec::new(),
            silence_max: Duration::from_secs(35),
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
        }
    }

    fn line(id: u64, queued_bytes: usize, seconds: u64) -> Line {
        let silence = Duration::from_secs(seconds);
        Line { id: ConnectionId::new(id), queued_bytes, silence }
    }

    /// Of connection 7, so many seconds ago.
    fn entry(facts: &Facts, seconds: u64, event: Option<&str>, what: What) -> Entry {
        let at = facts.now - Duration::from_secs(seconds);
        Entry::new(at, Some(ConnectionId::new(7)), None, event.map(name), what)
    }

    #[test]
    fn the_first_sentence_is_the_answer() {
        for (facts, expected) in [
            (
                facts(1, 1, &["news"]),
                "a push of news to user jack would go to 1 connection, all there are",
            ),
            (
                facts(2, 2, &["news"]),
                "a push of news to user jack would go to 2 connections, all there are",
            ),
            (
                facts(1, 3, &["news", "chat"]),
                "a push of news to user jack would go to 1 of the user's 3 connections",
            ),
            (
                facts(0, 2, &["chat", "mail"]),
                "user jack has 2 connections, none registered for news, but for: chat, mail",
            ),
            (
                facts(0, 1, &[]),
                "user jack has 1 connection, no longer registered for anything, so a push of news \
                 goes to nobody",
            ),
            (facts(0, 0, &[]), "user jack has no connection, so a push of news goes to nobody"),
        ] {
            assert_eq!(facts.sentences()[0], expected);
        }
    }

    #[test]
    fn every_close_is_told() {
        for reason in CloseReason::ALL {
            let mut facts = facts(0, 0, &[]);
            facts.recent = vec![entry(&facts, 12, None, What::Closed { reason })];
            let told = facts.sentences();
            assert_eq!(told.len(), 2, "{told:?}");
            assert!(told[1].starts_with("12 s ago: connection 7 was closed: "), "{told:?}");
        }
    }

    #[test]
    fn what_is_known_is_told_in_words() {
        let refused = |reason| What::RegistrationRefused { reason };
        let cases: [(Option<&str>, What, &str); 9] = [
            (
                Some("news"),
                refused("forbidden"),
                "connection 7 was refused a registration for news: its token is good, but not for this event",
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
                Some("news"),
                What::Dropped { reason: NoDelivery::SlowConsumer },
                "a message for news did not reach connection 7: it read too slowly",
            ),
            (
                None,
                What::Dropped { reason: NoDelivery::Expired },
                "a message did not reach connection 7: its time to live was over",
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
            let mut facts = facts(1, 1, &["news"]);
            facts.recent = vec![entry(&facts, 300, event, what)];
            assert_eq!(facts.sentences()[1], format!("5 min ago: {expected}"));
        }
    }

    #[test]
    fn connections_that_give_cause_are_told() {
        let mut facts = facts(3, 5, &["news"]);
        facts.lines = vec![line(1, 0, 35), line(2, 4096, 0), line(3, 0, 36)];
        assert_eq!(
            facts.sentences()[1..],
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
        let mut facts = facts(0, 0, &[]);
        let unknown = || What::RegistrationRefused { reason: "unknown" };
        let closed = What::Closed { reason: CloseReason::NotRegistered };
        facts.strangers = vec![
            entry(&facts, 9, None, What::PushRefused { reason: "unauthorized" }),
            entry(&facts, 8, Some("news"), unknown()),
            entry(&facts, 7, Some("other"), unknown()),
            entry(&facts, 6, None, closed),
            entry(&facts, 5, Some("news"), unknown()),
            entry(&facts, 4, Some("news"), unknown()),
        ];
        let whose = "its user was never authenticated, so it may be this user's";
        assert_eq!(
            facts.sentences()[1..],
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
        let mut facts = facts(0, 0, &[]);
        let entries = (0..50).map(|number| {
            entry(
                &facts,
                number,
                Some(&format!("event-{number}")),
                What::RegistrationRefused { reason: "unknown" },
            )
        });
        facts.recent = entries.collect();
        assert_eq!(facts.sentences().len(), 1 + SENTENCES_OF_ENTRIES_MAX);
    }
}

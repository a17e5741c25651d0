//! Explains whether a push of an event to a user would arrive: facts, and the same in sentences.

#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use crate::cluster::Whom;
use http::Uri;
use wserver_core::{EventName, UserId};
use wserver_node::{NodeName, Wire};
use wserver_protocol::v2::{self, Answer, Entry, Explanation, LogNow, Now, Question, ReplayNow};

use super::show;
use super::words::{Ago, Count, Name, of_entry, of_replay, verdict};
use crate::api::Api;
use crate::cluster::ask;
use crate::parameters;
use crate::reply::refused::Refused;
use crate::reply::{self, Reply};

/// The maximum number of connections in an answer.
const CONNECTIONS_MAX: usize = 100;
/// The maximum number of entries in an answer, of the user and of strangers each.
const ENTRIES_MAX: usize = 50;
/// What follows a refusal whose user was never proven.
const OF_PUBLISHERS: &str = "; the user is not known";
const OF_CONNECTIONS: &str = "; its user was never authenticated, so it may be this user's";
/// How many entries, the newest ones, become a sentence each.
const SENTENCES_OF_ENTRIES_MAX: usize = 10;

pub(crate) async fn explain<W: Wire>(api: &Api<W>, uri: &Uri) -> Result<Reply, Refused> {
    let [user, event] = parameters::query(uri, ["user", "event"])?;
    let mut account = Account::of(api, &user, &event)?;
    if let Some(cluster) = &api.cluster {
        let question = v2::encode(&Question::Explain { user, event }).into();
        let said = |answer: &[u8], _took| match Answer::parse(answer)? {
            Answer::Ok(facts) => Some(Some(facts)),
            Answer::Problem(_) => None,
        };
        // Its own facts are in the account already.
        let here = std::future::ready(None);
        let gathered = cluster.ask(Whom::Everybody, question, here, said).await;
        account.nodes_missing = ask::missing(&gathered);
        let others = gathered.others.into_iter();
        account.others = others.filter_map(|(node, facts)| Some((node, facts?))).collect();
        account.not_ready = cluster.ready().err();
    }
    Ok(reply::json(v2::encode(&account.explanation())))
}

/// The facts of this node only, for another node, which words them.
pub(crate) fn explain_here<W: Wire>(
    api: &Api<W>,
    user: &str,
    event: &str,
) -> Result<Explanation, Refused> {
    Ok(Account::of(api, user, event)?.here)
}

/// The facts about a user and an event, without words.
struct Account {
    user: UserId,
    event: EventName,
    /// The facts of this node.
    here: Explanation,
    /// The events that the user's connections here have registered, also those of connections that
    /// are not listed.
    events: Vec<String>,
    /// The facts of other nodes.
    others: Vec<(NodeName, Explanation)>,
    nodes_missing: Vec<String>,
    /// Why this node takes no part in its cluster.
    not_ready: Option<String>,
    /// How long a connection may be silent before a sentence says so.
    silence_max: Duration,
    now: SystemTime,
}

impl Account {
    fn of<W: Wire>(api: &Api<W>, user: &str, event: &str) -> Result<Self, Refused> {
        let (user, event) =
            (parameters::user(&api.limits, "user", user)?, parameters::event(&api.limits, event)?);
        let node = &api.node;
        let connections = node.user_connections(&user, CONNECTIONS_MAX);
        let count = node.presence(std::slice::from_ref(&user)).first().copied();
        // Connections may have come or gone between the looks.
        let count = count.unwrap_or_default().max(connections.len());
        let strangers =
            if connections.is_empty() { node.recent_strangers(ENTRIES_MAX) } else { Vec::new() };
        let connections = show::connections(&connections);
        let here = Explanation {
            user: user.as_str().to_owned(),
            event: event.as_str().to_owned(),
            now: Now {
                would_deliver_to: node.registered(&user, &event),
                connection_count: (count > connections.len()).then_some(count),
                connections,
                replay: node.replay_info(&user, &event).as_ref().map(show::replay),
            },
            recent: node.recent(&user, ENTRIES_MAX).iter().map(show::entry).collect(),
            strangers: strangers.iter().map(show::entry).collect(),
            sentences: Vec::new(),
            nodes_missing: Vec::new(),
        };
        let events = node.user_events(&user).iter().map(|it| it.as_str().to_owned()).collect();
        Ok(Self {
            user,
            event,
            here,
            events,
            others: Vec::new(),
            nodes_missing: Vec::new(),
            not_ready: None,
            silence_max: api.limits.ping_interval + api.limits.pong_timeout,
            now: SystemTime::now(),
        })
    }

    /// The facts of all nodes, with the sentences.
    fn explanation(self) -> Explanation {
        let sentences = self.sentences();
        let (total, replay) = (self.total(), self.replay());
        let Self { here: mut whole, others, nodes_missing, .. } = self;
        for (node, other) in others {
            whole.now.would_deliver_to =
                whole.now.would_deliver_to.saturating_add(other.now.would_deliver_to);
            let left = CONNECTIONS_MAX.saturating_sub(whole.now.connections.len());
            let connections = other.now.connections.into_iter().take(left);
            whole.now.connections.extend(connections.map(|it| ask::named(&node, it)));
            let told = |entry| ask::told_by(&node, entry);
            whole.recent.extend(other.recent.into_iter().map(told));
            whole.strangers.extend(other.strangers.into_iter().map(told));
        }
        whole.now.replay = replay;
        whole.recent.sort_by(|one, next| one.at.cmp(&next.at));
        whole.strangers.sort_by(|one, next| one.at.cmp(&next.at));
        if total > whole.now.connections.len() {
            whole.now.connection_count = Some(total);
        }
        if total > 0 {
            // A user with a connection to any node is not among the strangers.
            whole.strangers.clear();
        }
        for entry in whole.recent.iter_mut().chain(&mut whole.strangers) {
            entry.sentence = of_entry(entry);
        }
        Explanation { sentences, nodes_missing, ..whole }
    }

    /// The number of the user's connections on all nodes.
    fn total(&self) -> usize {
        let others = self.others.iter().map(|(_, other)| count(other));
        others.fold(count(&self.here), usize::saturating_add)
    }

    /// What is kept on all nodes.
    fn replay(&self) -> Option<ReplayNow> {
        let mut replay = self.here.now.replay.clone();
        for (node, other) in &self.others {
            let Some(theirs) = &other.now.replay else { continue };
            let replay = replay.get_or_insert_default();
            replay.is_kept |= theirs.is_kept;
            let logs = theirs.logs.iter().cloned();
            replay.logs.extend(logs.map(|it| LogNow { node: Some(node.to_string()), ..it }));
        }
        replay
    }

    /// The sentences. The first is the answer, and the most important ones come next. A sentence
    /// about another node names it.
    fn sentences(&self) -> Vec<String> {
        let total = self.total();
        let mut sentences = vec![self.verdict(total)];
        sentences.extend(self.not_ready.iter().map(|why| format!("this node is not ready: {why}")));
        if !self.nodes_missing.is_empty() {
            let names = self.nodes_missing.join(", ");
            sentences.push(format!(
                "{names} did not answer, so this answer leaves out what happened there"
            ));
        }
        let replay = self.replay();
        sentences.extend(replay.map(|replay| of_replay(&self.user, &self.event, &replay)));
        let accounts = || {
            let here = std::iter::once((None, &self.here));
            here.chain(self.others.iter().map(|(node, other)| (Some(node), other)))
        };
        for (node, facts) in accounts() {
            let connections = self.of_connections(facts);
            let recent = self.folded(&facts.recent, |_| true, |_| "");
            sentences.extend(connections.into_iter().chain(recent).map(|it| told_of(node, it)));
        }
        if total > 0 {
            return sentences;
        }
        if accounts().all(|(_, facts)| facts.recent.is_empty()) {
            let user = Name(self.user.as_str());
            sentences.push(format!(
                "the journal has no entry of user {user}: nobody has registered as this user since \
                 the server started, or it was too long ago"
            ));
        }
        for (node, facts) in accounts() {
            let strangers = self.of_strangers(&facts.strangers);
            sentences.extend(strangers.into_iter().map(|it| told_of(node, it)));
        }
        sentences
    }

    fn verdict(&self, total: usize) -> String {
        let mut reached = self.here.now.would_deliver_to;
        let mut events = self.events.clone();
        for (_, other) in &self.others {
            reached = reached.saturating_add(other.now.would_deliver_to);
            let theirs =
                other.now.connections.iter().flat_map(|it| it.registrations.get(&self.here.user));
            events.extend(theirs.flatten().cloned());
        }
        events.sort_unstable();
        events.dedup();
        verdict(&self.user, &self.event, reached, total, &events)
    }

    fn of_connections(&self, facts: &Explanation) -> Vec<String> {
        let mut sentences = Vec::new();
        for connection in &facts.now.connections {
            let (id, queued_bytes) = (Name(&connection.id), connection.queued_bytes);
            if queued_bytes > 0 {
                sentences.push(format!(
                    "connection {id} has {queued_bytes} bytes waiting: it reads more slowly than it \
                     is sent to"
                ));
            }
            let silence = Duration::from_secs(connection.silent_seconds);
            if silence > self.silence_max {
                sentences.push(format!(
                    "connection {id} was last heard of {}: its client, or the network to it, may \
                     have vanished",
                    Ago(silence)
                ));
            }
        }
        let left_out = count(facts).saturating_sub(facts.now.connections.len());
        if left_out > 0 {
            sentences.push(format!("{} more were not examined", Count(left_out, "connection")));
        }
        sentences
    }

    /// Refusals of connections whose user was never proven. They may concern this user, but nobody
    /// can know.
    fn of_strangers(&self, strangers: &[Entry]) -> Vec<String> {
        let is_telling = |entry: &Entry| match &*entry.what {
            "registration_refused" => {
                entry.event.as_ref().is_none_or(|event| event == self.event.as_str())
            }
            what => matches!(what, "push_refused" | "protocol_broken"),
        };
        self.folded(strangers, is_telling, |entry| match &*entry.what {
            "push_refused" => OF_PUBLISHERS,
            _ => OF_CONNECTIONS,
        })
    }

    /// Entries as sentences, the newest first; repeated ones are folded into one.
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
                let at = humantime::parse_rfc3339(&entry.at).unwrap_or(self.now);
                told.push((Ago::since(at, self.now), words, 0));
            }
        }
        let sentence = |(ago, words, before): (Ago, String, usize)| match before {
            0 => format!("{ago}: {words}"),
            _ => format!("{ago}, and {} before: {words}", Count(before, "time")),
        };
        told.into_iter().map(sentence).collect()
    }
}

/// The number of the user's connections to the node with these facts.
fn count(facts: &Explanation) -> usize {
    facts.now.connection_count.unwrap_or(facts.now.connections.len())
}

fn told_of(node: Option<&NodeName>, sentence: String) -> String {
    match node {
        Some(node) => format!("node {node}: {sentence}"),
        None => sentence,
    }
}

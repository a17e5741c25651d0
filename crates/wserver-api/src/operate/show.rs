//! The node's facts in the terms of the HTTP API.

use std::collections::BTreeMap;

use wserver_node::{ConnectionInfo, Entry, LogInfo, ReplayInfo, What};
use wserver_protocol::v2;

use crate::push::outcome;

/// The maximum bytes of names in an answer about connections; beyond it, the next connection is
/// left out. A connection may have a megabyte of names, and a user a thousand connections.
const NAMES_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Live connections: at least one, and as many as fit into one answer.
pub(crate) fn connections(infos: &[ConnectionInfo]) -> Vec<v2::Connection> {
    let mut room = NAMES_BYTES_MAX;
    let shown = infos.iter().map_while(|info| {
        let names = info.registrations.iter();
        let bytes = names.map(|(user, event)| user.as_str().len() + event.as_str().len());
        let has_room = room > 0;
        room = room.saturating_sub(bytes.sum());
        has_room.then(|| connection(info))
    });
    shown.collect()
}

/// One live connection.
pub(crate) fn connection(info: &ConnectionInfo) -> v2::Connection {
    let mut registrations: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (user, event) in &info.registrations {
        registrations.entry(user.as_str().to_owned()).or_default().push(event.as_str().to_owned());
    }
    v2::Connection {
        id: info.id.to_string(),
        node: None,
        peer: info.peer.map(|peer| peer.to_string()),
        registrations,
        age_seconds: info.age.as_secs(),
        silent_seconds: info.last_sign_of_life.as_secs(),
        queued_bytes: info.queued_bytes,
        written_bytes: info.written_bytes,
    }
}

/// One event of the journal as a fact; the node that was asked words it.
pub(crate) fn entry(entry: &Entry) -> v2::Entry {
    let mut shown = v2::Entry {
        node: None,
        at: humantime::format_rfc3339_millis(entry.at).to_string(),
        connection: entry.connection.map(|id| id.to_string()),
        user: entry.user.as_ref().map(|user| user.as_str().to_owned()),
        event: entry.event.as_ref().map(|event| event.as_str().to_owned()),
        what: entry.what.as_str().to_owned(),
        reason: None,
        delivery: None,
        replayed: None,
        acks: None,
        sentence: String::new(),
    };
    match &entry.what {
        What::Registered | What::Unregistered => {}
        What::RegistrationRefused { reason } | What::PushRefused { reason } => {
            shown.reason = Some((*reason).to_owned());
        }
        What::Dropped { reason } => shown.reason = Some(reason.as_str().to_owned()),
        What::ProtocolBroken { rule } => shown.reason = Some(rule.as_str().to_owned()),
        What::Closed { reason } => shown.reason = Some(reason.as_str().to_owned()),
        What::Gap { reason } => shown.reason = Some(reason.as_str().to_owned()),
        What::Resumed { count } => shown.replayed = Some(*count),
        What::Waited { acks } => shown.acks = Some(outcome::acks(*acks)),
        What::Pushed { receipt } => {
            let mut delivery = outcome::counts(receipt);
            delivery.reason = receipt.reason.map(outcome::reason);
            shown.delivery = Some(delivery);
        }
    }
    shown
}

/// What is kept for replay.
pub(crate) fn replay(info: &ReplayInfo) -> v2::ReplayNow {
    let log = |log: LogInfo| v2::LogNow { node: None, messages: log.messages, bytes: log.bytes };
    v2::ReplayNow { is_kept: info.is_kept, logs: info.log.map(log).into_iter().collect() }
}

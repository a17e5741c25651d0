//! Asks the other nodes of a cluster; this node answers for itself.
//!
//! A node answers another as it would answer a client, but only about itself. [`Merge`] makes one
//! answer of several.

use crate::cluster::{Cluster, Whom};
use bytes::Bytes;
use wserver_core::ConnectionId;
use wserver_node::{Gathered, NodeName, Wire};
use wserver_protocol::v2::{
    self, Answer, AnswerValue, Closed, Connection, Connections, Entry, Online, Question,
};

use crate::reply::details;
use crate::reply::refused::Refused;
use crate::reply::{self, Reply};

/// The maximum number of connections of one user in an answer.
pub(crate) const CONNECTIONS_MAX: usize = 1000;

/// How the answers of several nodes become one.
pub(crate) trait Merge: AnswerValue {
    /// Adds the answer of another node.
    fn add(&mut self, node: &NodeName, other: Self);
    /// Adds the nodes that did not answer.
    fn miss(&mut self, nodes: Vec<String>);
}

impl Merge for Online {
    fn add(&mut self, _node: &NodeName, other: Self) {
        for (user, count) in other.online {
            // Another node can send any number.
            let sum = self.online.entry(user).or_default();
            *sum = sum.saturating_add(count);
        }
    }

    fn miss(&mut self, nodes: Vec<String>) {
        self.nodes_missing = nodes;
    }
}

impl Merge for Connections {
    fn add(&mut self, node: &NodeName, other: Self) {
        self.count = self.count.saturating_add(other.count);
        let left = CONNECTIONS_MAX.saturating_sub(self.connections.len());
        self.connections.extend(other.connections.into_iter().take(left).map(|it| named(node, it)));
    }

    fn miss(&mut self, nodes: Vec<String>) {
        self.nodes_missing = nodes;
    }
}

impl Merge for Closed {
    fn add(&mut self, _node: &NodeName, other: Self) {
        self.closed = self.closed.saturating_add(other.closed);
    }

    fn miss(&mut self, nodes: Vec<String>) {
        self.nodes_missing = nodes;
    }
}

/// A connection of another node.
pub(crate) fn named(node: &NodeName, connection: Connection) -> Connection {
    Connection { node: Some(node.to_string()), ..connection }
}

/// An entry of another node.
pub(crate) fn told_by(node: &NodeName, entry: Entry) -> Entry {
    Entry { node: Some(node.to_string()), ..entry }
}

/// Asks the nodes concerned, and merges their answers into that of this node.
pub(crate) async fn gather<W: Wire, T: Merge>(
    cluster: Option<&Cluster<W>>,
    whom: Whom<'_>,
    question: &Question,
    here: T,
) -> T {
    let Some(cluster) = cluster else { return here };
    let question = Bytes::from(v2::encode(question));
    let said = |answer: &[u8], _took| match Answer::parse(answer)? {
        Answer::Ok(answer) => Some(answer),
        Answer::Problem(_) => None,
    };
    let gathered = cluster.ask(whom, question, std::future::ready(here), said).await;
    let missing = missing(&gathered);
    let Gathered { here: mut merged, others, .. } = gathered;
    for (node, other) in others {
        merged.add(&node, other);
    }
    merged.miss(missing);
    merged
}

/// The names of the nodes that did not answer; for a node that is cut off, of all nodes that may
/// exist.
pub(crate) fn missing<T>(gathered: &Gathered<T>) -> Vec<String> {
    let mut names: Vec<String> = gathered.missing.iter().map(ToString::to_string).collect();
    if gathered.is_cut_off && names.is_empty() {
        names.push("every other node".to_owned());
    }
    names.sort_unstable();
    names
}

/// Asks the other node to which a connection belongs; its answer, with what `of_node` adds, is the
/// reply.
pub(crate) async fn forward<W: Wire, T: AnswerValue>(
    cluster: Option<&Cluster<W>>,
    id: ConnectionId,
    question: &Question,
    of_node: impl Fn(&NodeName, T) -> T,
) -> Result<Reply, Refused> {
    let Some(cluster) = cluster else { return Err(Refused::ConnectionUnknown) };
    let question = Bytes::from(v2::encode(question));
    // This node has no answer of its own.
    let here = std::future::ready(None);
    let said = |answer: &[u8], _took| Answer::<T>::parse(answer).map(Some);
    let gathered = cluster.ask(Whom::ConnectionsNode(id), question, here, said).await;
    if !gathered.missing.is_empty() || gathered.is_cut_off {
        return Err(Refused::NodeMissing { node: missing(&gathered).join(", ") });
    }
    let answered = gathered.others.into_iter().find_map(|(node, answer)| Some((node, answer?)));
    match answered {
        None => Err(Refused::ConnectionUnknown),
        Some((node, Answer::Ok(answer))) => Ok(reply::json(v2::encode(&of_node(&node, answer)))),
        Some((_, Answer::Problem(problem))) => Ok(details::problem(&problem)),
    }
}

#[cfg(test)]
mod tests {
    use wserver_node::NodeId;

    use super::*;

    #[test]
    fn nodes_that_did_not_answer_are_named_in_order() {
        let node = |name: &str| NodeName::new(NodeId::new(2), name);
        let mut gathered = Gathered::alone(());
        assert_eq!(missing(&gathered), [""; 0]);
        gathered.is_cut_off = true;
        assert_eq!(missing(&gathered), ["every other node"]);
        gathered.missing = vec![node("c"), node("b")];
        assert_eq!(missing(&gathered), ["b", "c"]);
    }

    /// Each node lists as many connections as an answer may have.
    #[test]
    fn the_connections_of_all_nodes_are_as_many_as_those_of_one() {
        let connection = |id: usize| Connection {
            id: id.to_string(),
            node: None,
            peer: None,
            registrations: [].into(),
            age_seconds: 0,
            silent_seconds: 0,
            queued_bytes: 0,
            written_bytes: 0,
        };
        let of = |count: usize| Connections {
            count,
            connections: (0..count).map(connection).collect(),
            nodes_missing: Vec::new(),
        };
        let mut merged = of(CONNECTIONS_MAX - 1);
        for name in ["b", "c"] {
            merged.add(&NodeName::new(NodeId::new(2), name), of(3));
        }
        assert_eq!((merged.count, merged.connections.len()), (1005, 1000));
        assert_eq!(merged.connections[CONNECTIONS_MAX - 1].node.as_deref(), Some("b"));
    }
}

//! The counters of a node's part in a cluster: one atomic per fact.

use wserver_node::{Counter, Histogram};

/// Everything counted since the node started.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Pushes and questions sent, counted once per receiving node.
    pub requests_total: Counter,
    /// Answers that did not or could not arrive in time: each is a `nodes_missing` of some answer.
    pub missing_total: Counter,
    /// Answers of other nodes that arrived after their request had ended.
    pub late_answers_total: Counter,
    /// Pushes and questions of other nodes that were carried out.
    pub answered_total: Counter,
    /// Messages handed to the broker, and their bytes.
    pub published_total: Counter,
    /// Bytes of these.
    pub published_bytes_total: Counter,
    /// Messages taken from the broker.
    pub received_total: Counter,
    /// Bytes of these.
    pub received_bytes_total: Counter,
    /// Items not sent because there was no link.
    pub dropped_no_link_total: Counter,
    /// Items not sent because the queue held `queue_bytes_max` already.
    pub dropped_outbound_full_total: Counter,
    /// Items that waited when a link broke, and were dropped.
    pub dropped_link_lost_total: Counter,
    /// Items given to a link that failed before the broker confirmed them: some may have arrived.
    pub dropped_publish_failed_total: Counter,
    /// Items that waited for a node that has left.
    pub dropped_node_gone_total: Counter,
    /// Entries of streams whose readers on this node were too slow.
    pub dropped_stream_full_total: Counter,
    /// Messages that no node can have written: forged ones, or those of a node whose clock was
    /// changed.
    pub dropped_implausible_total: Counter,
    /// Messages that arrived twice, or after one that was sent later.
    pub dropped_late_total: Counter,
    /// Messages that were sent but did not arrive, counted by gaps in their numbers.
    pub lost_total: Counter,
    /// Pushes and questions of other nodes that were dropped because their time was over.
    pub dropped_expired_total: Counter,
    /// Messages that could not be read.
    pub dropped_malformed_total: Counter,
    /// Messages of a release that says this release would misunderstand it.
    pub dropped_version_total: Counter,
    /// Links that were opened.
    pub links_opened_total: Counter,
    /// Links that broke.
    pub links_broken_total: Counter,
    /// Nodes that were silent for their lease.
    pub nodes_expired_total: Counter,
    /// Slots of users that were requested again because two nodes did not agree.
    pub resyncs_total: Counter,
    /// The time from a push or question until its last timely answer.
    pub answer_time: Histogram,
}

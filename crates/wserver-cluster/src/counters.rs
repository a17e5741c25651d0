//! What a node's part in a cluster counts: one atomic per fact.

use wserver_node::{Counter, Histogram};

/// Everything counted since the node started.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Pushes and questions sent, once for each node they went to.
    pub requests_total: Counter,
    /// Answers that did not come in time, or could not: each is a `nodes_missing` of some answer.
    pub missing_total: Counter,
    /// Answers of other nodes that came when nobody waited for them any more.
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
    /// What was not sent because there was no link.
    pub dropped_no_link_total: Counter,
    /// What was not sent because `queue_bytes_max` waited already.
    pub dropped_outbound_full_total: Counter,
    /// What waited when a link broke, and was let go.
    pub dropped_link_lost_total: Counter,
    /// What was handed to the broker, and the link failed before it had said that it has it: some of
    /// it may have arrived.
    pub dropped_publish_failed_total: Counter,
    /// What waited for a node that has gone.
    pub dropped_node_gone_total: Counter,
    /// Entries of streams that their readers here were too slow for.
    pub dropped_stream_full_total: Counter,
    /// Messages that no node can have written: forged, or of a node whose clock was set otherwise than
    /// by time.
    pub dropped_implausible_total: Counter,
    /// Messages that came twice, or after one that was sent later.
    pub dropped_late_total: Counter,
    /// Messages that were sent and did not arrive, by the gaps in their numbers.
    pub lost_total: Counter,
    /// Pushes and questions of other nodes that were let go because nobody waited for them any more.
    pub dropped_expired_total: Counter,
    /// Messages that could not be read.
    pub dropped_malformed_total: Counter,
    /// Messages of a release that says this one would misunderstand it.
    pub dropped_version_total: Counter,
    /// Links that were opened.
    pub links_opened_total: Counter,
    /// Links that broke.
    pub links_broken_total: Counter,
    /// Nodes that were not heard of within their lease.
    pub nodes_expired_total: Counter,
    /// Slots of users that were asked for because two nodes did not agree.
    pub resyncs_total: Counter,
    /// From a push or a question until the last answer to it that came in time.
    pub answer_time: Histogram,
}

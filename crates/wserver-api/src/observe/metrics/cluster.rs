//! The metrics of a node's part in a cluster. A node without a cluster has none of them.

use crate::cluster::Cluster;
use wserver_node::Wire;

use super::page::Page;

pub(super) fn write<W: Wire>(page: &mut Page, cluster: &Cluster<W>) {
    let (gauges, counters) = (cluster.gauges(), cluster.counters());
    page.one_gauge(
        "wserver_cluster_ready",
        "Whether this node takes part in its cluster: its messages to itself come back, and it \
         knows the users of all nodes.",
        u8::from(gauges.is_ready),
    );
    page.one_gauge(
        "wserver_cluster_nodes",
        "Nodes of the cluster, including this one.",
        gauges.nodes,
    );
    page.one_gauge(
        "wserver_cluster_nodes_vanished",
        "Nodes that vanished and are neither back nor known to be gone; answers are partial.",
        gauges.vanished,
    );
    page.one_gauge(
        "wserver_cluster_round_trip_seconds",
        "Shortest recent time of a message from this node to the broker and back.",
        gauges.round_trip.as_secs_f64(),
    );
    page.one_gauge(
        "wserver_cluster_remote_users",
        "Users of other nodes, counted once for each node that has them.",
        gauges.remote_users,
    );
    page.one_gauge(
        "wserver_cluster_directory_bytes",
        "Bytes that hold the users of other nodes.",
        gauges.directory_bytes,
    );
    page.one_gauge(
        "wserver_cluster_requests",
        "Pushes and questions that wait for answers of other nodes.",
        gauges.requests,
    );
    page.one_gauge(
        "wserver_cluster_outbound_bytes",
        "Bytes that wait to be sent to the broker.",
        gauges.outbound_bytes,
    );
    page.one_counter(
        "wserver_cluster_requests_total",
        "Pushes and questions sent to other nodes, counted once for each node.",
        counters.requests_total.value(),
    );
    page.one_counter(
        "wserver_cluster_answered_total",
        "Pushes and questions of other nodes that this node carried out.",
        counters.answered_total.value(),
    );
    page.one_counter(
        "wserver_cluster_missing_total",
        "Answers of other nodes that did not arrive in time; the answer to the request lists each \
         in nodes_missing.",
        counters.missing_total.value(),
    );
    page.one_counter(
        "wserver_cluster_late_answers_total",
        "Answers of other nodes that arrived too late.",
        counters.late_answers_total.value(),
    );
    for (name, help, sent, received) in [
        (
            "wserver_cluster_messages_total",
            "Messages sent to and received from the broker.",
            &counters.published_total,
            &counters.received_total,
        ),
        (
            "wserver_cluster_message_bytes_total",
            "Bytes of the messages sent to and received from the broker.",
            &counters.published_bytes_total,
            &counters.received_bytes_total,
        ),
    ] {
        page.counter(name, help);
        page.sample(name, &[("direction", "sent")], sent.value());
        page.sample(name, &[("direction", "received")], received.value());
    }
    let reasons = [
        ("no_link", counters.dropped_no_link_total.value()),
        ("outbound_full", counters.dropped_outbound_full_total.value()),
        ("link_lost", counters.dropped_link_lost_total.value()),
        ("publish_failed", counters.dropped_publish_failed_total.value()),
        ("node_gone", counters.dropped_node_gone_total.value()),
        ("inbound_full", gauges.inbound_dropped),
        ("stream_full", counters.dropped_stream_full_total.value()),
        ("late", counters.dropped_late_total.value()),
        ("expired", counters.dropped_expired_total.value()),
        ("malformed", counters.dropped_malformed_total.value()),
        ("implausible", counters.dropped_implausible_total.value()),
        ("version", counters.dropped_version_total.value()),
    ];
    page.labelled(
        "wserver_cluster_dropped_total",
        "Messages that were not sent to other nodes, or not accepted from them.",
        "reason",
        reasons.into_iter(),
    );
    page.one_counter(
        "wserver_cluster_lost_total",
        "Messages of other nodes that never arrived, counted by the gaps in their numbers.",
        counters.lost_total.value(),
    );
    page.one_counter(
        "wserver_cluster_links_opened_total",
        "Links to the broker that were opened.",
        counters.links_opened_total.value(),
    );
    page.one_counter(
        "wserver_cluster_links_broken_total",
        "Links to the broker that broke.",
        counters.links_broken_total.value(),
    );
    page.one_counter(
        "wserver_cluster_nodes_expired_total",
        "Nodes that were silent for their whole lease.",
        counters.nodes_expired_total.value(),
    );
    page.one_counter(
        "wserver_cluster_resyncs_total",
        "Times that this node's list of another node's users was wrong and was requested again.",
        counters.resyncs_total.value(),
    );
    page.histogram(
        "wserver_cluster_answer_seconds",
        "Time from a push or a question until the last answer that arrived in time.",
        &counters.answer_time,
    );
}

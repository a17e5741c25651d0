//! The metrics of the messages that are kept for clients that come back. A server that keeps none
//! has none of them.

use wserver_core::Limits;
use wserver_node::{GapReason, Node, Wire};

use super::page::Page;

pub(super) fn write<W: Wire>(page: &mut Page, node: &Node<W>, limits: &Limits) {
    let Some(counters) = node.replay_counters() else { return };
    let (bytes, logs) = node.replay_gauges();
    page.one_gauge("wserver_replay_logs", "Users whose messages are kept for replay.", logs);
    page.one_gauge(
        "wserver_replay_bytes",
        "Bytes of the messages that are kept for replay, with what keeping them costs.",
        bytes,
    );
    page.one_gauge(
        "wserver_replay_bytes_max",
        "The setting replay_bytes_max.",
        limits.replay_bytes_max,
    );
    for (name, help, counter) in [
        ("wserver_replay_kept_total", "Messages kept for replay.", &counters.kept_total),
        (
            "wserver_replay_evicted_total",
            "Messages dropped before replay_window was over, or not kept, because there was no room.",
            &counters.evicted_total,
        ),
        (
            "wserver_replay_refused_total",
            "Users whose messages could not be kept, because replay_bytes_max was reached.",
            &counters.refused_total,
        ),
        (
            "wserver_replay_resumed_total",
            "Connections that came back and got all that they had missed.",
            &counters.resumed_total,
        ),
        ("wserver_replay_messages_total", "Messages replayed.", &counters.replayed_total),
    ] {
        page.one_counter(name, help, counter.value());
    }
    page.labelled(
        "wserver_replay_gaps_total",
        "Connections that came back and were told of a gap.",
        "reason",
        GapReason::ALL
            .into_iter()
            .map(|reason| (reason.as_str(), counters.gaps_total(reason).value())),
    );
}

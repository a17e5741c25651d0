//! `wserver nodes`: the nodes of a cluster, and the state of each.

use std::process::ExitCode;

use clap::Args;
use wserver_client::v2::{self, NodeInfo, Nodes};

use super::access::Access;
use super::outcome::Outcome;
use super::output::{OneLine, line};

/// A node does not answer, or does not take part in the cluster.
const EXIT_INCOMPLETE: u8 = 2;

/// List the nodes of a cluster and the state of each
#[derive(Debug, Args)]
#[command(after_help = "\
The key must belong to a publisher with admin = true. A server without any key answers programs on
its own machine. The key can be in the environment as WSERVER_PUSH_KEY.
The first line is the node that received the request; ANSWER is how long each other node took to
answer it.
Exit codes: 0 all nodes are well, 1 the server did not answer the question, 2 a node does not answer
or is not ready, 64 bad arguments.")]
pub(crate) struct Arguments {
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

pub(super) async fn run(arguments: Arguments) -> Outcome {
    let Arguments { json, access } = arguments;
    let nodes = access.api()?.nodes().await.map_err(|error| access.failure(error))?;
    if json {
        line(v2::encode(&nodes))?;
    } else {
        for row in table(&nodes) {
            line(row)?;
        }
    }
    let is_whole =
        nodes.nodes_missing.is_empty() && nodes.nodes.iter().all(|node| node.not_ready.is_none());
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INCOMPLETE) })
}

/// One line for each node, in columns, and the problems below them.
fn table(nodes: &Nodes) -> Vec<String> {
    let head = ["NODE", "VERSION", "UP", "CONNECTIONS", "USERS", "PUSHES", "QUEUED", "ANSWER"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(nodes.nodes.iter().map(row));
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells = row.iter().zip(widths);
            let cells: Vec<String> = cells.map(|(cell, width)| format!("{cell:<width$}")).collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect();
    for node in &nodes.nodes {
        if node.is_draining {
            lines.push(format!("{} is shutting down", name(node)));
        }
        if let Some(why) = &node.not_ready {
            lines.push(format!("{} is not ready: {}", name(node), OneLine(why)));
        }
    }
    for missing in &nodes.nodes_missing {
        lines.push(format!("{} does not answer", OneLine(missing)));
    }
    if nodes.broker.is_none() {
        lines.push("this server is not in a cluster: no cluster_broker is set".to_owned());
    }
    lines
}

fn row(node: &NodeInfo) -> [String; 8] {
    [
        name(node),
        OneLine(&node.version).to_string(),
        humantime::format_duration(std::time::Duration::from_secs(node.uptime_seconds)).to_string(),
        format!("{}/{}", node.connections, node.connections_max),
        node.users.to_string(),
        node.pushes_total.to_string(),
        format!("{} B", node.queued_bytes),
        node.round_trip_ms.map_or_else(|| "-".to_owned(), |took| format!("{took:.1} ms")),
    ]
}

fn name(node: &NodeInfo) -> String {
    match &node.name {
        Some(name) => OneLine(name).to_string(),
        None => "this server".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: Option<&str>, round_trip_ms: Option<f64>) -> NodeInfo {
        NodeInfo {
            version: "0.1.0".to_owned(),
            uptime_seconds: 3723,
            is_draining: false,
            connections: 12,
            connections_max: 100,
            users: 7,
            registrations: 12,
            queued_bytes: 0,
            pushes_total: 5,
            deliveries_total: 5,
            name: name.map(str::to_owned),
            id: None,
            not_ready: None,
            round_trip_ms,
        }
    }

    #[test]
    fn nodes_stand_in_columns_and_what_is_wrong_below() {
        let mut limping = node(Some("b"), Some(1.25));
        limping.not_ready = Some("cut off".to_owned());
        let nodes = Nodes {
            broker: Some("redis".to_owned()),
            nodes: vec![node(Some("node-1"), None), limping],
            nodes_missing: vec!["c".to_owned()],
        };
        assert_eq!(
            table(&nodes),
            [
                "NODE    VERSION  UP        CONNECTIONS  USERS  PUSHES  QUEUED  ANSWER",
                "node-1  0.1.0    1h 2m 3s  12/100       7      5       0 B     -",
                "b       0.1.0    1h 2m 3s  12/100       7      5       0 B     1.2 ms",
                "b is not ready: cut off",
                "c does not answer",
            ]
        );
        let alone = Nodes { broker: None, nodes: vec![node(None, None)], nodes_missing: vec![] };
        assert_eq!(
            table(&alone).last().unwrap(),
            "this server is not in a cluster: no \
                                                   cluster_broker is set"
        );
    }
}

//! `docs/benchmarks/cluster.md`, written from the runs.

use std::fmt::Write as _;

use super::super::page;
use super::super::runs::{Series, figure};
use super::super::setup::Place;
use super::{
    Broker, CONNECTION_USERS, Case, Clusters, NODE_CONNECTIONS, NODE_USERS, PUSHERS, Pace, RATE,
    Reach, Shape, Subscribed, USERS, Waiting, subscribe,
};

/// The page with a placeholder `{a name}` for each figure.
const TEMPLATE: &str = include_str!("cluster.md");

/// Titles, and the paths of their figures.
type Columns = &'static [(&'static str, &'static str)];

const NODES_CPU: &str = "/figures/cpu_us_per_push";
const BROKER_CPU: &str = "/figures/broker_cpu_us_per_push";

const EVEN: Columns = &[
    ("delivery p50, µs", "/latencies_us/delivery/p50"),
    ("p99, µs", "/latencies_us/delivery/p99"),
    ("answer p50, µs", "/latencies_us/push round trip/p50"),
    ("p99, µs", "/latencies_us/push round trip/p99"),
    ("nodes' CPU µs per push", NODES_CPU),
    ("broker's CPU µs per push", BROKER_CPU),
];

const CLOSED: Columns = &[
    ("pushes/s", "/figures/pushes_per_second"),
    ("deliveries/s", "/figures/deliveries_per_second"),
    ("nodes' CPU µs per push", NODES_CPU),
    ("broker's CPU µs per push", BROKER_CPU),
    ("delivery p50, µs", "/latencies_us/delivery/p50"),
    ("p99, µs", "/latencies_us/delivery/p99"),
];

/// The figures that compare a node in a cluster with a node alone.
const OWN: &[(&str, Pace, &str)] = &[
    ("CPU µs per push, as fast as they are answered", Pace::Closed, NODES_CPU),
    ("pushes/s", Pace::Closed, "/figures/pushes_per_second"),
    ("CPU µs per push, at an even pace", Pace::Even, NODES_CPU),
    ("delivery p50, µs", Pace::Even, "/latencies_us/delivery/p50"),
    ("delivery p99, µs", Pace::Even, "/latencies_us/delivery/p99"),
];

impl Clusters {
    /// The complete page.
    pub(in crate::bench) fn page(
        &self,
        facts: &[(String, String)],
        place: &Place,
        minutes: f64,
    ) -> String {
        let pinning = match place.is_pinned {
            true => "All nodes and the broker are pinned to core 0, and the generator to core 1.",
            false => "Nothing is pinned: there is one core, or no `taskset`.",
        };
        let checks: usize =
            self.jsons().map(|it| it["checks"].as_array().map_or(0, Vec::len)).sum();
        let untrue: String = self.untrue().iter().map(|it| format!("- {it}\n")).collect();
        let untrue = if untrue.is_empty() { "All of them held.".to_owned() } else { untrue };
        let mut page = TEMPLATE.to_owned();
        for (name, text) in [
            ("in a cluster", self.in_a_cluster()),
            ("even", self.table(Pace::Even, EVEN)),
            ("closed", self.table(Pace::Closed, CLOSED)),
            ("memory", self.memory()),
            ("untrue", untrue),
            ("minutes", format!("{minutes:.0}")),
            ("connections", NODE_CONNECTIONS.to_string()),
            ("rate", RATE.to_string()),
            ("users", USERS.to_string()),
            ("pushers", PUSHERS.to_string()),
            ("node users", figure(f64::from(NODE_USERS))),
            ("connection users", CONNECTION_USERS.to_string()),
            ("batch", subscribe::BATCH.to_string()),
            ("seconds", self.seconds.to_string()),
            ("rounds", self.rounds.to_string()),
            ("pinning", pinning.to_owned()),
            ("runs", self.jsons().count().to_string()),
            ("checks", checks.to_string()),
            ("machine", page::facts_table(facts)),
        ] {
            page = page.replace(&format!("{{{name}}}"), text.trim_end());
        }
        page
    }

    /// A node alone, a node in a cluster, and the ratio of the two.
    fn in_a_cluster(&self) -> String {
        let mut out =
            "| figure | alone | in a cluster by | | ratio |\n|---|---|---|---|---|\n".to_owned();
        for (title, pace, path) in OWN {
            let case = |shape| Case { shape, reach: Reach::Own, pace: *pace };
            let alone = case(Shape::Alone);
            for broker in Broker::ALL {
                let one = case(Shape::Nodes(broker, 2));
                let figures = [self.series(alone, path), self.series(one, path)].map(text);
                let ratio = text(self.ratio(one, alone, path));
                let [alone, one] = figures;
                let _ =
                    writeln!(out, "| {title} | {alone} | {} | {one} | {ratio} |", broker.name());
            }
        }
        let path = "/figures/bytes_per_connection";
        let bytes = |shape| self.waited(Waiting { shape, users: 1 }, path);
        for broker in Broker::ALL {
            let (alone, one) = (bytes(Shape::Alone), bytes(Shape::Nodes(broker, 2)));
            let ratio = number(alone.zip(one).map(|(alone, one)| one / alone));
            let [alone, one] = [alone, one].map(number);
            let title = "resident bytes of an idle connection";
            let _ = writeln!(out, "| {title} | {alone} | {} | {one} | {ratio} |", broker.name());
        }
        out
    }

    /// All measured cases of a pace.
    fn table(&self, pace: Pace, columns: Columns) -> String {
        let mut out = "| users | nodes | broker |".to_owned();
        for (title, _) in columns {
            let _ = write!(out, " {title} |");
        }
        let _ = writeln!(out, "\n{}|", "|---".repeat(columns.len() + 3));
        for case in Case::all(&Broker::ALL, false) {
            let cells: Vec<_> = columns.iter().map(|(_, path)| self.series(case, path)).collect();
            if case.pace != pace || cells.iter().all(Option::is_none) {
                continue;
            }
            let users = match case.reach {
                Reach::Own => "of the node that gets the push",
                Reach::Other => "of another node",
                Reach::Each => "with a connection on each node",
                Reach::Anywhere => "of any node, pushes to any node",
            };
            let broker = match case.shape {
                Shape::Alone => "none",
                Shape::Nodes(broker, _) => broker.name(),
            };
            let cells: Vec<String> = cells.into_iter().map(text).collect();
            let nodes = case.shape.nodes();
            let _ = writeln!(out, "| {users} | {nodes} | {broker} | {} |", cells.join(" | "));
        }
        out
    }

    /// The broker's memory for users that nodes announce to each other, and for one subscription per
    /// user.
    fn memory(&self) -> String {
        let ours = |path| {
            Broker::ALL.map(|broker| {
                let shape = Shape::Nodes(broker, 2);
                number(self.waited(Waiting { shape, users: CONNECTION_USERS }, path))
            })
        };
        let theirs = |value: fn(&Subscribed) -> f64| {
            Broker::ALL.map(|broker| {
                let found = self.subscribed.iter().find(|(it, _)| *it == broker);
                number(found.map(|(_, subscribed)| value(subscribed)))
            })
        };
        let rows = [
            ("broker, bytes before any user", ours("/figures/broker_resident_bytes_before")),
            (
                "**announced to nodes**: broker, bytes per user",
                ours("/figures/broker_bytes_per_user"),
            ),
            ("broker, CPU µs per new user", ours("/figures/broker_cpu_us_per_user")),
            ("node, bytes per user of the other node", ours("/figures/directory_bytes_per_user")),
            ("**one subscription per user**: broker, bytes per user", theirs(|it| it.bytes)),
            ("broker, CPU µs per new user", theirs(|it| it.cpu_us)),
        ];
        let names = Broker::ALL.map(Broker::name).join(" | ");
        let mut out = format!("| figure | {names} |\n|---|---|---|\n");
        for (title, cells) in rows {
            let _ = writeln!(out, "| {title} | {} |", cells.join(" | "));
        }
        out
    }
}

fn text(series: Option<Series>) -> String {
    series.map_or_else(|| "–".to_owned(), |it| it.to_string())
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), figure)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_place_of_the_page_is_filled_in() {
        let json = |cpu: f64| json!({ "figures": { "cpu_us_per_push": cpu }, "checks": [] });
        let case = |shape, reach| Case { shape, reach, pace: Pace::Closed };
        let two = Shape::Nodes(Broker::Nats, 2);
        let clusters = Clusters {
            rounds: 2,
            cases: vec![
                (0, case(Shape::Alone, Reach::Own), json(10.0)),
                (0, case(two, Reach::Own), json(11.0)),
                (1, case(two, Reach::Each), json(50.0)),
            ],
            ..Clusters::default()
        };
        let facts = [("date".to_owned(), "today".to_owned())];
        let page = clusters.page(&facts, &Place::default(), 7.0);
        assert!(!page.contains('{'), "{page}");
        for row in [
            "answered | 10.0 | NATS | 11.0 | 1.10 |",
            "answered | 10.0 | Redis | – | – |",
            "| of the node that gets the push | 1 | none | – | – | 10.0 | – |",
            "| with a connection on each node | 2 | NATS | – | – | 50.0 |",
            "| date | today |",
        ] {
            assert!(page.contains(row), "{page}");
        }
    }
}

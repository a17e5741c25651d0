//! The settings of a node's part in its cluster.

use std::time::Duration;

use wserver_core::{LimitSettings, setting_name};

/// The settings of one node's part in a cluster. All nodes should have the same, except for
/// `node_name`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterSettings {
    /// The name of the cluster at its broker, which several clusters may share: 1 to 64 letters,
    /// digits, `-` and `_`. Default: wserver.
    pub name: String,
    /// The name of this node in answers and logs: 1 to 64 visible ASCII characters. Default: its
    /// id.
    pub node_name: String,
    /// How long a node may be silent before the others count it as vanished; it sends five
    /// heartbeats in this time. Default: 5 s.
    pub lease: Duration,
    /// Whether a node that is cut off from the others for longer than a lease tells its clients to
    /// reconnect, so that they move to where pushes reach them. Default: true.
    pub release_when_cut_off: bool,
    /// The time over which it tells them, at most. Default: 10 s.
    pub release_spread: Duration,
    /// After being cut off for this long, a node closes its remaining connections and refuses new
    /// ones until it is back, so that the others know when a vanished node holds no connection.
    /// With zero it never does, and counts as missing until it is back. Default: 1 h.
    pub cut_off_max: Duration,
    /// How long a push or a question waits for the answers of other nodes. They drop requests that
    /// reach them later. Default: 1 s.
    pub answer_timeout: Duration,
    /// The most bytes that wait for the broker, and as many from it, per lane. Default: 16 MiB.
    pub queue_bytes_max: usize,
    /// The most pushes and questions that wait for answers at once. Default: 65,536.
    pub requests_max: usize,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            name: "wserver".to_owned(),
            node_name: String::new(),
            lease: Duration::from_secs(5),
            release_when_cut_off: true,
            release_spread: Duration::from_secs(10),
            cut_off_max: Duration::from_secs(60 * 60),
            answer_timeout: Duration::from_secs(1),
            queue_bytes_max: 16 << 20,
            requests_max: 65_536,
        }
    }
}

/// The maximum length of the name of a cluster or a node, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// The extra time beyond the spread for closing connections whose users get pushes without a pause.
const RELEASE_MARGIN: Duration = Duration::from_secs(5);
const LEASE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(500)..=Duration::from_secs(60);
const ANSWER_TIMEOUT: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(30);

/// The name of a setting: that of its field behind the table it stands in.
macro_rules! name {
    ($field:ident) => {{
        const _: usize = std::mem::offset_of!(ClusterSettings, $field);
        concat!("cluster_", stringify!($field))
    }};
}

/// One thing that is wrong with [`ClusterSettings`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterProblem {
    /// No cluster can be called so.
    #[error(
        "cluster_name is {value:?}, but must be 1 to {NAME_BYTES_MAX} letters, digits, - and _"
    )]
    Name {
        /// The name.
        value: String,
    },
    /// No node can be called so.
    #[error(
        "cluster_node_name is {value:?}, but must be at most {NAME_BYTES_MAX} visible ASCII \
         characters"
    )]
    NodeName {
        /// The name.
        value: String,
    },
    /// A time is out of its range.
    #[error("{setting} is {value:?}, but must be {min:?} to {max:?}")]
    OutOfRange {
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        value: Duration,
        /// The shortest time.
        min: Duration,
        /// The longest time.
        max: Duration,
    },
    /// The largest message does not fit into the queue to the broker.
    #[error(
        "cluster_queue_bytes_max is {value}, but must be at least {min}, because message_bytes_max \
         is {message_bytes_max}"
    )]
    QueueTooSmall {
        /// Its bytes.
        value: usize,
        /// What it must hold at least.
        min: usize,
        /// The bound of messages, which that follows from.
        message_bytes_max: usize,
    },
    /// Nothing may wait for the answers of other nodes.
    #[error("cluster_requests_max is 0, but must be at least 1")]
    NoRequests,
}

impl ClusterProblem {
    /// The names of the settings that it is about, the one that is wrong first.
    #[must_use]
    pub fn settings(&self) -> Vec<&'static str> {
        match self {
            Self::Name { .. } => vec![name!(name)],
            Self::NodeName { .. } => vec![name!(node_name)],
            Self::OutOfRange { setting, .. } => vec![setting],
            Self::QueueTooSmall { .. } => {
                vec![name!(queue_bytes_max), setting_name!(LimitSettings, message_bytes_max)]
            }
            Self::NoRequests => vec![name!(requests_max)],
        }
    }
}

impl ClusterSettings {
    /// Everything that is wrong with the settings; `message_bytes_max` is the limit of the node.
    #[must_use]
    pub fn problems(&self, message_bytes_max: usize) -> Vec<ClusterProblem> {
        let mut problems = Vec::new();
        let Self { name, node_name, lease, answer_timeout, queue_bytes_max, requests_max, .. } =
            self;
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_word) {
            problems.push(ClusterProblem::Name { value: name.clone() });
        }
        let is_visible = node_name.bytes().all(|byte| byte.is_ascii_graphic());
        if node_name.len() > NAME_BYTES_MAX || !is_visible {
            problems.push(ClusterProblem::NodeName { value: node_name.clone() });
        }
        for (setting, value, range) in [
            (name!(lease), *lease, LEASE),
            (name!(answer_timeout), *answer_timeout, ANSWER_TIMEOUT),
        ] {
            if !range.contains(&value) {
                let (min, max) = range.into_inner();
                problems.push(ClusterProblem::OutOfRange { setting, value, min, max });
            }
        }
        // One message and its overhead.
        let min = message_bytes_max.saturating_add(64 << 10);
        if *queue_bytes_max < min {
            let value = *queue_bytes_max;
            problems.push(ClusterProblem::QueueTooSmall { value, min, message_bytes_max });
        }
        if *requests_max == 0 {
            problems.push(ClusterProblem::NoRequests);
        }
        problems
    }

    /// The time between two heartbeats.
    pub(crate) fn heartbeat_interval(&self) -> Duration {
        self.lease / 5
    }

    /// After being cut off for this long, a node holds no connection and takes none; `None` means
    /// never.
    pub(crate) fn refuses_after(&self) -> Option<Duration> {
        (!self.cut_off_max.is_zero()).then(|| self.cut_off_max.max(self.lease))
    }

    /// How long after a node has vanished the others can be sure that it holds no connection.
    ///
    /// The node counts from the sending of its last message to itself that came back, and no other
    /// node finds it vanished before that. The rest allows for closing the connections, and for
    /// clocks that run at different rates.
    pub(crate) fn gone_after(&self) -> Option<Duration> {
        let refuses_after = self.refuses_after()?;
        let drift = refuses_after / 1000;
        Some(refuses_after + drift + self.release_spread + RELEASE_MARGIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named_with_their_setting() {
        let good = ClusterSettings::default();
        assert!(good.problems(1 << 20).is_empty());
        let bad = ClusterSettings {
            name: "two words".to_owned(),
            node_name: "a b".to_owned(),
            lease: Duration::ZERO,
            answer_timeout: Duration::from_secs(31),
            queue_bytes_max: 1000,
            requests_max: 0,
            ..ClusterSettings::default()
        };
        let problems = bad.problems(1000);
        let settings: Vec<_> = problems.iter().map(ClusterProblem::settings).collect();
        assert_eq!(
            settings,
            [
                &["cluster_name"][..],
                &["cluster_node_name"],
                &["cluster_lease"],
                &["cluster_answer_timeout"],
                &["cluster_queue_bytes_max", "message_bytes_max"],
                &["cluster_requests_max"],
            ]
        );
        assert_eq!(
            problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "cluster_name is \"two words\", but must be 1 to 64 letters, digits, - and _",
                "cluster_node_name is \"a b\", but must be at most 64 visible ASCII characters",
                "cluster_lease is 0ns, but must be 500ms to 60s",
                "cluster_answer_timeout is 31s, but must be 10ms to 30s",
                "cluster_queue_bytes_max is 1000, but must be at least 66536, because \
                 message_bytes_max is 1000",
                "cluster_requests_max is 0, but must be at least 1",
            ]
        );
    }

    #[test]
    fn every_bound_may_be_reached() {
        let with = |name: String, node_name: String, queue_bytes_max| {
            let good = ClusterSettings::default();
            ClusterSettings { name, node_name, queue_bytes_max, ..good }.problems(1000).len()
        };
        let (longest, longer) = ("x".repeat(64), "x".repeat(65));
        assert_eq!(with(longest.clone(), longest.clone(), 1000 + (64 << 10)), 0);
        assert_eq!(with(longer.clone(), longest.clone(), 1 << 20), 1);
        assert_eq!(with(String::new(), longest.clone(), 1 << 20), 1);
        assert_eq!(with(longest, longer, 1 << 20), 1);
    }

    #[test]
    fn others_rely_on_a_node_having_no_connection_after_all_its_times() {
        let seconds = Duration::from_secs;
        let after = |cut_off_max| {
            let settings = ClusterSettings { cut_off_max, ..ClusterSettings::default() };
            (settings.refuses_after(), settings.gone_after())
        };
        assert_eq!(after(Duration::ZERO), (None, None));
        // Its own time and a thousandth of it, the spread and the margin.
        assert_eq!(after(seconds(1000)), (Some(seconds(1000)), Some(seconds(1000 + 1 + 10 + 5))));
        assert_eq!(after(seconds(1)).0, Some(seconds(5)), "never before its lease is over");
    }
}

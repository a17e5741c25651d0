//! The measures: what is measured, of which subject, and with which load.

use super::setup::Effort;
use super::subject::Subject;

/// The default time between two of our server's heartbeats.
pub(super) const DEFAULT_PING_INTERVAL: &str = "25s";

/// One load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// Memory of idle connections.
    Idle,
    /// Fan-out to 1,000 connections, at a rate that every subject sustains.
    Paced,
    /// Fan-out to 1,000 connections, as fast as this many pushers can push.
    Saturated(u8),
    /// 1,000 pushes a second to 1,000.
    Even,
    /// Pushes to one connection each, as fast as 64 pushers can.
    Unicast,
    /// Like `Unicast`, at half the rate of the slower of the two subjects that are compared, by its
    /// median of the round.
    UnicastHalf,
    /// Fan-out while some connections do not read.
    SlowReaders,
    /// Connections that come and go.
    Churn,
    /// All connections leave at once.
    MassDisconnect,
    /// All connections leave, miss messages, and come back at once.
    Resume,
    /// Memory of messages that are kept.
    Kept,
    /// A push that waits until 1,000 connections have acknowledged it.
    Waits,
}

impl Measure {
    pub(super) const ALL: [Self; 14] = [
        Self::Idle,
        Self::Paced,
        Self::Saturated(64),
        Self::Saturated(16),
        Self::Saturated(1),
        Self::Even,
        Self::Unicast,
        Self::UnicastHalf,
        Self::SlowReaders,
        Self::Churn,
        Self::MassDisconnect,
        Self::Resume,
        Self::Kept,
        Self::Waits,
    ];

    pub(super) fn name(self) -> String {
        match self {
            Self::Idle => "idle".to_owned(),
            Self::Paced => "paced".to_owned(),
            Self::Saturated(pushers) => format!("saturated-{pushers}"),
            Self::Even => "even".to_owned(),
            Self::Unicast => "unicast".to_owned(),
            Self::UnicastHalf => "unicast-half".to_owned(),
            Self::SlowReaders => "slow-readers".to_owned(),
            Self::Churn => "churn".to_owned(),
            Self::MassDisconnect => "mass-disconnect".to_owned(),
            Self::Resume => "resume".to_owned(),
            Self::Kept => "kept".to_owned(),
            Self::Waits => "waits".to_owned(),
        }
    }

    /// Whether the budget or the page uses this measure of that subject.
    pub(super) fn concerns(self, subject: Subject) -> bool {
        match self {
            Self::Unicast => true,
            // Its advantage is work that is done once for each push, whatever the number of
            // connections.
            _ if subject == Subject::BareFloor => false,
            Self::Resume | Self::Kept | Self::Waits => subject == Subject::Replay,
            _ if subject == Subject::Replay => false,
            Self::Idle | Self::Paced => subject != Subject::Keys,
            Self::Saturated(64) => !matches!(subject, Subject::Tls | Subject::Keys),
            Self::Saturated(_) | Self::Even | Self::UnicastHalf => {
                matches!(subject, Subject::Ours | Subject::Before | Subject::Bun)
            }
            Self::SlowReaders | Self::Churn | Self::MassDisconnect => subject == Subject::Ours,
        }
    }

    /// How often to take this measure of that subject, if the measures that the budget judges are
    /// taken `all` times. Peers that are only in the tables, and figures that hardly differ between
    /// runs, are measured less often.
    pub(super) fn rounds(self, subject: Subject, all: u32) -> u32 {
        let most = match self {
            Self::Idle
            | Self::SlowReaders
            | Self::Churn
            | Self::MassDisconnect
            | Self::Resume
            | Self::Kept
            | Self::Waits => 2,
            Self::Saturated(_) if subject == Subject::Floor => 2,
            Self::Paced | Self::Saturated(_) | Self::Even | Self::Unicast | Self::UnicastHalf => {
                u32::MAX
            }
        };
        let most = match subject {
            Subject::Floor
            | Subject::BareFloor
            | Subject::Ours
            | Subject::V2
            | Subject::Replay
            | Subject::Before
            | Subject::Bun => most,
            // The smallest number whose lowest and highest values contain the median with some
            // certainty.
            Subject::Tls | Subject::Keys => most.min(6),
            Subject::Nchan | Subject::Gorilla | Subject::Ws | Subject::NaiveWarp => 2,
        };
        all.min(most)
    }

    /// Maximum lateness of the generator, in microseconds and in 99 of 100 pushes, for a valid run.
    /// If the generator is later, a latency that the budget judges is the generator's own.
    pub(super) fn lateness_max(self) -> f64 {
        match self {
            Self::UnicastHalf => 100.0,
            Self::Idle
            | Self::Paced
            | Self::Saturated(_)
            | Self::Even
            | Self::Unicast
            | Self::SlowReaders
            | Self::Churn
            | Self::MassDisconnect
            | Self::Resume
            | Self::Kept
            | Self::Waits => f64::INFINITY,
        }
    }

    /// How many turns each subject takes in one round; more than one if a figure that the budget
    /// judges varies from second to second by more than its margin.
    pub(super) fn turns(self) -> u32 {
        if matches!(self, Self::Unicast | Self::UnicastHalf) { 3 } else { 1 }
    }

    /// The time between two of our server's heartbeats; shorter if the measure waits for two.
    pub(super) fn ping_interval(self) -> &'static str {
        if self == Self::Idle { "8s" } else { DEFAULT_PING_INTERVAL }
    }

    /// The words of `wserver-load`; the rate of this round's slower unicast is what one is made of.
    pub(super) fn words(
        self,
        effort: Effort,
        subject: Subject,
        slower_unicast: Option<f64>,
    ) -> Vec<String> {
        let Effort { seconds, paced_seconds, idle_connections, resumed, kept_users, .. } = effort;
        let seconds = if self == Self::Paced { paced_seconds } else { seconds };
        let window = format!("--warmup 1s --duration {seconds}s");
        let line = match self {
            Self::Idle => {
                // Subjects that send no pings have none to wait for.
                let heartbeats = if subject.is_ours() { 2 } else { 0 };
                format!(
                    "idle --connections {idle_connections} --heartbeats {heartbeats} --sources 16"
                )
            }
            Self::Paced => format!("fanout --paced 20 {window}"),
            Self::Saturated(pushers) => format!("fanout --saturated --pushers {pushers} {window}"),
            Self::Even => format!("fanout --paced 1000 {window}"),
            Self::Unicast => format!("unicast {window}"),
            Self::UnicastHalf => {
                let rate = slower_unicast.unwrap_or(10_000.0) / 2.0;
                format!("unicast --rate {rate:.0} {window}")
            }
            Self::SlowReaders => format!(
                "slow-readers --connections 200 --stalled 20 --message-bytes 16384 {window}"
            ),
            Self::Churn => format!("churn --sources 16 {window}"),
            Self::MassDisconnect => {
                format!("mass-disconnect --connections {idle_connections} --sources 16 {window}")
            }
            Self::Resume => {
                format!("resume --connections {resumed} --sources 16 --opening-max 512")
            }
            Self::Kept => format!("kept --users {kept_users} --message-bytes 300"),
            Self::Waits => "waits".to_owned(),
        };
        line.split(' ').map(str::to_owned).collect()
    }
}

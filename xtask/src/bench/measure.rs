//! What is measured, of whom, and with which load.

use super::setup::Effort;
use super::subject::Subject;

/// The time between two heartbeats of ours.
pub(super) const DEFAULT_PING_INTERVAL: &str = "25s";

/// One load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// Memory of connections that wait.
    Idle,
    /// Fan-out to 1,000 at a rate everybody sustains.
    Paced,
    /// Fan-out to 1,000 as fast as so many pushers can.
    Saturated(u8),
    /// 1,000 pushes a second to 1,000.
    Even,
    /// Pushes to one connection each, as fast as 64 pushers can.
    Unicast,
    /// The same, at half the rate that the slower of those compared reaches, by its median of the round.
    UnicastHalf,
    /// Fan-out while some do not read.
    SlowReaders,
    /// Connections that come and go.
    Churn,
    /// Everybody leaves at once.
    MassDisconnect,
}

impl Measure {
    pub(super) const ALL: [Self; 11] = [
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
        }
    }

    /// Whether the budget or the page asks for this of that subject.
    pub(super) fn concerns(self, subject: Subject) -> bool {
        match self {
            Self::Unicast => true,
            // What it does better is done once for each push, whatever the number of connections.
            _ if subject == Subject::BareFloor => false,
            Self::Idle | Self::Paced => subject != Subject::Keys,
            Self::Saturated(64) => !matches!(subject, Subject::Tls | Subject::Keys),
            Self::Saturated(_) | Self::Even | Self::UnicastHalf => {
                matches!(subject, Subject::Ours | Subject::Before | Subject::Bun)
            }
            Self::SlowReaders | Self::Churn | Self::MassDisconnect => subject == Subject::Ours,
        }
    }

    /// How often this is measured of that subject, when what the budget judges is measured `all`
    /// times: peers that only stand in the tables, and what hardly differs from run to run, less.
    pub(super) fn rounds(self, subject: Subject, all: u32) -> u32 {
        let most = match self {
            Self::Idle | Self::SlowReaders | Self::Churn | Self::MassDisconnect => 2,
            Self::Saturated(_) if subject == Subject::Floor => 2,
            Self::Paced | Self::Saturated(_) | Self::Even | Self::Unicast | Self::UnicastHalf => {
                u32::MAX
            }
        };
        let most = match subject {
            Subject::Floor
            | Subject::BareFloor
            | Subject::Ours
            | Subject::Before
            | Subject::Bun => most,
            // The fewest of which the lowest and the highest hold the median with some certainty.
            Subject::Tls | Subject::Keys => most.min(6),
            Subject::Nchan | Subject::Gorilla | Subject::Ws | Subject::NaiveWarp => 2,
        };
        all.min(most)
    }

    /// How late the generator may be, in microseconds and in 99 of 100 pushes, for a run to tell
    /// anything of the server: later, and a latency that is judged was the generator's own.
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
            | Self::MassDisconnect => f64::INFINITY,
        }
    }

    /// How often everybody takes a turn in one round: where what is judged varies from one second to
    /// the next by more than its margin.
    pub(super) fn turns(self) -> u32 {
        if matches!(self, Self::Unicast | Self::UnicastHalf) { 3 } else { 1 }
    }

    /// The time between two heartbeats of ours: less where two are waited for.
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
        let Effort { seconds, paced_seconds, idle_connections, .. } = effort;
        let seconds = if self == Self::Paced { paced_seconds } else { seconds };
        let window = format!("--warmup 1s --duration {seconds}s");
        let line = match self {
            Self::Idle => {
                // Of those that send no pings, none is waited for.
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
        };
        line.split(' ').map(str::to_owned).collect()
    }
}

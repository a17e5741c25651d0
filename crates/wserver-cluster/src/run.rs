//! The tasks of a cluster: one keeps the link, one per lane sends, one per lane receives, and one
//! does the periodic work.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use tokio::time::MissedTickBehavior;
use tracing::{debug, info, warn};
use wserver_node::{NodeId, NodeName, Wire};

use crate::broker::{BrokerError, InboundLane, Link, To};
use crate::directory::Seat;
use crate::envelope::{Content, Heartbeat, Interest, Leave, Nonce, PART_HEAD_BYTES_MAX, Vanished};
use crate::outage::Outage;
use crate::outbound::Batch;
use crate::receive::Answerer;
use crate::state::{ClusterState, CutOff};

/// How often the periodic task checks for new and departed users, and for other work that is due.
pub(crate) const ROUND: Duration = Duration::from_millis(50);
/// A process that was suspended reaches the broker again within this time, if the broker is there.
const AWAKE_AFTER: Duration = Duration::from_secs(1);
/// How long a leaving node tries to say goodbye.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
/// The most users announced in one item: 64 KiB.
const USERS_PER_ITEM: usize = 8192;

impl<W: Wire> ClusterState<W> {
    /// Starts them, on the node's runtime.
    pub(crate) fn start(
        self: &Arc<Self>,
        inbound_lanes: Vec<InboundLane>,
        link: Option<Arc<dyn Link>>,
        answerer: Answerer,
    ) {
        let answerer = Arc::new(answerer);
        let tasks = self.node.tasks();
        tasks.spawn(Arc::clone(self).keep_link(link));
        tasks.spawn(Arc::clone(self).go_round());
        for lane in 0..self.lanes {
            tasks.spawn(Arc::clone(self).send(lane));
        }
        for (lane, inbound) in (0..).zip(inbound_lanes) {
            tasks.spawn(Arc::clone(self).receive(lane, inbound, Arc::clone(&answerer)));
        }
    }

    /// Waits until the node leaves, or stops at once.
    async fn left(&self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.node.tasks().stopped() => {}
        }
    }

    /// Opens a link whenever there is none.
    async fn keep_link(self: Arc<Self>, mut first: Option<Arc<dyn Link>>) {
        let mut outage = Outage::default();
        loop {
            let opened = match first.take() {
                Some(link) => Ok(link),
                None => tokio::select! {
                    opened = self.broker.open(self.id, self.inbound.clone()) => opened,
                    () = self.left() => return,
                },
            };
            let error = match opened {
                Ok(link) => {
                    let since = Instant::now();
                    self.linked(&link);
                    let error = tokio::select! {
                        // A broken link knows the reason best.
                        biased;
                        error = link.broken() => error,
                        () = self.stop.cancelled() => {
                            self.say_goodbye(&link).await;
                            self.link.send_replace(None);
                            return;
                        }
                        () = self.node.tasks().stopped() => return,
                        () = self.relink.notified() => {
                            BrokerError::unreachable("messages do not get through the broker")
                        }
                    };
                    self.unlinked(&error);
                    outage.had_a_link_for(since.elapsed());
                    error
                }
                Err(error) => {
                    self.reachability.unlinked(error.to_string());
                    error
                }
            };
            if outage.is_to_be_told(&error, Instant::now()) {
                warn!(%error, "no link to the broker");
            } else {
                debug!(%error, "no link to the broker");
            }
            tokio::select! {
                () = tokio::time::sleep(outage.pause(error.kind())) => {}
                () = self.left() => return,
            }
        }
    }

    fn linked(&self, link: &Arc<dyn Link>) {
        // A complaint about the last link does not apply to this one, and items that came for it a
        // moment too late are not sent late.
        let _ = self.relink.notified().now_or_never();
        self.let_go_of_what_waits();
        self.counters.links_opened_total.increment();
        // Users that came to other nodes meanwhile are not known.
        self.is_informed.store(false, Ordering::Relaxed);
        self.reachability.linked(Instant::now());
        self.link.send_replace(Some(Arc::clone(link)));
        debug!(broker = self.broker.kind(), "a link to the broker is open");
        self.say_heartbeat(true);
    }

    fn unlinked(&self, error: &BrokerError) {
        self.counters.links_broken_total.increment();
        self.reachability.unlinked(error.to_string());
        self.link.send_replace(None);
        self.let_go_of_what_waits();
        // The other nodes may never have received the requests.
        self.requests.give_up_on_all();
    }

    fn let_go_of_what_waits(&self) {
        let items: usize = self.outbound.iter().map(crate::outbound::Outbound::clear).sum();
        self.counters.dropped_link_lost_total.add(items as u64);
    }

    async fn say_goodbye(&self, link: &Arc<dyn Link>) {
        let lane = self.own_lane();
        let outbound = &self.outbound[usize::from(lane)];
        let _ = outbound.add(To::All, Content::Leave(Leave {}).into());
        let goodbye = async {
            loop {
                let batch = outbound.take(self.id, self.now_ms(), self.message_bytes_max());
                let messages = batch.messages;
                if messages.is_empty() || link.publish(lane, messages).await.is_err() {
                    break;
                }
            }
        };
        // Nodes that miss the goodbye notice when the lease ends.
        let _ = tokio::time::timeout(LEAVE_TIMEOUT, goodbye).await;
    }

    /// Sends the queued items of one lane, one batch at a time.
    async fn send(self: Arc<Self>, lane: u16) {
        let mut links = self.link.subscribe();
        let outbound = &self.outbound[usize::from(lane)];
        loop {
            let link = links.borrow_and_update().clone();
            let Some(link) = link else {
                tokio::select! {
                    changed = links.changed() => if changed.is_err() { return },
                    () = self.left() => return,
                }
                continue;
            };
            tokio::select! {
                () = outbound.is_some.notified() => {}
                changed = links.changed() => if changed.is_err() { return },
                () = self.left() => return,
            }
            loop {
                let batch = outbound.take(self.id, self.now_ms(), self.message_bytes_max());
                let Batch { messages, items } = batch;
                if messages.is_empty() {
                    break;
                }
                let bytes: usize = messages.iter().map(|(_, message)| message.len()).sum();
                let count = messages.len();
                let published = tokio::select! {
                    published = link.publish(lane, messages) => published,
                    // The link is gone, so there is no point in waiting for it.
                    _ = links.changed() => {
                        self.counters.dropped_publish_failed_total.add(items as u64);
                        break;
                    }
                };
                if let Err(error) = published {
                    // Some messages may have arrived. Pushes that wait for an answer end when the
                    // link is given up, which is at once.
                    self.counters.dropped_publish_failed_total.add(items as u64);
                    debug!(%error, items, "the broker accepted no message");
                    self.relink.notify_one();
                    break;
                }
                self.counters.published_total.add(count as u64);
                self.counters.published_bytes_total.add(bytes as u64);
            }
        }
    }

    /// Announces new and departed users, sends heartbeats, and finds nodes that are silent.
    async fn go_round(self: Arc<Self>) {
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heartbeat_at = Instant::now();
        let (mut last_at, mut awake_since) = (heartbeat_at, None);
        loop {
            tokio::select! {
                _ = rounds.tick() => {}
                () = self.left() => return,
            }
            let now = Instant::now();
            if now.saturating_duration_since(last_at) > self.settings.lease / 2 {
                awake_since = Some(now);
            }
            last_at = now;
            self.unreached.store(self.find_unreached().len(), Ordering::Relaxed);
            self.is_informed.store(self.knows_all_users(), Ordering::Relaxed);
            self.tell_verdict();
            self.tell_cut_off(now, awake_since);
            let checked = self.reachability.check(now);
            if checked.is_stuck {
                self.relink.notify_one();
            }
            for (lane, number) in checked.nonces {
                self.say(lane, To::Node(self.id), Content::Nonce(Nonce { number }).into());
            }
            let Some(linked_since) = self.reachability.linked_since() else { continue };
            self.say_interest();
            let is_wanted = self.is_heartbeat_wanted.swap(false, Ordering::Relaxed);
            if is_wanted || now >= heartbeat_at {
                heartbeat_at = now + self.settings.heartbeat_interval();
                self.say_heartbeat(false);
            }
            // A silent node is dead only if it could have been heard, that is, if the broker
            // carried messages at the end of its lease.
            if let Some(limit) = self.silence_limit(now, linked_since) {
                for (node, seat) in self.members.expire(limit, now, self.broker.is_one_place()) {
                    self.counters.nodes_expired_total.increment();
                    warn!(
                        node = %node,
                        "a node has vanished: it has been silent for its whole lease, so it is \
                         dead or cut off; answers are partial until it is back or known to be gone"
                    );
                    self.gone(&node, seat);
                }
            }
            for node in self.members.known_gone(now) {
                info!(node = %node, "a vanished node holds no connections any more");
            }
        }
    }

    /// Decides what must happen to this node's connections.
    fn tell_cut_off(&self, now: Instant, awake_since: Option<Instant>) {
        let settings = &self.settings;
        let unproven = now.saturating_duration_since(self.reachability.unproven_since());
        let is_refused = settings.refuses_after().is_some_and(|after| unproven >= after);
        // A process that has just woken cannot know yet.
        let is_awake = awake_since.is_none_or(|since| now >= since + AWAKE_AFTER);
        let is_out = unproven > settings.lease && is_awake;
        let is_alone = self.members.len() == 0 && self.may_be_split(self.members.vanished().len());
        let next = if is_refused {
            CutOff::Refused
        } else if settings.release_when_cut_off && (is_out || is_alone) {
            CutOff::Released
        } else {
            CutOff::Never
        };
        self.cut_off.send_if_modified(|state| {
            // The other nodes rely on it, however briefly this node was in that state.
            let must_let_go = *state == CutOff::Refused && self.node.counts().registrations > 0;
            let is_other = *state != next && !must_let_go;
            if is_other {
                *state = next;
            }
            is_other
        });
    }

    /// Nodes that have been silent since this moment are dead.
    fn silence_limit(&self, now: Instant, linked_since: Instant) -> Option<Instant> {
        let lease = self.settings.lease;
        let limit = now.checked_sub(lease)?;
        let open_since = self.reachability.open_since(now)?.checked_sub(lease / 2)?;
        (linked_since <= limit && self.reachability.verdict().is_ok())
            .then(|| limit.min(open_since))
    }

    /// Logs once that this node has become ready, or that it no longer is.
    fn tell_verdict(&self) {
        let verdict = self.verdict();
        if !self.reachability.has_changed(verdict.is_ok()) {
            return;
        }
        match verdict {
            Ok(()) => {
                info!(nodes = 1 + self.members.len(), "this node takes part in its cluster");
                self.joined.send_replace(());
            }
            Err(why) => warn!(why, "this node does not take part in its cluster"),
        }
    }

    fn say_interest(&self) {
        let announcement = self.own_users.announce();
        let to_say = |came: &[u64], left: &[u64]| {
            let interest = Interest { came: came.to_vec(), left: left.to_vec() };
            // The sums reveal an announcement that is lost.
            self.say(self.own_lane(), To::All, Content::Interest(interest).into());
        };
        for came in announcement.came.chunks(USERS_PER_ITEM) {
            to_say(came, &[]);
        }
        for left in announcement.left.chunks(USERS_PER_ITEM) {
            to_say(&[], left);
        }
    }

    fn say_heartbeat(&self, is_new: bool) {
        let gone_after = self.settings.gone_after();
        let heartbeat = Heartbeat {
            name: self.node_name(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
            interest_sum: self.own_users.sum(),
            is_new,
            is_draining: self.is_draining.load(Ordering::Relaxed),
            gone_after_ms: gone_after.map_or(0, |it| u64::try_from(it.as_millis()).unwrap_or(0)),
            vanished: self
                .members
                .vanished()
                .into_iter()
                .map(|node| Vanished { id: node.id.as_u64(), name: node.name.to_string() })
                .collect(),
        };
        self.say(self.own_lane(), To::All, Content::Heartbeat(heartbeat).into());
    }

    /// Removes everything about a node that is gone.
    pub(crate) fn gone(&self, node: &NodeName, seat: Seat) {
        self.directory.forget(seat);
        self.members.free(seat);
        self.forget_outbound(node.id);
        self.requests.give_up_on(node.id);
    }

    fn forget_outbound(&self, node: NodeId) {
        let items: usize = self.outbound.iter().map(|outbound| outbound.forget(node)).sum();
        self.counters.dropped_node_gone_total.add(items as u64);
    }

    fn message_bytes_max(&self) -> usize {
        self.broker.payload_bytes_max().max(2 * PART_HEAD_BYTES_MAX)
    }
}

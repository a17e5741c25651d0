//! Handles the messages of other nodes.

mod acks;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tracing::{debug, info, warn};
use wserver_core::{ConnectionId, EventName, PushId, UserId};
use wserver_node::{Message, NodeId, PushOptions, Wire};

use crate::arrival::Arrival;
use crate::broker::{InboundLane, To};
use crate::directory::Digest;
use crate::envelope::{
    self, Body, Content, Heartbeat, Interest, InterestRequest, InterestSlot, InterestSlots, Item,
    Outcome, Part, Push, Reply, Request, Unreadable, WaitOver, Waited, Wanted,
};
use crate::state::ClusterState;

/// The most pushes of other nodes that wait for a fan-out in progress, per lane. Beyond that the
/// lane waits, and its bounded queue fills.
const WAITING_MAX: usize = 1024;
/// The most slots of users in one item: with 100,000 users a slot is 12 KiB.
const SLOTS_PER_ITEM: usize = 4;

/// How a message arrived.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// Its time in transit beyond the minimum.
    age: Duration,
    /// When it was written, by its origin's clock.
    sent_ms: u64,
}

/// A push that has its place in the order of its user's messages, and waits for its count.
type WaitingPush = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Answers the questions of other nodes; `None` means that a question cannot be answered.
///
/// Questions and answers are opaque to the cluster. The first argument is the node that asks.
pub type Answerer = Box<dyn Fn(NodeId, Bytes) -> BoxFuture<'static, Option<Bytes>> + Send + Sync>;

/// What one lane needs to do what others ask.
struct Answering {
    answerer: Arc<Answerer>,
    /// At most [`WAITING_MAX`].
    waiting: FuturesUnordered<WaitingPush>,
}

impl<W: Wire> ClusterState<W> {
    /// Handles the messages of one lane, in order.
    pub(crate) async fn receive(
        self: Arc<Self>,
        lane: u16,
        mut inbound: InboundLane,
        answerer: Arc<Answerer>,
    ) {
        let mut answering = Answering { answerer, waiting: FuturesUnordered::new() };
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.node.tasks().stopped() => return,
                Some(()) = answering.waiting.next(), if !answering.waiting.is_empty() => {}
                payload = inbound.next(), if answering.waiting.len() < WAITING_MAX => {
                    let Some(payload) = payload else { return };
                    self.arrived(lane, payload, &mut answering);
                }
            }
        }
    }

    fn arrived(self: &Arc<Self>, lane: u16, payload: Bytes, answering: &mut Answering) {
        self.counters.received_total.increment();
        self.counters.received_bytes_total.add(payload.len() as u64);
        let part = match Part::read(payload) {
            Ok(part) => part,
            Err(unreadable) => return self.unreadable(unreadable),
        };
        let origin = NodeId::new(part.origin);
        if origin == self.id {
            return self.heard_itself(lane, part);
        }
        let now = Instant::now();
        let sent_ms = part.sent_ms;
        let channel = (lane, part.is_for_all);
        let bytes_max = self.settings.queue_bytes_max;
        let (body, age) = match self.members.arrive(part, channel, self.now_ms(), now, bytes_max) {
            Arrival::Body { body, age, lost } => {
                self.counters.lost_total.add(lost);
                (body, age)
            }
            Arrival::Part { lost } => return self.counters.lost_total.add(lost),
            Arrival::Late => return self.counters.dropped_late_total.increment(),
            Arrival::Broken => return self.unreadable(Unreadable::Malformed),
            Arrival::Implausible => return self.unreadable(Unreadable::Implausible),
        };
        let body = match Body::read(body) {
            Ok(body) => body,
            Err(unreadable) => return self.unreadable(unreadable),
        };
        for content in body.items.into_iter().filter_map(|item| item.content) {
            self.heard(lane, origin, Way { age, sent_ms }, content, answering);
        }
    }

    fn unreadable(&self, unreadable: Unreadable) {
        match unreadable {
            Unreadable::Malformed => {
                self.counters.dropped_malformed_total.increment();
                debug!("the broker delivered a message that no node wrote");
            }
            Unreadable::Implausible => {
                self.counters.dropped_implausible_total.increment();
                if self.implausible_told.is_due(Instant::now()) {
                    warn!(
                        total = self.counters.dropped_implausible_total.value(),
                        "the broker delivered a message that no node can have written: does \
                         another program publish under cluster_name?"
                    );
                }
            }
            Unreadable::TooNew => {
                if self.counters.dropped_version_total.value() == 0 {
                    warn!(
                        "another node uses an older message format that this release cannot read: \
                         upgrade that node"
                    );
                }
                self.counters.dropped_version_total.increment();
            }
        }
    }

    /// A message from this node to itself has come back; it is a nonce.
    fn heard_itself(&self, lane: u16, part: Part) {
        let Ok(body) = Body::read(part.body) else { return };
        for item in body.items {
            if let Some(Content::Nonce(nonce)) = item.content {
                self.reachability.returned(lane, nonce.number, Instant::now());
            }
        }
    }

    fn heard(
        self: &Arc<Self>,
        lane: u16,
        origin: NodeId,
        way: Way,
        content: Content,
        answering: &mut Answering,
    ) {
        match content {
            Content::Heartbeat(heartbeat) => self.heard_heartbeat(origin, &heartbeat.believed()),
            Content::Leave(_) => {
                if let Some((node, seat)) = self.members.leave(origin) {
                    info!(node = %node, "a node left the cluster");
                    self.gone(&node, seat);
                }
            }
            Content::Interest(interest) => self.heard_interest(origin, &interest),
            Content::InterestRequest(request) => self.tell_users(lane, origin, &request),
            Content::InterestSlots(slots) => self.heard_users(origin, slots),
            Content::Request(request) => self.asked(lane, origin, way, request, answering),
            Content::Reply(Reply { id, outcome }) => {
                let outcome =
                    outcome.unwrap_or_else(|| Outcome::Failed("of a later release".to_owned()));
                if !self.requests.answer(id, origin, outcome) {
                    self.counters.late_answers_total.increment();
                }
            }
            Content::Event(event) => {
                if !self.streams.deliver(event.stream, origin, event.payload) {
                    self.counters.dropped_stream_full_total.increment();
                }
            }
            Content::Waited(Waited { request, index, acks }) => {
                let index = usize::try_from(index).unwrap_or(usize::MAX);
                let acks = acks.unwrap_or_default().into();
                self.node.acks_settled(request, index, origin, acks);
            }
            Content::WaitOver(WaitOver { request, index }) => {
                self.waits.end((origin, request, index));
            }
            // Only a node's own nonces come back to it.
            Content::Nonce(_) => {}
        }
    }

    fn heard_heartbeat(&self, origin: NodeId, heartbeat: &Heartbeat) {
        let sum = |seat| self.directory.sums(seat).iter().fold(0, |sum, it| sum ^ it);
        let beat = self.members.beat(origin, heartbeat, sum, Instant::now());
        if beat.is_first {
            self.joined.send_replace(());
            info!(node = heartbeat.name, id = %origin, release = heartbeat.release, "a node joined \
                                                                                     the cluster");
            if heartbeat.name == self.node_name() {
                warn!(
                    node = heartbeat.name,
                    "another node has the same name, so answers cannot tell the two apart"
                );
            }
        }
        if let Some(node) = &beat.replaces {
            info!(node = %node, id = %node.id, "a vanished node was started again");
        }
        if heartbeat.is_new {
            self.is_heartbeat_wanted.store(true, Ordering::Relaxed);
        }
        if beat.is_in_doubt {
            self.counters.resyncs_total.increment();
            let sums = self.directory.sums(beat.seat).to_vec();
            let request = Content::InterestRequest(InterestRequest { sums });
            self.say(self.own_lane(), To::Node(origin), request.into());
        }
    }

    fn heard_interest(&self, origin: NodeId, interest: &Interest) {
        let Some(seat) = self.members.seat(origin) else { return };
        for user in &interest.came {
            self.directory.insert(Digest::new(*user), seat);
        }
        for user in &interest.left {
            self.directory.remove(Digest::new(*user), seat);
        }
    }

    fn heard_users(&self, origin: NodeId, slots: InterestSlots) {
        let Some(seat) = self.members.seat(origin) else { return };
        for InterestSlot { number, users } in slots.slots {
            let users = users.into_iter().map(Digest::new);
            self.directory.replace(usize::try_from(number).unwrap_or(usize::MAX), seat, users);
        }
    }

    /// Sends another node the slots in which its view differs.
    fn tell_users(&self, lane: u16, origin: NodeId, request: &InterestRequest) {
        let slots: Vec<InterestSlot> = self
            .own_users
            .differing(&request.sums)
            .into_iter()
            .map(|(number, users)| InterestSlot {
                number: u32::try_from(number).unwrap_or(u32::MAX),
                users,
            })
            .collect();
        for slots in slots.chunks(SLOTS_PER_ITEM) {
            let slots = InterestSlots { slots: slots.to_vec() };
            self.say(lane, To::Node(origin), Content::InterestSlots(slots).into());
        }
    }

    /// Handles a request of another node.
    fn asked(
        self: &Arc<Self>,
        lane: u16,
        origin: NodeId,
        way: Way,
        request: Request,
        answering: &mut Answering,
    ) {
        let Request { id, budget_ms, wanted, asked_ms } = request;
        let waited = match asked_ms {
            0 => 0,
            asked_ms => way.sent_ms.saturating_sub(asked_ms),
        };
        let age = way.age + Duration::from_millis(waited);
        // The node that asked has given up and reported it, so a delivery after that would be out
        // of order. An age is a message's time in transit beyond the minimum, and the minimum is at
        // most one round trip to the broker: that of its origin, whose budget excludes it, and that
        // of this node.
        if age + self.reachability.round_trip() >= Duration::from_millis(budget_ms.into()) {
            self.counters.dropped_expired_total.increment();
            return;
        }
        // Of a release that names no pushes, one is as good as another that is told apart.
        #[expect(clippy::cast_possible_truncation, reason = "ids of nodes are random in all bits")]
        let known_by = PushId::new(origin.as_u64() as u32, id);
        let outcome: BoxFuture<'static, Outcome> = match wanted {
            Some(Wanted::Push(push)) => {
                Box::pin(Arc::clone(self).carry_out(origin, push, known_by, age))
            }
            Some(Wanted::Everyone(push)) => {
                Box::pin(Arc::clone(self).push_everyone(push, known_by, age))
            }
            Some(Wanted::Query(question)) => {
                let answer = (answering.answerer)(origin, question);
                Box::pin(async move {
                    let failed = || Outcome::Failed("it cannot be answered".to_owned());
                    answer.await.map_or_else(failed, Outcome::Answer)
                })
            }
            None => {
                let failed = Outcome::Failed("of a later release".to_owned());
                return self.reply(lane, origin, id, failed);
            }
        };
        let node = Arc::clone(self);
        let mut answered: WaitingPush = Box::pin(async move {
            let outcome = outcome.await;
            node.counters.answered_total.increment();
            node.reply(lane, origin, id, outcome);
        });
        // A push is accepted when it is first polled, so pushes keep their order even if this one
        // then waits for its count.
        if answered.as_mut().now_or_never().is_none() {
            answering.waiting.push(answered);
        }
    }

    fn reply(&self, lane: u16, origin: NodeId, id: u64, outcome: Outcome) {
        let reply = Content::Reply(Reply { id, outcome: Some(outcome) });
        self.say(lane, To::Node(origin), Item::from(reply));
    }

    async fn carry_out(
        self: Arc<Self>,
        origin: NodeId,
        push: Push,
        known_by: PushId,
        age: Duration,
    ) -> Outcome {
        let name_bytes_max = self.node.limits().name_bytes_max;
        let user = match UserId::parse(&push.user, name_bytes_max) {
            Ok(user) => user,
            Err(error) => return Outcome::Failed(format!("the user {error}")),
        };
        match self.read_push(&push, age) {
            Ok((event, text, options)) => {
                let mut message = Message::new(&event, push.id().unwrap_or(known_by), text);
                let wait = push.wait.and_then(|wait| self.begin_wait(wait, age));
                if let Some(wait) = &wait {
                    message.await_acks(wait.push());
                }
                let receipt = self.node.push_with(&user, &mut message, &options).await;
                let mut told = envelope::Receipt::from(receipt);
                told.acks = wait.map(|wait| self.tell_acks(origin, wait));
                Outcome::Pushed(told)
            }
            Err(failed) => Outcome::Failed(failed),
        }
    }

    async fn push_everyone(
        self: Arc<Self>,
        push: Push,
        known_by: PushId,
        age: Duration,
    ) -> Outcome {
        match self.read_push(&push, age) {
            Ok((event, text, options)) => {
                let mut message = Message::new(&event, push.id().unwrap_or(known_by), text);
                let receipt = self.node.push_everyone(&mut message, &options).await;
                Outcome::PushedToEveryone(receipt.into())
            }
            Err(failed) => Outcome::Failed(failed),
        }
    }

    /// Converts a push of another node, or says why it is invalid.
    fn read_push<'p>(
        &self,
        push: &'p Push,
        age: Duration,
    ) -> Result<(EventName, &'p str, PushOptions), String> {
        let limits = self.node.limits();
        let event = EventName::parse(&push.event, limits.name_bytes_max)
            .map_err(|error| format!("the event {error}"))?;
        let bytes = push.message.len();
        if bytes > limits.message_bytes_max {
            return Err(format!(
                "the message is {bytes} bytes long, which exceeds message_bytes_max \
                                of the receiving node"
            ));
        }
        let text = std::str::from_utf8(&push.message).map_err(|error| error.to_string())?;
        let exclude = (push.exclude > 0).then(|| ConnectionId::new(push.exclude));
        let expires_at = push.ttl_ms.and_then(|ttl| {
            Instant::now().checked_add(Duration::from_millis(ttl).saturating_sub(age))
        });
        Ok((event, text, PushOptions { exclude, expires_at }))
    }
}

impl Push {
    /// What it is known by, if its origin said so.
    fn id(&self) -> Option<PushId> {
        let is_told = self.id_number > 0;
        is_told.then(|| PushId::new(self.id_process, self.id_number))
    }
}

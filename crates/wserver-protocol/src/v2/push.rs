//! Pushes of the HTTP API, single or in a batch, and what became of each.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::body::{self, BodyError};
use super::encode::encode;
use super::problem::Problem;

/// The users who get a push.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recipients {
    /// One user.
    User(String),
    /// Each of these users.
    Users(Vec<String>),
    /// Every user who has registered the event.
    Everyone,
}

/// Which acknowledgements a push waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitFor {
    /// The first of each user.
    First,
    /// Those of every connection that can acknowledge.
    All,
}

impl WaitFor {
    /// Its word in the JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::All => "all",
        }
    }
}

/// What a push waits for, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Which acknowledgements.
    pub until: WaitFor,
    /// The longest time; after parsing it is more than zero and at most [`Wait::TIMEOUT_MAX`].
    pub timeout: Duration,
}

impl Wait {
    /// The time of a push that does not say how long: 5 s.
    pub const TIMEOUT: Duration = Duration::from_secs(5);
    /// The longest time that a push may wait: 30 s.
    pub const TIMEOUT_MAX: Duration = Duration::from_secs(30);
}

/// The body of `POST /v2/push`.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Push<'a> {
    /// The users who get it.
    pub recipients: Recipients,
    /// The event that the message belongs to; after parsing it has at least one byte.
    pub event: String,
    /// The text that is delivered verbatim as one text frame; after parsing it has at least one
    /// byte. `Debug` leaves it out.
    pub message: Cow<'a, str>,
    /// How long after its arrival the server may still send it; `None` is no limit.
    pub ttl: Option<Duration>,
    /// The id of a connection that does not get it, for example the one that the message came from.
    pub exclude_connection: Option<String>,
    /// What the answer waits for; `None` is nothing. A push to everyone cannot wait.
    pub wait: Option<Wait>,
}

/// The body in the form of the wire.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(default, deserialize_with = "body::present", skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(
        default,
        deserialize_with = "body::present_list",
        skip_serializing_if = "Option::is_none"
    )]
    users: Option<Vec<String>>,
    #[serde(default, deserialize_with = "body::present", skip_serializing_if = "Option::is_none")]
    everyone: Option<bool>,
    event: String,
    #[serde(borrow)]
    message: Cow<'a, str>,
    #[serde(default, deserialize_with = "body::present", skip_serializing_if = "Option::is_none")]
    ttl_seconds: Option<f64>,
    #[serde(default, deserialize_with = "body::present", skip_serializing_if = "Option::is_none")]
    exclude_connection: Option<String>,
    #[serde(default, deserialize_with = "body::present", skip_serializing_if = "Option::is_none")]
    wait: Option<String>,
    #[serde(default, deserialize_with = "body::present", skip_serializing_if = "Option::is_none")]
    timeout_seconds: Option<f64>,
}

impl<'a> Push<'a> {
    /// A push without options.
    pub fn new(
        recipients: Recipients,
        event: impl Into<String>,
        message: impl Into<Cow<'a, str>>,
    ) -> Self {
        let (event, message) = (event.into(), message.into());
        Self { recipients, event, message, ttl: None, exclude_connection: None, wait: None }
    }

    /// Reads the body of one request.
    ///
    /// # Errors
    /// [`BodyError`], which names the wrong field.
    pub fn parse(input: &'a [u8]) -> Result<Self, BodyError> {
        let Fields {
            user,
            users,
            everyone,
            event,
            message,
            ttl_seconds,
            exclude_connection,
            wait,
            timeout_seconds,
        } = body::parse(input)?;
        let recipients = match (user, users, everyone) {
            (Some(user), None, None) => Recipients::User(user),
            (None, Some(users), None) if users.is_empty() => {
                return Err(BodyError::new("users", "is empty"));
            }
            (None, Some(users), None) => Recipients::Users(users),
            (None, None, Some(true)) => Recipients::Everyone,
            (None, None, Some(false)) => {
                return Err(BodyError::new("everyone", "must be true, or left out"));
            }
            (None, None, None) => {
                return Err(BodyError::whole("must have one of user, users and everyone"));
            }
            _ => {
                return Err(BodyError::whole("may have only one of user, users and everyone"));
            }
        };
        for (field, text) in [("event", &*event), ("message", &*message)] {
            if text.is_empty() {
                return Err(BodyError::new(field, "is empty"));
            }
        }
        let ttl = ttl_seconds.map(ttl).transpose()?;
        let wait = read_wait(wait.as_deref(), timeout_seconds)?;
        if wait.is_some() && recipients == Recipients::Everyone {
            return Err(BodyError::new("wait", "goes with user or users, not with everyone"));
        }
        Ok(Self { recipients, event, message, ttl, exclude_connection, wait })
    }

    /// The body as a publisher posts it.
    #[must_use]
    pub fn encode(&self) -> String {
        encode(&self.fields())
    }

    fn fields(&self) -> Fields<'_> {
        let (mut user, mut users, mut everyone) = (None, None, None);
        match &self.recipients {
            Recipients::User(id) => user = Some(id.clone()),
            Recipients::Users(ids) => users = Some(ids.clone()),
            Recipients::Everyone => everyone = Some(true),
        }
        Fields {
            user,
            users,
            everyone,
            event: self.event.clone(),
            message: Cow::Borrowed(&self.message),
            ttl_seconds: self.ttl.map(|ttl| ttl.as_secs_f64()),
            exclude_connection: self.exclude_connection.clone(),
            wait: self.wait.map(|wait| wait.until.as_str().to_owned()),
            timeout_seconds: self.wait.map(|wait| wait.timeout.as_secs_f64()),
        }
    }
}

/// The longest time to live, in seconds: beyond a year a deadline might not fit the clock.
const TTL_SECONDS_MAX: f64 = 365.0 * 24.0 * 60.0 * 60.0;

fn ttl(seconds: f64) -> Result<Duration, BodyError> {
    let fits = seconds > 0.0 && seconds <= TTL_SECONDS_MAX;
    let ttl = fits.then(|| Duration::try_from_secs_f64(seconds).ok()).flatten();
    ttl.ok_or_else(|| BodyError::new("ttl_seconds", "must be more than 0 and at most a year"))
}

fn read_wait(wait: Option<&str>, seconds: Option<f64>) -> Result<Option<Wait>, BodyError> {
    let until = match wait {
        Some("first") => WaitFor::First,
        Some("all") => WaitFor::All,
        Some(_) => return Err(BodyError::new("wait", "must be first or all")),
        None if seconds.is_some() => {
            return Err(BodyError::new("timeout_seconds", "goes with wait only"));
        }
        None => return Ok(None),
    };
    let Some(seconds) = seconds else {
        return Ok(Some(Wait { until, timeout: Wait::TIMEOUT }));
    };
    let timeout = Duration::try_from_secs_f64(seconds).ok();
    let timeout = timeout
        .filter(|it| !it.is_zero() && *it <= Wait::TIMEOUT_MAX)
        .ok_or_else(|| BodyError::new("timeout_seconds", "must be more than 0 and at most 30"))?;
    Ok(Some(Wait { until, timeout }))
}

impl fmt::Debug for Push<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Push")
            .field("recipients", &self.recipients)
            .field("event", &self.event)
            .field("message_bytes", &self.message.len())
            .field("ttl", &self.ttl)
            .field("exclude_connection", &self.exclude_connection)
            .field("wait", &self.wait)
            .finish()
    }
}

/// The body of `POST /v2/push/batch`: pushes that are read one by one, so that a bad one does not
/// affect the others.
#[derive(Debug)]
pub struct Batch<'a> {
    items: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchFields<'a> {
    #[serde(borrow, deserialize_with = "body::list")]
    pushes: Vec<&'a RawValue>,
}

impl<'a> Batch<'a> {
    /// Reads the list, but not yet the pushes in it.
    ///
    /// # Errors
    /// [`BodyError`] if the body does not hold a list of pushes.
    pub fn parse(input: &'a [u8]) -> Result<Self, BodyError> {
        let BatchFields { pushes } = body::parse(input)?;
        Ok(Self { items: pushes })
    }

    /// How many pushes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are no pushes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Each push in order, or what is wrong with it.
    pub fn pushes(&self) -> impl Iterator<Item = Result<Push<'a>, BodyError>> {
        self.items.iter().enumerate().map(|(index, item)| {
            Push::parse(item.get().as_bytes())
                .map_err(|error| error.within(&format!("pushes[{index}]")))
        })
    }

    /// The body as a publisher posts it.
    #[must_use]
    pub fn encode(pushes: &[Push<'_>]) -> String {
        #[derive(Serialize)]
        struct Body<'a> {
            pushes: Vec<Fields<'a>>,
        }
        encode(&Body { pushes: pushes.iter().map(Push::fields).collect() })
    }
}

/// Why nobody got a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The user has no connection.
    UserOffline,
    /// The user has connections, but none registered the event.
    NoRegistrationForEvent,
    /// The connections that registered the event read too slowly and were closed.
    SlowConsumer,
    /// The connections that registered the event were just ending.
    ConnectionEnding,
    /// Only the excluded connection had registered the event.
    Excluded,
    /// The time to live of the push was over, or the user's registration has expired.
    Expired,
    /// A reason that only a later release knows.
    #[serde(other)]
    Other,
}

impl Reason {
    /// Its word in the JSON; `other` for one of a later release.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UserOffline => "user_offline",
            Self::NoRegistrationForEvent => "no_registration_for_event",
            Self::SlowConsumer => "slow_consumer",
            Self::ConnectionEnding => "connection_ending",
            Self::Excluded => "excluded",
            Self::Expired => "expired",
            Self::Other => "other",
        }
    }
}

/// How many connections have acknowledged a push, and what keeps the others from it.
///
/// The four add up to [`Delivery::matched`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acks {
    /// Connections whose client has acknowledged the message.
    pub acked: usize,
    /// Connections that had not when the answer was given, and still may.
    pub waiting: usize,
    /// Connections that cannot, because they speak version 1, or because their node did not ask.
    pub unable: usize,
    /// Connections that ended without acknowledging it.
    pub lost: usize,
}

impl std::ops::AddAssign for Acks {
    fn add_assign(&mut self, other: Self) {
        self.acked += other.acked;
        self.waiting += other.waiting;
        self.unable += other.unable;
        self.lost += other.lost;
    }
}

/// What became of a push.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Connections that had registered the event: the sum of `written`, `queued` and `dropped`.
    pub matched: usize,
    /// Connections whose socket took the message at once.
    pub written: usize,
    /// Connections for which the message waits in a bounded queue.
    pub queued: usize,
    /// Connections that were closed as too slow, or turned out to be ending.
    pub dropped: usize,
    /// Why nobody got it; `None` if somebody did.
    pub reason: Option<Reason>,
    /// The reason in a sentence.
    pub detail: Option<String>,
    /// Whether the message is kept for connections of the user that come back; absent if not.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_kept: bool,
    /// With the reason [`NoRegistrationForEvent`](Reason::NoRegistrationForEvent): the events that
    /// the user's connections did register.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<String>>,
    /// If the push waited: the acknowledgements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acks: Option<Acks>,
    /// In a cluster: how many nodes took part in the push, including the one that answers. Without
    /// a cluster, this field and those below are absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<usize>,
    /// In a cluster: the nodes that should have taken part but did not answer in time. Each may or
    /// may not have delivered the message. Empty if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes_missing: Option<Vec<String>>,
    /// In a cluster: whether the answer may be incomplete, because nodes are missing or the
    /// answering node is cut off from its cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_partial: Option<bool>,
    /// In a cluster: the counts of each node, if more than one took part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_node: Option<Vec<NodeDelivery>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// What became of a push on one node of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeDelivery {
    /// The name of the node.
    pub node: String,
    /// As in [`Delivery`].
    pub matched: usize,
    /// As in [`Delivery`].
    pub written: usize,
    /// As in [`Delivery`].
    pub queued: usize,
    /// As in [`Delivery`].
    pub dropped: usize,
}

impl Delivery {
    /// How many connections took the message: the N of `message sent to N clients`.
    #[must_use]
    pub fn delivered(&self) -> usize {
        self.written + self.queued
    }
}

/// What became of a push to one of several users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserDelivery {
    /// The user.
    pub user: String,
    /// What became of it.
    #[serde(flatten)]
    pub delivery: Delivery,
}

/// The answer to an accepted push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushAnswer {
    /// The name of this push in the server's log.
    pub id: String,
    /// What became of it, over all its users.
    #[serde(flatten)]
    pub delivery: Delivery,
    /// For a push to everyone: how many users it reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<usize>,
    /// For a push to several users: the result of each, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results: Option<Vec<UserDelivery>>,
}

impl PushAnswer {
    /// Reads the body of a `200`.
    ///
    /// # Errors
    /// [`BodyError`] if the body is not such an answer.
    pub fn parse(input: &[u8]) -> Result<Self, BodyError> {
        body::parse_answer(input)
    }
}

/// What became of one push of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchItem {
    /// The status that the push would have had on its own.
    pub status: u16,
    /// The answer, with status 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<PushAnswer>,
    /// The problem, with any other status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// The answer to a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchAnswer {
    /// One result for each push, in the same order.
    pub results: Vec<BatchItem>,
}

impl BatchAnswer {
    /// Reads the body of a `200`.
    ///
    /// # Errors
    /// [`BodyError`] if the body is not such an answer.
    pub fn parse(input: &[u8]) -> Result<Self, BodyError> {
        body::parse_answer(input)
    }
}

//! Pushes of the HTTP API: one, or many in a batch, and what became of each.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::body::{self, BodyError};
use super::encode::encode;
use super::problem::Problem;

/// Whom a push is for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recipients {
    /// One user.
    User(String),
    /// Each of these users.
    Users(Vec<String>),
    /// Every user who has a connection that registered the event.
    Everyone,
}

/// The body of `POST /v2/push`.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Push<'a> {
    /// Whom it is for.
    pub recipients: Recipients,
    /// What it is about; at least one byte when it was parsed.
    pub event: String,
    /// What is delivered, verbatim, as one text frame; at least one byte when it was parsed. `Debug`
    /// leaves it out.
    pub message: Cow<'a, str>,
    /// How long it is worth delivering; for ever without it.
    pub ttl: Option<Duration>,
    /// The id of a connection that is left out, as the one that the message came from.
    pub exclude_connection: Option<String>,
}

/// The same as it stands on the wire.
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
}

impl<'a> Push<'a> {
    /// A push without options.
    pub fn new(
        recipients: Recipients,
        event: impl Into<String>,
        message: impl Into<Cow<'a, str>>,
    ) -> Self {
        let (event, message) = (event.into(), message.into());
        Self { recipients, event, message, ttl: None, exclude_connection: None }
    }

    /// Reads the body of one request.
    ///
    /// # Errors
    /// [`BodyError`], which names the field that is wrong.
    pub fn parse(input: &'a [u8]) -> Result<Self, BodyError> {
        let Fields { user, users, everyone, event, message, ttl_seconds, exclude_connection } =
            body::parse(input)?;
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
        Ok(Self { recipients, event, message, ttl, exclude_connection })
    }

    /// The body as a client posts it.
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
        }
    }
}

/// The most seconds that a push may be worth delivering: beyond a year a deadline might not fit the
/// clock.
const TTL_SECONDS_MAX: f64 = 365.0 * 24.0 * 60.0 * 60.0;

fn ttl(seconds: f64) -> Result<Duration, BodyError> {
    let fits = seconds > 0.0 && seconds <= TTL_SECONDS_MAX;
    let ttl = fits.then(|| Duration::try_from_secs_f64(seconds).ok()).flatten();
    ttl.ok_or_else(|| BodyError::new("ttl_seconds", "must be more than 0 and at most a year"))
}

impl fmt::Debug for Push<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Push")
            .field("recipients", &self.recipients)
            .field("event", &self.event)
            .field("message_bytes", &self.message.len())
            .field("ttl", &self.ttl)
            .field("exclude_connection", &self.exclude_connection)
            .finish()
    }
}

/// The body of `POST /v2/push/batch`: pushes that are read one by one, so that a bad one spoils no other.
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
    /// Reads the envelope.
    ///
    /// # Errors
    /// [`BodyError`] when there is no list of pushes in it.
    pub fn parse(input: &'a [u8]) -> Result<Self, BodyError> {
        let BatchFields { pushes } = body::parse(input)?;
        Ok(Self { items: pushes })
    }

    /// How many pushes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Each push in its turn, or what is wrong with it.
    pub fn pushes(&self) -> impl Iterator<Item = Result<Push<'a>, BodyError>> {
        self.items.iter().enumerate().map(|(index, item)| {
            Push::parse(item.get().as_bytes())
                .map_err(|error| error.within(&format!("pushes[{index}]")))
        })
    }

    /// The body as a client posts it.
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
    /// The user has connections, and none registered the event.
    NoRegistrationForEvent,
    /// Those who registered the event read too slowly and were disconnected.
    SlowConsumer,
    /// Those who registered the event were just leaving.
    ConnectionEnding,
    /// Only the connection that was to be left out had registered the event.
    Excluded,
    /// The push came too late for its time to live, or the user's identity has expired.
    Expired,
    /// A reason of a later server.
    #[serde(other)]
    Other,
}

/// What became of a push to those it was for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Connections that had registered the event: `written`, `queued` and `dropped` together.
    pub matched: usize,
    /// Connections whose socket took the message at once.
    pub written: usize,
    /// Connections in whose bounded queue it waits.
    pub queued: usize,
    /// Connections that were disconnected as too slow, or were found to be ending.
    pub dropped: usize,
    /// Why nobody got it; `None` if somebody did.
    pub reason: Option<Reason>,
    /// The reason in a sentence.
    pub detail: Option<String>,
    /// The events that the user's connections did register, where the reason is that they
    /// registered others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<String>>,
    /// How many nodes of a cluster have a part in this, the answering one included. Without a
    /// cluster this and the rest is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<usize>,
    /// The nodes that should have had one and did not answer in time: they may have delivered it or
    /// not. Empty if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes_missing: Option<Vec<String>>,
    /// Whether there may be more to it than is told here: nodes are missing, or the answering one is
    /// cut off from its cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_partial: Option<bool>,
    /// The counts of each node, where more than one has a part in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_node: Option<Vec<NodeDelivery>>,
}

/// What became of a push on one node of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeDelivery {
    /// What the node is called.
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
    /// How many connections took the message: what `message sent to N clients` counts.
    #[must_use]
    pub fn delivered(&self) -> usize {
        self.written + self.queued
    }
}

/// The same for one of several users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserDelivery {
    /// Which one.
    pub user: String,
    /// What became of it.
    #[serde(flatten)]
    pub delivery: Delivery,
}

/// The answer to an accepted push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushAnswer {
    /// What the server's log calls this push.
    pub id: String,
    /// What became of it, over all users it was for.
    #[serde(flatten)]
    pub delivery: Delivery,
    /// How many users it reached, where it was for everyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<usize>,
    /// Each user in turn, where it was for several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results: Option<Vec<UserDelivery>>,
}

impl PushAnswer {
    /// Reads the body of a `200`.
    ///
    /// # Errors
    /// [`BodyError`] when it is none.
    pub fn parse(input: &[u8]) -> Result<Self, BodyError> {
        body::parse_answer(input)
    }
}

/// What became of one push of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchItem {
    /// The status that it would have been answered with alone.
    pub status: u16,
    /// With 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<PushAnswer>,
    /// With any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// The answer to a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchAnswer {
    /// One for each push, in their order.
    pub results: Vec<BatchItem>,
}

impl BatchAnswer {
    /// Reads the body of a `200`.
    ///
    /// # Errors
    /// [`BodyError`] when it is none.
    pub fn parse(input: &[u8]) -> Result<Self, BodyError> {
        body::parse_answer(input)
    }
}

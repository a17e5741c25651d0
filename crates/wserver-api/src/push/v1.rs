//! `POST /push`: method, guard, authorisation, body, parse, push, reply; in that order, each step bounded.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::Method;
use http_body::Body;
use tracing::{Instrument as _, debug, trace_span};
use wserver_auth::Publisher;
use wserver_cluster::Gathered;
use wserver_core::{EventName, NameError, UserId};
use wserver_node::{PushOptions, PushReceipt, Wire};
use wserver_protocol::PushRequest;
use wserver_protocol::v2::{self, Delivery, PushAnswer};

use crate::api::Api;
use crate::authorize;
use crate::body;
use crate::cluster::ask;
use crate::parameters;
use crate::push::idempotency;
use crate::push::outcome::{self, EventsRoom};
use crate::reply::negotiate;
use crate::reply::refused::Refused;
use crate::reply::{self, Format, Reply};
use crate::request::Request;

/// A push that was not.
struct Refusal {
    refused: Refused,
    /// Whom it was for and what, if its publisher may push to them.
    about: Option<(UserId, EventName)>,
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        Self { refused, about: None }
    }
}

/// Serves one push.
pub(crate) async fn push<W: Wire>(
    api: &Arc<Api<W>>,
    request: Request,
    body: impl Body<Data = Bytes> + Unpin,
) -> Reply {
    let client = request.client;
    let format = negotiate::format(&request.headers);
    let span = trace_span!("push", %client);
    match serve(api, request, format, body).instrument(span).await {
        Ok(reply) => reply,
        Err(Refusal { refused, about }) => {
            debug!(peer = %client, ?refused, "push refused");
            let told = refused.told();
            let (user, event) = about.as_ref().map(|(user, event)| (user, event)).unzip();
            api.node.note_push_refused(user, event, told.name);
            api.counters.pushes_refused_total.increment(told.name);
            told.reply(format)
        }
    }
}

async fn serve<W: Wire>(
    api: &Arc<Api<W>>,
    request: Request,
    format: Format,
    body: impl Body<Data = Bytes> + Unpin,
) -> Result<Reply, Refusal> {
    if request.method != Method::POST {
        return Err(Refused::Method { allow: "POST" }.into());
    }
    let (client, headers) = (request.client, Arc::clone(&request.headers));
    let publisher = authorize::publisher(api, request).await?;
    let body = body::read(api, &headers, body).await?;
    let request = PushRequest::parse(&body.bytes).map_err(Refused::Push)?;
    let limits = &api.limits;
    let user =
        UserId::parse(&request.user_id, limits.name_bytes_max).map_err(too_long("userId"))?;
    let event =
        EventName::parse(&request.event, limits.name_bytes_max).map_err(too_long("event"))?;
    check_user(&publisher, &user)?;
    if let Err(refused) = check(api, &publisher, &event, &request.message) {
        return Err(Refusal { refused, about: Some((user, event)) });
    }
    if let Some(key) = parameters::idempotency_key(&headers)? {
        let message = request.message.into_owned();
        let push = Kept { publisher, user, event, message, body };
        // In a box, so that an ordinary push has no room for it.
        return Box::pin(push.carry_out_once(api, key, client, format)).await;
    }
    let options = PushOptions::default();
    let gathered = api.deliver(&user, &event, &request.message, &options).await;
    if format == Format::Json {
        let answer = answer(api, &publisher, client, &user, &event, &gathered);
        return Ok(reply::json(v2::encode(&answer)));
    }
    let mut reply = reply::sent(gathered.total().delivered());
    if !gathered.is_whole() {
        reply::add_missing(&mut reply, &ask::missing(&gathered));
    }
    Ok(reply)
}

/// What became of a push.
fn answer<W: Wire>(
    api: &Api<W>,
    publisher: &Publisher,
    client: SocketAddr,
    user: &UserId,
    event: &EventName,
    gathered: &Gathered<PushReceipt>,
) -> PushAnswer {
    let id = api.push_ids.next();
    debug!(push = %id, %client, receipt = ?gathered.total(), "pushed");
    let (scope, mut room) = (&publisher.scope, EventsRoom::default());
    let delivery = outcome::of_user(api, scope, user, event, gathered, &mut room);
    PushAnswer { id, delivery, users: None, results: None }
}

/// A push with an `Idempotency-Key`, which may outlive its client.
struct Kept {
    publisher: Publisher,
    user: UserId,
    event: EventName,
    message: String,
    body: body::Body,
}

impl Kept {
    async fn carry_out_once<W: Wire>(
        self,
        api: &Arc<Api<W>>,
        key: &str,
        client: SocketAddr,
        format: Format,
    ) -> Result<Reply, Refusal> {
        let (publisher, bytes) = (self.publisher.clone(), self.body.bytes.clone());
        let work = {
            let api = Arc::clone(api);
            async move {
                let Self { publisher, user, event, message, body } = self;
                let options = PushOptions::default();
                let gathered = api.deliver(&user, &event, &message, &options).await;
                drop(body);
                let answer = answer(&api, &publisher, client, &user, &event, &gathered);
                Ok::<_, Refused>(v2::encode(&answer))
            }
        };
        // Told as JSON or as text, it is the same answer.
        let (path, arrived) = (&*api.push_path, Instant::now());
        let answered =
            idempotency::once(api, &publisher, key, (path, &bytes), arrived, work).await?;
        let mut reply = match format {
            Format::Json => reply::json(answered.text.as_ref().to_owned()),
            Format::Text => {
                let answer = PushAnswer::parse(answered.text.as_bytes());
                let Delivery { written, queued, is_partial, nodes_missing, .. } =
                    answer.map_err(|_unreadable| Refused::Failed)?.delivery;
                let mut reply = reply::sent(written + queued);
                if is_partial == Some(true) {
                    reply::add_missing(&mut reply, &nodes_missing.unwrap_or_default());
                }
                reply
            }
        };
        if answered.is_replayed {
            reply::add_replayed(&mut reply);
        }
        Ok(reply)
    }
}

fn check_user(publisher: &Publisher, user: &UserId) -> Result<(), Refused> {
    if publisher.scope.permits_user(user.as_str()) {
        return Ok(());
    }
    let why = "this push key may not push to this userId";
    Err(Refused::Forbidden { field: "userId".into(), why })
}

/// What is wrong with a push whose publisher may push to its user, whichever way it came.
pub(crate) fn check<W: Wire>(
    api: &Api<W>,
    publisher: &Publisher,
    event: &EventName,
    message: &str,
) -> Result<(), Refused> {
    let (bytes, bytes_max) = (message.len(), api.limits.message_bytes_max);
    if bytes > bytes_max {
        return Err(Refused::MessageTooLarge { bytes, bytes_max });
    }
    if publisher.scope.permits_event(event.as_str()) {
        return Ok(());
    }
    let why = "this push key may not push this event";
    Err(Refused::Forbidden { field: "event".into(), why })
}

fn too_long(field: &'static str) -> impl Fn(NameError) -> Refused {
    move |error| match error {
        NameError::TooLong { bytes, bytes_max } => {
            Refused::NameTooLong { field: field.into(), bytes, bytes_max }
        }
        _ => Refused::Push(wserver_protocol::PushError::Empty { field }),
    }
}

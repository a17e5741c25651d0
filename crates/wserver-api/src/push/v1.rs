//! `POST /push`: method, guard, authorisation, body, parse, push, reply, in this order and each
//! within limits.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use http_body::Body;
use tracing::{Instrument as _, debug, trace_span};
use wserver_auth::Publisher;
use wserver_core::{EventName, NameError, PushId, UserId};
use wserver_node::{Gathered, Message, PushOptions, PushReceipt, Wire};
use wserver_protocol::PushRequest;
use wserver_protocol::v2::{self, Delivery, PushAnswer};

use super::check::check;
use super::outcome::{self, EventsRoom};
use crate::api::Api;
use crate::body;
use crate::cluster::ask;
use crate::cluster::repeated::ask_others;
use crate::parameters;
use crate::reply::negotiate;
use crate::reply::refused::Refused;
use crate::reply::{self, Format, Reply};
use crate::request::Request;

/// A push that was refused.
struct RefusedPush {
    refused: Refused,
    /// Its user and event, if the publisher may push to them.
    about: Option<(UserId, EventName)>,
}

impl From<Refused> for RefusedPush {
    fn from(refused: Refused) -> Self {
        Self { refused, about: None }
    }
}

impl<W: Wire> Api<W> {
    /// Answers a push of version 1: [`answer`](Self::answer) for callers that know that it is one.
    ///
    /// # Cancel safety
    /// If the future is dropped, the push may or may not have been carried out.
    pub async fn answer_push(
        self: &Arc<Self>,
        request: Request,
        body: impl Body<Data = Bytes> + Unpin,
    ) -> Reply {
        let client = request.client;
        let format = negotiate::format(&request.headers);
        let span = trace_span!("push", %client);
        match serve(self, request, format, body).instrument(span).await {
            Ok(reply) => reply,
            Err(RefusedPush { refused, about }) => {
                debug!(peer = %client, ?refused, "push refused");
                let details = refused.details();
                let (user, event) = about.as_ref().map(|(user, event)| (user, event)).unzip();
                self.node.note_push_refused(user, event, details.kind.as_str());
                self.pushes.count_refused(&details);
                details.reply(format)
            }
        }
    }
}

async fn serve<W: Wire>(
    api: &Arc<Api<W>>,
    request: Request,
    format: Format,
    body: impl Body<Data = Bytes> + Unpin,
) -> Result<Reply, RefusedPush> {
    if request.method != Method::POST {
        return Err(Refused::Method { allow: "POST" }.into());
    }
    let (client, headers) = (request.client, Arc::clone(&request.headers));
    let publisher = api.authorization.publisher(request).await?;
    let body = api.bodies.read(&headers, body).await?;
    let request = PushRequest::parse(&body.bytes).map_err(Refused::Push)?;
    let limits = &api.limits;
    let user =
        UserId::parse(&request.user_id, limits.name_bytes_max).map_err(too_long("userId"))?;
    let event =
        EventName::parse(&request.event, limits.name_bytes_max).map_err(too_long("event"))?;
    check_user(&publisher, &user)?;
    if let Err(refused) = check(&api.limits, &publisher, &event, &request.message) {
        return Err(RefusedPush { refused, about: Some((user, event)) });
    }
    if let Some(key) = parameters::idempotency_key(&headers)? {
        let message = request.message.into_owned();
        let push = Kept { publisher, user, event, message, body };
        // Boxed, so that an ordinary push reserves no room for it.
        return Box::pin(push.carry_out_once(api, key, client, format)).await;
    }
    let (id, options) = (api.pushes.ids.next(), PushOptions::default());
    let mut message = Message::new(&event, id, &request.message);
    let gathered = api.deliver(&user, &mut message, &options).await;
    if format == Format::Json {
        let answer = answer(api, id, &publisher, client, &user, &event, &gathered);
        return Ok(reply::json(v2::encode(&answer)));
    }
    let mut reply = reply::sent(gathered.total().delivered());
    if !gathered.is_whole() {
        reply::add_missing(&mut reply, &ask::missing(&gathered));
    }
    Ok(reply)
}

/// The answer to a push that was accepted.
fn answer<W: Wire>(
    api: &Api<W>,
    id: PushId,
    publisher: &Publisher,
    client: SocketAddr,
    user: &UserId,
    event: &EventName,
    gathered: &Gathered<PushReceipt>,
) -> PushAnswer {
    debug!(push = %id, %client, receipt = ?gathered.total(), "pushed");
    let (scope, mut room) = (&publisher.scope, EventsRoom::default());
    let delivery =
        outcome::of_user(&api.node, api.cluster.as_ref(), scope, user, event, gathered, &mut room);
    PushAnswer { id: id.to_string(), delivery, users: None, results: None }
}

/// The remembered outcome of a push with an `Idempotency-Key`, from which either format can be
/// made.
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
    ) -> Result<Reply, RefusedPush> {
        let (publisher, bytes) = (self.publisher.clone(), self.body.bytes.clone());
        let work = {
            let api = Arc::clone(api);
            async move {
                let Self { publisher, user, event, message, body } = self;
                let (id, options) = (api.pushes.ids.next(), PushOptions::default());
                let mut message = Message::new(&event, id, &message);
                let gathered = api.deliver(&user, &mut message, &options).await;
                drop(body);
                let answer = answer(&api, id, &publisher, client, &user, &event, &gathered);
                Ok::<_, Refused>(v2::encode(&answer))
            }
        };
        // The digest leaves the format out: JSON or text, it is the same answer.
        let request = (api.push_path(), &*bytes);
        let tasks = api.node.tasks();
        let idempotency = &api.pushes.idempotency;
        let ask = async |id, request| ask_others(api.cluster.as_ref(), id, request).await;
        let answered = idempotency.once(tasks, &publisher, key, request, ask, work).await?;
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
        reply::add_unheard(&mut reply, &answered.unheard);
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

fn too_long(field: &'static str) -> impl Fn(NameError) -> Refused {
    move |error| match error {
        NameError::TooLong { bytes, bytes_max } => {
            Refused::NameTooLong { field: field.into(), bytes, bytes_max }
        }
        _ => Refused::Push(wserver_protocol::PushError::Empty { field }),
    }
}

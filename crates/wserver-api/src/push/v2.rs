//! `POST /v2/push` and `/v2/push/batch`: pushes to one user, to several, or to everyone. A request
//! with an `Idempotency-Key` is carried out only once.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use tracing::{Instrument as _, debug, trace_span};
use wserver_auth::Publisher;
use wserver_core::{EventName, UserId};
use wserver_node::{Message, PushOptions, Wire};
use wserver_protocol::v2::{
    self, Batch, BatchAnswer, BatchItem, Delivery, Problem, Push, PushAnswer, Recipients,
    UserDelivery,
};

use super::check::check;
use super::outcome;
use super::outcome::EventsRoom;
use super::waits::{Waiting, Waits};
use crate::api::Api;
use crate::authorize;
use crate::body::Body;
use crate::cluster::repeated::ask_others;
use crate::operate::words::Count;
use crate::parameters;
use crate::reply::refused::Refused;
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::routes::Endpoint;

/// Answers a push or a batch. `read` reads the body once the publisher is known.
pub(crate) async fn answer<W: Wire>(
    api: &Arc<Api<W>>,
    endpoint: Endpoint,
    request: Request,
    read: impl Future<Output = Result<Body, Refused>>,
    arrived: Instant,
) -> Result<Reply, Refused> {
    let span = trace_span!("push", client = %request.client);
    let serving = async {
        let (headers, uri) = (Arc::clone(&request.headers), request.uri.clone());
        let publisher = api
            .authorization
            .publisher(request)
            .await
            .inspect_err(|refused| note_refused(api, refused))?;
        let body = read.await?;
        let is_batch = endpoint == Endpoint::Batch;
        let Some(key) = parameters::idempotency_key(&headers)? else {
            return carry_out(api, &publisher, is_batch, body, arrived).await.map(reply::json);
        };
        carry_out_once(api, publisher, is_batch, key, uri.path(), body, arrived).await
    };
    serving.instrument(span).await.inspect_err(|refused| count_refused(api, refused))
}

/// Carries out a push or a batch with an `Idempotency-Key`; this may outlive the client.
async fn carry_out_once<W: Wire>(
    api: &Arc<Api<W>>,
    publisher: Publisher,
    is_batch: bool,
    key: &str,
    path: &str,
    body: Body,
    arrived: Instant,
) -> Result<Reply, Refused> {
    if !is_batch {
        // A publisher that may not make the push may not know its outcome either.
        let push = Push::parse(&body.bytes).map_err(Refused::Body)?;
        Checked::new(api, &publisher, &push, arrived)?;
    }
    let bytes = body.bytes.clone();
    let work = {
        let (api, publisher) = (Arc::clone(api), publisher.clone());
        async move { carry_out(&api, &publisher, is_batch, body, arrived).await }
    };
    let idempotency = &api.pushes.idempotency;
    let request = (path, &*bytes);
    let ask = async |id, request| ask_others(api.cluster.as_ref(), id, request).await;
    let answered = idempotency.once(api.node.tasks(), &publisher, key, request, ask, work).await?;
    let mut reply = reply::json(answered.text.as_ref().to_owned());
    reply::add_unheard(&mut reply, &answered.unheard);
    if answered.is_replayed {
        reply::add_replayed(&mut reply);
    }
    Ok(reply)
}

/// Notes a push that was refused before its user was known.
fn note_refused<W: Wire>(api: &Api<W>, refused: &Refused) {
    api.node.note_push_refused(None, None, refused.details().kind.as_str());
}

fn count_refused<W: Wire>(api: &Api<W>, refused: &Refused) {
    api.pushes.count_refused(&refused.details());
}

async fn carry_out<W: Wire>(
    api: &Api<W>,
    publisher: &Publisher,
    is_batch: bool,
    body: Body,
    arrived: Instant,
) -> Result<String, Refused> {
    let mut waits = Waits::new(Instant::now());
    if is_batch {
        let made = batch(api, publisher, &body, arrived, &mut waits).await?;
        // Other requests may need its room.
        drop(body);
        return Ok(v2::encode(&complete_batch(api, &waits, made).await));
    }
    let Made { mut answer, waiting } = one(api, publisher, &body, arrived, &mut waits).await?;
    drop(body);
    waits.complete(api, &mut answer, waiting).await;
    Ok(v2::encode(&answer))
}

/// A push that is made, but may still wait.
struct Made {
    answer: PushAnswer,
    /// One for each user, if it waits.
    waiting: Vec<Waiting>,
}

async fn one<W: Wire>(
    api: &Api<W>,
    publisher: &Publisher,
    body: &Body,
    arrived: Instant,
    waits: &mut Waits,
) -> Result<Made, Refused> {
    let push = Push::parse(&body.bytes).map_err(Refused::Body)?;
    let checked = Checked::new(api, publisher, &push, arrived)?;
    checked.prepare_wait(api, &push, waits)?;
    charge(api, publisher, cost(&push))?;
    Ok(checked.carry_out(api, publisher, &push, &mut EventsRoom::default(), waits).await)
}

/// Makes the pushes one after the other, in their order. All of them are made before any is waited
/// for.
async fn batch<W: Wire>(
    api: &Api<W>,
    publisher: &Publisher,
    body: &Body,
    arrived: Instant,
    waits: &mut Waits,
) -> Result<Vec<Result<Made, Problem>>, Refused> {
    let batch = Batch::parse(&body.bytes).map_err(Refused::Body)?;
    check_count(api, "pushes", batch.len())?;
    let max = api.http_limits.batch_pushes_max;
    let (mut pushes, mut items) = (Vec::with_capacity(batch.len()), 0);
    for push in batch.pushes() {
        // Checked before the rest is read, because one push may name as many users as a whole
        // request may.
        items += push.as_ref().map_or(1, cost);
        if items > max {
            return Err(Refused::TooManyInAll { max });
        }
        pushes.push(push);
    }
    charge(api, publisher, items)?;
    let mut made = Vec::with_capacity(batch.len());
    let mut room = EventsRoom::default();
    for (index, push) in pushes.into_iter().enumerate() {
        let outcome = match push {
            Ok(push) => match Checked::new(api, publisher, &push, arrived)
                .and_then(|checked| checked.prepare_wait(api, &push, waits).map(|()| checked))
            {
                Ok(checked) => Ok(checked.carry_out(api, publisher, &push, &mut room, waits).await),
                Err(refused) => {
                    count_refused(api, &refused);
                    let mut problem = refused.details().problem();
                    problem.field = problem.field.map(|field| format!("pushes[{index}].{field}"));
                    Err(problem)
                }
            },
            Err(error) => {
                let refused = Refused::Body(error);
                count_refused(api, &refused);
                Err(refused.details().problem())
            }
        };
        made.push(outcome);
    }
    Ok(made)
}

/// Waits for each push of a batch. All of them have waited since the same moment, so the order is of
/// no importance.
async fn complete_batch<W: Wire>(
    api: &Api<W>,
    waits: &Waits,
    made: Vec<Result<Made, Problem>>,
) -> BatchAnswer {
    let mut results = Vec::with_capacity(made.len());
    for outcome in made {
        results.push(match outcome {
            Ok(Made { mut answer, waiting }) => {
                waits.complete(api, &mut answer, waiting).await;
                BatchItem { status: 200, answer: Some(answer), problem: None }
            }
            Err(problem) => {
                BatchItem { status: problem.status, answer: None, problem: Some(problem) }
            }
        });
    }
    BatchAnswer { results }
}

/// How many pushes it counts as: one for each of its users, and one for everyone.
fn cost(push: &Push<'_>) -> usize {
    match &push.recipients {
        Recipients::Users(users) => users.len(),
        _ => 1,
    }
}

/// Charges the publisher for `pushes` of one request; the authoriser has counted one of them
/// already.
fn charge<W: Wire>(api: &Api<W>, publisher: &Publisher, pushes: usize) -> Result<(), Refused> {
    let further = u32::try_from(pushes.saturating_sub(1)).unwrap_or(u32::MAX);
    publisher.charge(further).map_err(|refusal| {
        let refused = authorize::refused(&refusal);
        note_refused(api, &refused);
        refused
    })
}

/// A push that has passed all checks.
struct Checked {
    event: EventName,
    options: PushOptions,
    /// Empty if it is for everyone.
    users: Vec<UserId>,
}

impl Checked {
    /// Checks the whole push before anybody gets it.
    fn new<W: Wire>(
        api: &Api<W>,
        publisher: &Publisher,
        push: &Push<'_>,
        arrived: Instant,
    ) -> Result<Self, Refused> {
        let event = parameters::event(&api.limits, &push.event)?;
        let options = PushOptions {
            exclude: push
                .exclude_connection
                .as_deref()
                .map(|id| parameters::connection_field("exclude_connection", id))
                .transpose()?,
            expires_at: push.ttl.map(|ttl| arrived + ttl),
        };
        let users = users(api, publisher, &push.recipients)?;
        let fits = check(&api.limits, publisher, &event, &push.message);
        fits.inspect_err(|refused| {
            for user in &users {
                api.node.note_push_refused(
                    Some(user),
                    Some(&event),
                    refused.details().kind.as_str(),
                );
            }
        })?;
        Ok(Self { event, options, users })
    }

    /// Prepares to wait for the push, if it asks for that.
    fn prepare_wait<W: Wire>(
        &self,
        api: &Api<W>,
        push: &Push<'_>,
        waits: &mut Waits,
    ) -> Result<(), Refused> {
        match push.wait {
            None => Ok(()),
            Some(_) => waits.prepare(api, &self.users, &self.event, self.options.exclude),
        }
    }

    async fn carry_out<W: Wire>(
        self,
        api: &Api<W>,
        publisher: &Publisher,
        push: &Push<'_>,
        room: &mut EventsRoom,
        waits: &Waits,
    ) -> Made {
        let Self { event, options, users } = self;
        let id = api.pushes.ids.next();
        let mut message = Message::new(&event, id, &push.message);
        let mut answer = PushAnswer {
            id: id.to_string(),
            delivery: Delivery::default(),
            users: None,
            results: None,
        };
        let mut results = Vec::with_capacity(users.len());
        let mut waiting = Vec::new();
        for user in &users {
            // A request with many users must not take a whole turn of the runtime's worker.
            tokio::task::consume_budget().await;
            let begun = push.wait.and_then(|wait| waits.begin(wait, &mut message));
            let gathered = api.deliver(user, &mut message, &options).await;
            waiting.extend(
                begun.map(|begun| Waiting::new(begun, user.clone(), event.clone(), &gathered)),
            );
            let scope = &publisher.scope;
            let delivery = outcome::of_user(
                &api.node,
                api.cluster.as_ref(),
                scope,
                user,
                &event,
                &gathered,
                room,
            );
            results.push(UserDelivery { user: user.as_str().to_owned(), delivery });
        }
        match &push.recipients {
            Recipients::Everyone => {
                let gathered = api.deliver_to_everyone(&mut message, &options).await;
                answer.users = Some(gathered.total().users);
                answer.delivery = outcome::of_everyone(api.cluster.as_ref(), &event, &gathered);
            }
            Recipients::User(_) => {
                answer.delivery = results.pop().map(|one| one.delivery).unwrap_or_default();
            }
            _ => {
                answer.delivery = sum(&results);
                answer.results = Some(results);
            }
        }
        let Delivery { matched, written, queued, dropped, .. } = answer.delivery;
        let (name, by) = (publisher.name.as_deref(), publisher.id().method());
        debug!(push = %answer.id, publisher = name, by, matched, written, queued, dropped, "pushed");
        Made { answer, waiting }
    }
}

/// The users of the push; none if it is for everyone.
fn users<W: Wire>(
    api: &Api<W>,
    publisher: &Publisher,
    recipients: &Recipients,
) -> Result<Vec<UserId>, Refused> {
    let forbidden = |field: Cow<'static, str>, why| Refused::Forbidden { field, why };
    let one = |field: Cow<'static, str>, name: &str| {
        let user = parameters::user(&api.limits, field.clone(), name)?;
        if !publisher.scope.permits_user(user.as_str()) {
            let refused = forbidden(field, "this push key may not push to this user");
            note_refused(api, &refused);
            return Err(refused);
        }
        Ok(user)
    };
    match recipients {
        Recipients::User(user) => Ok(vec![one("user".into(), user)?]),
        Recipients::Users(users) => {
            check_count(api, "users", users.len())?;
            let users = users.iter().enumerate();
            users.map(|(index, user)| one(format!("users[{index}]").into(), user)).collect()
        }
        _ if publisher.scope.permits_everyone() => Ok(Vec::new()),
        _ => Err(forbidden("everyone".into(), "this push key may not push to everyone")),
    }
}

fn check_count<W: Wire>(api: &Api<W>, field: &'static str, items: usize) -> Result<(), Refused> {
    let max = api.http_limits.batch_pushes_max;
    if items > max { Err(Refused::TooMany { field, items, max }) } else { Ok(()) }
}

/// The sum over all users. It has a reason if the reason is the same for all of them.
fn sum(results: &[UserDelivery]) -> Delivery {
    let mut sum = Delivery::default();
    for UserDelivery { delivery, .. } in results {
        sum.matched += delivery.matched;
        sum.written += delivery.written;
        sum.queued += delivery.queued;
        sum.dropped += delivery.dropped;
    }
    outcome::sum_nodes(&mut sum, results);
    if sum.delivered() == 0 {
        let first = results.first().and_then(|first| first.delivery.reason);
        sum.reason = first.filter(|_| results.iter().all(|it| it.delivery.reason == first));
        let users = Count(results.len(), "user");
        sum.detail =
            Some(format!("none of {users} got the message; results gives the reason for each"));
    }
    sum
}

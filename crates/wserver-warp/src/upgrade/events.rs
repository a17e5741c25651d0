//! `GET /events`: a stream of Server-Sent Events, which is a connection like a WebSocket, but one
//! that cannot say anything.
//!
//! Everything is decided before the answer begins. A status other than 200 ends an `EventSource` for
//! good, so it is for what trying again cannot change; for the rest, the stream begins, says why and
//! when to come back, and ends.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::stream;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN, VARY,
};
use hyper::{HeaderMap, Method, Response, StatusCode, Uri};
use tracing::debug;
use wserver_api::{
    Cluster, Format, ProblemDetails, ProblemKind, RegistrationRefusal, ReplyBody, Request,
};
use wserver_auth::TokenSource;
use wserver_core::EventName;
use wserver_node::{After, OpenError};
use wserver_protocol::connection::{Code, Outcome, Refused as Told, RefusedEvent, Reply};
use wserver_protocol::{Protocol, events};

use super::handshake::Handshakes;
use crate::connection::declined;
use crate::connection::driver::Driver;
use crate::connection::pipe::pipe;
use crate::connection::registering::{Handshake, InFlight};
use crate::connection::requests::{self, InHand};
use crate::connection::wire::Socket;
use crate::counters::Authentication;
use crate::http::refused::Refused;

/// Tells nginx to pass each event on at once.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// Where an `EventSource` stands when it comes back.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Why there is no stream.
enum NoStream {
    /// The request itself cannot be served now, or never.
    Refused(Refused),
    /// The registration is refused.
    Told(Told),
}

impl From<Refused> for NoStream {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl Handshakes {
    /// Answers a request for a stream of events.
    pub(crate) async fn stream(&self, request: Request) -> Response<ReplyBody> {
        let origin = request.headers.get(ORIGIN).cloned();
        let mut reply = if request.method == Method::OPTIONS {
            preflight(self.origin.permits(&request.headers))
        } else {
            let peer = request.client;
            self.open_stream(request).await.unwrap_or_else(|no_stream| match no_stream {
                NoStream::Refused(refused) => {
                    debug!(%peer, ?refused, "stream refused");
                    self.count_refused(&refused.details());
                    refusal(&refused)
                }
                NoStream::Told(told) => refused_registration(told),
            })
        };
        self.allow(reply.headers_mut(), origin);
        reply
    }

    async fn open_stream(
        &self,
        Request { method, uri, headers, client: peer, .. }: Request,
    ) -> Result<Response<ReplyBody>, NoStream> {
        let shared = &self.shared;
        self.within_rate(peer)?;
        if method != Method::GET {
            return Err(Refused::Method { allow: "GET, OPTIONS" }.into());
        }
        if !self.origin.permits(&headers) {
            return Err(Refused::of_origin(&headers).into());
        }
        let address = self.addresses.acquire(peer)?;
        let token = match TokenSource::Authorization.token(&headers, &uri) {
            // No page sends it by itself, so it needs no setting.
            Some(token) => Some(self.within_length(token)?),
            None => self.token(&headers, &uri)?,
        };
        let Some(token) = token else {
            let detail = "the request has no token: send Authorization: Bearer, or what the setting token_source says";
            return Err(NoStream::Told(Told::new(Code::TokenMissing, detail)));
        };
        let (wanted, refused) = events_of(&uri, shared.limits.name_bytes_max);
        if wanted.is_empty() && refused.is_empty() {
            let detail = "the query must name at least one event: ?event=NAME";
            return Err(NoStream::Told(Told::new(Code::Malformed, detail)));
        }
        let digest = shared.node.digest(&token);
        let handshake_headers = self.kept_headers(&headers);
        let mut in_hand = InHand::new(0, token.into(), digest, false, wanted, refused)
            .with_after(after(&headers, &uri));
        self.judge(&mut in_hand, &handshake_headers, peer).await;
        if !in_hand.is_any_permitted() {
            return Err(NoStream::Told(why_none(in_hand)));
        }
        if self.cluster.as_ref().is_some_and(Cluster::refuses_connections) {
            return Err(Refused::CutOff.into());
        }
        let reservation = shared.node.reserve().map_err(|error| match error {
            OpenError::Full { max } => Refused::Full { max },
            _ => Refused::Draining,
        })?;
        let (writer, reader) = pipe(peer);
        let socket = Socket::Pipe(Box::new(writer));
        let attachment =
            reservation.open(socket, Protocol::Sse).map_err(|_draining| Refused::Draining)?;
        let handshake = Handshake::new(handshake_headers, None, address);
        let mut driver = Driver::new(Arc::clone(shared), attachment, peer, handshake);
        driver.begin_stream(in_hand);
        shared.node.tasks().spawn(driver);
        Ok(streaming(ReplyBody::Stream(Box::pin(reader))))
    }

    /// Asks the authenticator about each event.
    async fn judge(&self, in_hand: &mut InHand, headers: &HeaderMap, peer: SocketAddr) {
        let shared = &self.shared;
        let headers = (!headers.is_empty()).then(|| Arc::new(headers.clone()));
        while let Some(event) = in_hand.next_event() {
            let deadline = Instant::now() + shared.limits.authenticate_timeout;
            let in_flight = InFlight::begin(
                Arc::clone(&shared.authenticator),
                in_hand.token.clone(),
                in_hand.digest,
                event.clone(),
                peer,
                headers.clone(),
                deadline,
            );
            let answer = in_flight.answer().await;
            shared.counters.authentications_total.increment(Authentication::from(&answer));
            let wall = shared.wall_clock.now();
            match declined::judge(answer, &event, wall, shared.limits.name_bytes_max) {
                Ok((user, expires_at)) if in_hand.is_of(&user) => {
                    in_hand.permit(user, &event, expires_at);
                }
                Ok(_) => {
                    shared.count_refused(RegistrationRefusal::OtherUser);
                    in_hand.refuse(&event, requests::of_declined(&declined::Declined::OtherUser));
                }
                Err(declined) => {
                    shared.count_refused(declined.reason());
                    shared.node.note_registration_refused(
                        declined.user(),
                        Some(&event),
                        declined.noted(),
                    );
                    in_hand.refuse(&event, requests::of_declined(&declined));
                }
            }
        }
    }

    /// Lets pages read the answer that may connect.
    fn allow(&self, headers: &mut HeaderMap, origin: Option<HeaderValue>) {
        if self.origin.is_any() {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            return;
        }
        headers.append(VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = origin {
            // A page that may not connect gets a refusal, which it may read.
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

/// The events of the query in order, each once; those that no stream can carry are refused.
fn events_of(uri: &Uri, name_bytes_max: usize) -> (VecDeque<EventName>, Vec<RefusedEvent>) {
    let query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let names: Vec<String> =
        query.filter(|(name, _)| name == "event").map(|(_, event)| event.into_owned()).collect();
    let (events, mut refused) = requests::events_of(&names, name_bytes_max);
    let (good, bad): (VecDeque<_>, VecDeque<_>) =
        events.into_iter().partition(|event| events::check_event(event.as_str()).is_ok());
    refused.extend(bad.into_iter().filter_map(|event| {
        let error = events::check_event(event.as_str()).err()?;
        let refused = Told::new(Code::NotPermitted, format!("the event {error}"));
        Some(RefusedEvent { event: event.as_str().to_owned(), refused })
    }));
    (good, refused)
}

/// Where the client stands; the header of an `EventSource` that comes back is newer than the query.
fn after(headers: &HeaderMap, uri: &Uri) -> Option<After> {
    let header = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok());
    if let Some(position) = header.filter(|position| !position.is_empty()) {
        return Some(After::parse(position));
    }
    let mut query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    query.find(|(name, _)| name == "after").map(|(_, position)| After::parse(&position))
}

/// Why nothing is registered: the one reason, or that of the first event.
fn why_none(in_hand: InHand) -> Told {
    match in_hand.reply(None).outcome {
        Outcome::Error(told) => told,
        Outcome::Ok(granted) => granted
            .refused
            .into_iter()
            .next()
            .map(|it| it.refused)
            .unwrap_or_else(|| Told::new(Code::NotPermitted, "no event is permitted")),
    }
}

/// The answer with a stream of events.
fn streaming(body: ReplyBody) -> Response<ReplyBody> {
    let mut reply = Response::new(body);
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // Proxies must neither keep nor change it; some compress what they may change, and hold it back.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    headers.insert(BUFFERING, HeaderValue::from_static("no"));
    reply
}

/// A stream that says why it ends, and when to come back.
fn ending(told: &Told, seconds: u64) -> Response<ReplyBody> {
    let error = events::own(&Reply::error(None, told.clone()).encode());
    let last = [&events::retry(seconds.max(1) * 1000)[..], &error[..]].concat();
    streaming(ReplyBody::Stream(Box::pin(stream::iter([Bytes::from(last)]))))
}

fn problem(kind: ProblemKind, title: &'static str, detail: String) -> Response<ReplyBody> {
    ProblemDetails::new(kind, title, detail).reply(Format::Json).map(ReplyBody::Whole)
}

/// The answer to a request that cannot be served, now or ever.
fn refusal(refused: &Refused) -> Response<ReplyBody> {
    let details = refused.details();
    match details.retry_after() {
        Some(seconds) => ending(&Told::new(Code::Busy, details.detail().to_owned()), seconds),
        None => details.reply(Format::Json).map(ReplyBody::Whole),
    }
}

/// The answer to a registration that is refused as a whole.
fn refused_registration(told: Told) -> Response<ReplyBody> {
    if let Some(seconds) = told.retry_after {
        return ending(&told, seconds);
    }
    let (kind, title) = match told.code {
        Code::TokenMissing | Code::TokenRefused | Code::TokenExpired => {
            (ProblemKind::Unauthorized, "unauthorized")
        }
        Code::Malformed | Code::NameTooLong => {
            (ProblemKind::ParameterInvalid, "request data illegal")
        }
        _ => (ProblemKind::OutOfScope, "forbidden"),
    };
    problem(kind, title, told.detail)
}

/// The answer to a browser that asks whether a page may send its token in a header.
fn preflight(is_permitted: bool) -> Response<ReplyBody> {
    let mut reply = Response::new(ReplyBody::Whole(Bytes::new()));
    *reply.status_mut() = if is_permitted { StatusCode::NO_CONTENT } else { StatusCode::FORBIDDEN };
    let headers = reply.headers_mut();
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("authorization, last-event-id"),
    );
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    reply
}

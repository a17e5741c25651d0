//! Which request goes where, on one screen.
//!
//! What brings a body goes to its handler, and everything else through a tree of filters, which was
//! about a fifth of what the server executed for a push.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::Either;
use futures::{FutureExt as _, StreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::Service;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response};
use hyper_util::service::TowerToHyperService;
use warp::path::FullPath;
use warp::reply::Response as WarpResponse;
use warp::{Filter, Rejection};
use wserver_api::{
    DESCRIPTION_PATH, Format, PREFIX, Reply, ReplyBody, Request as Asked, Side, negotiate,
};

use crate::edge::Edge;
use crate::http::refused::Refused;
use crate::http::unread;
use crate::upgrade::handshake;

const LIVE_PATH: &str = "/livez";
const READY_PATH: &str = "/readyz";
const METRICS_PATH: &str = "/metrics";

/// Whether the server has something of its own there, so that no setting may take it.
pub(crate) fn is_reserved(path: &str) -> bool {
    [LIVE_PATH, READY_PATH, METRICS_PATH, DESCRIPTION_PATH].contains(&path)
        || path.starts_with(PREFIX)
}

/// The body of an answer: one piece, or what filters made.
pub(crate) type AnswerBody = http_body_util::Either<Full<Bytes>, UnsyncBoxBody<Bytes, warp::Error>>;

/// Answers one request that came from `peer`; `filters` are those of the same listener.
pub(crate) fn serve<F>(
    edge: &Arc<Edge>,
    side: Side,
    filters: &F,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> impl Future<Output = Result<Response<AnswerBody>, Infallible>> + use<F>
where
    F: Service<Request<Empty<Bytes>>, Response = WarpResponse, Error = Infallible>,
    F::Future: Send + 'static,
{
    let has_body = side.has_push() && has_body(edge, request.uri().path());
    let headers = Arc::new(std::mem::take(request.headers_mut()));
    let arrival = Asked {
        method: request.method().clone(),
        uri: request.uri().clone(),
        headers: Arc::clone(&headers),
        peer,
        client: edge.proxies.client(peer, &headers),
        side,
    };
    if let Some(elsewhere) = edge.api.pushes_elsewhere()
        && side == Side::Public
        && is_for_publishers(edge, arrival.uri.path())
    {
        let is_json = arrival.uri.path().starts_with(PREFIX);
        let format = if is_json { Format::Json } else { negotiate::format(&headers) };
        let answer = edge.api.refuse_push_here(elsewhere, format);
        let mut body = request.into_body();
        return Either::Right(
            async move {
                unread::pass_over(&headers, answer.headers(), &mut body).await;
                Ok(whole(answer))
            }
            .boxed(),
        );
    }
    if !has_body {
        request.extensions_mut().insert(arrival);
        let (head, mut body) = request.into_parts();
        let answering = filters.call(Request::from_parts(head, Empty::<Bytes>::new()));
        let answering = async move {
            let answer = answering.await.map(boxed)?;
            unread::pass_over(&headers, answer.headers(), &mut body).await;
            Ok(answer)
        };
        return Either::Right(answering.boxed());
    }
    let edge = Arc::clone(edge);
    let mut body = request.into_body();
    if arrival.uri.path() == edge.api.push_path() {
        return Either::Left(async move {
            let answer = edge.api.push(arrival, &mut body).await;
            unread::pass_over(&headers, answer.headers(), &mut body).await;
            Ok(whole(answer))
        });
    }
    // Boxed like those above: hyper keeps room for the largest, and pushes are what it mostly moves.
    let answering = async move {
        let answer = edge.api.answer(arrival, &mut body).await;
        unread::pass_over(&headers, answer.headers(), &mut body).await;
        Ok(answer.map(rendered))
    };
    Either::Right(answering.boxed())
}

/// Whether it is a path of pushes or of the API.
pub(crate) fn has_body(edge: &Edge, path: &str) -> bool {
    path == edge.api.push_path() || path.starts_with(PREFIX)
}

/// Whether only who may push, or administer, has business there.
fn is_for_publishers(edge: &Edge, path: &str) -> bool {
    path == METRICS_PATH || has_body(edge, path)
}

/// Whether it is about the server's health.
pub(crate) fn is_health(path: &str) -> bool {
    [LIVE_PATH, READY_PATH].contains(&path)
}

fn boxed(answer: WarpResponse) -> Response<AnswerBody> {
    answer.map(|body| http_body_util::Either::Right(body.boxed_unsync()))
}

/// A body as it is written.
fn rendered(body: ReplyBody) -> AnswerBody {
    match body {
        ReplyBody::Whole(bytes) => http_body_util::Either::Left(Full::new(bytes)),
        ReplyBody::Stream(parts) => {
            let parts = StreamBody::new(parts.map(|part| Ok(Frame::data(part))));
            http_body_util::Either::Right(parts.boxed_unsync())
        }
    }
}

/// An answer in one piece.
pub(crate) fn whole(reply: Reply) -> Response<AnswerBody> {
    reply.map(|body| http_body_util::Either::Left(Full::new(body)))
}

/// What a listener serves besides pushes and the API, as a service for hyper.
pub(crate) fn filters(
    edge: &Arc<Edge>,
    side: Side,
) -> impl Service<
    Request<Empty<Bytes>>,
    Response = WarpResponse,
    Error = Infallible,
    Future: Send + 'static,
> + use<> {
    TowerToHyperService::new(warp::service(tree(edge, side)))
}

/// Every request ends in a reply: what no route takes is answered 404, and so is what belongs to the other listener.
fn tree(
    edge: &Arc<Edge>,
    side: Side,
) -> impl Filter<Extract = (WarpResponse,), Error = Infallible> + Clone + Send + Sync + use<> {
    let head = warp::ext::get::<Asked>();

    let ws = at(edge.ws_path.clone(), side.has_listeners())
        .and(with(edge))
        .and(head)
        .and(warp::ext::optional::<OnUpgrade>())
        .map(handshake::upgrade);

    let description = at(DESCRIPTION_PATH.to_owned(), side.has_push())
        .and(with(edge))
        .and(warp::method())
        .map(|edge: Arc<Edge>, method| edge.api.description(&method));

    let demo = at("/".to_owned(), side.has_push())
        .and(with(edge))
        .and(warp::method())
        .map(|edge: Arc<Edge>, method| edge.api.demo_page(&method));

    let live = at(LIVE_PATH.to_owned(), true)
        .and(with(edge))
        .and(warp::method())
        .map(|edge: Arc<Edge>, method| edge.api.live(&method));
    let ready = at(READY_PATH.to_owned(), true)
        .and(with(edge))
        .and(warp::method())
        .then(|edge: Arc<Edge>, method: Method| async move { edge.api.ready(&method).await });
    let metrics = at(METRICS_PATH.to_owned(), side.has_push())
        .and(with(edge))
        .and(head)
        .then(|edge: Arc<Edge>, asked| async move { edge.api.scrape(asked).await });

    ws.map(warp::Reply::into_response)
        .or(demo
            .or(description)
            .unify()
            .or(ready.or(live).unify().or(metrics).unify())
            .unify()
            .map(warp::Reply::into_response))
        .unify()
        .recover(|_: Rejection| async {
            Ok::<_, Infallible>(Refused::NotFound.told().reply(Format::Text))
        })
        .map(warp::Reply::into_response)
}

/// Exactly this path, as the ancestor's router had it, where it is served.
fn at(path: String, is_served: bool) -> impl Filter<Extract = (), Error = Rejection> + Clone {
    let path: Arc<str> = path.into();
    warp::path::full()
        .and_then(move |full: FullPath| {
            let is_here = is_served && full.as_str() == &*path;
            async move { if is_here { Ok(()) } else { Err(warp::reject::not_found()) } }
        })
        .untuple_one()
}

fn with(
    edge: &Arc<Edge>,
) -> impl Filter<Extract = (Arc<Edge>,), Error = Infallible> + Clone + use<> {
    let edge = Arc::clone(edge);
    warp::any().map(move || Arc::clone(&edge))
}

//! Connects requests to their answers: `wserver-api` has the table of routes, and its answers
//! become warp's.
//!
//! Requests of publishers go straight to their answer, and all others through a filter of warp,
//! which was about a fifth of the instructions for a push.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::Either;
use futures::{FutureExt as _, StreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper::upgrade::OnUpgrade;
use hyper::{Request as HyperRequest, Response};
use hyper_util::service::TowerToHyperService;
use warp::path::FullPath;
use warp::reply::Response as WarpResponse;
use warp::{Filter, Rejection, Reply as _};
use wserver_api::{Api, Endpoint, Found, Reply, ReplyBody, Request, Side};

use crate::connection::wire::Socket;
use crate::http::site::Site;
use crate::http::unread;

/// The body of an answer: complete, or made by a filter.
pub(crate) type AnswerBody = http_body_util::Either<Full<Bytes>, UnsyncBoxBody<Bytes, warp::Error>>;

/// Answers one request from `peer` for the route that was found; `filters` are those of the same
/// listener.
pub(crate) fn serve<F>(
    site: &Arc<Site>,
    side: Side,
    filters: &F,
    peer: SocketAddr,
    found: Option<Found>,
    mut request: HyperRequest<Incoming>,
) -> impl Future<Output = Result<Response<AnswerBody>, Infallible>> + use<F>
where
    F: Service<HyperRequest<Empty<Bytes>>, Response = WarpResponse, Error = Infallible>,
    F::Future: Send + 'static,
{
    let headers = Arc::new(std::mem::take(request.headers_mut()));
    let asked = Request {
        method: request.method().clone(),
        uri: request.uri().clone(),
        headers: Arc::clone(&headers),
        peer,
        client: site.proxies.client(peer, &headers),
        side,
    };
    let api = Arc::clone(&site.api);
    match found {
        Some(found) if found.endpoint == Endpoint::Push => {
            let mut body = request.into_body();
            Either::Left(async move {
                let answer = api.answer_push(asked, &mut body).await;
                unread::pass_over(&headers, answer.headers(), &mut body).await;
                Ok(whole(answer))
            })
        }
        // Boxed, because hyper reserves room for the largest, and most requests are pushes.
        Some(found) if found.is_for_publishers() => {
            let mut body = request.into_body();
            let answering = async move {
                let answer = api.answer(found, asked, &mut body).await;
                unread::pass_over(&headers, answer.headers(), &mut body).await;
                Ok(any(answer))
            };
            Either::Right(answering.boxed())
        }
        _ => {
            request.extensions_mut().insert(asked);
            let (head, mut body) = request.into_parts();
            let answering = filters.call(HyperRequest::from_parts(head, Empty::<Bytes>::new()));
            let answering = async move {
                let answer = answering.await.map(boxed)?;
                unread::pass_over(&headers, answer.headers(), &mut body).await;
                Ok(answer)
            };
            Either::Right(answering.boxed())
        }
    }
}

/// A complete answer.
pub(crate) fn whole(reply: Reply) -> Response<AnswerBody> {
    reply.map(|body| http_body_util::Either::Left(Full::new(body)))
}

fn any(answer: Response<ReplyBody>) -> Response<AnswerBody> {
    let (head, body) = answer.into_parts();
    match body {
        ReplyBody::Whole(bytes) => whole(Response::from_parts(head, bytes)),
        body @ ReplyBody::Stream(_) => boxed(filtered(Response::from_parts(head, body))),
    }
}

fn boxed(answer: WarpResponse) -> Response<AnswerBody> {
    answer.map(|body| http_body_util::Either::Right(body.boxed_unsync()))
}

/// An answer in the type of filters.
fn filtered(answer: Response<ReplyBody>) -> WarpResponse {
    let (head, body) = answer.into_parts();
    let body = match body {
        ReplyBody::Whole(bytes) => Response::new(bytes).into_response().into_body(),
        ReplyBody::Stream(parts) => {
            warp::reply::stream(parts.map(Ok::<_, Infallible>)).into_response().into_body()
        }
    };
    Response::from_parts(head, body)
}

/// The part of a listener that warp serves, as a service for hyper. Requests without a route, or
/// for a route of the other listener, get 404.
pub(crate) fn filters(
    site: &Arc<Site>,
    side: Side,
) -> impl Service<
    HyperRequest<Empty<Bytes>>,
    Response = WarpResponse,
    Error = Infallible,
    Future: Send + 'static,
> + use<> {
    let not_found = |_: Rejection| async { Ok::<_, Infallible>(Api::<Socket>::not_found()) };
    let all = filter(site, side).recover(not_found).map(warp::Reply::into_response);
    TowerToHyperService::new(warp::service(all))
}

/// The routes of a listener as one filter, which rejects requests without a route.
fn filter(
    site: &Arc<Site>,
    side: Side,
) -> impl Filter<Extract = (WarpResponse,), Error = Rejection> + Clone + Send + Sync + use<> {
    let (finding, answering) = (Arc::clone(site), Arc::clone(site));
    warp::path::full()
        .and_then(move |path: FullPath| {
            let found = finding.api.find(side, path.as_str());
            async move { found.ok_or_else(warp::reject::not_found) }
        })
        .and(warp::ext::get::<Request>())
        .and(warp::ext::optional::<OnUpgrade>())
        .then(move |found: Found, asked, on_upgrade| {
            let site = Arc::clone(&answering);
            async move {
                if found.endpoint == Endpoint::WebSocket {
                    return site.handshakes.answer(asked, on_upgrade).into_response();
                }
                if found.endpoint == Endpoint::Events {
                    return filtered(site.handshakes.stream(asked).await);
                }
                filtered(site.api.answer(found, asked, Empty::<Bytes>::new()).await)
            }
        })
}

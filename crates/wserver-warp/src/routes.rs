//! The whole filter tree on one screen.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Uri};
use warp::path::FullPath;
use warp::reply::Response;
use warp::{Filter, Rejection, Reply};

use crate::api;
use crate::demo;
use crate::edge::Edge;
use crate::health;
use crate::listen::Side;
use crate::metrics;
use crate::push_api;
use crate::reply::{self, Refused};
use crate::upgrade;

const LIVE_PATH: &str = "/livez";
const READY_PATH: &str = "/readyz";
const METRICS_PATH: &str = "/metrics";

/// Whether the server has something of its own there, so that no setting may take it.
pub(crate) fn is_reserved(path: &str) -> bool {
    [LIVE_PATH, READY_PATH, METRICS_PATH, api::DESCRIPTION_PATH].contains(&path)
        || path.starts_with(api::PREFIX)
}

/// The head of a request, and where it comes from, set by the accept loop.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// Who the socket is connected to; behind a trusted proxy the client is somebody else.
    pub(crate) peer: SocketAddr,
    pub(crate) uri: Uri,
    pub(crate) headers: Arc<HeaderMap>,
}

/// Every request ends in a reply: what no route takes is answered 404, and so is what belongs to the other listener.
pub(crate) fn routes(
    edge: &Arc<Edge>,
    side: Side,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + use<> {
    let head = warp::method().and(warp::ext::get::<Arrival>());

    let ws = at(edge.ws_path.clone(), side.has_listeners())
        .and(with(edge))
        .and(head)
        .and(warp::ext::optional::<OnUpgrade>())
        .map(upgrade::upgrade);

    let push = at(edge.push_path.clone(), side.has_push())
        .and(with(edge))
        .and(head)
        .and(warp::body::stream())
        .then(push_api::push);

    let api = under(api::PREFIX, side.has_push())
        .and(with(edge))
        .and(head)
        .and(warp::body::stream())
        .then(api::serve);

    let description = at(api::DESCRIPTION_PATH.to_owned(), side.has_push())
        .and(warp::method())
        .map(api::description);

    let demo =
        at("/".to_owned(), side == Side::Whole).and(with(edge)).and(warp::method()).map(demo::page);

    let live =
        at(LIVE_PATH.to_owned(), true).and(warp::method()).map(|method| health::live(&method));
    let ready = at(READY_PATH.to_owned(), true)
        .and(with(edge))
        .and(warp::method())
        .then(|edge: Arc<Edge>, method| async move { health::ready(&edge, &method).await });
    let metrics = at(METRICS_PATH.to_owned(), side.has_push())
        .and(with(edge))
        .and(head)
        .then(move |edge, method, arrival| metrics::scrape(edge, side, method, arrival));

    // What is asked for most often stands first.
    push.or(ws)
        .unify()
        .or(demo)
        .unify()
        .or(description)
        .unify()
        .or(ready.or(live).unify().or(metrics).unify())
        .unify()
        .map(Reply::into_response)
        .or(api)
        .unify()
        .recover(|_: Rejection| async { Ok::<_, Infallible>(reply::reply(&Refused::NotFound)) })
        .map(Reply::into_response)
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

/// Every path that begins with this, where it is served.
fn under(
    prefix: &'static str,
    is_served: bool,
) -> impl Filter<Extract = (), Error = Rejection> + Clone {
    warp::path::full()
        .and_then(move |full: FullPath| {
            let is_here = is_served && full.as_str().starts_with(prefix);
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

//! The HTTP API under `/v2/`: which request is answered by whom, and who may ask.
//!
//! Every answer is JSON, refusals included (RFC 9457). Method and authorisation come before a body
//! is read. `docs/http-api.md` is the contract, `api/openapi.json` the same for programs.

mod push;
pub(crate) mod ask;
mod admin;
mod explain;
mod trace;
pub(crate) mod request;
mod show;
mod words;
pub(crate) mod idempotency;
pub(crate) mod outcome;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response};
use tracing::{Instrument as _, debug, trace_span};
use warp::Reply as _;
use warp::reply::Response as WarpResponse;

use crate::authorize;
use crate::body;
use crate::edge::Edge;
use crate::reply::{Format, Refused, Reply};
use crate::routes::Arrival;

/// What every path of the API begins with.
pub(crate) const PREFIX: &str = "/v2/";
/// Where the description of the API is served.
pub(crate) const DESCRIPTION_PATH: &str = "/openapi.json";

const DESCRIPTION: &str = include_str!("api/openapi.json");

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Push,
    Batch,
    Presence,
    UserConnections,
    Connection,
    Registrations,
    Disconnect,
    Node,
    Nodes,
    Explain,
    Trace,
}

/// Where it is asked, and by which methods.
const ENDPOINTS: [(Endpoint, &str, &str); 11] = [
    (Endpoint::Push, "/v2/push", "POST"),
    (Endpoint::Batch, "/v2/push/batch", "POST"),
    (Endpoint::Presence, "/v2/presence", "POST"),
    (Endpoint::UserConnections, "/v2/users/{user}/connections", "GET"),
    (Endpoint::Connection, "/v2/connections/{id}", "GET, DELETE"),
    (Endpoint::Registrations, "/v2/connections/{id}/registrations", "PUT, DELETE"),
    (Endpoint::Disconnect, "/v2/disconnect", "POST"),
    (Endpoint::Node, "/v2/node", "GET"),
    (Endpoint::Nodes, "/v2/nodes", "GET"),
    (Endpoint::Explain, "/v2/explain", "GET"),
    (Endpoint::Trace, "/v2/trace", "GET"),
];

/// Serves one request.
pub(crate) async fn serve(
    edge: Arc<Edge>,
    method: Method,
    arrival: Arrival,
    body: &mut Incoming,
) -> WarpResponse {
    let client = edge.proxies.client(arrival.peer, &arrival.headers);
    answer(&edge, &method, arrival, client, body).await.unwrap_or_else(|refused| {
        debug!(peer = %client, ?refused, "request refused");
        refused.told().reply(Format::Json).into_response()
    })
}

async fn answer(
    edge: &Arc<Edge>,
    method: &Method,
    arrival: Arrival,
    client: std::net::SocketAddr,
    body: &mut Incoming,
) -> Result<WarpResponse, Refused> {
    let arrived = Instant::now();
    let (endpoint, segment, methods) = find(arrival.uri.path()).ok_or(Refused::NotFound)?;
    if !methods.split(", ").any(|allowed| allowed == method.as_str()) {
        return Err(Refused::Method { allow: methods });
    }
    let (headers, uri) = (Arc::clone(&arrival.headers), arrival.uri.clone());
    if matches!(endpoint, Endpoint::Push | Endpoint::Batch) {
        let serving = async {
            let publisher = authorize::publisher(edge, arrival, client)
                .await
                .inspect_err(|refused| push::note_refused(edge, refused))?;
            let body = body::read(edge, &headers, body).await?;
            push::serve(edge, publisher, &headers, uri.path(), body, arrived).await
        };
        let span = trace_span!("push", %client);
        let served = serving
            .instrument(span)
            .await
            .inspect_err(|refused| push::count_refused(edge, refused));
        return served.map(Reply::into_response);
    }
    authorize::admin(edge, arrival, client).await?;
    let reply = match endpoint {
        Endpoint::Push | Endpoint::Batch => return Err(Refused::NotFound),
        Endpoint::Presence => admin::presence(edge, &body::read(edge, &headers, body).await?).await,
        Endpoint::Disconnect => {
            admin::disconnect(edge, &body::read(edge, &headers, body).await?).await
        }
        Endpoint::Registrations if method == Method::PUT => {
            let id = request::connection_id(&segment)?;
            admin::register(edge, id, &body::read(edge, &headers, body).await?).await
        }
        Endpoint::Registrations => {
            admin::unregister(edge, request::connection_id(&segment)?, &uri).await
        }
        Endpoint::UserConnections => {
            admin::user_connections(edge, &request::decode(&segment)?).await
        }
        Endpoint::Connection if method == Method::DELETE => {
            admin::close(edge, request::connection_id(&segment)?).await
        }
        Endpoint::Connection => admin::connection(edge, request::connection_id(&segment)?).await,
        Endpoint::Node => Ok(admin::node(edge)),
        Endpoint::Nodes => Ok(admin::nodes(edge).await),
        Endpoint::Explain => explain::explain(edge, &uri).await,
        Endpoint::Trace => return trace::trace(edge, &uri).await,
    };
    Ok(reply?.into_response())
}

/// The endpoint of a path, with what stands where its template has a name, still escaped.
fn find(path: &str) -> Option<(Endpoint, String, &'static str)> {
    ENDPOINTS.iter().find_map(|(endpoint, template, methods)| {
        let mut segment = "";
        let mut given = path.split('/');
        for expected in template.split('/') {
            let found = given.next()?;
            if expected.starts_with('{') {
                segment = found;
            } else if found != expected {
                return None;
            }
        }
        given.next().is_none().then(|| (*endpoint, segment.to_owned(), *methods))
    })
}

/// The description of the API.
#[expect(clippy::needless_pass_by_value, reason = "what warp extracts is handed over")]
pub(crate) fn description(method: Method) -> Reply {
    if method != Method::GET && method != Method::HEAD {
        return Refused::Method { allow: "GET, HEAD" }.told().reply(Format::Json);
    }
    let mut reply = Response::new(Bytes::from_static(DESCRIPTION.as_bytes()));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn paths_are_found_with_their_names() {
        for (path, expected) in [
            ("/v2/push", Some((Endpoint::Push, ""))),
            ("/v2/push/batch", Some((Endpoint::Batch, ""))),
            ("/v2/users/j%2Fk/connections", Some((Endpoint::UserConnections, "j%2Fk"))),
            ("/v2/users//connections", Some((Endpoint::UserConnections, ""))),
            ("/v2/connections/7", Some((Endpoint::Connection, "7"))),
            ("/v2/connections/7/registrations", Some((Endpoint::Registrations, "7"))),
            ("/v2/connections/7/", None),
            ("/v2/push/", None),
            ("/v2/Push", None),
            ("/v2/", None),
            ("/v2/users/a/b/connections", None),
        ] {
            let found = find(path);
            let found = found.as_ref().map(|(endpoint, segment, _)| (*endpoint, &**segment));
            assert_eq!(found, expected, "{path}");
        }
    }

    /// The description for programs names the same paths and methods, and the one for people too.
    #[test]
    fn what_is_served_is_described() {
        let document: serde_json::Value = serde_json::from_str(DESCRIPTION).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let described: BTreeSet<(&str, String)> = paths
            .iter()
            .flat_map(|(path, operations)| {
                let methods = operations.as_object().unwrap().keys();
                methods.map(move |method| (path.as_str(), method.to_uppercase()))
            })
            .filter(|(path, _)| path.starts_with(PREFIX))
            .collect();
        let served: BTreeSet<(&str, String)> = ENDPOINTS
            .iter()
            .flat_map(|(_, path, methods)| {
                methods.split(", ").map(move |method| (*path, method.to_owned()))
            })
            .collect();
        assert_eq!(described, served);
        let guide = include_str!("../../../docs/http-api.md");
        for (_, path, _) in ENDPOINTS {
            assert!(guide.contains(path), "{path} is not in docs/http-api.md");
        }
    }
}

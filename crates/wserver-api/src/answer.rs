//! The HTTP API under `/v2/`: which request is answered by whom, and who may ask.
//!
//! Every answer is JSON, refusals included (RFC 9457). Method and authorisation come before a body
//! is read. `docs/http-api.md` is the contract, `openapi.json` the same for programs.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response};
use http_body::Body;
use tracing::{Instrument as _, debug, trace_span};

use crate::api::Api;
use crate::authorize;
use crate::body;
use crate::cluster::ask;
use crate::demo;
use crate::observe::health::Verdict;
use crate::observe::{health, metrics};
use crate::operate::{admin, explain, trace};
use crate::parameters;
use crate::push::v1;
use crate::push::v2;
use crate::reply::refused::{Elsewhere, Refused};
use crate::reply::{Format, Reply, ReplyBody};
use crate::request::Request;
use futures::future::BoxFuture;
use wserver_cluster::NodeId;
use wserver_node::Wire;

/// What every path of the API begins with.
pub const PREFIX: &str = "/v2/";
/// Where the description of the API is served.
pub const DESCRIPTION_PATH: &str = "/openapi.json";

const DESCRIPTION: &str = include_str!("openapi.json");

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

impl<W: Wire> Api<W> {
    /// Answers a push of version 1.
    pub async fn push(
        self: &Arc<Self>,
        request: Request,
        body: impl Body<Data = Bytes> + Unpin,
    ) -> Reply {
        v1::push(self, request, body).await
    }

    /// Answers a request of the HTTP API.
    pub async fn answer(
        self: &Arc<Self>,
        request: Request,
        body: impl Body<Data = Bytes> + Unpin,
    ) -> Response<ReplyBody> {
        serve(self, request, body).await
    }

    /// Answers with the description of the API.
    #[must_use]
    pub fn description(&self, method: &Method) -> Reply {
        description(method)
    }

    /// Answers with the demo page.
    #[must_use]
    pub fn demo_page(&self, method: &Method) -> Reply {
        demo::page(self, method)
    }

    /// Answers as long as anything is answered.
    #[must_use]
    pub fn live(&self, method: &Method) -> Reply {
        health::live(method)
    }

    /// Answers whether the server should be sent anybody now.
    pub async fn ready(self: &Arc<Self>, method: &Method) -> Reply {
        health::ready(self, method).await
    }

    /// Answers a scrape.
    pub async fn scrape(self: &Arc<Self>, request: Request) -> Reply {
        metrics::scrape(self, request).await
    }

    /// Answers where pushes without a key are taken.
    #[must_use]
    pub fn refuse_push_here(&self, elsewhere: &Elsewhere, format: Format) -> Reply {
        Refused::PushElsewhere(elsewhere.clone()).told().reply(format)
    }

    /// Whether the server should be sent anybody now, found out by one of the runtime's workers.
    ///
    /// # Errors
    /// Why not.
    pub async fn verdict(self: &Arc<Self>) -> Verdict {
        health::verdict_of_a_worker(self).await
    }

    /// Answers another node of the cluster.
    pub fn answer_node(
        self: &Arc<Self>,
        from: NodeId,
        question: &Bytes,
    ) -> BoxFuture<'static, Option<Bytes>> {
        ask::answer(self, from, question)
    }

    /// All metrics of the server.
    #[must_use]
    pub fn metrics(&self) -> String {
        metrics::page(self)
    }
}

/// Serves one request.
pub(crate) async fn serve<W: Wire>(
    api: &Arc<Api<W>>,
    request: Request,
    body: impl Body<Data = Bytes> + Unpin,
) -> Response<ReplyBody> {
    let client = request.client;
    answer(api, request, body).await.unwrap_or_else(|refused| {
        debug!(peer = %client, ?refused, "request refused");
        refused.told().reply(Format::Json).map(ReplyBody::Whole)
    })
}

async fn answer<W: Wire>(
    api: &Arc<Api<W>>,
    request: Request,
    body: impl Body<Data = Bytes> + Unpin,
) -> Result<Response<ReplyBody>, Refused> {
    let arrived = Instant::now();
    let (method, client) = (request.method.clone(), request.client);
    let (endpoint, segment, methods) = find(request.uri.path()).ok_or(Refused::NotFound)?;
    if !methods.split(", ").any(|allowed| allowed == method.as_str()) {
        return Err(Refused::Method { allow: methods });
    }
    let (headers, uri) = (Arc::clone(&request.headers), request.uri.clone());
    if matches!(endpoint, Endpoint::Push | Endpoint::Batch) {
        let serving = async {
            let publisher = authorize::publisher(api, request)
                .await
                .inspect_err(|refused| v2::note_refused(api, refused))?;
            let body = body::read(api, &headers, body).await?;
            v2::serve(api, publisher, &headers, uri.path(), body, arrived).await
        };
        let span = trace_span!("push", %client);
        let served =
            serving.instrument(span).await.inspect_err(|refused| v2::count_refused(api, refused));
        return served.map(whole);
    }
    authorize::admin(api, request).await?;
    let reply = match endpoint {
        Endpoint::Push | Endpoint::Batch => return Err(Refused::NotFound),
        Endpoint::Presence => admin::presence(api, &body::read(api, &headers, body).await?).await,
        Endpoint::Disconnect => {
            admin::disconnect(api, &body::read(api, &headers, body).await?).await
        }
        Endpoint::Registrations if method == Method::PUT => {
            let id = parameters::connection_id(&segment)?;
            admin::register(api, id, &body::read(api, &headers, body).await?).await
        }
        Endpoint::Registrations => {
            admin::unregister(api, parameters::connection_id(&segment)?, &uri).await
        }
        Endpoint::UserConnections => {
            admin::user_connections(api, &parameters::decode(&segment)?).await
        }
        Endpoint::Connection if method == Method::DELETE => {
            admin::close(api, parameters::connection_id(&segment)?).await
        }
        Endpoint::Connection => admin::connection(api, parameters::connection_id(&segment)?).await,
        Endpoint::Node => Ok(admin::node(api)),
        Endpoint::Nodes => Ok(admin::nodes(api).await),
        Endpoint::Explain => explain::explain(api, &uri).await,
        Endpoint::Trace => return trace::trace(api, &uri).await,
    };
    reply.map(whole)
}

fn whole(reply: Reply) -> Response<ReplyBody> {
    reply.map(ReplyBody::Whole)
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
pub(crate) fn description(method: &Method) -> Reply {
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

//! The one table of routes: path, methods, listeners, and who may ask.
//!
//! A test compares it with `openapi.json` and with the guide, `docs/http-api.md`.
//!
//! `openapi.json` is written by hand. Deriving it from the types would need a macro on each type
//! and a dozen crates, for one file that a test and schemathesis compare with the server.

use http::{HeaderMap, Method};

use crate::reply::refused::Refused;
use crate::reply::{Format, negotiate};
use crate::request::Side;

/// The prefix of all paths of the HTTP API.
const PREFIX: &str = "/v2/";
/// The path of the description of the HTTP API.
const DESCRIPTION_PATH: &str = "/openapi.json";

/// What a request can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// A WebSocket, which the carrier opens.
    WebSocket,
    /// A push of version 1.
    Push,
    /// A push of the HTTP API.
    PushV2,
    /// Several pushes.
    Batch,
    /// How many connections users have.
    Presence,
    /// The connections of one user.
    UserConnections,
    /// One connection.
    Connection,
    /// Its registrations.
    Registrations,
    /// Closing connections.
    Disconnect,
    /// This node.
    Node,
    /// All nodes.
    Nodes,
    /// Why a push arrives or not.
    Explain,
    /// What happens to a user, live.
    Trace,
    /// The description of the HTTP API.
    Description,
    /// Whether the process works.
    Live,
    /// Whether the server should get traffic.
    Ready,
    /// The page of metrics.
    Metrics,
    /// The browser client.
    Client,
    /// Its types.
    ClientTypes,
    /// The demo page.
    Demo,
    /// A request that only publishers make, at an address that does not serve it without a key.
    Elsewhere,
    /// A path below the prefix of the HTTP API that does not exist.
    Unknown,
}

/// The listeners that serve a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServedAt {
    Everywhere,
    /// The listener for browsers.
    Browsers,
    /// The listener that accepts pushes.
    Backends,
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    Anybody,
    Monitoring,
    Publisher,
    Admin,
}

/// One line of the table.
#[derive(Debug)]
struct Route {
    endpoint: Endpoint,
    /// A name in braces stands for one segment, or for the path that the setting of this name
    /// gives.
    template: &'static str,
    /// The value of `Allow`.
    methods: &'static str,
    served_at: ServedAt,
    asker: Asker,
}

const fn route(
    endpoint: Endpoint,
    template: &'static str,
    methods: &'static str,
    served_at: ServedAt,
    asker: Asker,
) -> Route {
    Route { endpoint, template, methods, served_at, asker }
}

/// The table. The most frequent routes come first; the paths of the settings come before the demo
/// page, because they may replace it.
static ROUTES: [Route; 20] = {
    use Asker::{Admin, Anybody, Monitoring, Publisher};
    use Endpoint as E;
    use ServedAt::{Backends, Browsers, Everywhere};
    [
        route(E::Push, "{push_path}", "POST", Backends, Publisher),
        route(E::PushV2, "/v2/push", "POST", Backends, Publisher),
        route(E::Batch, "/v2/push/batch", "POST", Backends, Publisher),
        route(E::WebSocket, "{ws_path}", "GET", Browsers, Anybody),
        route(E::Live, "/livez", "GET, HEAD", Everywhere, Anybody),
        route(E::Ready, "/readyz", "GET, HEAD", Everywhere, Anybody),
        route(E::Client, "/wserver.js", "GET, HEAD", Browsers, Anybody),
        route(E::ClientTypes, "/wserver.d.ts", "GET, HEAD", Browsers, Anybody),
        route(E::Metrics, "/metrics", "GET, HEAD", Backends, Monitoring),
        route(E::Presence, "/v2/presence", "POST", Backends, Admin),
        route(E::UserConnections, "/v2/users/{user}/connections", "GET", Backends, Admin),
        route(E::Connection, "/v2/connections/{id}", "GET, DELETE", Backends, Admin),
        route(
            E::Registrations,
            "/v2/connections/{id}/registrations",
            "PUT, DELETE",
            Backends,
            Admin,
        ),
        route(E::Disconnect, "/v2/disconnect", "POST", Backends, Admin),
        route(E::Node, "/v2/node", "GET", Backends, Admin),
        route(E::Nodes, "/v2/nodes", "GET", Backends, Admin),
        route(E::Explain, "/v2/explain", "GET", Backends, Admin),
        route(E::Trace, "/v2/trace", "GET", Backends, Admin),
        route(E::Description, DESCRIPTION_PATH, "GET, HEAD", Backends, Anybody),
        route(E::Demo, "/", "GET, HEAD", Backends, Anybody),
    ]
};

/// Whether the server uses the path itself, so that no setting may take it. The demo page does not
/// count.
#[must_use]
pub fn is_reserved(path: &str) -> bool {
    let is_fixed = |route: &Route| route.endpoint != Endpoint::Demo && route.template == path;
    ROUTES.iter().any(is_fixed) || path.starts_with(PREFIX)
}

/// Whether it is a path of the HTTP API.
#[must_use]
pub fn is_api_path(path: &str) -> bool {
    path.starts_with(PREFIX) || path == DESCRIPTION_PATH
}

/// The route of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub endpoint: Endpoint,
    /// The value of `Allow`.
    methods: &'static str,
    pub(crate) asker: Asker,
    /// The segment at the name in the template, still escaped.
    pub(crate) segment: String,
}

impl Found {
    /// Whether it concerns the server's health.
    #[must_use]
    pub fn is_health(&self) -> bool {
        matches!(self.endpoint, Endpoint::Live | Endpoint::Ready)
    }

    /// Whether it serves only publishers and administrators.
    #[must_use]
    pub fn is_for_publishers(&self) -> bool {
        matches!(self.asker, Asker::Publisher | Asker::Admin)
    }

    pub(crate) fn check_method(&self, method: &Method) -> Result<(), Refused> {
        if self.methods.split(", ").any(|allowed| allowed == method.as_str()) {
            Ok(())
        } else {
            Err(Refused::Method { allow: self.methods })
        }
    }
}

/// The routes of one server.
#[derive(Debug)]
pub(crate) struct Routes {
    pub(crate) ws_path: String,
    pub(crate) push_path: String,
    pub(crate) has_demo: bool,
    /// Whether requests of publishers are told where to go instead.
    pub(crate) tells_elsewhere: bool,
}

impl Routes {
    /// The route at a path of a listener; `None` if there is nothing, or if the path belongs to the
    /// other listener.
    pub(crate) fn find(&self, side: Side, path: &str) -> Option<Found> {
        let found = ROUTES.iter().find_map(|route| {
            let template = match route.endpoint {
                Endpoint::WebSocket => &*self.ws_path,
                Endpoint::Push => &*self.push_path,
                Endpoint::Demo if !self.has_demo => return None,
                _ => route.template,
            };
            Some((route, segment(template, path)?))
        });
        let is_for_publishers = match found {
            Some((route, _)) => route.asker != Asker::Anybody,
            None => path.starts_with(PREFIX),
        };
        let nothing = |endpoint| Found {
            endpoint,
            methods: "",
            asker: Asker::Publisher,
            segment: String::new(),
        };
        match found {
            Some((route, segment)) if route.is_at(side) => Some(Found {
                endpoint: route.endpoint,
                methods: route.methods,
                asker: route.asker,
                segment: segment.to_owned(),
            }),
            _ if !is_for_publishers => None,
            _ if side.has_push() => Some(nothing(Endpoint::Unknown)),
            _ if self.tells_elsewhere => Some(nothing(Endpoint::Elsewhere)),
            _ => None,
        }
    }
}

impl Route {
    fn is_at(&self, side: Side) -> bool {
        match self.served_at {
            ServedAt::Everywhere => true,
            ServedAt::Browsers => side.has_websockets(),
            ServedAt::Backends => side.has_push(),
        }
    }
}

/// The segment of `path` at the name in `template`; `None` if they do not match.
fn segment<'p>(template: &str, path: &'p str) -> Option<&'p str> {
    let Some((before, rest)) = template.split_once('{') else {
        return (template == path).then_some("");
    };
    let (_, after) = rest.split_once('}')?;
    let segment = path.strip_prefix(before)?.strip_suffix(after)?;
    (!segment.contains('/')).then_some(segment)
}

/// The format of a refusal for this path and these headers.
pub(crate) fn format_of_refusal(endpoint: Endpoint, path: &str, headers: &HeaderMap) -> Format {
    match endpoint {
        _ if is_api_path(path) => Format::Json,
        Endpoint::Push | Endpoint::Elsewhere => negotiate::format(headers),
        _ => Format::Text,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn routes(tells_elsewhere: bool) -> Routes {
        let (ws_path, push_path) = ("/ws".to_owned(), "/push".to_owned());
        Routes { ws_path, push_path, has_demo: true, tells_elsewhere }
    }

    #[test]
    fn paths_are_found_with_their_names() {
        for (path, expected) in [
            ("/push", Some((Endpoint::Push, ""))),
            ("/ws", Some((Endpoint::WebSocket, ""))),
            ("/", Some((Endpoint::Demo, ""))),
            ("/v2/push", Some((Endpoint::PushV2, ""))),
            ("/v2/push/batch", Some((Endpoint::Batch, ""))),
            ("/v2/users/j%2Fk/connections", Some((Endpoint::UserConnections, "j%2Fk"))),
            ("/v2/users//connections", Some((Endpoint::UserConnections, ""))),
            ("/v2/users/connections", Some((Endpoint::Unknown, ""))),
            ("/v2/connections/7", Some((Endpoint::Connection, "7"))),
            ("/v2/connections/7/registrations", Some((Endpoint::Registrations, "7"))),
            ("/v2/connections/7/", Some((Endpoint::Unknown, ""))),
            ("/v2/push/", Some((Endpoint::Unknown, ""))),
            ("/v2/Push", Some((Endpoint::Unknown, ""))),
            ("/v2/", Some((Endpoint::Unknown, ""))),
            ("/v2/users/a/b/connections", Some((Endpoint::Unknown, ""))),
            ("/v2", None),
            ("/push/", None),
            ("/livez/", None),
            ("", None),
        ] {
            let found = routes(false).find(Side::Whole, path);
            let found = found.as_ref().map(|it| (it.endpoint, &*it.segment));
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn each_listener_has_its_routes() {
        for (path, public, elsewhere, private) in [
            ("/ws", Some(Endpoint::WebSocket), Some(Endpoint::WebSocket), None),
            ("/push", None, Some(Endpoint::Elsewhere), Some(Endpoint::Push)),
            ("/v2/node", None, Some(Endpoint::Elsewhere), Some(Endpoint::Node)),
            ("/v2/x", None, Some(Endpoint::Elsewhere), Some(Endpoint::Unknown)),
            ("/metrics", None, Some(Endpoint::Elsewhere), Some(Endpoint::Metrics)),
            ("/openapi.json", None, None, Some(Endpoint::Description)),
            ("/", None, None, Some(Endpoint::Demo)),
            ("/livez", Some(Endpoint::Live), Some(Endpoint::Live), Some(Endpoint::Live)),
        ] {
            let find = |tells_elsewhere, side| {
                routes(tells_elsewhere).find(side, path).map(|it| it.endpoint)
            };
            assert_eq!(find(false, Side::Public), public, "{path}");
            assert_eq!(find(true, Side::Public), elsewhere, "{path}");
            assert_eq!(find(true, Side::Private), private, "{path}");
        }
    }

    #[test]
    fn publishers_have_what_they_and_administrators_ask() {
        for (path, expected) in [
            ("/push", true),
            ("/v2/push/batch", true),
            ("/v2/node", true),
            ("/v2/x", true),
            ("/metrics", false),
            ("/openapi.json", false),
            ("/readyz", false),
            ("/ws", false),
        ] {
            let found = routes(false).find(Side::Whole, path).unwrap();
            assert_eq!(found.is_for_publishers(), expected, "{path}");
        }
    }

    #[test]
    fn only_the_demo_page_gives_way() {
        for (path, expected) in [
            ("/livez", true),
            ("/metrics", true),
            ("/openapi.json", true),
            ("/v2/mine", true),
            ("/", false),
            ("/ws", false),
            ("/livez/x", false),
        ] {
            assert_eq!(is_reserved(path), expected, "{path}");
        }
        let at_root = Routes { push_path: "/".to_owned(), ..routes(false) };
        assert_eq!(at_root.find(Side::Whole, "/").unwrap().endpoint, Endpoint::Push);
        let without = Routes { has_demo: false, ..routes(false) };
        assert_eq!(without.find(Side::Whole, "/"), None);
    }

    /// The description for programs and the guide for people list the same paths and methods.
    #[test]
    fn what_is_served_is_described() {
        let document: serde_json::Value =
            serde_json::from_str(include_str!("openapi.json")).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let described: BTreeSet<(&str, String)> = paths
            .iter()
            .flat_map(|(path, operations)| {
                let methods = operations.as_object().unwrap().keys();
                methods.map(move |method| (path.as_str(), method.to_uppercase()))
            })
            .filter(|(path, _)| path.starts_with(PREFIX))
            .collect();
        let of_api = || ROUTES.iter().filter(|route| route.template.starts_with(PREFIX));
        let served: BTreeSet<(&str, String)> = of_api()
            .flat_map(|route| {
                route.methods.split(", ").map(|method| (route.template, method.to_owned()))
            })
            .collect();
        assert_eq!(described, served);
        let guide = include_str!("../../../docs/http-api.md");
        for Route { template, .. } in of_api() {
            assert!(guide.contains(template), "{template} is not in docs/http-api.md");
        }
    }
}

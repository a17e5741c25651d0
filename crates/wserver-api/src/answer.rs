//! Which part answers a request: the table of routes finds it, and checks who may ask.
//!
//! Method and authorisation come before a body is read. `docs/http-api.md` is the contract,
//! `openapi.json` the same for programs.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response};
use http_body::Body;
use tracing::debug;
use wserver_node::Wire;

use crate::api::Api;
use crate::browser;
use crate::observe::{health, metrics};
use crate::operate::{admin, explain, trace};
use crate::parameters;
use crate::push::{position, v2};
use crate::reply::refused::Refused;
use crate::reply::{Format, Reply, ReplyBody};
use crate::request::{Request, Side};
use crate::routes::{self, Asker, Endpoint, Found};

const DESCRIPTION: &str = include_str!("openapi.json");

impl<W: Wire> Api<W> {
    /// What is served at a path of a listener; `None` if nothing is, or if the path belongs to the
    /// other listener. [`Api::not_found`] answers that.
    #[must_use]
    pub fn find(&self, side: Side, path: &str) -> Option<Found> {
        self.routes.find(side, path)
    }

    /// Answers a request for what was [found](Self::find) at its path.
    ///
    /// # Cancel safety
    /// If the future is dropped, the request may or may not have been carried out.
    pub async fn answer(
        self: &Arc<Self>,
        found: Found,
        request: Request,
        body: impl Body<Data = Bytes> + Unpin,
    ) -> Response<ReplyBody> {
        if found.endpoint == Endpoint::Push {
            return self.answer_push(request, body).await.map(ReplyBody::Whole);
        }
        let client = request.client;
        let format =
            routes::format_of_refusal(found.endpoint, request.uri.path(), &request.headers);
        self.serve(found, request, body).await.unwrap_or_else(|refused| {
            debug!(peer = %client, ?refused, "request refused");
            refused.details().reply(format).map(ReplyBody::Whole)
        })
    }

    /// The answer where nothing is found.
    #[must_use]
    pub fn not_found() -> Reply {
        Refused::NotFound.details().reply(Format::Text)
    }

    async fn serve(
        self: &Arc<Self>,
        found: Found,
        request: Request,
        body: impl Body<Data = Bytes> + Unpin,
    ) -> Result<Response<ReplyBody>, Refused> {
        match found.endpoint {
            Endpoint::Elsewhere => {
                let elsewhere = self.pushes_elsewhere.clone().ok_or(Refused::NotFound)?;
                return Err(Refused::PushElsewhere(elsewhere));
            }
            // The carrier opens connections.
            Endpoint::Unknown | Endpoint::WebSocket | Endpoint::Events => {
                return Err(Refused::NotFound);
            }
            _ => found.check_method(&request.method)?,
        }
        let arrived = Instant::now();
        let (method, uri) = (request.method.clone(), request.uri.clone());
        let headers = Arc::clone(&request.headers);
        match found.asker {
            // The code that handles pushes notes their refusals.
            Asker::Anybody | Asker::Publisher => {}
            Asker::Monitoring => self.authorization.monitor(request.clone()).await?,
            Asker::Admin => self.authorization.admin(request.clone()).await?,
        }
        let read = self.bodies.read(&headers, body);
        let id = || parameters::connection_id(&found.segment);
        let reply = match found.endpoint {
            Endpoint::Push | Endpoint::PushV2 | Endpoint::Batch => {
                v2::answer(self, found.endpoint, request, read, arrived).await
            }
            Endpoint::Position => position::answer(self, request, read).await,
            Endpoint::Presence => admin::presence(self, &read.await?).await,
            Endpoint::Disconnect => admin::disconnect(self, &read.await?).await,
            Endpoint::Registrations if method == Method::PUT => {
                let id = id()?;
                admin::register(self, id, &read.await?).await
            }
            Endpoint::Registrations => admin::unregister(self, id()?, &uri).await,
            Endpoint::UserConnections => {
                admin::user_connections(self, &parameters::decode(&found.segment)?).await
            }
            Endpoint::Connection if method == Method::DELETE => admin::close(self, id()?).await,
            Endpoint::Connection => admin::connection(self, id()?).await,
            Endpoint::Node => Ok(admin::node(self)),
            Endpoint::Nodes => Ok(admin::nodes(self).await),
            Endpoint::Explain => explain::explain(self, &uri).await,
            Endpoint::Trace => return trace::trace(self, &uri).await,
            Endpoint::Description => Ok(description()),
            Endpoint::Client => Ok(browser::MODULE.reply(&headers)),
            Endpoint::ClientTypes => Ok(browser::DECLARATIONS.reply(&headers)),
            Endpoint::Live => Ok(health::live()),
            Endpoint::Ready => Ok(self.health.ready().await),
            Endpoint::Metrics => metrics::scrape(self).await,
            Endpoint::Demo => self.demo_page.as_ref().map(|it| it.reply()).ok_or(Refused::NotFound),
            Endpoint::WebSocket | Endpoint::Events | Endpoint::Elsewhere | Endpoint::Unknown => {
                Err(Refused::NotFound)
            }
        };
        Ok(reply?.map(ReplyBody::Whole))
    }
}

/// The description of the HTTP API.
fn description() -> Reply {
    let mut reply = Response::new(Bytes::from_static(DESCRIPTION.as_bytes()));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use http::header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderName, WWW_AUTHENTICATE};
    use wserver_auth::StaticPushKeys;
    use wserver_core::{EventName, UserId};
    use wserver_protocol::{Protocol, frame};

    use super::*;
    use crate::authorize::open_push::OpenPushScope;
    use crate::fixture::{self, Asking, KEY, MemoryWire, asking};
    use crate::reply::refused::Elsewhere;

    #[tokio::test]
    async fn a_push_reaches_who_registered() {
        let api = fixture::api();
        let attachment = api.node().open(MemoryWire::default(), Protocol::V1).unwrap();
        let (user, event) = (UserId::parse("jack", 64), EventName::parse("news", 64));
        let token = api.node().digest("jack");
        attachment.register(&user.unwrap(), &event.unwrap(), token).unwrap();
        let v1 = r#"{"userId":"jack","event":"news","message":"one"}"#;
        let answer = asking(&api).ask(Method::POST, "/push", v1).await;
        assert_eq!((answer.status, &*answer.body), (StatusCode::OK, "message sent to 1 clients"));
        let v2 = r#"{"user":"jack","event":"news","message":"two"}"#;
        let answer = asking(&api).ask(Method::POST, "/v2/push", v2).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert!(answer.body.contains(r#""matched":1"#), "{}", answer.body);
        let frames = [frame::text("one"), frame::text("two")].concat();
        assert_eq!(attachment.outbox().wire().written(), frames);
    }

    #[tokio::test]
    async fn methods_are_refused_in_the_form_of_their_path() {
        let api = fixture::api();
        for (target, allow, is_json) in [
            ("/push", "POST", false),
            ("/v2/push", "POST", true),
            ("/v2/connections/7", "GET, DELETE", true),
            ("/openapi.json", "GET, HEAD", true),
            ("/livez", "GET, HEAD", false),
            ("/metrics", "GET, HEAD", false),
        ] {
            let answer = asking(&api).ask(Method::PATCH, target, "").await;
            assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{target}");
            assert_eq!(answer.headers[ALLOW], allow, "{target}");
            let content_type = answer.headers[CONTENT_TYPE].to_str().unwrap();
            assert_eq!(content_type.contains("json"), is_json, "{target} {content_type}");
        }
        let answer = asking(&api).get("/openapi.json").await;
        assert_eq!(answer.headers[CONTENT_TYPE], "application/json");
        assert_eq!(answer.json()["openapi"], "3.1.0");
        for (target, is_json) in [("/v2/x", true), ("/x", false), ("/", false)] {
            let answer = asking(&api).ask(Method::GET, target, "").await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{target}");
            assert_eq!(answer.body.starts_with('{'), is_json, "{target}");
        }
    }

    #[tokio::test]
    async fn each_route_asks_who_it_is() {
        let api = fixture::api_with(|it| {
            it.push_authorizer =
                Arc::new(StaticPushKeys::new(["0123456789abcdef0123456789"]).unwrap());
        });
        for (side, target, status) in [
            (Side::Whole, "/v2/node", 401),
            (Side::Whole, "/metrics", 401),
            // On a listener for backends, their monitoring may scrape too.
            (Side::Private, "/metrics", 200),
            (Side::Private, "/v2/node", 401),
            (Side::Whole, "/livez", 200),
            (Side::Whole, "/openapi.json", 200),
        ] {
            let answer = Asking { side, ..asking(&api) }.ask(Method::GET, target, "").await;
            assert_eq!(answer.status, status, "{side:?} {target}");
        }
        let answer = asking(&api).ask(Method::POST, "/push", "").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "before the body is looked at");
    }

    #[tokio::test]
    async fn an_administrator_has_a_key_that_says_so() {
        let api = fixture::api_with(|it| it.push_authorizer = Arc::new(fixture::publishers()));
        for (key, status) in [("admin", 200), ("shop", 403), ("nobody", 401)] {
            let asking = Asking { headers: &[(KEY, key)], ..asking(&api) };
            let answer = asking.get("/v2/node").await;
            assert_eq!(answer.status, status, "{key}");
            assert_eq!(asking.get("/metrics").await.status, status, "{key}");
            match status {
                403 => assert_eq!(answer.problem(), "not_admin"),
                401 => assert_eq!(answer.headers[WWW_AUTHENTICATE], "Bearer"),
                _ => {}
            }
        }
    }

    /// `allow_open_push` opens pushes, and monitoring where backends connect, but not
    /// administration. Pages of other sites are kept out of all.
    #[tokio::test]
    async fn without_a_key_a_program_on_this_machine_may_administer() {
        let proxied = [(HOST, "localhost"), (HeaderName::from_static("x-forwarded-for"), "::1")];
        let of_a_page =
            [(HOST, "localhost"), (HeaderName::from_static("sec-fetch-site"), "cross-site")];
        for (peer, headers, administers, pushes, pushes_if_open) in [
            ("127.0.0.1:5", &[(HOST, "localhost")][..], true, true, true),
            ("[::ffff:127.0.0.1]:5", &[(HOST, "localhost")], true, true, true),
            ("192.0.2.1:5", &[(HOST, "localhost")], false, true, true),
            ("127.0.0.1:5", &proxied, false, false, true),
            ("127.0.0.1:5", &[], false, false, true),
            ("127.0.0.1:5", &of_a_page, false, false, false),
        ] {
            for (scope, pushes) in
                [(OpenPushScope::Loopback, pushes), (OpenPushScope::Anyone, pushes_if_open)]
            {
                let api = fixture::api_with(|it| it.open_push = Some(scope));
                let asking = Asking { peer, headers, side: Side::Private, ..asking(&api) };
                let push = r#"{"user":"jack","event":"news","message":"m"}"#;
                for (may, answer, problem) in [
                    (administers, asking.get("/v2/node").await, "admin_needs_key"),
                    (pushes, asking.post("/v2/push", push).await, "push_needs_key"),
                ] {
                    let status = if may { 200 } else { 403 };
                    assert_eq!(answer.status, status, "{scope:?} {peer} {headers:?} {problem}");
                    assert!(may || answer.problem() == problem, "{}", answer.body);
                }
                let status = if pushes { 200 } else { 403 };
                let scraped = asking.get("/metrics").await.status;
                assert_eq!(scraped, status, "{scope:?} {peer} {headers:?}");
            }
        }
    }

    #[tokio::test]
    async fn pushes_without_a_key_are_taken_elsewhere() {
        let elsewhere = Elsewhere::At("http://127.0.0.1:22345".to_owned());
        let api = fixture::api_with(|it| {
            it.open_push = Some(OpenPushScope::Loopback);
            it.pushes_elsewhere = Some(elsewhere);
        });
        let public = Asking { side: Side::Public, ..asking(&api) };
        for target in ["/push", "/metrics", "/v2/push", "/v2/x"] {
            let answer = public.ask(Method::POST, target, "").await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{target}");
            assert!(answer.body.contains("http://127.0.0.1:22345"), "{}", answer.body);
        }
        assert_eq!(public.ask(Method::GET, "/openapi.json", "").await.status, 404);
    }

    #[tokio::test]
    async fn bodies_are_bounded() {
        let api = fixture::api();
        let long = "x".repeat(api.http_limits().push_body_bytes_max + 1);
        let answer = asking(&api).ask(Method::POST, "/v2/push", &long).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(answer.problem(), "body_too_large");
        let coded = Asking { headers: &[(CONTENT_ENCODING, "gzip")], ..asking(&api) };
        let answer = coded.ask(Method::POST, "/v2/push", "{}").await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (415, "content_coding"));
        let counted: u64 = api.pushes.refused_total.values().map(|(_, count)| count).sum();
        assert_eq!(counted, 2);
    }

    #[tokio::test]
    async fn a_key_is_answered_once() {
        let api = fixture::api();
        let headers = [(HeaderName::from_static("idempotency-key"), "a")];
        let keyed = Asking { headers: &headers, ..asking(&api) };
        let body = r#"{"user":"jack","event":"news","message":"m"}"#;
        let first = keyed.ask(Method::POST, "/v2/push", body).await;
        let again = keyed.ask(Method::POST, "/v2/push", body).await;
        assert_eq!((first.status, &first.body), (again.status, &again.body));
        assert!(!first.headers.contains_key("idempotency-replayed"));
        assert_eq!(again.headers["idempotency-replayed"], "true");
        let other = keyed.ask(Method::POST, "/v2/push", &body.replace("jack", "rose")).await;
        assert_eq!((other.status.as_u16(), &*other.problem()), (422, "idempotency_key_reused"));
    }
}

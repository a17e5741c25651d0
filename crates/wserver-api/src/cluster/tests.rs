//! What a node of a cluster answers: while its broker is down, with another node, and while that one
//! is silent.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use wserver_cluster::{Cluster, ClusterSettings, Joining, Loopback};
use wserver_core::{ConnectionId, Limits};
use wserver_protocol::v2::{self, Missed};

use crate::api::Api;
use crate::authorize::open_push::OpenPushScope;
use crate::fixture::{self, Answer, Asking, IDEMPOTENCY_KEY, MemoryWire, asking, join, soon};
use crate::observe::tests::check_page;
use crate::reply::ReplyBody;

/// A node that does not take part yet.
pub(super) fn joining(
    broker: &Loopback,
    settings: ClusterSettings,
    limits: Limits,
) -> Joining<MemoryWire> {
    let broker = Arc::new(broker.clone());
    Joining::new(limits, |_, _| None, Handle::current(), broker, settings)
}

/// Lets a node take part; a program on this machine may administer it.
pub(super) fn start(joining: Joining<MemoryWire>) -> Arc<Api<MemoryWire>> {
    let (node, cluster) = (joining.node().clone(), joining.cluster().clone());
    let mut settings = fixture::settings();
    settings.open_push = Some(OpenPushScope::Loopback);
    let api = fixture::api_of(settings, node, Some(cluster));
    let answers = Arc::downgrade(&api);
    joining.start(Box::new(move |from, question| match answers.upgrade() {
        Some(api) => api.answer_node(from, &question),
        None => Box::pin(std::future::ready(None)),
    }));
    api
}

/// A node that takes part and waits so long for the answers of others.
pub(super) fn member(
    broker: &Loopback,
    name: &str,
    answer_timeout: Duration,
) -> Arc<Api<MemoryWire>> {
    let mut settings = ClusterSettings::default();
    (settings.node_name, settings.answer_timeout) = (name.to_owned(), answer_timeout);
    start(joining(broker, settings, Limits::default()))
}

/// Waits until two nodes know each other, and so many users of each other.
pub(super) async fn know_each_other(nodes: [&Cluster<MemoryWire>; 2], remote_users: [usize; 2]) {
    for (cluster, users) in nodes.into_iter().zip(remote_users) {
        soon(async {
            while cluster.ready().is_err() || {
                let gauges = cluster.gauges();
                (gauges.nodes, gauges.remote_users) != (2, users)
            } {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

fn missing(answer: &Answer) -> Option<&str> {
    answer.headers.get("wserver-nodes-missing").map(|it| it.to_str().unwrap())
}

const V1: &str = r#"{"userId":"jack","event":"news","message":"m"}"#;
const V2: &str = r#"{"user":"jack","event":"news","message":"m"}"#;
const V2_USERS: &str = r#"{"users":["jack","jill"],"event":"news","message":"m"}"#;
const EVERYONE: &str = r#"{"everyone":true,"event":"news","message":"m"}"#;

/// Nobody knows which nodes and users there are, so every answer says that it is partial.
#[tokio::test]
async fn a_node_that_is_cut_off_says_so() {
    let broker = Loopback::default();
    broker.kill();
    let api = member(&broker, "a", Duration::from_secs(1));
    let jack = join(&api.node, MemoryWire::default(), "jack", "news");
    let every = json!(["every other node"]);

    let headers = [asking(&api).headers, &[(IDEMPOTENCY_KEY, "a")]].concat();
    let keyed = Asking { headers: &headers, ..asking(&api) };
    for answer in [asking(&api).post("/push", V1).await, keyed.post("/push", V1).await] {
        assert_eq!(answer.body, "message sent to 1 clients");
        assert_eq!(missing(&answer), Some("every other node"));
    }
    let headers = [asking(&api).headers, &[(ACCEPT, "application/json")]].concat();
    let as_json = Asking { headers: &headers, ..asking(&api) };
    for answer in [
        as_json.post("/push", V1).await,
        as_json.post("/v2/push", V2).await,
        as_json.post("/v2/push", V2_USERS).await,
        as_json.post("/v2/push", EVERYONE).await,
    ] {
        let answer = answer.json();
        let told = ["written", "nodes", "is_partial", "nodes_missing"].map(|it| &answer[it]);
        assert_eq!(told, [&json!(1), &json!(1), &json!(true), &every], "{answer}");
    }

    let users = r#"{"users":["jack"]}"#;
    for answer in [
        asking(&api).post("/v2/presence", users).await,
        asking(&api).get("/v2/users/jack/connections").await,
        asking(&api).get("/v2/explain?user=jack&event=news").await,
        asking(&api).post("/v2/disconnect", r#"{"user":"jill"}"#).await,
        asking(&api).get("/v2/nodes").await,
    ] {
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.json()["nodes_missing"], every, "{}", answer.body);
    }

    // The connection may be one of a node that is not known.
    let id = ConnectionId::new(!jack.id().as_u64());
    is_missing(&api, id, "every other node").await;
    assert_eq!(asking(&api).get("/readyz").await.status, 503);
    let node = asking(&api).get("/v2/node").await.json();
    let why = node["not_ready"].as_str().unwrap();
    assert!(why.starts_with("cut off from the cluster (loopback): "), "{why}");
    let told = asking(&api).get("/v2/explain?user=jack&event=news").await.json();
    assert_eq!(told["sentences"][1], format!("this node is not ready: {why}"));
}

/// Every request about the connection is refused because the node does not answer.
async fn is_missing(api: &Arc<Api<MemoryWire>>, id: ConnectionId, node: &str) {
    let connection = format!("/v2/connections/{id}");
    let registrations = format!("{connection}/registrations");
    let of_event = format!("{registrations}?user=jack&event=news");
    for (method, target, body) in [
        (Method::GET, &connection, ""),
        (Method::DELETE, &connection, ""),
        (Method::PUT, &registrations, r#"{"user":"jack","event":"news"}"#),
        (Method::DELETE, &of_event, ""),
    ] {
        let answer = asking(api).ask(method.clone(), target, body).await;
        let problem = (answer.status.as_u16(), answer.problem());
        assert_eq!(problem, (503, "node_missing".to_owned()), "{method} {target}");
        let detail = format!("{node} did not answer within cluster_answer_timeout");
        assert_eq!(answer.json()["detail"], detail, "{method} {target}");
    }
}

#[tokio::test]
async fn an_answer_covers_all_nodes() {
    let broker = Loopback::default();
    let [a, b] = ["a", "b"].map(|name| member(&broker, name, Duration::from_secs(30)));
    let here = join(&a.node, MemoryWire::default(), "jack", "news");
    let there = join(&b.node, MemoryWire::default(), "jack", "news");
    know_each_other([&a, &b].map(|it| it.cluster().unwrap()), [1, 1]).await;
    let a_asks = asking(&a);

    let answer = a_asks.post("/push", V1).await;
    assert_eq!((&*answer.body, missing(&answer)), ("message sent to 2 clients", None));
    for body in [V2, V2_USERS, EVERYONE] {
        let answer = a_asks.post("/v2/push", body).await.json();
        let told = ["written", "nodes", "is_partial", "nodes_missing"].map(|it| &answer[it]);
        assert_eq!(told, [&json!(2), &json!(2), &json!(false), &json!([])], "{answer}");
    }
    let answer = a_asks.post("/v2/presence", r#"{"users":["jack","jill"]}"#).await.json();
    assert_eq!(answer, json!({"online": {"jack": 2, "jill": 0}}));
    let answer = a_asks.get("/v2/users/jack/connections").await.json();
    assert_eq!(answer["count"], 2);
    let listed: Vec<[&Value; 2]> = answer["connections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| [&it["id"], &it["node"]])
        .collect();
    let ids = [&here, &there].map(|it| json!(it.id().to_string()));
    assert_eq!(listed, [[&ids[0], &json!(null)], [&ids[1], &json!("b")]]);

    let answer = a_asks.post("/v2/push", V2).await.json();
    let by_node =
        |node| json!({"node": node, "matched": 1, "written": 1, "queued": 0, "dropped": 0});
    assert_eq!(answer["by_node"], json!([by_node("a"), by_node("b")]));
    let answer = a_asks.get("/v2/explain?user=jack&event=news").await.json();
    assert_eq!(answer["now"]["would_deliver_to"], 2);
    let all = "a push of news to user jack would go to 2 connections, all there are";
    assert_eq!(answer["sentences"], json!([all]));
    let answer = a_asks.get("/v2/nodes").await.json();
    assert_eq!((&answer["broker"], answer.get("nodes_missing")), (&json!("loopback"), None));
    for (at, name) in ["a", "b"].into_iter().enumerate() {
        let node = &answer["nodes"][at];
        let told = ["name", "connections", "users"].map(|it| &node[it]);
        assert_eq!(told, [&json!(name), &json!(1), &json!(1)], "{node}");
        assert_eq!((node.get("not_ready"), node["round_trip_ms"].is_f64()), (None, name == "b"));
    }

    check_page(&a_asks.get("/metrics").await.body, true);

    let connection = format!("/v2/connections/{}", there.id());
    let registrations = format!("{connection}/registrations");
    let chat = format!("{registrations}?user=jack&event=chat");
    let put = r#"{"user":"jack","event":"chat"}"#;
    for (method, target, body) in [(Method::PUT, &registrations, put), (Method::DELETE, &chat, "")]
    {
        for is_changed in [true, false] {
            let answer = a_asks.ask(method.clone(), target, body).await.json();
            assert_eq!(answer, json!({"changed": is_changed}), "{method}");
        }
    }
    // What the other node refuses is passed on.
    let put = json!({"user": "jack", "event": "x".repeat(4097)}).to_string();
    let refused = a_asks.ask(Method::PUT, &registrations, &put).await;
    assert_eq!((refused.status.as_u16(), &*refused.problem()), (400, "name_too_long"));
    assert_eq!(refused.headers[CONTENT_TYPE], "application/problem+json");
    let found = a_asks.get(&connection).await.json();
    let told = (&found["node"], &found["registrations"]);
    assert_eq!(told, (&json!("b"), &json!({"jack": ["news"]})));
    let closed = a_asks.ask(Method::DELETE, &connection, "").await;
    assert_eq!(closed.json(), json!({"closed": 1}));
    let again = a_asks.ask(Method::DELETE, &connection, "").await;
    assert_eq!((again.status.as_u16(), &*again.problem()), (404, "connection_unknown"));
    let answer = a_asks.post("/v2/disconnect", r#"{"user":"jack"}"#).await.json();
    assert_eq!(answer, json!({"closed": 1}));
    let answer = asking(&b).get("/v2/explain?user=jack&event=news").await.json();
    let told = ["node", "what", "reason"].map(|it| &answer["recent"][1][it]);
    assert_eq!(told, ["a", "closed", "disconnected"], "{answer}");
}

/// Entries of the other node come in their order, and their number if some are missing.
#[tokio::test]
async fn a_trace_covers_all_nodes() {
    let broker = Loopback::default();
    let [a, b] = ["a", "b"].map(|name| member(&broker, name, Duration::from_secs(30)));
    know_each_other([&a, &b].map(|it| it.cluster().unwrap()), [0, 0]).await;
    let reply = asking(&a).send(Method::GET, "/v2/trace?user=jack", "").await;
    let ReplyBody::Stream(mut events) = reply.into_body() else { panic!("it is whole") };
    let _there = join(&b.node, MemoryWire::default(), "jack", "news");
    let mut next = async || {
        let event = soon(events.next()).await.unwrap();
        let (kind, data) = str::from_utf8(&event).unwrap().split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data:").unwrap()).unwrap();
        (kind.strip_prefix("event:").unwrap().to_owned(), data)
    };
    let (kind, entry) = next().await;
    let told = ["node", "user", "event"].map(|it| &entry[it]);
    assert_eq!((&*kind, told), ("registered", [&json!("b"), &json!("jack"), &json!("news")]));
    assert!(entry["sentence"].as_str().unwrap().ends_with(" was registered for news"), "{entry}");
    // It is the first stream of its node.
    let missed = v2::encode(&Missed { missed: 3 }).into();
    assert!(b.cluster().unwrap().send(a.cluster().unwrap().id(), 1, missed));
    assert_eq!(next().await, ("missed".to_owned(), json!({"missed": 3})));
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_named() {
    let broker = Loopback::default();
    let a = member(&broker, "a", Duration::from_millis(20));
    let b = member(&broker, "b", Duration::from_secs(30));
    let there = join(&b.node, MemoryWire::default(), "jack", "news");
    know_each_other([&a, &b].map(|it| it.cluster().unwrap()), [1, 0]).await;
    broker.pause_node(b.cluster().unwrap().id());
    is_missing(&a, there.id(), "b").await;
    let answer = asking(&a).post("/v2/presence", r#"{"users":["jack"]}"#).await.json();
    assert_eq!(answer, json!({"online": {"jack": 0}, "nodes_missing": ["b"]}));
    let answer = asking(&a).post("/push", V1).await;
    assert_eq!((&*answer.body, missing(&answer)), ("message sent to 0 clients", Some("b")));
}

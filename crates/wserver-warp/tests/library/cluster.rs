//! Servers of one program as nodes of a cluster, over a broker in memory.

use std::sync::Arc;
use std::time::Duration;

use wserver_warp::{
    ClusterSettings, Gathered, LimitSettings, Loopback, NoDelivery, PushOptions, Server,
    ServerBuilder, Target,
};

use crate::raw::{Raw, get, handshake};
use crate::{Running, closed, counted, eventually, heard, pass, serve};

/// Nodes that are gone without a word.
const VANISHED: &str = "wserver_cluster_nodes_vanished";

fn clustered(
    broker: &Loopback,
    name: &str,
    change: impl FnOnce(&mut ClusterSettings),
) -> ServerBuilder {
    let mut settings = ClusterSettings::default();
    settings.node_name = name.to_owned();
    change(&mut settings);
    Server::builder().cluster(Arc::new(broker.clone()), settings)
}

fn node(broker: &Loopback, name: &str) -> Running {
    serve(clustered(broker, name, |_| ()))
}

/// Waits until each of two nodes knows the other.
async fn are_in(nodes: &[&Running; 2]) {
    for node in nodes {
        let handle = &node.handle;
        let is_in = || handle.cluster_ready().is_ok() && handle.cluster_members().len() == 1;
        eventually("both are in the cluster", is_in).await;
    }
}

async fn nodes(broker: &Loopback) -> [Running; 2] {
    let nodes = ["a", "b"].map(|name| node(broker, name));
    are_in(&nodes.each_ref()).await;
    nodes
}

/// Waits until a node knows where `user` is; a push to nobody tells.
async fn until_known(node: &Running, user: &str, connections: usize) {
    let options = PushOptions::default();
    let mut known = 0;
    while known < connections {
        let gathered = node.handle.push_gathered(user, "unheard", "m", &options).await.unwrap();
        let is_there =
            |receipt: Option<NoDelivery>| receipt == Some(NoDelivery::NoRegistrationForEvent);
        known = gathered.all().filter(|(_, receipt)| is_there(receipt.reason)).count();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_handle_reaches_every_node() {
    let [a, b] = nodes(&Loopback::default()).await;
    let mut here = a.listen("jack", "news").await;
    let mut there = b.listen("jack", "news").await;
    until_known(&a, "jack", 2).await;
    assert_eq!(a.handle.push("jack", "news", "m").await, Ok(2));
    let everyone = a.handle.push_everyone("news", "all", &PushOptions::default()).await.unwrap();
    assert_eq!(everyone.total.delivered(), 2);
    for connection in [&mut here, &mut there] {
        assert_eq!(heard(connection).await, "m");
        assert_eq!(heard(connection).await, "all");
    }
    let closed_now = a.handle.disconnect_everywhere(Target::User("jack")).await.unwrap();
    assert_eq!((closed_now.here, closed_now.others.len()), (1, 1));
    assert_eq!(closed_now.others[0].1, 1);
    assert!(closed_now.is_whole());
    for connection in [&mut here, &mut there] {
        assert_eq!(closed(connection).await.0, 1000);
    }
    drop((here, there));
    assert!(a.handle.disconnect_everywhere(Target::User("")).await.is_err());
    b.shut_down().await;
    eventually("it has left", || a.handle.cluster_members().is_empty()).await;
    assert_eq!(counted(&a, VANISHED), 0, "it has said so");
    a.shut_down().await;
}

/// The others learn that a node shuts down before they must do without it, and do without it as soon
/// as its connections are closed, whatever HTTP is still kept.
#[tokio::test]
async fn a_shutdown_is_told_to_the_others() {
    let broker = Loopback::default();
    let a = node(&broker, "a");
    let builder = clustered(&broker, "b", |_| ());
    let limits = LimitSettings { drain_delay: Duration::from_secs(20), ..LimitSettings::default() };
    let b = serve(builder.limits(limits));
    are_in(&[&a, &b]).await;
    let mut kept = Raw::connect(&b).await;
    assert_eq!(kept.ask(get("/livez")).await.header("connection"), Some("keep-alive"));
    b.handle.shutdown();
    let is_draining = || a.handle.cluster_members().iter().any(|member| member.is_draining);
    eventually("it is said", is_draining).await;
    pass(Duration::from_secs(20)).await;
    eventually("it has left", || a.handle.cluster_members().is_empty()).await;
    assert_eq!(counted(&a, VANISHED), 0, "it has said so");
    assert_eq!(kept.ask(get("/livez")).await.header("connection"), Some("close"));
}

/// Clients are told to come back elsewhere; in the end nobody is let in any more.
#[tokio::test]
async fn who_is_cut_off_lets_its_clients_go() {
    let lease = Duration::from_millis(500);
    for cut_off_max in [Duration::from_secs(3600), lease] {
        let broker = Loopback::default();
        let a = serve(clustered(&broker, "a", |settings| {
            (settings.lease, settings.cut_off_max) = (lease, cut_off_max);
        }));
        eventually("it is in the cluster", || a.handle.cluster_ready().is_ok()).await;
        let (mut old, mut new) = (Raw::open(&a, &[]).await, Raw::open_v2(&a).await);
        eventually("open", || a.handle.connections_open() == 2).await;
        broker.kill();
        let (code, reason) = old.closed().await;
        assert_eq!(code, 1001);
        assert!(
            reason.starts_with("server is cut off from its cluster; reconnect in "),
            "{reason}"
        );
        let notice = new.text().await;
        assert!(notice.starts_with(r#"{"leaving":{"reason":"cut_off","in_seconds":"#), "{notice}");
        assert_eq!(new.closed().await.0, 4000);
        let answer = Raw::connect(&a).await.ask(handshake(&[])).await;
        let is_refused = cut_off_max == lease;
        assert_eq!(answer.status, if is_refused { 503 } else { 101 }, "{answer:?}");
        if is_refused {
            assert_eq!(answer.header("retry-after"), Some("5"));
            assert!(answer.header("wserver-error").unwrap().contains("cluster_cut_off_max"));
        }
    }
}

#[tokio::test]
async fn who_stands_alone_is_everywhere() {
    let alone = crate::serve_default();
    let _connection = alone.listen("jack", "news").await;
    assert_eq!(alone.handle.cluster_ready(), Ok(()));
    let closed_now = alone.handle.disconnect_everywhere(Target::Token("jack")).await.unwrap();
    assert_eq!(closed_now, Gathered::alone(1));
}

#[tokio::test]
async fn a_broker_that_cannot_be_used_is_told_before_anybody_is_served() {
    let broker = Loopback::default();
    broker.kill();
    let builder = Server::builder().cluster(Arc::new(broker.clone()), ClusterSettings::default());
    let mut server = builder.address("127.0.0.1:0").build().unwrap().bind().unwrap();
    assert_eq!(server.join().await.unwrap_err().to_string(), "it is down");
    broker.restore();
    server.join().await.unwrap();
    // Settings that cannot hold are told by the build.
    let mut settings = ClusterSettings::default();
    settings.name.clear();
    let wrong = Server::builder().cluster(Arc::new(broker), settings).build().unwrap_err();
    assert_eq!(wrong.problems()[0].settings(), ["cluster_name"], "{wrong}");
}

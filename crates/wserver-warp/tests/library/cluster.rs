//! Servers of one program as nodes of a cluster, over a broker in memory.

use std::sync::Arc;

use wserver_warp::{ClusterSettings, Gathered, Loopback, NoDelivery, PushOptions, Server, Target};

use crate::{Running, closed, eventually, heard, serve};

fn node(broker: &Loopback, name: &str) -> Running {
    let mut settings = ClusterSettings::default();
    settings.node_name = name.to_owned();
    serve(Server::builder().cluster(Arc::new(broker.clone()), settings))
}

async fn nodes(broker: &Loopback) -> [Running; 2] {
    let nodes = ["a", "b"].map(|name| node(broker, name));
    for node in &nodes {
        let handle = &node.handle;
        let is_in = || handle.cluster_ready().is_ok() && handle.cluster_members().len() == 1;
        eventually("both are in the cluster", is_in).await;
    }
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
    assert!(a.handle.disconnect_everywhere(Target::User("")).await.is_err());
    b.shut_down().await;
    eventually("it has left", || a.handle.cluster_members().is_empty()).await;
    a.shut_down().await;
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

//! Servers that go, and come again.

use std::time::Duration;

use tokio::time::timeout;
use wserver_cluster::{BrokerError, BrokerErrorKind, Link, NodeId, To};
use wserver_test_brokers::nats::{Server, Servers};
use wserver_test_brokers::process::reserved_port;

use crate::{broker, is_nats_there, open};

const PATIENCE: Duration = Duration::from_secs(30);

async fn expect_broken(link: &dyn Link) -> BrokerError {
    timeout(PATIENCE, link.broken()).await.expect("it is told that it is broken")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_breaks_the_link_and_its_successor_takes_a_new_one() {
    if !is_nats_there() {
        return;
    }
    let mut server = Server::start("");
    let broker = broker(&server.url(), |_| {});
    let node = NodeId::new(1);
    let link = open(&broker, node).await.unwrap();
    server.kill();
    let error = expect_broken(&*link).await;
    let told = format!("NATS server 127.0.0.1:{} closed the connection", server.port());
    assert_eq!((error.kind(), error.to_string()), (BrokerErrorKind::Unreachable, told));
    server.restart();
    // It stays broken, whatever comes after.
    assert_eq!(link.publish(0, vec![(To::All, "late".into())]).await.unwrap_err(), error);
    let link = open(&broker, node).await.unwrap();
    link.publish(0, vec![(To::All, "anew".into())]).await.unwrap();
}

/// There is room for one at this server, so a link that is dropped must have left it.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_dropped_leaves_the_server() {
    if !is_nats_there() {
        return;
    }
    let server = Server::start("max_connections: 1");
    let broker = broker(&server.url(), |_| {});
    for _ in 0..3 {
        let opening = async {
            loop {
                match open(&broker, NodeId::new(1)).await {
                    Ok(link) => return link,
                    Err(error) => assert_eq!(error.kind(), BrokerErrorKind::Unreachable, "{error}"),
                }
            }
        };
        drop(timeout(PATIENCE, opening).await.expect("there is room again"));
    }
}

/// A server that no longer answers is given up on, though its connection is still there.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_server_breaks_the_link() {
    if !is_nats_there() {
        return;
    }
    let server = Server::start("");
    let broker = broker(&server.url(), |it| it.connect_timeout = Duration::from_secs(1));
    let link = open(&broker, NodeId::new(1)).await.unwrap();
    server.process().pause();
    // More than the kernel takes.
    let messages = vec![(To::All, vec![0; 512 * 1024].into()); 64];
    let error = timeout(PATIENCE, link.publish(0, messages)).await.unwrap().unwrap_err();
    let told = format!("NATS server 127.0.0.1:{} accepts no messages", server.port());
    assert_eq!((error.kind(), error.to_string()), (BrokerErrorKind::Unreachable, told));
    assert_eq!(expect_broken(&*link).await, error);
    let told = format!("NATS server 127.0.0.1:{} does not answer in time", server.port());
    let error = open(&broker, NodeId::new(1)).await.err().unwrap();
    assert_eq!((error.kind(), error.to_string()), (BrokerErrorKind::Unreachable, told));
    server.process().resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_servers_the_living_one_is_found() {
    if !is_nats_there() {
        return;
    }
    let mut servers = Servers::start();
    let broker = broker(&servers.url(), |_| {});
    servers.each[0].kill();
    // Whichever comes first.
    for node in [1, 1, 2, 2] {
        let link = open(&broker, NodeId::new(node)).await.unwrap();
        link.publish(0, vec![(To::All, "here".into())]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_listens() {
    let [one, two] = [reserved_port(), reserved_port()];
    let broker = broker(&format!("nats://127.0.0.1:{one},127.0.0.1:{two}"), |_| {});
    let error = open(&broker, NodeId::new(2)).await.err().unwrap();
    let told = format!(
        "NATS server 127.0.0.1:{one} refuses the connection: nothing listens there; NATS \
         server 127.0.0.1:{two} refuses the connection: nothing listens there"
    );
    assert_eq!((error.kind(), error.to_string()), (BrokerErrorKind::Unreachable, told));
}

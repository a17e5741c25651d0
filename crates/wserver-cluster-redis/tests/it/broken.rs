//! Links that end, and those that come after them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use wserver_cluster::conformance::Ear;
use wserver_cluster::{Broker, BrokerError, BrokerErrorKind, Link, To};
use wserver_test_brokers::process::{is_there, wait_for};
use wserver_test_brokers::redis::{PROGRAM, RedisCluster, Sentinels, Standalone, ask};

use crate::broker::{broker, failure, settings};

const PATIENCE: Duration = Duration::from_secs(30);

async fn open(broker: &dyn Broker) -> (Arc<dyn Link>, Ear) {
    Ear::open(broker, 1).await.expect("the broker is there")
}

/// Waits until a link is broken, which is never for good.
async fn broken(link: &dyn Link) -> BrokerError {
    let error = timeout(PATIENCE, link.broken()).await.expect("it is noticed in time");
    assert_eq!(error.kind(), BrokerErrorKind::Unreachable, "{error}");
    assert_eq!(publish(link, 0).await.unwrap_err(), error, "and it stays so");
    error
}

async fn publish(link: &dyn Link, lane: u16) -> Result<(), BrokerError> {
    let messages = vec![(To::All, Bytes::from_static(b"hello"))];
    timeout(PATIENCE, link.publish(lane, messages)).await.expect("it ends in time")
}

/// A new link can be had, and carries.
async fn check_again(broker: &dyn Broker) {
    let (link, mut ear) = open(broker).await;
    for lane in 0..broker.lanes() {
        publish(&*link, lane).await.expect("it carries");
        assert_eq!(ear.next(lane).await, "hello");
    }
}

/// Waits for something that `words` tell.
fn wait_until(port: u16, words: &[&str], sign: &str) {
    wait_for(sign, || {
        let answer = ask(port, words)?.concat();
        answer.contains(sign).then_some(()).ok_or_else(|| io::Error::other(answer))
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn by_a_server_that_dies() {
    if !is_there(PROGRAM) {
        return;
    }
    let mut server = Standalone::start(&[]);
    let broker = broker(settings(&server.url()));
    let (link, _ear) = open(&broker).await;
    server.process().kill();
    broken(&*link).await;
    server.restart();
    check_again(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_a_server_that_hangs() {
    if !is_there(PROGRAM) {
        return;
    }
    let mut server = Standalone::start(&[]);
    let mut settings = settings(&server.url());
    settings.connect_timeout = Duration::from_millis(300);
    let broker = broker(settings);
    let said = format!("127.0.0.1:{} did not answer within 300ms", server.port());
    let (silent, _ear) = open(&broker).await;
    let (speaking, _ear) = open(&broker).await;
    server.process().pause();
    assert_eq!(publish(&*speaking, 0).await.unwrap_err().to_string(), said);
    assert_eq!(broken(&*speaking).await.to_string(), said);
    assert_eq!(broken(&*silent).await.to_string(), said, "nothing has to be said for it");
    assert_eq!(failure(&broker).await.to_string(), said);
    server.process().resume();
    check_again(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_one_of_its_connections() {
    if !is_there(PROGRAM) {
        return;
    }
    let server = Standalone::start(&[]);
    let broker = broker(settings(&server.url()));
    for kind in ["pubsub", "normal"] {
        let (link, _ear) = open(&broker).await;
        ask(server.port(), &["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]).unwrap();
        let said = format!("127.0.0.1:{} closed the connection", server.port());
        assert_eq!(broken(&*link).await.to_string(), said, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn not_by_silence_and_closed_when_dropped() {
    if !is_there(PROGRAM) {
        return;
    }
    let server = Standalone::start(&["user default on nopass ~* &* +@all -ping"]);
    let mut settings = settings(&server.url());
    settings.connect_timeout = Duration::from_secs(1);
    let broker = broker(settings);
    let (link, mut ear) = open(&broker).await;
    // Refused, which is an answer.
    wait_until(server.port(), &["CLIENT", "LIST", "TYPE", "pubsub"], " cmd=ping ");
    publish(&*link, 0).await.expect("it lives");
    assert_eq!(ear.next(0).await, "hello");
    assert_eq!(ask(server.port(), &["PUBSUB", "CHANNELS"]).unwrap().len(), 2);
    drop(link);
    wait_until(server.port(), &["INFO", "clients"], "connected_clients:1\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn by_a_fail_over_under_sentinels() {
    if !is_there(PROGRAM) {
        return;
    }
    let mut sentinels = Sentinels::new();
    let broker = broker(settings(&sentinels.url()));
    let (link, _ear) = open(&broker).await;
    let port = sentinels.master().port();
    sentinels.master().process().kill();
    broken(&*link).await;
    let error = failure(&broker).await;
    assert_eq!(error.kind(), BrokerErrorKind::Unreachable, "{error}");
    let said = "cannot be reached: Connection refused (os error 111)";
    assert_eq!(error.to_string(), format!("127.0.0.1:{port} {said}"));
    sentinels.wait_for_other_master(port);
    check_again(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_sentinels_that_choose_another_master() {
    if !is_there(PROGRAM) {
        return;
    }
    let mut sentinels = Sentinels::new();
    let mut settings = settings(&sentinels.url());
    settings.connect_timeout = Duration::from_secs(20);
    let broker = broker(settings);
    let (link, _ear) = open(&broker).await;
    let port = sentinels.master().port();
    // It cannot say so itself, and nothing it should answer is due before the Sentinels have chosen.
    sentinels.master().process().pause();
    let said = format!("the Sentinel 127.0.0.1:{} reports", sentinels.sentinels()[0].port());
    let error = broken(&*link).await.to_string();
    assert_eq!(error, format!("{said} that the master of wserver moved from 127.0.0.1:{port}"));
    sentinels.wait_for_other_master(port);
    check_again(&broker).await;
}

/// One who hangs does not keep us from asking the next.
#[tokio::test(flavor = "multi_thread")]
async fn not_by_a_sentinel_that_hangs() {
    if !is_there(PROGRAM) {
        return;
    }
    let mut sentinels = Sentinels::new();
    let broker = broker(settings(&sentinels.url()));
    sentinels.sentinels()[0].process().pause();
    check_again(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_a_slot_that_moves() {
    if !is_there(PROGRAM) {
        return;
    }
    let mut cluster = RedisCluster::new();
    let broker = broker(settings(&cluster.url()));
    let (link, _ear) = open(&broker).await;
    let from = cluster.master_of(5).port();
    cluster.move_lane(5);
    assert_ne!(cluster.master_of(5).port(), from);
    let error = broken(&*link).await.to_string();
    let said = format!("127.0.0.1:{from} ended the subscription to shop.{{5}}.");
    assert!(error.starts_with(&said), "{error}");
    check_again(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_a_fail_over_in_a_cluster() {
    if !is_there(PROGRAM) {
        return;
    }
    let mut cluster = RedisCluster::new();
    let broker = broker(settings(&cluster.url()));
    let (link, _ear) = open(&broker).await;
    let port = cluster.master_of(0).port();
    cluster.master_of(0).process().kill();
    broken(&*link).await;
    cluster.wait_for_other_master(0, port);
    check_again(&broker).await;
}

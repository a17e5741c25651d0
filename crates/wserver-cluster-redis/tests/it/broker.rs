//! What every adapter is held to, on each kind of Redis.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::time::timeout;
use wserver_cluster::conformance::{Ear, check_links};
use wserver_cluster::{BrokerError, To};
use wserver_cluster_redis::{RedisBroker, RedisSettings};
use wserver_test_brokers::process::{is_there, reserved_port, wait_for};
use wserver_test_brokers::redis::{PROGRAM, RedisCluster, Sentinels, Standalone, ask};

/// What channels begin with.
pub(crate) const CLUSTER: &str = "shop";
/// What a user needs, and no more.
pub(crate) const RIGHTS: &str = "resetchannels &shop.* +publish +subscribe +ping";
pub(crate) const CLUSTER_RIGHTS: &str =
    "resetchannels &shop.* +spublish +ssubscribe +cluster|slots +ping";

pub(crate) fn settings(url: &str) -> RedisSettings {
    RedisSettings::new(url, CLUSTER)
}

pub(crate) fn broker(settings: RedisSettings) -> RedisBroker {
    RedisBroker::new(settings).expect("the settings are good")
}

/// Why no link can be had.
pub(crate) async fn failure(broker: &RedisBroker) -> BrokerError {
    Ear::open(broker, 1).await.err().expect("there is something wrong")
}

/// An authority, and a server's certificate and key by it.
pub(crate) fn certificates() -> [String; 3] {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    [authority.pem(), certificate.pem(), key.serialize_pem()]
}

#[tokio::test]
async fn one_server() {
    if !is_there(PROGRAM) {
        return;
    }
    let server = Standalone::start(&[]);
    check_links(&broker(settings(&server.url()))).await;
}

#[tokio::test]
async fn with_a_password() {
    if !is_there(PROGRAM) {
        return;
    }
    let server = Standalone::start(&["requirepass \"open sesame\""]);
    let mut settings = settings(&server.url());
    settings.password = Some("open sesame".to_owned());
    check_links(&broker(settings)).await;
}

#[tokio::test]
async fn with_a_user_who_may_do_nothing_else() {
    if !is_there(PROGRAM) {
        return;
    }
    let user = format!("user push on >sesame {RIGHTS}");
    let server = Standalone::start(&[&user, "user default off"]);
    let mut settings = settings(&server.url());
    settings.username = Some("push".to_owned());
    settings.password = Some("sesame".to_owned());
    check_links(&broker(settings)).await;
}

#[tokio::test]
async fn over_tls() {
    if !is_there(PROGRAM) {
        return;
    }
    let [authority, certificate, key] = certificates();
    let server = Standalone::start_tls(&certificate, &key, &["requirepass sesame"]);
    let mut settings = settings(&server.url());
    settings.password = Some("sesame".to_owned());
    settings.ca_pem = Some(authority.into_bytes());
    check_links(&broker(settings)).await;
}

#[tokio::test]
async fn a_cluster_over_tls() {
    if !is_there(PROGRAM) {
        return;
    }
    let [authority, certificate, key] = certificates();
    // Of one server, which has a plain port as well: it must not be what it says of itself.
    let (plain, bus) = (reserved_port(), reserved_port());
    let ports = [format!("port {plain}"), format!("cluster-port {bus}")];
    let authority_line = "tls-ca-cert-file certificate.pem";
    let lines = [&*ports[0], &ports[1], authority_line, "cluster-enabled yes", "tls-cluster yes"];
    let server = Standalone::start_tls(&certificate, &key, &lines);
    ask(plain, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).unwrap();
    wait_for("it holds itself for whole", || {
        let answer = ask(plain, &["CLUSTER", "INFO"])?.concat();
        answer.contains("cluster_state:ok").then_some(()).ok_or_else(|| io::Error::other(answer))
    });
    let mut settings = settings(&server.url().replace("rediss", "rediss-cluster"));
    settings.ca_pem = Some(authority.into_bytes());
    check_links(&broker(settings)).await;
}

/// Answers find those who wait for them, and who gives up takes nothing from the others.
#[tokio::test]
async fn several_calls_at_once() {
    if !is_there(PROGRAM) {
        return;
    }
    const CALLS: u32 = 200;
    let server = Standalone::start(&[]);
    let broker = broker(settings(&server.url()));
    let (link, mut ear) = Ear::open(&broker, 1).await.unwrap();
    let messages = |call: u32| vec![(To::All, Bytes::copy_from_slice(&call.to_be_bytes())); 3];
    let calls = (0..CALLS).map(|call| link.publish(0, messages(call)));
    let given_up = timeout(Duration::ZERO, join_all(calls)).await;
    assert!(given_up.is_err(), "nothing is answered at once");
    let calls = (CALLS..2 * CALLS).map(|call| link.publish(0, messages(call)));
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    // Of those who gave up some had been heard; each of the others was, in the order of their calls.
    let mut heard = Vec::new();
    while heard.last() != Some(&(2 * CALLS - 1)) || heard[heard.len() - 3] != 2 * CALLS - 1 {
        heard.push(u32::from_be_bytes(ear.next(0).await[..].try_into().unwrap()));
    }
    let others = heard.iter().copied().filter(|&call| call >= CALLS);
    let expected = (CALLS..2 * CALLS).flat_map(|call| [call; 3]);
    assert!(others.eq(expected), "{heard:?}");
}

#[tokio::test]
async fn under_sentinels() {
    if !is_there(PROGRAM) {
        return;
    }
    let sentinels = Sentinels::new();
    check_links(&broker(settings(&sentinels.url()))).await;
}

#[tokio::test]
async fn a_cluster() {
    if !is_there(PROGRAM) {
        return;
    }
    let mut cluster = RedisCluster::new();
    check_links(&broker(settings(&cluster.url()))).await;
    // And with a user who may do nothing else.
    let rights = CLUSTER_RIGHTS.split(' ');
    let words = ["ACL", "SETUSER", "push", "on", ">sesame"].into_iter().chain(rights);
    let words = words.collect::<Vec<_>>();
    for server in cluster.servers() {
        ask(server.port(), &words).unwrap();
    }
    let mut settings = settings(&cluster.url());
    settings.username = Some("push".to_owned());
    settings.password = Some("sesame".to_owned());
    check_links(&broker(settings)).await;
}

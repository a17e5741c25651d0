//! What an operator reads when a broker cannot be used.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use wserver_cluster::{BrokerError, BrokerErrorKind};
use wserver_cluster_redis::{RedisBroker, RedisSettings};
use wserver_test_brokers::process::{is_there, reserved_port};
use wserver_test_brokers::redis::{PROGRAM, RedisCluster, Sentinels, Standalone, ask};

use crate::broker::{broker, certificates, failure, settings};

/// The settings lead to this message, in which `AT` is `127.0.0.1:port`.
async fn check(settings: RedisSettings, port: u16, kind: BrokerErrorKind, said: &str) {
    let error = failure(&broker(settings)).await;
    let text = error.to_string().replace(&format!("127.0.0.1:{port}"), "AT");
    assert_eq!(text, said);
    assert_eq!(error.kind(), kind, "{said}");
}

fn with_user(url: &str, username: Option<&str>, password: &str) -> RedisSettings {
    let mut settings = settings(url);
    settings.username = username.map(ToOwned::to_owned);
    settings.password = Some(password.to_owned());
    settings
}

#[test]
fn settings_are_looked_at_before_anybody_is_asked() {
    let refused = |settings| RedisBroker::new(settings).unwrap_err().to_string();
    let said = "the broker's URL contains a user or a password: set cluster_username and \
                cluster_password_file instead";
    assert_eq!(refused(settings("redis://:sesame@host")), said);
    let mut with_pem = settings("rediss://host");
    with_pem.ca_pem = Some(b"no PEM".to_vec());
    let said = "the broker's certificate authority is not a certificate in PEM";
    assert_eq!(refused(with_pem.clone()), said);
    with_pem.url = "redis-cluster://host".to_owned();
    let said = "a certificate authority is set, but the broker's URL is without TLS: write \
                rediss-cluster://";
    assert_eq!(refused(with_pem), said);
    let mut without_time = settings("redis://host");
    without_time.connect_timeout = Duration::ZERO;
    assert_eq!(refused(without_time), "the timeout for connecting to the broker is zero");
}

#[test]
fn what_is_printed_has_no_secret() {
    let mut settings = with_user("redis://host", Some("push"), "sesame");
    let printed = format!("{:?}", broker(settings.clone()));
    assert!(printed.contains("has_password: true") && !printed.contains("sesame"), "{printed}");
    settings.url = "redis://:sesame@host".to_owned();
    let printed = format!("{settings:?}");
    assert!(printed.contains("has_password: true") && !printed.contains("sesame"), "{printed}");
}

#[tokio::test]
async fn passwords_and_users() {
    use BrokerErrorKind::Refused;
    if !is_there(PROGRAM) {
        return;
    }
    let server = Standalone::start(&[
        "requirepass sesame",
        "user nothing on >sesame",
        "user speaker on >sesame resetchannels &shop.* +publish",
        "user listener on >sesame resetchannels &shop.* +subscribe",
        "user elsewhere on >sesame resetchannels &other.* +publish +subscribe",
    ]);
    let (url, port) = (server.url(), server.port());
    let said = "AT asks for a password: set cluster_password_file";
    check(settings(&url), port, Refused, said).await;
    for (user, name) in [(None, "default"), (Some("nothing"), "nothing"), (Some("who"), "who")] {
        let said = format!(
            "AT rejects user {name} with this password: check cluster_username and \
             cluster_password_file"
        );
        check(with_user(&url, user, "wrong"), port, Refused, &said).await;
    }
    let said = |user: &str, command: &str| {
        format!(
            "AT does not let user {user} {command} on shop.*: give the user the ACL rules \
             resetchannels &shop.* +publish +subscribe +ping"
        )
    };
    for (user, command) in [("speaker", "SUBSCRIBE"), ("listener", "PUBLISH")] {
        check(with_user(&url, Some(user), "sesame"), port, Refused, &said(user, command)).await;
    }
    // Who may neither is told of the one that was refused first.
    for user in ["nothing", "elsewhere"] {
        let error = failure(&broker(with_user(&url, Some(user), "sesame"))).await;
        assert_eq!(error.kind(), Refused, "{error}");
        let told = error.to_string().replace(&format!("127.0.0.1:{port}"), "AT");
        assert!([said(user, "SUBSCRIBE"), said(user, "PUBLISH")].contains(&told), "{told}");
    }
}

#[tokio::test]
async fn tls() {
    use BrokerErrorKind::{Refused, Unreachable};
    if !is_there(PROGRAM) {
        return;
    }
    let [authority, certificate, key] = certificates();
    let server = Standalone::start_tls(&certificate, &key, &[]);
    let (url, port) = (server.url(), server.port());
    let said = "AT presents a certificate that this node does not trust: invalid peer certificate: \
                UnknownIssuer";
    check(settings(&url), port, Refused, said).await;
    let said = "AT closed the connection at once: if it speaks TLS, the URL must begin with rediss";
    check(settings(&url.replace("rediss", "redis")), port, Unreachable, said).await;

    let mut trusting = settings(&url.replace("127.0.0.1", "localhost"));
    trusting.ca_pem = Some(authority.into_bytes());
    let error = failure(&broker(trusting.clone())).await.to_string();
    let said = format!("localhost:{port} presents a certificate that this node does not trust: ");
    assert!(error.starts_with(&said) && error.contains("not valid for name"), "{error}");

    let plain = Standalone::start(&[]);
    trusting.url = plain.url().replace("redis", "rediss");
    trusting.connect_timeout = Duration::from_millis(500);
    let said = "AT did not answer within 500ms";
    check(trusting.clone(), plain.port(), Unreachable, said).await;

    let lines = ["tls-auth-clients yes", "tls-ca-cert-file certificate.pem"];
    let asking = Standalone::start_tls(&certificate, &key, &lines);
    trusting.url = asking.url();
    let said = "AT demands a client certificate, but a node has only a password: set \
                tls-auth-clients no there";
    check(trusting, asking.port(), Refused, said).await;
}

#[tokio::test]
async fn one_kind_of_redis_taken_for_another() {
    use BrokerErrorKind::{Refused, Unreachable};
    if !is_there(PROGRAM) {
        return;
    }
    let mut sentinels = Sentinels::new();
    let port = sentinels.master().port();
    let said = "AT is not part of a Redis Cluster: write redis://AT";
    check(settings(&format!("redis-cluster://127.0.0.1:{port}")), port, Refused, said).await;
    let said = "AT is not a Sentinel: write the addresses of the Sentinels";
    check(settings(&format!("redis-sentinel://127.0.0.1:{port}/m")), port, Refused, said).await;
    let replica = sentinels.replica().port();
    let said = "AT is a replica now, not the master";
    check(settings(&format!("redis://127.0.0.1:{replica}")), replica, Unreachable, said).await;
    let sentinel = sentinels.sentinels()[0].port();
    let said = "AT is a Sentinel: write redis-sentinel://AT/mastername";
    check(settings(&format!("redis://127.0.0.1:{sentinel}")), sentinel, Refused, said).await;
    let url = format!("redis-sentinel://127.0.0.1:{sentinel}/other");
    let said = "the Sentinel AT knows no master named other";
    check(settings(&url), sentinel, Unreachable, said).await;

    let mut cluster = RedisCluster::new();
    let port = cluster.servers()[0].port();
    let said = "AT is part of a Redis Cluster: write redis-cluster://AT";
    check(settings(&format!("redis://127.0.0.1:{port}")), port, Refused, said).await;
    let words = ["ACL", "SETUSER", "push", "on", ">sesame", "resetchannels", "&shop.*", "+publish"];
    ask(port, &words).unwrap();
    let said = "AT does not let user push CLUSTER SLOTS on shop.*: give the user the ACL rules \
                resetchannels &shop.* +spublish +ssubscribe +cluster|slots +ping";
    let url = format!("redis-cluster://127.0.0.1:{port}");
    check(with_user(&url, Some("push"), "sesame"), port, Refused, said).await;
    // Somebody who knows no slot's master yet.
    let alone =
        Standalone::start(&["cluster-enabled yes", &format!("cluster-port {}", reserved_port())]);
    let port = alone.port();
    let said = "AT knows no server of slot 13907";
    check(settings(&format!("redis-cluster://127.0.0.1:{port}")), port, Unreachable, said).await;
}

#[tokio::test]
async fn nobody_there_or_too_many() {
    use BrokerErrorKind::Unreachable;
    let port = reserved_port();
    let said = "AT cannot be reached: Connection refused (os error 111)";
    check(settings(&format!("redis://127.0.0.1:{port}")), port, Unreachable, said).await;
    if !is_there(PROGRAM) {
        return;
    }
    let server = Standalone::start(&["maxclients 1"]);
    let said = "AT answered HELLO with: ERR max number of clients reached";
    let (url, port) = (server.url(), server.port());
    check(settings(&url), port, Unreachable, said).await;
}

/// What is said of somebody who answers `answer`, whatever is asked.
async fn said_of(answer: &str) -> BrokerError {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let server = async {
        let mut streams = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_buf(&mut Vec::new()).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            streams.push(stream);
        }
    };
    let mut settings = with_user(&format!("redis://{at}"), None, "sesame");
    settings.connect_timeout = Duration::from_millis(200);
    let broker = broker(settings);
    let error = tokio::select! {
        () = server => unreachable!("it goes on for ever"),
        error = failure(&broker) => error,
    };
    let text = error.to_string().replace(&at.to_string(), "AT");
    match error.kind() {
        BrokerErrorKind::Refused => BrokerError::refused(text),
        _ => BrokerError::unreachable(text),
    }
}

#[tokio::test]
async fn servers_that_say_something_else() {
    let no_redis = "AT does not answer like Redis: check host and port";
    for (answer, said) in [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", BrokerError::refused(no_redis)),
        ("+OK\r\n", BrokerError::refused(no_redis)),
        (
            "-ERR unknown command 'HELLO', with args beginning with: '2' 'AUTH' 'default' 'sesame'\r\n",
            BrokerError::refused(
                "AT does not know the command HELLO: Redis or Valkey 7 or newer is required",
            ),
        ),
        (
            "-ERR sesame is nothing I know\r\n",
            BrokerError::unreachable("AT answered HELLO with: ERR"),
        ),
        (
            "-LOADING Redis is loading the dataset in memory\r\n",
            BrokerError::unreachable(
                "AT answered HELLO with: LOADING Redis is loading the dataset in memory",
            ),
        ),
        (
            "-DENIED Redis is running in protected mode because ...\r\n",
            BrokerError::refused(
                "AT is in protected mode and serves only its own machine: give it a password",
            ),
        ),
        ("", BrokerError::unreachable("AT did not answer within 200ms")),
    ] {
        assert_eq!(said_of(answer).await, said, "{answer}");
    }
}

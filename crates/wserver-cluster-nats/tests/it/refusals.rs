//! What an operator reads when a server cannot be used as it is.

use wserver_cluster::{BrokerErrorKind, NodeId};
use wserver_cluster_nats::NatsSettings;
use wserver_test_brokers::nats::Server;
use wserver_test_brokers::process::Folder;

use crate::{USERS, as_node, broker, is_nats_there, open, tls};

async fn check(config: &str, scheme: &str, change: impl FnOnce(&mut NatsSettings), told: &str) {
    if !is_nats_there() {
        return;
    }
    let server = Server::start(config);
    let url = format!("{scheme}://127.0.0.1:{}", server.port());
    let error = open(&broker(&url, change), NodeId::new(1)).await.err().expect("it is refused");
    let text = error.to_string().replace(&format!(":{}", server.port()), ":PORT");
    assert_eq!((error.kind(), text.as_str()), (BrokerErrorKind::Refused, told));
}

fn user_with(permissions: &str) -> String {
    format!(
        "authorization {{ users = [ {{ user: node, password: s3cret, \
         permissions {{ {permissions} }} }} ] }}"
    )
}

#[tokio::test]
async fn a_wrong_password() {
    let told = "NATS server 127.0.0.1:PORT does not accept this user and password";
    let change = |it: &mut NatsSettings| {
        as_node(it);
        it.password = Some("wrong".to_owned());
    };
    check(USERS, "nats", change, told).await;
}

#[tokio::test]
async fn nobody() {
    let told = "NATS server 127.0.0.1:PORT requires authentication: set a user with a password, a \
                token or credentials";
    check(USERS, "nats", |_| {}, told).await;
}

#[tokio::test]
async fn a_wrong_token() {
    let told = "NATS server 127.0.0.1:PORT does not accept this token";
    let change = |it: &mut NatsSettings| it.token = Some("wrong".to_owned());
    check("authorization { token: s3cret }", "nats", change, told).await;
}

#[tokio::test]
async fn credentials_of_another_operator() {
    let told = "NATS server 127.0.0.1:PORT does not accept these credentials";
    let credentials = include_str!("user.creds").to_owned();
    check(USERS, "nats", |it| it.credentials = Some(credentials), told).await;
}

#[tokio::test]
async fn an_authority_that_is_not_trusted() {
    let folder = Folder::new();
    let (config, _) = tls(folder.path());
    let told = "NATS server 127.0.0.1:PORT: its certificate is signed by an authority that this \
                node does not trust";
    for scheme in ["tls", "nats"] {
        check(&config, scheme, |_| {}, told).await;
    }
}

#[tokio::test]
async fn a_server_without_tls() {
    let told = "NATS server 127.0.0.1:PORT: it does not speak TLS: write nats:// instead of \
                tls://, or enable TLS there";
    check("", "tls", |_| {}, told).await;
}

#[tokio::test]
async fn a_server_that_demands_certificates() {
    let folder = Folder::new();
    let (config, authority) = tls(folder.path());
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, &authority).unwrap();
    let more = format!(", ca_file: \"{}\", verify: true }}", file.display());
    let config = config.replace(" }", &more);
    let told = "NATS server 127.0.0.1:PORT: it demands client certificates, and a node has none";
    check(&config, "tls", |it| it.ca_pem = Some(authority), told).await;
}

#[tokio::test]
async fn no_right_to_publish() {
    let told = "NATS server 127.0.0.1:PORT does not allow this user to publish: grant permissions \
                { publish: \"wserver.>\", subscribe: \"wserver.>\" }";
    for publish in ["publish: \"other.>\"", "publish: { deny: \"wserver.{0}.all\" }"] {
        check(&user_with(publish), "nats", as_node, told).await;
    }
}

#[tokio::test]
async fn no_right_to_subscribe() {
    let told = "NATS server 127.0.0.1:PORT does not allow this user to subscribe: grant \
                permissions { publish: \"wserver.>\", subscribe: \"wserver.>\" }";
    for subscribe in ["subscribe: \"other.>\"", "subscribe: { deny: \"wserver.{0}.all\" }"] {
        check(&user_with(subscribe), "nats", as_node, told).await;
    }
}

#[tokio::test]
async fn a_max_payload_that_is_too_small() {
    let told = "NATS server 127.0.0.1:PORT has max_payload 65536: raise it to at least 524288";
    check("max_payload: 65536", "nats", |_| {}, told).await;
}

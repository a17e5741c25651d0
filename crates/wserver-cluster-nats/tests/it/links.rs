//! What every adapter is held to, by each way into NATS.

use std::sync::Arc;

use async_trait::async_trait;
use wserver_cluster::conformance::check_links;
use wserver_cluster::{Broker, BrokerError, Channel, Inbound, Link, NodeId, To};
use wserver_cluster_nats::NatsBroker;
use wserver_test_brokers::nats::{Server, Servers};
use wserver_test_brokers::process::Folder;

use crate::{USERS, as_node, broker, is_nats_there, tls};

/// A server that trusts an operator, and a user of it; made once, and of use nowhere else.
const OPERATOR: &str = include_str!("operator.conf");
const CREDENTIALS: &str = include_str!("user.creds");

#[tokio::test(flavor = "multi_thread")]
async fn plain() {
    if !is_nats_there() {
        return;
    }
    let server = Server::start("");
    check_links(&broker(&server.url(), |_| {})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_user_and_a_password() {
    if !is_nats_there() {
        return;
    }
    let server = Server::start(USERS);
    check_links(&broker(&server.url(), as_node)).await;
}

/// No more is needed than what the message about permissions says.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_user_of_few_rights() {
    if !is_nats_there() {
        return;
    }
    let server = Server::start(
        r#"authorization { users = [ { user: "node", password: "s3cret",
            permissions { publish: "wserver.>", subscribe: "wserver.>" } } ] }"#,
    );
    check_links(&broker(&server.url(), as_node)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token() {
    if !is_nats_there() {
        return;
    }
    let server = Server::start(r#"authorization { token: "s3cret" }"#);
    check_links(&broker(&server.url(), |it| it.token = Some("s3cret".to_owned()))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_credentials() {
    if !is_nats_there() {
        return;
    }
    let server = Server::start(OPERATOR);
    let credentials = Some(CREDENTIALS.to_owned());
    check_links(&broker(&server.url(), |it| it.credentials = credentials)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls() {
    if !is_nats_there() {
        return;
    }
    let folder = Folder::new();
    let (config, authority) = tls(folder.path());
    let server = Server::start(&format!("{config}\n{USERS}"));
    // The server demands TLS; a URL may insist on it or not.
    for scheme in ["tls", "nats"] {
        let url = format!("{scheme}://127.0.0.1:{}", server.port());
        let broker = broker(&url, |it| {
            as_node(it);
            it.ca_pem = Some(authority.clone());
        });
        check_links(&broker).await;
    }
}

/// Nodes of even number at one server, those of odd number at the other.
struct Alternating {
    servers: Servers,
    brokers: [NatsBroker; 2],
}

#[async_trait]
impl Broker for Alternating {
    fn kind(&self) -> &'static str {
        self.brokers[0].kind()
    }

    fn payload_bytes_max(&self) -> usize {
        self.brokers[0].payload_bytes_max()
    }

    async fn open(&self, node: NodeId, inbound: Inbound) -> Result<Arc<dyn Link>, BrokerError> {
        let at = usize::from(node.as_u64() % 2 == 1);
        let link = self.brokers[at].open(node, inbound).await?;
        let own = Channel { lane: 0, to: To::Node(node) };
        self.servers.wait_for_subject(1 - at, &own.name("wserver"));
        Ok(link)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn through_two_servers() {
    if !is_nats_there() {
        return;
    }
    let servers = Servers::start();
    let brokers = [0, 1].map(|at| broker(&servers.each[at].url(), |_| {}));
    check_links(&Alternating { servers, brokers }).await;
}

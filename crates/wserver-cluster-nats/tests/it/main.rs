//! The adapter against real servers; without `nats-server` these tests leave themselves out.

mod ends;
mod links;
mod refusals;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use wserver_cluster::conformance::Ear;
use wserver_cluster::{Broker, BrokerError, Link, NodeId};
use wserver_cluster_nats::{NatsBroker, NatsSettings};
use wserver_test_brokers::nats::PROGRAM;
use wserver_test_brokers::process::is_there;

/// A server's only user, who may do anything.
const USERS: &str = r#"authorization { users = [ { user: "node", password: "s3cret" } ] }"#;

/// Opens a link for a test that does not look at what arrives by it.
async fn open(broker: &dyn Broker, node: NodeId) -> Result<Arc<dyn Link>, BrokerError> {
    Ear::open(broker, node.as_u64()).await.map(|(link, _ear)| link)
}

/// Whether there is a server to start.
fn is_nats_there() -> bool {
    is_there(PROGRAM)
}

/// A broker at `url`, with these changes to its settings.
fn broker(url: &str, change: impl FnOnce(&mut NatsSettings)) -> NatsBroker {
    let mut settings = NatsSettings::new(url, "wserver");
    change(&mut settings);
    let broker = NatsBroker::new(settings).expect("the settings are good");
    assert_eq!(broker.kind(), "nats");
    broker
}

/// The user of [`USERS`].
fn as_node(settings: &mut NatsSettings) {
    settings.username = Some("node".to_owned());
    settings.password = Some("s3cret".to_owned());
}

/// A server's certificate for 127.0.0.1: the configuration that uses it, and its authority in PEM.
/// The files stand in `folder`.
fn tls(folder: &Path) -> (String, Vec<u8>) {
    let authority_key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).expect("an authority");
    let issuer = rcgen::Issuer::new(params, authority_key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let [cert_file, key_file] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
    fs::write(&cert_file, certificate.pem()).expect("a file can be written");
    fs::write(&key_file, key.serialize_pem()).expect("a file can be written");
    let config = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\" }}",
        cert_file.display(),
        key_file.display()
    );
    (config, authority.pem().into_bytes())
}

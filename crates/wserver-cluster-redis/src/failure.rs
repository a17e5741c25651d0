//! Error messages for an operator.

use std::io::{self, ErrorKind};

use rustls::AlertDescription;
use wserver_cluster::BrokerError;

use crate::Site;
use crate::address::{Address, Topology};

/// Explains an error that a server answered to `command`.
pub(crate) fn answered(site: &Site, at: &Address, command: &str, answer: &[u8]) -> BrokerError {
    let (user, cluster) = (site.access.user(), &site.cluster);
    let text = String::from_utf8_lossy(answer);
    let code = text.split_whitespace().next().unwrap_or_default();
    match code {
        "NOPERM" if command == "SENTINEL" => BrokerError::refused(format!(
            "the Sentinel {at} does not let user {user} ask for the master: give the user the ACL \
             rules &+switch-master +sentinel|get-master-addr-by-name +subscribe +ping"
        )),
        "NOPERM" => {
            let commands = match site.deployment.topology {
                Topology::Standalone | Topology::Sentinel { .. } => "+publish +subscribe +ping",
                Topology::Cluster => "+spublish +ssubscribe +cluster|slots +ping",
            };
            BrokerError::refused(format!(
                "{at} does not let user {user} {command} on {cluster}.*: give the user the ACL \
                 rules resetchannels &{cluster}.* {commands}"
            ))
        }
        "WRONGPASS" => BrokerError::refused(format!(
            "{at} rejects user {user} with this password: check cluster_username and \
             cluster_password_file"
        )),
        "NOAUTH" => {
            BrokerError::refused(format!("{at} asks for a password: set cluster_password_file"))
        }
        "DENIED" => BrokerError::refused(format!(
            "{at} is in protected mode and serves only its own machine: give it a password"
        )),
        "MOVED" => BrokerError::unreachable(format!(
            "{at} no longer serves one of this cluster's \
                                                     slots"
        )),
        _ if text.contains("unknown command") => BrokerError::refused(format!(
            "{at} does not know the command {command}: Redis or Valkey 7 or newer is required"
        )),
        _ => {
            // A server may quote input that it did not understand.
            let is_in = |secret: &str| !secret.is_empty() && text.contains(secret);
            let has_secret = site.access.password.as_deref().is_some_and(is_in);
            let text = if has_secret { code } else { &text };
            BrokerError::unreachable(format!("{at} answered {command} with: {text}"))
        }
    }
}

/// The connection to the server failed, or has ended.
pub(crate) fn broken(at: &Address, error: &io::Error) -> BrokerError {
    let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match of_tls {
        Some(rustls::Error::InvalidCertificate(_)) => BrokerError::refused(format!(
            "{at} presents a certificate that this node does not trust: {}",
            of_tls.expect("it is one")
        )),
        Some(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)) => {
            BrokerError::refused(format!(
                "{at} demands a client certificate, but a node has only a password: set \
                 tls-auth-clients no there"
            ))
        }
        Some(error) => BrokerError::refused(format!("TLS with {at} failed: {error}")),
        None => match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => {
                closed(at)
            }
            _ => BrokerError::unreachable(format!("{at} cannot be reached: {error}")),
        },
    }
}

/// The server has ended a subscription by itself: the channel's slot has moved.
pub(crate) fn deaf(at: &Address, channel: &[u8]) -> BrokerError {
    let channel = String::from_utf8_lossy(channel);
    BrokerError::unreachable(format!("{at} ended the subscription to {channel}"))
}

/// The server closed the connection.
pub(crate) fn closed(at: &Address) -> BrokerError {
    BrokerError::unreachable(format!("{at} closed the connection"))
}

/// The server closed the connection before it sent anything.
pub(crate) fn closed_at_once(at: &Address) -> BrokerError {
    let message = "closed the connection at once: if it speaks TLS, the URL must begin with rediss";
    BrokerError::unreachable(format!("{at} {message}"))
}

/// A server answers there, but it is not Redis.
pub(crate) fn no_redis(at: &Address) -> BrokerError {
    BrokerError::refused(format!("{at} does not answer like Redis: check host and port"))
}

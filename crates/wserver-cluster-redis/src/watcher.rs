//! The connection to the Sentinel that named the master: the Sentinel reports when another master
//! takes over.
//!
//! A master that is cut off from the Sentinels, but not from us, would continue to serve the nodes
//! that are connected, while all that come later go to its successor.

use std::time::Duration;

use bytes::Bytes;
use wserver_cluster::{BrokerError, BrokerErrorKind};

use crate::Site;
use crate::address::{Address, Topology};
use crate::connection::Connection;
use crate::resp;
use crate::subscription::Subscription;

/// The channel on which Sentinels publish `name old-host old-port new-host new-port`.
const CHANNEL: &[u8] = b"+switch-master";

pub(crate) struct Watcher {
    at: Address,
    master: String,
    subscription: Subscription,
}

impl Watcher {
    /// Subscribes to a Sentinel; if it does not allow that, there is no watcher.
    pub(crate) async fn open(
        site: &Site,
        connection: Connection,
    ) -> Result<Option<Self>, BrokerError> {
        let Topology::Sentinel { master } = &site.deployment.topology else { return Ok(None) };
        let at = connection.reader.at.clone();
        let mut output = Vec::new();
        resp::encode(&mut output, &[b"SUBSCRIBE", CHANNEL]);
        // The master's role, which is asked for after this, shows a move since the Sentinel's
        // answer, unless the old master has not heard of it itself; that takes more than a moment.
        let ignore = |_channel, _payload| {};
        match Subscription::open(site, connection, "SUBSCRIBE", (&output, 1), ignore).await {
            Ok(subscription) => Ok(Some(Self { at, master: master.clone(), subscription })),
            Err(error) if error.kind() == BrokerErrorKind::Refused => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Receives until the connection fails, or there is another master.
    pub(crate) async fn run(self, silence: Duration) -> BrokerError {
        let Self { at, master, subscription } = self;
        let take = |_channel: Bytes, payload: Bytes| {
            let text = String::from_utf8_lossy(&payload);
            let words = text.split(' ').collect::<Vec<_>>();
            match words.as_slice() {
                [name, host, port, ..] if *name == master => {
                    let message = format!(
                        "reports that the master of {name} moved from \
                                           {host}:{port}"
                    );
                    Err(BrokerError::unreachable(format!("the Sentinel {at} {message}")))
                }
                _ => Ok(()),
            }
        };
        subscription.run(silence, take).await
    }
}

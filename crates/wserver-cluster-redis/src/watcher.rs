//! The connection to the Sentinel that named the master: it says when another one takes over.
//!
//! A master that is cut off from the Sentinels, and not from us, would carry on for those who are
//! there, while everybody who comes later goes to its successor.

use std::time::Duration;

use bytes::Bytes;
use wserver_cluster::{BrokerError, BrokerErrorKind};

use crate::Site;
use crate::address::{Address, Topology};
use crate::connection::Connection;
use crate::resp;
use crate::subscription::Subscription;

/// Where Sentinels tell `name old-host old-port new-host new-port`.
const CHANNEL: &[u8] = b"+switch-master";

pub(crate) struct Watcher {
    at: Address,
    master: String,
    subscription: Subscription,
}

impl Watcher {
    /// Listens to a Sentinel, unless it does not let us: then there is no watcher.
    pub(crate) async fn open(
        site: &Site,
        connection: Connection,
    ) -> Result<Option<Self>, BrokerError> {
        let Topology::Sentinel { master } = &site.deployment.topology else { return Ok(None) };
        let at = connection.reader.at.clone();
        let mut output = Vec::new();
        resp::encode(&mut output, &[b"SUBSCRIBE", CHANNEL]);
        // A move since the Sentinel's answer is seen by the master's role, which is asked for after
        // this; but for a master that has not heard of it itself, which takes more than a moment.
        let ignore = |_channel, _payload| {};
        match Subscription::open(site, connection, "SUBSCRIBE", (&output, 1), ignore).await {
            Ok(subscription) => Ok(Some(Self { at, master: master.clone(), subscription })),
            Err(error) if error.kind() == BrokerErrorKind::Refused => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Listens until it can no more, or there is another master.
    pub(crate) async fn run(self, silence: Duration) -> BrokerError {
        let Self { at, master, subscription } = self;
        let take = |_channel: Bytes, payload: Bytes| {
            let text = String::from_utf8_lossy(&payload);
            let words = text.split(' ').collect::<Vec<_>>();
            match words.as_slice() {
                [name, host, port, ..] if *name == master => {
                    let message = format!("has seen the master of {name} move from {host}:{port}");
                    Err(BrokerError::unreachable(format!("the Sentinel {at} {message}")))
                }
                _ => Ok(()),
            }
        };
        subscription.run(silence, take).await
    }
}

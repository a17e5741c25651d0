//! A connection that subscribes to channels, whatever they are for.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use wserver_cluster::BrokerError;

use crate::Site;
use crate::connection::{Connection, late};
use crate::failure;
use crate::resp::{self, Reply};

pub(crate) struct Subscription {
    connection: Connection,
}

/// What arrived.
enum Heard {
    Message {
        channel: Bytes,
        payload: Bytes,
    },
    Subscribed,
    /// The server has ended a subscription by itself.
    Unsubscribed {
        channel: Bytes,
    },
    Error(Bytes),
    Pong,
    Nonsense,
}

impl Subscription {
    /// Sends `command`s that subscribe to `channels` channels, and waits until all are confirmed.
    ///
    /// Messages that arrive meanwhile go to `take`, so none is lost between two confirmations.
    pub(crate) async fn open(
        site: &Site,
        mut connection: Connection,
        command: &str,
        (output, channels): (&[u8], usize),
        mut take: impl FnMut(Bytes, Bytes),
    ) -> Result<Self, BrokerError> {
        connection.writer.send(output).await?;
        let mut missing = channels;
        while missing > 0 {
            let reply = connection.reader.next().await?;
            let at = &connection.reader.at;
            match hear(reply) {
                Heard::Message { channel, payload } => take(channel, payload),
                Heard::Pong => {}
                Heard::Subscribed => missing -= 1,
                Heard::Error(answer) => {
                    return Err(failure::answered(site, at, command, &answer));
                }
                Heard::Unsubscribed { channel } => return Err(failure::deaf(at, &channel)),
                Heard::Nonsense => return Err(failure::no_redis(at)),
            }
        }
        Ok(Self { connection })
    }

    /// Receives until the connection fails or `take` returns an error. A server that is silent for
    /// `silence` gets a PING.
    pub(crate) async fn run(
        self,
        silence: Duration,
        mut take: impl FnMut(Bytes, Bytes) -> Result<(), BrokerError>,
    ) -> BrokerError {
        let Connection { mut reader, mut writer } = self.connection;
        let mut ping = Vec::new();
        resp::encode(&mut ping, &[b"PING"]);
        let mut ticks = interval_at(Instant::now() + silence, silence);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_asked = false;
        loop {
            let reply = tokio::select! {
                // Data that has arrived takes precedence over the elapsed time.
                biased;
                reply = reader.next() => reply,
                _ = ticks.tick() => {
                    if is_asked {
                        return late(&reader.at, silence);
                    }
                    is_asked = true;
                    match writer.send(&ping).await {
                        Ok(()) => continue,
                        Err(error) => return error,
                    }
                }
            };
            is_asked = false;
            let taken = match reply.map(hear) {
                Ok(Heard::Message { channel, payload }) => take(channel, payload),
                // An error, for a user that may not send PING, is an answer too.
                Ok(Heard::Subscribed | Heard::Pong | Heard::Error(_)) => Ok(()),
                Ok(Heard::Unsubscribed { channel }) => Err(failure::deaf(&reader.at, &channel)),
                Ok(Heard::Nonsense) => Err(failure::no_redis(&reader.at)),
                Err(error) => Err(error),
            };
            if let Err(error) = taken {
                return error;
            }
        }
    }
}

fn hear(reply: Reply) -> Heard {
    let fields = match reply {
        Reply::Array(fields) => fields,
        Reply::Error(answer) => return Heard::Error(answer),
        // A Sentinel's answer to PING.
        Reply::Status(_) => return Heard::Pong,
        _ => return Heard::Nonsense,
    };
    let mut fields = fields.into_iter();
    let (Some(Reply::Bulk(kind)), Some(Reply::Bulk(channel))) = (fields.next(), fields.next())
    else {
        return Heard::Nonsense;
    };
    match (&kind[..], fields.next()) {
        (b"message" | b"smessage", Some(Reply::Bulk(payload))) => {
            Heard::Message { channel, payload }
        }
        (b"subscribe" | b"ssubscribe", _) => Heard::Subscribed,
        (b"unsubscribe" | b"sunsubscribe", _) => Heard::Unsubscribed { channel },
        (b"pong", None) => Heard::Pong,
        _ => Heard::Nonsense,
    }
}

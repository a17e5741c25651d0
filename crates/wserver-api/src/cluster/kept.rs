//! What another node has kept for a connection that comes back here.

use std::time::Duration;

use bytes::Bytes;
use wserver_core::{ConnectionId, LogId, Position, UserId};
use wserver_node::{GapReason, Missed, Wire};
use wserver_protocol::v2::{self, Answer, Kept, KeptMessage, Question};

use crate::api::Api;
use crate::cluster::{Cluster, Whom};
use crate::parameters;
use crate::reply::refused::Refused;

/// How long to wait before asking: until the other nodes have learnt that the user is here too.
/// What they push later comes here; what they have pushed earlier is there. They learn it within a
/// tenth of a second, unless the broker is slow.
const SETTLE: Duration = Duration::from_millis(300);

/// The messages that another node has kept for `user` behind a position, all of them.
///
/// # Errors
/// Why not all of them are there; [`GapReason::NodeGone`] if the node does not answer.
///
/// # Cancel safety
/// Cancel safe.
pub async fn fetch_kept<W: Wire>(
    cluster: Cluster<W>,
    user: UserId,
    after: Position,
) -> Result<Vec<Missed>, GapReason> {
    tokio::time::sleep(SETTLE).await;
    let question = Question::Kept { user: user.as_str().to_owned(), after: after.to_string() };
    let question = Bytes::from(v2::encode(&question));
    let read = |answer: &[u8], _took| match Answer::<Kept>::parse(answer)? {
        Answer::Ok(kept) => Some(Some(kept)),
        Answer::Problem(_) => None,
    };
    let whom = Whom::ConnectionsNode(connection_of(after.log));
    let gathered = cluster.ask(whom, question, std::future::ready(None), read).await;
    let kept = gathered.others.into_iter().find_map(|(_, kept)| kept);
    let Kept { messages, gap } = kept.ok_or(GapReason::NodeGone)?;
    if let Some(gap) = gap {
        // A later release may have other reasons.
        return Err(GapReason::from_word(&gap).unwrap_or(GapReason::Expired));
    }
    let missed = messages.into_iter().map(|KeptMessage { event, id, at, message }| Missed {
        event,
        id,
        at,
        message,
    });
    Ok(missed.collect())
}

/// A connection of the node that has the log: the bits above a connection's number are the node's.
fn connection_of(log: LogId) -> ConnectionId {
    ConnectionId::new(u64::from(log.home()) << 40)
}

/// Answers another node.
pub(crate) fn kept_here<W: Wire>(api: &Api<W>, user: &str, after: &str) -> Result<Kept, Refused> {
    let user = parameters::user(&api.limits, "user", user)?;
    let Some(after) = Position::parse(after) else {
        return Err(Refused::Parameter { name: "after", problem: "is no position" });
    };
    Ok(match api.node.missed(&user, after) {
        Ok(kept) => {
            let messages = kept.iter().map(|kept| KeptMessage {
                event: kept.event.as_str().to_owned(),
                id: kept.id.to_string(),
                at: kept.at.to_string(),
                message: kept.message().to_owned(),
            });
            Kept { messages: messages.collect(), gap: None }
        }
        Err(gap) => Kept { messages: Vec::new(), gap: Some(gap.as_str().to_owned()) },
    })
}

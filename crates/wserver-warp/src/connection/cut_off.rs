//! What becomes of the connections of a node that its cluster does not reach: they are told to go, so
//! that they come back where they are reached.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use wserver_cluster::CutOff;

use crate::connection::close;
use crate::edge::Edge;

/// How often it is looked whether somebody was on the way in when nobody was to be taken in any more.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Lets connections go whenever the cluster says so, until `stop`: a shutdown does it by itself.
pub(crate) async fn run(
    edge: Arc<Edge>,
    mut cut_off: watch::Receiver<CutOff>,
    stop: CancellationToken,
) {
    tokio::select! {
        () = let_go(&edge, &mut cut_off) => {}
        () = stop.cancelled() => {}
        () = edge.node.tasks().stopped() => {}
    }
}

/// Ends with the cluster.
async fn let_go(edge: &Edge, cut_off: &mut watch::Receiver<CutOff>) {
    let goodbyes = close::goodbyes_of_cut_off(edge.goodbye_code);
    let release = async || {
        let told = edge.node.release(edge.limits.drain_spread, &goodbyes).await;
        if told > 0 {
            warn!(connections = told, "cut off from the cluster: connections were told to go");
        }
    };
    loop {
        let state = *cut_off.borrow_and_update();
        let changed = match state {
            // Once: who comes back has found nothing better. Who has not been told when the node is
            // back stays.
            CutOff::Released => {
                tokio::select! {
                    () = release() => cut_off.changed().await,
                    changed = cut_off.changed() => changed,
                }
            }
            CutOff::Refused => {
                release().await;
                let changed = tokio::time::timeout(LOOK_AGAIN, cut_off.changed()).await;
                changed.unwrap_or(Ok(()))
            }
            _ => cut_off.changed().await,
        };
        if changed.is_err() {
            return;
        }
    }
}

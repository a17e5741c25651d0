//! What becomes of the connections of a node that its cluster does not reach: they are told to go, so
//! that they come back where they are reached.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use wserver_cluster::CutOff;
use wserver_core::CloseReason;
use wserver_node::Node;
use wserver_protocol::CloseCode;

use crate::connection::close;
use crate::connection::wire::Socket;

/// How often it is looked whether somebody was on the way in when nobody was to be taken in any more.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Lets connections go whenever the cluster says so, each slot of them within `spread`, until `stop`:
/// a shutdown does it by itself.
pub(crate) async fn run(
    node: Node<Socket>,
    spread: Duration,
    goodbye_code: CloseCode,
    mut cut_off: watch::Receiver<CutOff>,
    stop: CancellationToken,
) {
    tokio::select! {
        () = let_go(&node, spread, goodbye_code, &mut cut_off) => {}
        () = stop.cancelled() => {}
        () = node.tasks().stopped() => {}
    }
}

/// Ends with the cluster.
async fn let_go(
    node: &Node<Socket>,
    spread: Duration,
    goodbye_code: CloseCode,
    cut_off: &mut watch::Receiver<CutOff>,
) {
    let goodbyes = close::goodbyes(CloseReason::CutOff, goodbye_code);
    let release = async || {
        let told = node.release(spread, &goodbyes).await;
        if told > 0 {
            warn!(
                connections = told,
                "cut off from the cluster: connections are told to reconnect"
            );
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

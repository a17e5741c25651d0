//! Closes the connections of a node that is cut off from its cluster, so that their clients come
//! back at a node that is not.

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

/// How often to look for connections that were on their way in when the node stopped accepting
/// them.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Closes connections whenever the cluster asks for it, spread over `spread`, until `stop`: a
/// shutdown closes them itself.
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
            // Only once: clients that come back have found no better node. Connections that are
            // still open when the node is back stay open.
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

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use wserver_core::LimitSettings;
    use wserver_protocol::Protocol;

    use super::*;
    use crate::connection::wire;

    /// A handshake that is accepted just before the node refuses them opens a connection just after.
    #[tokio::test(start_paused = true)]
    async fn who_was_on_the_way_in_is_let_go_too() {
        let limits = LimitSettings::default().build().unwrap();
        let node = Node::new(limits, close::close_frame, tokio::runtime::Handle::current());
        let (told, cut_off) = watch::channel(CutOff::Refused);
        let code = CloseCode::GOING_AWAY;
        let running = run(node.clone(), Duration::ZERO, code, cut_off, CancellationToken::new());
        node.tasks().spawn(running);
        // Time passes as soon as nothing else is to be done.
        for _ in 0..2 {
            tokio::time::sleep(LOOK_AGAIN / 2).await;
            let (socket, mut peer) = wire::pair().unwrap();
            let attachment = node.reserve().unwrap().open(socket, Protocol::V1).unwrap();
            tokio::time::sleep(LOOK_AGAIN).await;
            let mut close = [0; 4];
            peer.read_exact(&mut close).unwrap();
            assert_eq!(u16::from_be_bytes([close[2], close[3]]), 1001);
            drop(attachment);
        }
        drop(told);
    }
}

//! The numbers of nodes and of their connections, which no two nodes of a cluster share.

use wserver_core::ConnectionId;
use wserver_node::NodeId;

/// The low bits of a connection's id, which number the connections of one node; the bits above
/// identify the node.
const CONNECTION_BITS: u32 = 40;

/// An id that no other node has or had.
pub(crate) fn new_id() -> NodeId {
    let mut bytes = [0; 8];
    // Without randomness from the system nothing could start, because hash maps need it too.
    getrandom::fill(&mut bytes).expect("the system has randomness");
    // The bits that mark a node's connections must not be zero, which means a node without a
    // cluster.
    NodeId::new(u64::from_ne_bytes(bytes) | 1 << CONNECTION_BITS)
}

/// The bits above the numbers of a node's connections.
const fn tag(id: NodeId) -> u64 {
    id.as_u64() >> CONNECTION_BITS
}

/// The first number of a node's connections.
pub(crate) const fn first_connection(id: NodeId) -> u64 {
    tag(id) << CONNECTION_BITS | 1
}

/// Whether a connection is one of this node's.
pub(crate) const fn is_of(connection: ConnectionId, node: NodeId) -> bool {
    connection.as_u64() >> CONNECTION_BITS == tag(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_of_a_cluster_is_never_numbered_as_one_without() {
        for _ in 0..64 {
            let id = new_id();
            assert_eq!(tag(id) & 1, 1);
            assert!(is_of(ConnectionId::new(first_connection(id)), id));
        }
    }
}

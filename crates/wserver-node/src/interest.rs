//! Telling others which users are here: what a group of nodes needs to send each only what concerns it.

use wserver_core::UserId;

/// Somebody who wants to know which users the node has.
///
/// It is told after the fact and by several threads at once: what is told of one user may come in
/// another order than it happened. But each coming is told once, and each going, so whoever counts
/// them is right as soon as all are told. It is called on the way of a registration and must not
/// block.
pub trait Interest: Send + Sync + 'static {
    /// A user has a registration, and had none before.
    fn came(&self, user: &UserId);
    /// A user has no registration left.
    fn left(&self, user: &UserId);
}

//! Reports which users are here, so that a group of nodes can send each node only what concerns it.

use wserver_core::UserId;

/// Receives reports about which users the node has.
///
/// It is called after the fact, by several threads at once, so reports about one user may come in
/// another order than they happened. But each arrival and each departure is reported once, so a
/// counter of both is right as soon as all reports are in. Registrations wait for the call, so it
/// must not block.
pub trait Interest: Send + Sync + 'static {
    /// A user has a registration, and had none before.
    fn came(&self, user: &UserId);
    /// A user has no registration left.
    fn left(&self, user: &UserId);
}

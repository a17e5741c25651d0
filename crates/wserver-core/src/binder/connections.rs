//! The connections of one shard: where each one's memberships are.
//!
//! A connection names its users by their position in the user tables, never by their name. Its
//! handle lives with the membership, where a push needs it.

use super::index::Index;
use super::shards::mix;
use super::slab::Slab;
use crate::ConnectionId;

/// Where one membership is: a user's table, the user in it, the member of that user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Position {
    pub(super) shard: u16,
    pub(super) user: u32,
    pub(super) slot: u32,
}

/// The connections of one shard.
pub(super) struct Connections {
    /// Invariant: holds the index of each entry once, under the mix of its id.
    index: Index,
    entries: Slab<Connection>,
}

/// One connection. Invariant: at least one position, at least one registration for each.
pub(super) struct Connection {
    id: ConnectionId,
    positions: Positions,
}

/// Nearly every connection speaks for one user: that case costs no allocation.
enum Positions {
    One { shard: u16, user: u32, slot: u32, registrations: u32 },
    Many(Box<ManyPositions>),
}

struct ManyPositions {
    positions: Vec<Position>,
    registrations: u32,
}

impl Connections {
    pub(super) fn new() -> Self {
        Self { index: Index::new(), entries: Slab::new() }
    }

    /// O(1).
    pub(super) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.entries.get(self.find(id)?)
    }

    fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let index = self.find(id)?;
        self.entries.get_mut(index)
    }

    fn find(&self, id: ConnectionId) -> Option<u32> {
        let same = |index| self.entries.get(index).is_some_and(|entry| entry.id == id);
        self.index.find(mix(id.as_u64()), same)
    }

    /// Counts a registration at `position`, which is new to the connection if it had none there.
    /// Returns whether the connection is new. O(positions of the connection).
    pub(super) fn add_registration(&mut self, id: ConnectionId, position: Position) -> bool {
        if let Some(connection) = self.get_mut(id) {
            connection.positions.add(position);
            return false;
        }
        let Position { shard, user, slot } = position;
        let positions = Positions::One { shard, user, slot, registrations: 1 };
        let index = self.entries.insert(Connection { id, positions });
        self.index.insert(mix(id.as_u64()), index);
        true
    }

    /// Subtracts a registration; `left` is the position of which it was the last. Returns whether
    /// the connection is gone. O(positions of the connection).
    pub(super) fn subtract_registration(
        &mut self,
        id: ConnectionId,
        left: Option<Position>,
    ) -> bool {
        let Some(index) = self.find(id) else { return false };
        let Some(connection) = self.entries.get_mut(index) else { return false };
        if connection.positions.subtract(left) > 0 {
            return false;
        }
        self.remove_at(id, index).is_some()
    }

    /// Takes a connection out. O(1).
    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        let index = self.find(id)?;
        self.remove_at(id, index)
    }

    fn remove_at(&mut self, id: ConnectionId, index: u32) -> Option<Connection> {
        self.index.remove(mix(id.as_u64()), index);
        self.entries.remove(index)
    }

    /// Every connection of the shard.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.entries.iter().map(|(_, connection)| connection)
    }

    /// Checks that the index and the entries agree.
    ///
    /// # Panics
    /// When they do not.
    pub(super) fn check_invariants(&self) {
        self.entries.check_invariants();
        self.index.check_invariants();
        assert_eq!(self.index.len(), self.entries.len(), "each connection is indexed");
        for (index, connection) in self.entries.iter() {
            assert_eq!(self.find(connection.id), Some(index), "a connection is found by its id");
            assert!(connection.positions().count() > 0, "a connection has a position");
            assert!(
                connection.registrations() >= connection.positions().count(),
                "each position a registration"
            );
        }
    }
}

impl Connection {
    pub(super) const fn id(&self) -> ConnectionId {
        self.id
    }

    /// How many (user, event) pairs it has. O(1).
    pub(super) fn registrations(&self) -> usize {
        match &self.positions {
            Positions::One { registrations, .. } => *registrations as usize,
            Positions::Many(many) => many.registrations as usize,
        }
    }

    /// Where it is a member.
    pub(super) fn positions(&self) -> impl Iterator<Item = Position> {
        let (one, many) = match &self.positions {
            Positions::One { shard, user, slot, .. } => {
                (Some(Position { shard: *shard, user: *user, slot: *slot }), &[][..])
            }
            Positions::Many(many) => (None, &many.positions[..]),
        };
        one.into_iter().chain(many.iter().copied())
    }

    /// Its slot among the members of one user. O(positions).
    pub(super) fn slot(&self, shard: u16, user: u32) -> Option<u32> {
        let mut positions = self.positions();
        positions
            .find(|position| position.shard == shard && position.user == user)
            .map(|position| position.slot)
    }
}

impl Positions {
    fn add(&mut self, position: Position) {
        match self {
            Self::One { shard, user, slot, registrations } => {
                let only = Position { shard: *shard, user: *user, slot: *slot };
                if only == position {
                    *registrations += 1;
                } else {
                    let registrations = *registrations + 1;
                    *self = Self::Many(Box::new(ManyPositions {
                        positions: vec![only, position],
                        registrations,
                    }));
                }
            }
            Self::Many(many) => {
                many.registrations += 1;
                if !many.positions.contains(&position) {
                    many.positions.push(position);
                }
            }
        }
    }

    /// Returns how many registrations remain.
    fn subtract(&mut self, left: Option<Position>) -> u32 {
        match self {
            Self::One { registrations, .. } => {
                *registrations -= 1;
                *registrations
            }
            Self::Many(many) => {
                many.registrations -= 1;
                let registrations = many.registrations;
                many.positions.retain(|position| Some(*position) != left);
                if let [Position { shard, user, slot }] = many.positions[..] {
                    *self = Self::One { shard, user, slot, registrations };
                }
                registrations
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_of_one_user_is_three_words() {
        assert_eq!(size_of::<Option<Connection>>(), 24);
    }
}

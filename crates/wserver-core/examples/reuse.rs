//! The binder alone, in a program without any runtime: a chat hub of threads and channels.
//!
//! `cargo run -p wserver-core --example reuse`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use wserver_core::{Binder, Bound, ConnectionId, EventName, NameError, Scope, UserId};

/// Lines that wait for one seat before the next ones are dropped.
const LINES_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 64;
const ROOMS_PER_SEAT_MAX: usize = 8;

/// A hub of rooms. A room is what the binder calls a user, a topic what it calls an event, and
/// a seat's sender is the handle.
struct Hub {
    seats: Binder<SyncSender<String>>,
}

impl Hub {
    fn new() -> Self {
        Self { seats: Binder::new(ROOMS_PER_SEAT_MAX) }
    }

    /// Takes a seat in a room for one topic.
    fn sit(&self, seat: u64, room: &UserId, topic: &EventName) -> Option<Receiver<String>> {
        let (sender, lines) = sync_channel(LINES_MAX);
        let token = self.seats.digest("a ticket");
        match self.seats.bind(ConnectionId::new(seat), &sender, room, topic, token) {
            Ok(Bound::New { first_for }) => {
                if first_for == Scope::User {
                    println!("room {room} opens");
                }
                Some(lines)
            }
            Ok(Bound::Already) => None,
            Err(error) => {
                println!("seat {seat} stays outside: {error}");
                None
            }
        }
    }

    fn leave(&self, seat: u64) {
        for unbound in self.seats.unbind_connection(ConnectionId::new(seat)) {
            if unbound.last_for == Scope::User {
                println!("room {} closes", unbound.user);
            }
        }
    }

    /// Tells how many seats the line reached. Nobody waits for a slow one.
    fn say(&self, room: &UserId, topic: &EventName, line: &str) -> usize {
        let seats = self.seats.user_connections(room, Some(topic));
        let sent = seats.iter().filter(|(_, sender)| match sender.try_send(line.to_owned()) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        });
        sent.count()
    }
}

fn main() -> Result<(), NameError> {
    let hub = Hub::new();
    let lobby = UserId::parse("lobby", NAME_BYTES_MAX)?;
    let (news, sport) =
        (EventName::parse("news", NAME_BYTES_MAX)?, EventName::parse("sport", NAME_BYTES_MAX)?);

    thread::scope(|scope| {
        for seat in 1..=3 {
            let topic = if seat == 3 { &sport } else { &news };
            let Some(lines) = hub.sit(seat, &lobby, topic) else { continue };
            scope.spawn(move || {
                for line in lines {
                    println!("seat {seat} ({topic}) reads: {line}");
                }
            });
        }
        println!("seats reached: {}", hub.say(&lobby, &news, "the hub is open"));
        println!("seats reached: {}", hub.say(&lobby, &sport, "nobody won"));
        println!("{:?}", hub.seats.counts());
        // The binder drops the last sender of a seat, so its reader comes to its end.
        for seat in 1..=3 {
            hub.leave(seat);
        }
    });
    println!("{:?}", hub.seats.counts());
    Ok(())
}

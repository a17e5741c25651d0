//! What somebody who wants to know which users are here is told.

use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;
use wserver_core::{ConnectionId, Limits, UserId};
use wserver_node::{Interest, Node, Selection};

use crate::peer::Peer;
use crate::wire::{event, user};

/// What was told since it was read last.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Interest for Told {
    fn came(&self, user: &UserId) {
        self.0.lock().unwrap().push(format!("{user} came"));
    }

    fn left(&self, user: &UserId) {
        self.0.lock().unwrap().push(format!("{user} left"));
    }
}

/// A user comes with its first registration and leaves with its last, by whatever way.
#[tokio::test]
async fn each_coming_and_each_going_is_told_once() {
    let told = Told::default();
    let node =
        Node::one_of_several(Limits::default(), |_, _| None, Handle::current(), 1000, told.clone());
    let first = Peer::join(&node, "ann", &[]);
    assert_eq!(first.attachment.id(), ConnectionId::new(1000), "counted from there on");
    assert_eq!(told.take(), [""; 0], "it is nobody's yet");
    first.register(&node, "ann", "news");
    assert_eq!(told.take(), ["ann came"]);
    first.register(&node, "ann", "chat");
    let second = Peer::join(&node, "ann", &["news"]);
    second.register(&node, "bob", "news");
    assert_eq!(told.take(), ["bob came"]);

    assert!(node.unregister(first.attachment.id(), &user("ann"), &event("news")));
    drop(first);
    assert_eq!(told.take(), [""; 0], "ann has another connection");
    assert!(node.unregister(second.attachment.id(), &user("ann"), &event("news")));
    assert_eq!(told.take(), ["ann left"]);
    assert_eq!(node.disconnect(Selection::User(&user("bob"))), 1);
    assert_eq!(told.take(), ["bob left"]);
    drop(second);
    assert_eq!(told.take(), [""; 0], "it has left already");

    let back = Peer::join(&node, "ann", &["news"]);
    drop(back);
    assert_eq!(told.take(), ["ann came", "ann left"]);
}

//! What is between one node and its broker, and can be cut: a cable, or a proxy where none can be laid.

use std::io::{Write as _, stderr};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;

use wserver_test_brokers::process::is_there;
use wserver_test_brokers::redis;

use super::namespace::Namespace;
use super::proxy::{Proxy, Way};
use super::stage;
use crate::harness::Server;
use crate::supervised::heir_in;

/// All that one node has of its broker. Tests reach the node by another way.
pub(crate) trait Line {
    /// The node at its end.
    fn node(&self, name: &str, flags: &[&str]) -> Server;
    fn cut(&self);
    fn mend(&self);
}

/// The one cable of a network where nobody but the node is.
struct Cable {
    namespace: Namespace,
    /// The broker's at its other end.
    url: String,
}

impl Line for Cable {
    /// Its listener is of this machine's network, and stays there whoever inherits it: so clients,
    /// publishers and balancers reach the node while it reaches nothing.
    fn node(&self, name: &str, flags: &[&str]) -> Server {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let flags = stage::flags(&self.url, name, flags);
        let entrance = self.namespace.entrance();
        let entrance: Vec<&str> = entrance.split(' ').collect();
        Server::spawn(&mut heir_in(&entrance, vec![OwnedFd::from(listener)], None, &flags))
    }

    fn cut(&self) {
        self.namespace.pull();
    }

    fn mend(&self) {
        self.namespace.put_back();
    }
}

/// A Redis, if this machine has the program, and one node's cable to it. Where none can be laid it is
/// a proxy that swallows everything, which is said aloud.
pub(crate) fn redis_by_cable() -> Option<(redis::Standalone, Box<dyn Line>)> {
    if !is_there(redis::PROGRAM) {
        return None;
    }
    Some(match Namespace::new() {
        Ok(namespace) => {
            let gateway = namespace.gateway();
            let redis = redis::Standalone::start(&[&format!("bind 127.0.0.1 {gateway}")]);
            let url = format!("redis://{gateway}:{}", redis.port());
            (redis, Box::new(Cable { namespace, url }))
        }
        Err(why) => {
            // Past the capture of what a passing test prints.
            let _ = writeln!(stderr(), "NO CABLE: a proxy cuts the node off instead ({why})");
            let redis = redis::Standalone::start(&[]);
            let proxy = Proxy::to(redis.port(), Way::Silent);
            (redis, Box::new(proxy))
        }
    })
}

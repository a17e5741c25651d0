//! `wserver push --wait`: what it prints, and how it ends.

use super::{Listening, said, tool, url};
use crate::client::Client;
use crate::harness::Server;
use crate::raw::Socket;

/// `listen` acknowledges what it has printed.
#[test]
fn a_push_waits_until_it_is_acknowledged() {
    let server = Server::start();
    let url = url(&server);
    let push = |user: &str, more: &[&str]| {
        let flags = ["push", "--url", &url, "--user", user, "--event", "news", "-m", "m", "--wait"];
        said(&tool(&[&flags[..], more].concat(), &[], ""))
    };
    let flags = ["--url", &url, "--user", "jack", "--event", "news"];
    let mut listening = Listening::start(&flags, &[], "").bound(&server, "jack", "news");
    for wait in ["first", "all"] {
        let printed = "1 connection got it; 1 acknowledged it\n".to_owned();
        assert_eq!(push("jack", &[wait, "--timeout", "30s"]), (0, printed, String::new()));
        assert_eq!(listening.message(), "m");
    }
    let _silent = Client::registered(&server, "jack", &["news"]);
    let _older = Socket::registered(&server, "jack", "news");
    let printed = "3 connections got it; 1 acknowledged it, 1 did not yet, 1 cannot\n".to_owned();
    assert_eq!(push("jack", &["all", "--timeout", "1s"]), (3, printed.clone(), String::new()));
    assert_eq!(listening.message(), "m");
    assert_eq!(push("jack", &["first"]), (0, printed, String::new()));

    let _older = Socket::registered(&server, "rose", "news");
    let printed = "1 connection got it; 0 acknowledged it, 1 cannot\n".to_owned();
    assert_eq!(push("rose", &["first"]), (3, printed, String::new()));
    assert_eq!(push("joe", &["first"]).0, 2);
    let (code, _, told) = push("joe", &["first", "--timeout", "31s"]);
    assert_eq!(code, 1);
    assert!(told.contains("timeout_seconds must be more than 0 and at most 30"), "{told}");
    assert_eq!(push("joe", &["never"]).0, 64);
}

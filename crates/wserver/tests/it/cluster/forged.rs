//! A stranger at the broker who writes in the name of a node.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};

use serde_json::Value;

use super::stage::{self, knows, ready, three};
use crate::api::{good, push_v1};
use crate::harness::{Server, eventually};
use crate::metrics::scrape;
use crate::raw::Socket;

const IMPLAUSIBLE: &str = "wserver_cluster_dropped_total{reason=\"implausible\"}";

/// A node's number in its cluster.
fn id(node: &Server) -> String {
    let told = good(node, "GET", "/v2/nodes", &Value::Null);
    told["nodes"][0]["id"].as_str().expect("a this node joined its cluster has an id").to_owned()
}

/// Publishes on a channel, whatever the bytes.
fn publish(port: u16, channel: &str, payload: &[u8]) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let head = format!("*3\r\n$7\r\nPUBLISH\r\n${}\r\n{channel}\r\n", channel.len());
    let payload = [format!("${}\r\n", payload.len()).as_bytes(), payload, b"\r\n"].concat();
    stream.write_all(&[head.as_bytes(), &payload].concat()).unwrap();
    let mut answer = [0; 64];
    let length = stream.read(&mut answer).unwrap();
    assert!(answer[..length].starts_with(b":"), "somebody heard it");
}

/// A message of `origin` with the number 2^62, which no node can have reached.
fn forged(origin: &str, is_for_all: bool) -> Vec<u8> {
    let origin = u64::from_str_radix(origin, 16).unwrap();
    let mut forged = vec![0x09];
    forged.extend(origin.to_le_bytes());
    // Version 1, readable from 1.
    forged.extend(b"\x10\x01\x18\x01\x20");
    forged.extend([0x80; 8]);
    forged.extend([0x40, 0x40, u8::from(is_for_all)]);
    forged
}

#[test]
fn a_forged_number_of_a_message_silences_no_node() {
    let Some(redis) = stage::redis() else { return };
    let [a, b, c] = three(&redis.url(), &[]);
    let mut jack = Socket::registered(&b, "jack", "news");
    for node in [&a, &c] {
        knows(node, 1);
    }
    let (of_a, of_b) = (id(&a), id(&b));
    publish(redis.port(), "wserver.{0}.all", &forged(&of_a, true));
    publish(redis.port(), &format!("wserver.{{0}}.{of_b}"), &forged(&of_a, false));
    let answer = push_v1(&a, "jack", "news", "m");
    assert_eq!((&answer["matched"], &answer["is_partial"]), (&1.into(), &false.into()), "{answer}");
    assert_eq!(jack.next().payload, b"m");
    // The broker brought them before, each on its channel.
    eventually("both are counted", || scrape(&b).of(IMPLAUSIBLE) == 2.0);
    // What a says to all is heard as well: who comes to it is known.
    let _rose = Socket::registered(&a, "rose", "news");
    knows(&b, 1);
    assert_eq!(ready(&b), Ok(()));
}

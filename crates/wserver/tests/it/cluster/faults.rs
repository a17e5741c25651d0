//! A part fails under constant pushes, and comes back: nothing arrives twice or out of order, counts
//! are exact or say who is missing, `/readyz` tells the truth, and all is well again by itself.

use std::time::{Duration, Instant};

use serde_json::Value;
use wserver_test_brokers::nats;
use wserver_test_brokers::process::is_there;
use wserver_test_brokers::redis::{self, RedisCluster, Sentinels};

use super::line::{Line, redis_by_cable};
use super::proxy::{Proxy, Way};
use super::stage::{self, NAMES, is_cut_off, is_told, joined, knows, names, node, resume, until};
use super::traffic::{LISTENERS, Listeners, Traffic};
use crate::api::{good, push_v1};
use crate::harness::{Server, eventually};
use crate::metrics::scrape;
use crate::raw::{Raw, Socket, handshake};

/// So short that a fault is over soon, and long enough for a busy machine.
pub(crate) const LEASE: [&str; 2] = ["--cluster-lease", "2s"];

/// What a node got when nobody waited for its answer any more.
const EXPIRED: &str = "wserver_cluster_dropped_total{reason=\"expired\"}";

/// Listeners whose node is cut off for longer than its lease.
const TOLD_TO_GO: &str = "wserver_connections_closed_total{reason=\"cut_off\",code=\"1001\"}";

/// A broker that can be made to fail.
pub(crate) trait Fallible {
    fn kill(&mut self);
    fn start(&mut self);
    fn pause(&mut self);
    fn resume(&mut self);
}

impl Fallible for redis::Standalone {
    fn kill(&mut self) {
        self.process().kill();
    }

    fn start(&mut self) {
        self.restart();
    }

    fn pause(&mut self) {
        self.process().pause();
    }

    fn resume(&mut self) {
        self.process().resume();
    }
}

impl Fallible for nats::Server {
    fn kill(&mut self) {
        Self::kill(self);
    }

    fn start(&mut self) {
        self.restart();
    }

    fn pause(&mut self) {
        self.process().pause();
    }

    fn resume(&mut self) {
        self.process().resume();
    }
}

/// All nodes say so since the fault, each to its balancer and to its publisher.
fn everybody_is_cut_off(traffic: &Traffic, since: [usize; 3]) {
    traffic.living().for_each(|(_, node)| is_told(node, is_cut_off));
    traffic.are_partial(since, &[0, 1, 2]);
}

fn everybody_is_ready(traffic: &Traffic) {
    traffic.living().for_each(|(_, node)| is_told(node, Result::is_ok));
    traffic.goes_on();
}

/// What a node has counted since it started.
fn count(node: &Server, series: &str) -> f64 {
    scrape(node).of(series)
}

pub(crate) fn check_killed(broker: &mut impl Fallible, url: &str, flags: &[&str], times: usize) {
    let traffic = Traffic::start([url; 3], flags);
    for _ in 0..times {
        let since = traffic.partial();
        broker.kill();
        everybody_is_cut_off(&traffic, since);
        broker.start();
        everybody_is_ready(&traffic);
    }
    for (_, node) in traffic.living() {
        assert!(count(node, "wserver_cluster_links_broken_total") >= times as f64);
        assert!(count(node, "wserver_cluster_dropped_total{reason=\"no_link\"}") > 0.0);
        assert_eq!(count(node, "wserver_cluster_ready"), 1.0);
    }
    // It may be away for longer than a lease.
    traffic.end(Listeners::ComeBack);
}

pub(crate) fn check_paused(broker: &mut impl Fallible, url: &str, flags: &[&str], times: usize) {
    let traffic = Traffic::start([url; 3], flags);
    for _ in 0..times {
        let since = traffic.partial();
        broker.pause();
        everybody_is_cut_off(&traffic, since);
        broker.resume();
        everybody_is_ready(&traffic);
    }
    traffic.end(Listeners::ComeBack);
}

/// The nodes b and c say that a is missing, and go on saying so when its lease is over: it may be dead
/// or cut off, with listeners that nobody reaches.
fn the_others_miss_a(traffic: &Traffic, since: [usize; 3], expired: usize) {
    traffic.are_partial(since, &[1, 2]);
    for at in [1, 2] {
        let node = &traffic.nodes[at];
        eventually("it has vanished", || count(node, "wserver_cluster_nodes") == 2.0);
        assert_eq!(count(node, "wserver_cluster_nodes_expired_total"), expired as f64);
        is_told(node, Result::is_ok);
        for user in ["jack", "nobody we know of"] {
            let answer = push_v1(node, user, "aside", "m");
            assert_eq!(
                (&answer["is_partial"], &answer["nodes_missing"]),
                (&true.into(), &["a"].into())
            );
        }
        assert_eq!(count(node, "wserver_cluster_nodes_vanished"), 1.0);
    }
    let whole = traffic.whole();
    traffic.are_partial(traffic.partial(), &[1, 2]);
    assert_eq!(traffic.whole(), whole, "nobody is told that all have it");
}

pub(crate) fn check_fail_over(sentinels: &mut Sentinels, flags: &[&str], times: usize) {
    let url = sentinels.url();
    let traffic = Traffic::start([&url; 3], flags);
    for _ in 0..times {
        let port = sentinels.master().port();
        let since = traffic.partial();
        sentinels.master().process().kill();
        everybody_is_cut_off(&traffic, since);
        sentinels.wait_for_other_master(port);
        everybody_is_ready(&traffic);
        sentinels.replica().restart();
        everybody_is_ready(&traffic);
    }
    traffic.end(Listeners::ComeBack);
}

pub(crate) fn check_reshard(brokers: &mut RedisCluster, flags: &[&str], lanes: u16) {
    let url = brokers.url();
    let traffic = Traffic::start([&url; 3], flags);
    for lane in 0..lanes {
        brokers.move_lane(lane);
        everybody_is_ready(&traffic);
    }
    for (_, node) in traffic.living() {
        // It is the connection that moves, and what is on it is told as missing.
        assert!(count(node, "wserver_cluster_links_broken_total") >= 1.0);
    }
    traffic.end(Listeners::Stay);
}

#[test]
fn a_redis_is_killed_and_started_again() {
    let Some(mut redis) = stage::redis() else { return };
    let url = redis.url();
    check_killed(&mut redis, &url, &[], 1);
}

#[test]
fn a_redis_stands_still_and_goes_on() {
    let Some(mut redis) = stage::redis() else { return };
    let url = redis.url();
    check_paused(&mut redis, &url, &LEASE, 1);
}

#[test]
fn a_nats_server_is_killed_and_started_again() {
    let Some(mut nats) = stage::nats() else { return };
    let url = nats.url();
    check_killed(&mut nats, &url, &[], 1);
}

#[test]
fn a_nats_server_stands_still_and_goes_on() {
    let Some(mut nats) = stage::nats() else { return };
    let url = nats.url();
    check_paused(&mut nats, &url, &LEASE, 1);
}

pub(crate) fn check_node_killed(url: &str, flags: &[&str], times: usize) {
    let mut traffic = Traffic::start([url; 3], flags);
    traffic.kill(1);
    for at in [0, 2] {
        let node = &traffic.nodes[at];
        eventually("it has vanished", || count(node, "wserver_cluster_nodes") == 2.0);
        is_told(node, Result::is_ok);
    }
    traffic.are_partial(traffic.partial(), &[0, 2]);
    // Others of that name come, with other users, and the one before is known to be gone.
    let mut last = None;
    for number in 1..=times {
        drop(last.take());
        for at in [0, 2] {
            let node = &traffic.nodes[at];
            eventually("the one before has vanished", || {
                count(node, "wserver_cluster_nodes_expired_total") == number as f64
            });
        }
        let next = node(url, NAMES[1], flags);
        is_told(&next, Result::is_ok);
        let mut rose = Socket::registered(&next, "rose", "news");
        for at in [0, 2] {
            let node = &traffic.nodes[at];
            // One of jack at the other node, and rose.
            knows(node, 2);
            let answer = push_v1(node, "rose", "news", "m");
            assert_eq!((&answer["matched"], &answer["is_partial"]), (&1.into(), &false.into()));
            assert_eq!(rose.next().payload, b"m");
        }
        traffic.goes_on();
        last = Some(next);
    }
    traffic.end(Listeners::Stay);
}

#[test]
fn a_node_is_killed_and_started_again() {
    let Some(redis) = stage::redis() else { return };
    check_node_killed(&redis.url(), &LEASE, 1);
}

pub(crate) fn check_node_paused(url: &str, flags: &[&str], times: usize) {
    let mut traffic = Traffic::start([url; 3], flags);
    for time in 1..=times {
        let since = traffic.partial();
        traffic.pause(0);
        the_others_miss_a(&traffic, since, time);
        resume(&traffic.nodes[0]);
        everybody_is_ready(&traffic);
    }
    assert!(count(&traffic.nodes[0], EXPIRED) > 0.0, "what nobody waits for is let go");
    traffic.end(Listeners::ComeBack);
}

#[test]
fn a_node_stands_still_and_goes_on() {
    let Some(redis) = stage::redis() else { return };
    check_node_paused(&redis.url(), &LEASE, 1);
}

/// Who stands still for less than a lease is missed, and is not taken for dead.
#[test]
fn a_node_stands_still_for_a_moment() {
    let Some(redis) = stage::redis() else { return };
    let mut traffic = Traffic::start([&redis.url(); 3], &[]);
    let since = traffic.partial();
    traffic.pause(0);
    traffic.are_partial(since, &[1, 2]);
    resume(&traffic.nodes[0]);
    everybody_is_ready(&traffic);
    assert!(count(&traffic.nodes[0], EXPIRED) > 0.0, "what nobody waits for is let go");
    for (_, node) in traffic.living() {
        assert_eq!(count(node, "wserver_cluster_nodes_expired_total"), 0.0);
    }
    traffic.end(Listeners::Stay);
}

pub(crate) fn check_cut_off(line: &dyn Line, direct: &str, flags: &[&str], times: usize) {
    let [a, b, c] = NAMES;
    let nodes = vec![line.node(a, flags), node(direct, b, flags), node(direct, c, flags)];
    let traffic = Traffic::on(nodes);
    for time in 1..=times {
        let since = traffic.partial();
        line.cut();
        let a = &traffic.nodes[0];
        is_told(a, is_cut_off);
        traffic.are_partial(since, &[0]);
        the_others_miss_a(&traffic, since, time);
        let told_to_go = time * LISTENERS;
        eventually("listeners are told to go where they are reached", || {
            count(a, TOLD_TO_GO) >= told_to_go as f64
        });
        // Who comes back nonetheless is served.
        let alone = until(
            || push_v1(a, "jack", "news", "alone"),
            |it| it["nodes"] == 1 && it["matched"] == LISTENERS,
        );
        assert_eq!(alone["is_partial"], true, "{alone}");
        assert_eq!(count(a, TOLD_TO_GO), told_to_go as f64, "once for each time");
        line.mend();
        everybody_is_ready(&traffic);
    }
    for node in &traffic.nodes {
        assert_eq!(names(node).len(), 3);
    }
    traffic.end(Listeners::ComeBack);
}

#[test]
fn a_node_is_cut_off_from_its_broker() {
    let Some(redis) = stage::redis() else { return };
    check_cut_off(&Proxy::to(redis.port(), Way::Cut), &redis.url(), &LEASE, 1);
}

#[test]
fn the_network_between_a_node_and_its_broker_swallows_everything() {
    let Some(redis) = stage::redis() else { return };
    check_cut_off(&Proxy::to(redis.port(), Way::Silent), &redis.url(), &LEASE, 1);
}

/// Unlike behind a proxy, nobody takes a connection that the node makes meanwhile, or refuses it.
#[test]
fn the_cable_of_a_node_is_pulled_and_put_back() {
    let Some((redis, line)) = redis_by_cable() else { return };
    check_cut_off(&*line, &redis.url(), &LEASE, 1);
}

#[test]
fn what_comes_to_a_node_is_swallowed_and_not_what_it_sends() {
    let Some(redis) = stage::redis() else { return };
    let proxy = Proxy::to(redis.port(), Way::Deaf);
    let [a, b, c] = NAMES;
    let url = redis.url();
    let traffic =
        Traffic::on(vec![proxy.node(a, &LEASE), node(&url, b, &LEASE), node(&url, c, &LEASE)]);
    let since = traffic.partial();
    proxy.cut();
    is_told(&traffic.nodes[0], is_cut_off);
    traffic.are_partial(since, &[0, 1, 2]);
    eventually("listeners are told to go where they are reached", || {
        count(&traffic.nodes[0], TOLD_TO_GO) >= LISTENERS as f64
    });
    proxy.mend();
    everybody_is_ready(&traffic);
    traffic.end(Listeners::ComeBack);
}

/// Less than a lease, and longer than publishers wait.
const HELD: Duration = Duration::from_millis(3200);

fn check_held(broker: &str, by_proxy: &str, (proxy, way): (&Proxy, Way), time: Duration) {
    let [a, b, c] = NAMES;
    let nodes = vec![node(by_proxy, a, &[]), node(broker, b, &[]), node(broker, c, &[])];
    let traffic = Traffic::on(nodes);
    for _ in 0..2 {
        let since = traffic.partial();
        proxy.set(way);
        let held = Instant::now();
        traffic.are_partial(since, &[1, 2]);
        eventually("it is held long enough", || held.elapsed() > time);
        proxy.set(Way::Open);
        everybody_is_ready(&traffic);
    }
    traffic.end(Listeners::ComeBack);
}

#[test]
fn what_a_redis_holds_up_on_its_way_does_not_come_late() {
    let Some(redis) = stage::redis() else { return };
    for way in [Way::Deaf, Way::Mute, Way::Silent] {
        let proxy = Proxy::to(redis.port(), way);
        let by_proxy = format!("redis://127.0.0.1:{}", proxy.port());
        check_held(&redis.url(), &by_proxy, (&proxy, way), HELD);
    }
}

#[test]
fn what_a_nats_server_holds_up_in_one_direction_does_not_come_late() {
    let Some(nats) = stage::nats() else { return };
    // Once a lease is over the others have taken its origin for gone.
    for (way, time) in [(Way::Mute, Duration::from_secs(6)), (Way::Mute, HELD), (Way::Deaf, HELD)] {
        let proxy = Proxy::to(nats.port(), way);
        let by_proxy = format!("nats://127.0.0.1:{}", proxy.port());
        check_held(&nats.url(), &by_proxy, (&proxy, way), time);
    }
}

/// Each side hears itself, and nobody of the other.
#[test]
fn the_route_between_two_nats_servers_is_cut_and_mended() {
    if !is_there(nats::PROGRAM) {
        return;
    }
    let mut proxy = None;
    let servers = nats::Servers::start_by(|port| {
        let way = proxy.insert(Proxy::to(port, Way::Cut));
        way.port()
    });
    let proxy = proxy.expect("it was made");
    let [one, two] = servers.each.each_ref().map(nats::Server::url);
    let traffic = Traffic::start([&one, &two, &two], &LEASE);
    proxy.cut();
    let [a, b, c] = [0, 1, 2].map(|at| &traffic.nodes[at]);
    for (node, left) in [(a, 1.0), (b, 2.0), (c, 2.0)] {
        eventually("the others have vanished", || count(node, "wserver_cluster_nodes") == left);
    }
    traffic.are_partial(traffic.partial(), &[0, 1, 2]);
    for (node, vanished) in [(a, 2.0), (b, 1.0), (c, 1.0)] {
        assert_eq!(count(node, "wserver_cluster_nodes_vanished"), vanished);
    }
    let whole = traffic.whole();
    is_told(a, |told| {
        told.as_ref().is_err_and(|why| why.starts_with("2 of 3 nodes have vanished"))
    });
    eventually("its listeners are told to go where they are reached", || {
        count(a, TOLD_TO_GO) >= LISTENERS as f64
    });
    for node in [b, c] {
        is_told(node, Result::is_ok);
        assert_eq!(count(node, TOLD_TO_GO), 0.0);
    }
    traffic.are_partial(traffic.partial(), &[0, 1, 2]);
    assert_eq!(traffic.whole(), whole, "nobody is told that all have it");
    proxy.mend();
    everybody_is_ready(&traffic);
    traffic.end(Listeners::ComeBack);
}

#[test]
fn a_way_slower_than_the_answer_timeout_is_named_and_nothing_comes_late_by_it() {
    let Some(redis) = stage::redis() else { return };
    let proxy = Proxy::to(redis.port(), Way::Slow);
    let [a, b, c] = NAMES;
    let url = redis.url();
    let traffic = Traffic::on(vec![proxy.node(a, &[]), node(&url, b, &[]), node(&url, c, &[])]);
    let since = traffic.partial();
    proxy.cut();
    let a = &traffic.nodes[0];
    let names_it = |why: &str| {
        why.contains("ms to the broker (redis) and back, but cluster_answer_timeout is 1000 ms")
    };
    is_told(a, |told| told.as_ref().is_err_and(|why| names_it(why)));
    let told = good(a, "GET", "/v2/nodes", &Value::Null);
    assert!(told["nodes"][0]["not_ready"].as_str().is_some_and(names_it), "{told}");
    assert!(count(a, "wserver_cluster_round_trip_seconds") >= 1.4);
    traffic.are_partial(since, &[0, 1, 2]);
    proxy.set(Way::Jittery);
    traffic.are_partial(traffic.partial(), &[0, 1, 2]);
    proxy.mend();
    everybody_is_ready(&traffic);
    traffic.end(Listeners::ComeBack);
}

/// It lets go whoever came back to it, so that the others may say again that all have it.
#[test]
fn a_node_that_is_cut_off_for_long_holds_nobody_when_the_others_are_whole_again() {
    let Some(redis) = stage::redis() else { return };
    let proxy = Proxy::to(redis.port(), Way::Silent);
    let flags = ["--cluster-lease", "1s", "--cluster-cut-off-max", "3s", "--drain-spread", "1s"];
    let (a, b) = (proxy.node("a", &flags), node(&redis.url(), "b", &flags));
    joined([&a, &b].into_iter());
    let mut on_a = Socket::registered(&a, "jack", "news");
    let _on_b = Socket::registered(&b, "jack", "news");
    knows(&b, 1);
    proxy.cut();
    let gone = on_a.closed();
    assert_eq!(gone.code, 1001);
    assert!(gone.reason.starts_with("server is cut off from its cluster"), "{gone:?}");
    // Nothing is better, as far as it can know.
    let mut again = Socket::registered(&a, "jack", "news");
    let partial = push_v1(&b, "jack", "news", "m");
    assert_eq!((&partial["matched"], &partial["is_partial"]), (&1.into(), &true.into()));
    assert_eq!(again.closed().code, 1001, "now they count on it");
    eventually("nobody is taken in", || {
        let mut raw = Raw::connect(&a);
        raw.send(handshake(&[]));
        let answer = raw.answer();
        let why = answer.header("wserver-error").unwrap_or_default();
        answer.status == 503 && why.contains("cluster_cut_off_max")
    });
    until(|| push_v1(&b, "jack", "news", "m"), |it| it["is_partial"] == false);
    assert_eq!(count(&a, "wserver_connections"), 0.0);
    assert_eq!(count(&b, "wserver_cluster_nodes_vanished"), 0.0);
    proxy.mend();
    is_told(&a, Result::is_ok);
    let _on_a = Socket::registered(&a, "jack", "news");
    knows(&b, 1);
    let whole = push_v1(&b, "jack", "news", "m");
    assert_eq!((&whole["matched"], &whole["is_partial"]), (&2.into(), &false.into()));
}

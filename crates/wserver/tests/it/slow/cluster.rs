//! Clusters at length: every fault again and again, with the lease that servers have, and brokers that
//! are many processes.

use wserver_test_brokers::process::is_there;
use wserver_test_brokers::redis::{PROGRAM, RedisCluster, Sentinels};

use super::is_left_out;
use crate::cluster::faults::{
    check_cut_off, check_fail_over, check_killed, check_node_killed, check_node_paused,
    check_paused, check_reshard,
};
use crate::cluster::line::redis_by_cable;
use crate::cluster::proxy::{Proxy, Way};
use crate::cluster::stage;

/// How often something fails.
const TIMES: usize = 3;

#[test]
fn a_broker_is_killed_again_and_again() {
    if is_left_out("cluster::a_broker_is_killed") {
        return;
    }
    if let Some(mut redis) = stage::redis() {
        let url = redis.url();
        check_killed(&mut redis, &url, &[], TIMES);
    }
    if let Some(mut nats) = stage::nats() {
        let url = nats.url();
        check_killed(&mut nats, &url, &[], TIMES);
    }
}

#[test]
fn a_broker_stands_still_again_and_again() {
    if is_left_out("cluster::a_broker_stands_still") {
        return;
    }
    if let Some(mut redis) = stage::redis() {
        let url = redis.url();
        check_paused(&mut redis, &url, &[], TIMES);
    }
    if let Some(mut nats) = stage::nats() {
        let url = nats.url();
        check_paused(&mut nats, &url, &[], TIMES);
    }
}

#[test]
fn a_master_fails_over_to_its_replica_and_back() {
    if is_left_out("cluster::a_master_fails_over") || !is_there(PROGRAM) {
        return;
    }
    check_fail_over(&mut Sentinels::new(), &[], 2);
}

#[test]
fn lanes_move_from_master_to_master() {
    if is_left_out("cluster::lanes_move") || !is_there(PROGRAM) {
        return;
    }
    check_reshard(&mut RedisCluster::new(), &[], 4);
}

#[test]
fn a_node_dies_again_and_again() {
    if is_left_out("cluster::a_node_dies") {
        return;
    }
    let Some(redis) = stage::redis() else { return };
    check_node_killed(&redis.url(), &[], TIMES);
}

#[test]
fn a_node_stands_still_again_and_again() {
    if is_left_out("cluster::a_node_stands_still") {
        return;
    }
    let Some(redis) = stage::redis() else { return };
    check_node_paused(&redis.url(), &[], TIMES);
}

#[test]
fn a_node_is_cut_off_again_and_again() {
    if is_left_out("cluster::a_node_is_cut_off") {
        return;
    }
    let Some(redis) = stage::redis() else { return };
    for way in [Way::Cut, Way::Silent] {
        check_cut_off(&Proxy::to(redis.port(), way), &redis.url(), &[], TIMES);
    }
    let Some((redis, line)) = redis_by_cable() else { return };
    check_cut_off(&*line, &redis.url(), &[], TIMES);
}

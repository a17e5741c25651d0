//! The broker in memory is held to what every adapter is held to.

use wserver_cluster::Loopback;
use wserver_cluster::conformance::check_links;

#[tokio::test]
async fn the_loopback_keeps_what_the_port_promises() {
    check_links(&Loopback::default()).await;
    check_links(&Loopback::new(3, 4096)).await;
}

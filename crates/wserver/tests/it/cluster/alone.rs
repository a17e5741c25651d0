//! A server without a cluster knows nothing of one.

use serde_json::Value;

use crate::api::{good, push_v1};
use crate::harness::Server;
use crate::metrics::get;
use crate::raw::Socket;

#[test]
fn nothing_is_said_of_a_cluster() {
    let server = Server::start();
    let _jack = Socket::registered(&server, "jack", "news");
    let answers = [
        push_v1(&server, "jack", "news", "m"),
        good(&server, "GET", "/v2/users/jack/connections", &Value::Null),
        good(&server, "GET", "/v2/explain?user=jack&event=news", &Value::Null),
        good(&server, "GET", "/v2/node", &Value::Null),
    ];
    for answer in answers {
        let text = answer.to_string();
        for word in ["\"nodes", "partial", "by_node", "\"node\"", "\"name\"", "not_ready"] {
            assert!(!text.contains(word), "{word} in {text}");
        }
    }
    let metrics = get(&server, "/metrics", &[]).body;
    assert!(!metrics.contains("cluster"), "{metrics}");
    let nodes = good(&server, "GET", "/v2/nodes", &Value::Null);
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 1, "{nodes}");
    assert_eq!((nodes.get("broker"), nodes.get("nodes_missing")), (None, None), "{nodes}");
}

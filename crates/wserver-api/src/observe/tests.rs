//! What monitoring is answered, also during a shutdown.

use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use crate::fixture::{self, asking};

#[tokio::test]
async fn the_state_is_told_of_now_and_not_remembered() {
    let api = fixture::administered(|_| {});
    let asking = asking(&api);
    for (is_stopping, ready, draining) in
        [(false, (200, "ok"), 0), (true, (503, "the server is shutting down"), 1)]
    {
        if is_stopping {
            api.stop.cancel();
        }
        let live = asking.get("/livez").await;
        assert_eq!((live.status.as_u16(), &*live.body), (200, "ok"));
        let answer = asking.get("/readyz").await;
        assert_eq!((answer.status.as_u16(), &*answer.body), ready);
        let page = asking.get("/metrics").await;
        assert_eq!(page.status, 200);
        assert!(page.body.contains(&format!("\nwserver_draining {draining}\n")), "{}", page.body);
        assert_eq!(page.headers[CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
        for answer in [live, answer, page] {
            assert_eq!(answer.headers[CACHE_CONTROL], "no-store");
        }
        let node = asking.get("/v2/node").await.json();
        assert_eq!(node["is_draining"], is_stopping);
    }
}

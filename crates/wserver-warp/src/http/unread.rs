//! Reads the rest of a body after the answer is known, so that the connection can stay open.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::HeaderMap;
use hyper::body::Body as HttpBody;
use hyper::header::{CONNECTION, EXPECT};

/// How much of an unneeded body to read, and for how long, so that the connection can stay open.
const PASSED_OVER_BYTES_MAX: u64 = 64 * 1024;
const PASSED_OVER_TIMEOUT: Duration = Duration::from_secs(1);

/// Reads the rest of a body whose answer is known, unless the connection ends anyway or the body is
/// too long; if a part stays unread, the connection ends.
pub(crate) async fn pass_over(
    headers: &HeaderMap,
    answer: &HeaderMap,
    body: &mut (impl HttpBody<Data = Bytes> + Unpin),
) {
    // A client that waits for 100 Continue has not sent the body, and need not.
    if body.is_end_stream()
        || body.size_hint().lower() > PASSED_OVER_BYTES_MAX
        || headers.contains_key(EXPECT)
        || answer.contains_key(CONNECTION)
    {
        return;
    }
    let passing = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            // Trailers are not data.
            bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
            if bytes > PASSED_OVER_BYTES_MAX {
                break;
            }
        }
    };
    // A timeout has the same result as a body that is too long.
    let _ = tokio::time::timeout(PASSED_OVER_TIMEOUT, passing).await;
}

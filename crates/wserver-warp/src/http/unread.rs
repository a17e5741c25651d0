//! What is left of a body when the answer is known: it is read, so that its connection can stay.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::HeaderMap;
use hyper::body::Body as HttpBody;
use hyper::header::{CONNECTION, EXPECT};

/// So much of a body that nobody asked for is read, and for so long, so that its connection can stay.
const PASSED_OVER_BYTES_MAX: u64 = 64 * 1024;
const PASSED_OVER_TIMEOUT: Duration = Duration::from_secs(1);

/// Reads what is left of a body to which the answer is known, unless that ends the connection or
/// the body is not worth it; a connection whose body has an unread part ends.
pub(crate) async fn pass_over(
    headers: &HeaderMap,
    answer: &HeaderMap,
    body: &mut (impl HttpBody<Data = Bytes> + Unpin),
) {
    // Whoever expects to be told to go on has not sent it, and need not.
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
            // Trailers are no part.
            bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
            if bytes > PASSED_OVER_BYTES_MAX {
                break;
            }
        }
    };
    // Too late is as good as too long.
    let _ = tokio::time::timeout(PASSED_OVER_TIMEOUT, passing).await;
}

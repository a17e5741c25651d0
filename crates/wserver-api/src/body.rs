//! Reads the body of a request within limits: its bytes, its time, and the bytes of all bodies.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue};
use http_body::Body as HttpBody;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wserver_core::setting_name;

use crate::limits::{HttpLimitSettings, HttpLimits};
use crate::reply::refused::Refused;

/// A body is read into a buffer that starts no larger than this, whatever its length claims.
const BODY_START_BYTES_MAX: usize = 64 * 1024;

/// A whole body, and its share of `push_bodies_bytes_max` for as long as it is held.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

/// The limits of bodies, and the bytes that are left for all of them.
#[derive(Debug)]
pub(crate) struct Bodies {
    /// Bytes that may still be read; together with those held they are `push_bodies_bytes_max`.
    shares: Arc<Semaphore>,
    /// The limit of one body.
    bytes_max: usize,
    timeout: Duration,
}

impl Bodies {
    pub(crate) fn new(limits: &HttpLimits) -> Self {
        Self {
            shares: Arc::new(Semaphore::new(limits.push_bodies_bytes_max)),
            bytes_max: limits.push_body_bytes_max,
            timeout: limits.push_body_timeout,
        }
    }

    /// Reads a body to its end.
    pub(crate) async fn read(
        &self,
        headers: &HeaderMap,
        body: impl HttpBody<Data = Bytes> + Unpin,
    ) -> Result<Body, Refused> {
        if let Some(coding) = foreign_coding(headers) {
            return Err(Refused::ContentCoding { coding });
        }
        let bytes_max = self.bytes_max;
        let length = headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let start_bytes = match length.map(usize::try_from) {
            Some(Ok(length)) if length <= bytes_max => length.min(BODY_START_BYTES_MAX),
            Some(_) => return Err(Refused::BodyTooLarge { bytes_max }),
            None => BODY_START_BYTES_MAX,
        };
        let timeout = async {
            tokio::time::sleep(self.timeout).await;
            Refused::BodyTimeout { seconds: self.timeout.as_secs() }
        };
        within(collect(body, &self.shares, start_bytes, bytes_max), timeout).await?
    }
}

/// How much of a coding's name the refusal repeats.
const CODING_BYTES_MAX: usize = 32;

/// The coding of the body, if it has one; the server decodes none.
fn foreign_coding(headers: &HeaderMap) -> Option<String> {
    let codings = headers.get_all(CONTENT_ENCODING).iter().map(HeaderValue::as_bytes);
    let mut foreign = codings.filter(|it| !it.is_empty() && !it.eq_ignore_ascii_case(b"identity"));
    let coding = foreign.next()?;
    Some(coding[..coding.len().min(CODING_BYTES_MAX)].escape_ascii().to_string())
}

/// `work`, unless `timeout` ends first; starts no timer if the work is ready at once.
async fn within<T>(
    work: impl Future<Output = T>,
    timeout: impl Future<Output = Refused>,
) -> Result<T, Refused> {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        done = &mut work => Ok(done),
        refused = timeout => Err(refused),
    }
}

/// The share grows as bytes arrive, so that a body that is announced and not sent takes no room
/// from others.
async fn collect(
    mut body: impl HttpBody<Data = Bytes> + Unpin,
    shares: &Arc<Semaphore>,
    start_bytes: usize,
    bytes_max: usize,
) -> Result<Body, Refused> {
    let take = |bytes: usize| {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Arc::clone(shares).try_acquire_many_owned(bytes).map_err(|_none_left| Refused::Busy {
            why: "other requests have reached push_bodies_bytes_max",
            setting: Some(setting_name!(HttpLimitSettings, push_bodies_bytes_max)),
        })
    };
    let first = next(&mut body).await?.unwrap_or_default();
    if first.len() > bytes_max {
        return Err(Refused::BodyTooLarge { bytes_max });
    }
    let mut share = take(first.len())?;
    if body.is_end_stream() {
        // Nearly every body arrives with its head, and is not copied.
        return Ok(Body { bytes: first, _share: share });
    }
    let mut bytes = Vec::with_capacity(start_bytes.max(first.len()));
    bytes.extend_from_slice(&first);
    drop(first);
    while let Some(part) = next(&mut body).await? {
        if bytes.len() + part.len() > bytes_max {
            return Err(Refused::BodyTooLarge { bytes_max });
        }
        share.merge(take(part.len())?);
        bytes.extend_from_slice(&part);
    }
    Ok(Body { bytes: bytes.into(), _share: share })
}

/// The next part of the data, if there is one; skips trailers.
async fn next(body: &mut (impl HttpBody<Data = Bytes> + Unpin)) -> Result<Option<Bytes>, Refused> {
    while let Some(frame) = body.frame().await {
        if let Ok(part) = frame.map_err(|_error| Refused::BodyBroken)?.into_data() {
            return Ok(Some(part));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::{StreamExt as _, stream};
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;
    use crate::fixture::soon;

    /// Bodies of at most 8 bytes, and of 12 together.
    fn bodies() -> Bodies {
        let shares = Arc::new(Semaphore::new(12));
        Bodies { shares, bytes_max: 8, timeout: Duration::from_millis(1) }
    }

    /// Reads a body that arrives in these parts.
    async fn read(
        bodies: &Bodies,
        headers: &HeaderMap,
        parts: &[&'static str],
    ) -> Result<Body, Refused> {
        let parts: Vec<_> = parts.iter().map(|part| Frame::data(Bytes::from(*part))).collect();
        let frames = stream::iter(parts).map(Ok::<_, Infallible>);
        soon(bodies.read(headers, StreamBody::new(frames))).await
    }

    #[tokio::test]
    async fn a_body_is_as_long_as_it_may_be_and_no_longer() {
        let bodies = bodies();
        for (length, parts, is_taken) in [
            (None, &["12345678"][..], true),
            (None, &["1234", "5678"], true),
            (None, &["1", "23456789"], false),
            (None, &["123456789"], false),
            (Some("8"), &["1234", "5678"], true),
            // The announcement is enough.
            (Some("9"), &[], false),
            (Some("18446744073709551615"), &[], false),
        ] {
            let length = length.map(|it| (CONTENT_LENGTH, HeaderValue::from_static(it)));
            match read(&bodies, &length.into_iter().collect(), parts).await {
                Ok(body) => assert!(is_taken && body.bytes == parts.concat(), "{parts:?}"),
                Err(refused) => {
                    assert_eq!(refused, Refused::BodyTooLarge { bytes_max: 8 }, "{parts:?}");
                    assert!(!is_taken, "{parts:?}");
                }
            }
        }
    }

    #[tokio::test]
    async fn all_bodies_together_have_a_limit_for_as_long_as_they_are_held() {
        let (bodies, headers) = (bodies(), HeaderMap::new());
        let held = read(&bodies, &headers, &["1234", "5678"]).await.unwrap();
        for parts in [&["12345"][..], &["1", "2345"]] {
            let Err(refused) = read(&bodies, &headers, parts).await else { panic!("{parts:?}") };
            let details = refused.details();
            assert_eq!(details.kind.as_str(), "busy", "{parts:?}");
            assert_eq!(details.problem().setting.as_deref(), Some("push_bodies_bytes_max"));
        }
        read(&bodies, &headers, &["1", "234"]).await.unwrap();
        drop(held);
        read(&bodies, &headers, &["12345678"]).await.unwrap();
    }

    #[tokio::test]
    async fn a_body_that_does_not_arrive_is_not_waited_for() {
        let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let refused = soon(bodies().read(&HeaderMap::new(), body)).await.unwrap_err();
        assert_eq!(refused, Refused::BodyTimeout { seconds: 0 });
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_no_body_and_trailers_are_none_of_it() {
        let data = || Ok(Frame::data(Bytes::from_static(b"1234")));
        let trailers = || Ok(Frame::trailers(HeaderMap::new()));
        for (frames, expected) in [
            (vec![data(), data()], Ok(&b"12341234"[..])),
            (vec![data(), trailers()], Ok(b"1234")),
            (vec![trailers()], Ok(b"")),
            (vec![data(), Err("it broke off")], Err(Refused::BodyBroken)),
            (vec![Err("it broke off")], Err(Refused::BodyBroken)),
        ] {
            // Each part has to be waited for.
            let late = async |frame| {
                tokio::task::yield_now().await;
                frame
            };
            let body = StreamBody::new(Box::pin(stream::iter(frames).then(late)));
            let bodies = Bodies { timeout: Duration::from_secs(20), ..bodies() };
            let read = bodies.read(&HeaderMap::new(), body).await;
            assert_eq!(read.as_ref().map(|it| &*it.bytes).map_err(Clone::clone), expected);
        }
    }

    #[tokio::test]
    async fn a_coding_is_named_and_cut() {
        for (coding, named) in [
            ("gzip", Some("gzip")),
            ("identity", None),
            ("", None),
            ("abcdefghijklmnopqrstuvwxyz0123456789", Some("abcdefghijklmnopqrstuvwxyz012345")),
        ] {
            let headers = [(CONTENT_ENCODING, HeaderValue::from_static(coding))];
            let found = foreign_coding(&headers.into_iter().collect());
            assert_eq!(found.as_deref(), named, "{coding}");
        }
    }
}

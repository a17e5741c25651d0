//! One HTTP connection, and the requests on it.
//!
//! The caller that waits for an answer drives the connection, which sleeps between two requests.
//! There is no task behind it, so nothing outlives its owner.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use http::response::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body as _, Incoming as HyperIncoming};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;

use crate::Cause;
use crate::stream::Stream;

pub(crate) type Body = Full<Bytes>;

/// A connection on which at most one request is under way.
pub(crate) struct Line {
    sender: SendRequest<Body>,
    /// `None` once the connection has ended. It must be dropped then, because only dropping it
    /// returns a request that still waits in it.
    driver: Option<Connection<TokioIo<Stream>, Body>>,
}

/// How a request failed.
pub(crate) enum LineError {
    /// The connection had ended before any of the request was sent; this returns the request.
    Unsent(Box<Request<Body>>),
    /// Part of the request may have been sent.
    Lost(Cause),
}

impl Line {
    pub(crate) async fn open(stream: Stream) -> Result<Self, hyper::Error> {
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver: Some(driver) })
    }

    /// Sends `request` and reads the complete answer, whose body has at most `bytes_max` bytes.
    pub(crate) async fn exchange(
        &mut self,
        request: Request<Body>,
        bytes_max: usize,
    ) -> Result<(Parts, Bytes), LineError> {
        let Self { sender, driver } = self;
        driven(driver, async {
            let response = send(sender, request).await?;
            read(response, bytes_max).await.map_err(LineError::Lost)
        })
        .await
    }

    /// Sends `request` and reads the head of the answer; the caller reads the body as it arrives.
    pub(crate) async fn stream(
        self,
        request: Request<Body>,
    ) -> Result<(Parts, Incoming), LineError> {
        let Self { mut sender, mut driver } = self;
        let response = driven(&mut driver, send(&mut sender, request)).await?;
        let (parts, body) = response.into_parts();
        Ok((parts, Incoming { body, driver, _sender: sender }))
    }

    /// Whether the connection can send another request, as far as this is visible without waiting.
    pub(crate) fn is_reusable(&mut self) -> bool {
        // The driver notices that the exchange is over, or that the server hung up, only when it is
        // polled.
        let Self { sender, driver } = self;
        let ready = poll_fn(|cx| {
            drive(driver, cx);
            sender.poll_ready(cx)
        });
        matches!(ready.now_or_never(), Some(Ok(()))) && self.driver.is_some()
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

fn drive(driver: &mut Option<Connection<TokioIo<Stream>, Body>>, cx: &mut Context<'_>) {
    if driver.as_mut().is_some_and(|driver| driver.poll_unpin(cx).is_ready()) {
        *driver = None;
    }
}

/// The body of an answer, and the connection on which it arrives.
pub(crate) struct Incoming {
    body: HyperIncoming,
    driver: Option<Connection<TokioIo<Stream>, Body>>,
    /// Without it, the connection would end.
    _sender: SendRequest<Body>,
}

impl Incoming {
    /// The next part of the body; `None` at its end.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cause>>> {
        loop {
            let mut polled = Pin::new(&mut self.body).poll_frame(cx);
            if polled.is_pending() {
                drive(&mut self.driver, cx);
                polled = Pin::new(&mut self.body).poll_frame(cx);
            }
            match ready!(polled) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
    }

    /// Up to `bytes_max` bytes of the body, for an answer that is not a stream.
    pub(crate) async fn head(mut self, bytes_max: usize) -> Bytes {
        let mut head = BytesMut::new();
        while let Some(Ok(data)) = poll_fn(|cx| self.poll_data(cx)).await
            && head.len() < bytes_max
        {
            head.extend_from_slice(&data);
        }
        head.freeze()
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").finish_non_exhaustive()
    }
}

async fn send(
    sender: &mut SendRequest<Body>,
    request: Request<Body>,
) -> Result<Response<HyperIncoming>, LineError> {
    sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
        Some(request) => LineError::Unsent(Box::new(request)),
        None => LineError::Lost(error.into_error().into()),
    })
}

/// The result of `work`; drives the connection until then.
async fn driven<T>(
    driver: &mut Option<Connection<TokioIo<Stream>, Body>>,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        // The work also gets an error of the driver.
        drive(driver, cx);
        if driver.is_none() { work.as_mut().poll(cx) } else { Poll::Pending }
    })
    .await
}

async fn read(
    response: Response<HyperIncoming>,
    bytes_max: usize,
) -> Result<(Parts, Bytes), Cause> {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, bytes_max).collect().await?;
    Ok((parts, body.to_bytes()))
}

//! One HTTP connection, and the requests on it.
//!
//! The caller that waits for an answer drives it, and it sleeps between two requests: it has no
//! task, so nothing outlives its owner.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use http::response::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming as HyperIncoming};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;

use crate::Cause;
use crate::stream::Stream;

/// The body of a request: sent whole.
pub type Body = Full<Bytes>;

/// The longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// A connection with at most one request in progress.
pub struct Line {
    sender: SendRequest<Body>,
    /// `None` once it has ended. It is dropped then, because only that returns the requests that
    /// still wait in it.
    driver: Option<Driver>,
}

/// Boxed, so that what waits for an answer stays small.
type Driver = Box<Connection<TokioIo<Stream>, Body>>;

/// How a request failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum LineError {
    /// The connection had ended; nothing of the request was sent, and here it is.
    Unsent(Box<Request<Body>>),
    /// Part of the request may have been sent.
    Lost(Cause),
    /// The answer's body is too long.
    TooLong {
        /// The limit, in bytes.
        bytes_max: usize,
    },
}

impl Line {
    /// Starts HTTP on `stream`.
    ///
    /// # Errors
    ///
    /// If HTTP cannot be set up.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes `stream`.
    pub async fn open(stream: Stream) -> Result<Self, Cause> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX);
        let (sender, driver) = builder.handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver: Some(Box::new(driver)) })
    }

    /// Sends `request` and reads the whole answer, with a body of at most `bytes_max` bytes.
    ///
    /// # Errors
    ///
    /// If the connection has ended or ends meanwhile, if the answer is not HTTP, or if its head or
    /// body is too long.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the request may or may not have been sent, and the connection is
    /// no longer usable: drop it.
    pub async fn exchange(
        &mut self,
        request: Request<Body>,
        bytes_max: usize,
    ) -> Result<(Parts, Bytes), LineError> {
        let Self { sender, driver } = self;
        driven(driver, async {
            let response = send(sender, request).await?;
            read(response, bytes_max).await
        })
        .await
    }

    /// Sends `request` and reads the answer's head; the caller reads the body as it arrives.
    ///
    /// # Errors
    ///
    /// As for [`exchange`](Self::exchange), except for the body.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection; the request may or may not have been sent.
    pub async fn stream(self, request: Request<Body>) -> Result<(Parts, Incoming), LineError> {
        let Self { mut sender, mut driver } = self;
        let response = driven(&mut driver, send(&mut sender, request)).await?;
        let (parts, body) = response.into_parts();
        Ok((parts, Incoming { body, driver, _sender: sender }))
    }

    /// Whether another request can be sent on it, as far as can be told without waiting.
    pub fn is_reusable(&mut self) -> bool {
        // The driver learns that the exchange is over, or that the server hung up, only by being
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

fn drive(driver: &mut Option<Driver>, cx: &mut Context<'_>) {
    if driver.as_mut().is_some_and(|driver| driver.poll_unpin(cx).is_ready()) {
        *driver = None;
    }
}

/// The body of an answer, and the connection it comes on.
pub struct Incoming {
    body: HyperIncoming,
    driver: Option<Driver>,
    /// Keeps the connection open.
    _sender: SendRequest<Body>,
}

impl Incoming {
    /// The next piece of the body; `None` at its end.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cause>>> {
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
                    // The other frames are trailers, which we ignore.
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
    }

    /// The body up to `bytes_max` bytes, for an answer that is not a stream.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection and loses what was read.
    pub async fn head(mut self, bytes_max: usize) -> Bytes {
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

/// Runs `work` to its end while driving the connection.
async fn driven<T>(driver: &mut Option<Driver>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        // `work` also sees an error of the driver.
        drive(driver, cx);
        if driver.is_none() { work.as_mut().poll(cx) } else { Poll::Pending }
    })
    .await
}

async fn read(
    response: Response<HyperIncoming>,
    bytes_max: usize,
) -> Result<(Parts, Bytes), LineError> {
    let (parts, mut body) = response.into_parts();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| LineError::Lost(error.into()))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > bytes_max {
            return Err(LineError::TooLong { bytes_max });
        }
        bytes.extend_from_slice(&data);
    }
    Ok((parts, bytes.freeze()))
}

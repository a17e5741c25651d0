//! One HTTP connection, and what can be asked on it.
//!
//! It is driven by whoever waits for an answer on it, and sleeps between two requests: no task stands
//! behind it, so nothing outlives its owner.

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

/// A connection on which at most one request is under way.
pub struct Line {
    sender: SendRequest<Body>,
    /// `None` once it has ended. It is dropped then, because what still waits in it for its turn
    /// is given back only so.
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
    /// Something of it may have been sent.
    Lost(Cause),
    /// The answer's body is longer than it may be.
    TooLong {
        /// What it may have, in bytes.
        bytes_max: usize,
    },
}

impl Line {
    /// Begins to speak HTTP on `stream`.
    ///
    /// # Errors
    ///
    /// When HTTP cannot be set up.
    pub async fn open(stream: Stream) -> Result<Self, Cause> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX);
        let (sender, driver) = builder.handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver: Some(Box::new(driver)) })
    }

    /// Sends `request` and reads the whole answer, of which the body has at most `bytes_max`.
    ///
    /// # Errors
    ///
    /// When the connection has ended or ends meanwhile, what comes is no answer, or its head or
    /// body is too long.
    ///
    /// # Cancel safety
    ///
    /// The request may or may not have been sent, and the connection is of no use any more: drop it.
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

    /// Sends `request` and reads the answer's head; its body comes as it comes.
    ///
    /// # Errors
    ///
    /// As of [`exchange`](Self::exchange), but for the body.
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
    /// Without it the connection would be told to end.
    _sender: SendRequest<Body>,
}

impl Incoming {
    /// What comes next of it; `None` at its end.
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
                    // What is no data is trailers, which say nothing to us.
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
    }

    /// As much of it as comes within `bytes_max`, for an answer that is no stream.
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

/// What `work` comes to, with the connection driven meanwhile.
async fn driven<T>(driver: &mut Option<Driver>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        // An error of the driver's reaches the work as well.
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

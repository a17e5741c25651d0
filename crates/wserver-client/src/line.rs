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
    /// `None` once it has ended. It is dropped then, because what still waits in it for its turn
    /// is given back only so.
    driver: Option<Connection<TokioIo<Stream>, Body>>,
}

/// How a request failed.
pub(crate) enum LineError {
    /// The connection had ended; nothing of the request was sent, and here it is.
    Unsent(Box<Request<Body>>),
    /// Something of it may have been sent.
    Lost(Cause),
}

impl Line {
    pub(crate) async fn open(stream: Stream) -> Result<Self, hyper::Error> {
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver: Some(driver) })
    }

    /// Sends `request` and reads the whole answer, of which the body has at most `bytes_max`.
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

    /// Sends `request` and reads the answer's head; its body comes as it comes.
    pub(crate) async fn stream(
        self,
        request: Request<Body>,
    ) -> Result<(Parts, Incoming), LineError> {
        let Self { mut sender, mut driver } = self;
        let response = driven(&mut driver, send(&mut sender, request)).await?;
        let (parts, body) = response.into_parts();
        Ok((parts, Incoming { body, driver, _sender: sender }))
    }

    /// Whether another request can be sent on it, as far as can be told without waiting.
    pub(crate) fn is_reusable(&mut self) -> bool {
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

fn drive(driver: &mut Option<Connection<TokioIo<Stream>, Body>>, cx: &mut Context<'_>) {
    if driver.as_mut().is_some_and(|driver| driver.poll_unpin(cx).is_ready()) {
        *driver = None;
    }
}

/// The body of an answer, and the connection it comes on.
pub(crate) struct Incoming {
    body: HyperIncoming,
    driver: Option<Connection<TokioIo<Stream>, Body>>,
    /// Without it the connection would be told to end.
    _sender: SendRequest<Body>,
}

impl Incoming {
    /// What comes next of it; `None` at its end.
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

    /// As much of it as comes within `bytes_max`, for an answer that is no stream.
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

/// What `work` comes to, with the connection driven meanwhile.
async fn driven<T>(
    driver: &mut Option<Connection<TokioIo<Stream>, Body>>,
    work: impl Future<Output = T>,
) -> T {
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
) -> Result<(Parts, Bytes), Cause> {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, bytes_max).collect().await?;
    Ok((parts, body.to_bytes()))
}

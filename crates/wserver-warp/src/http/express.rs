//! The short way for pushes: a push that arrives whole, in one read, is answered without hyper.
//!
//! hyper prepares for requests of any shape, which takes longer than the push itself. Backends
//! mostly send a push in one write, on a connection that they keep; this module knows only that
//! shape. It refuses nothing: it puts back any other input, and hyper handles the connection from
//! that byte on. So only one place decides what is wrong with a request, and both ways give a push
//! the same answer.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use hyper::rt::Write as _;
use hyper::{HeaderMap, Method, Uri};

use wserver_api::{Reply, Request, Side};

use crate::http::host;
use crate::http::io::HttpIo;
use crate::http::site::Site;

/// hyper handles requests with more headers.
const HEADERS_MAX: usize = 32;

/// What to do next with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Input of another shape came, and was put back for hyper.
    Hyper,
    /// The connection has ended, or must end.
    End,
}

/// The result of one read.
enum Input {
    Push(WholePush),
    Other(Bytes),
    /// The end, or the end of a timeout or of the server.
    Ended,
}

/// A push that arrived whole.
#[derive(Debug)]
struct WholePush {
    headers: Arc<HeaderMap>,
    body: Bytes,
}

/// The head of the last push. A backend repeats it except for the length, and then it need not be
/// parsed again.
#[derive(Debug)]
struct Head {
    /// The bytes as they came, up to the digits of the length and from there.
    before: Bytes,
    after: Bytes,
    /// Those digits.
    length: HeaderValue,
    headers: Arc<HeaderMap>,
}

/// Answers pushes until something else comes.
///
/// # Errors
/// If the socket fails, or the client takes no answer.
pub(crate) async fn serve(
    site: &Arc<Site>,
    side: Side,
    io: &mut HttpIo,
    peer: SocketAddr,
) -> io::Result<Next> {
    let Ok(uri) = site.api.push_path().parse::<Uri>() else { return Ok(Next::Hyper) };
    let notes = io.notes();
    let mut head = None;
    loop {
        // A stop reaches the connection through its seat.
        let coming = poll_fn(|cx| io.poll_take(cx, |input| Input::read(input, site, &mut head)));
        let WholePush { headers, body } = match coming.await? {
            Input::Push(whole) => whole,
            Input::Other(input) => {
                io.put_back(input);
                return Ok(Next::Hyper);
            }
            Input::Ended => break,
        };
        notes.asked();
        let client = site.proxies.client(peer, &headers);
        let request =
            Request { method: Method::POST, uri: uri.clone(), headers, peer, client, side };
        // Pinned in place, because it is large and would be moved for each push.
        let mut answering = pin!(site.api.answer_push(request, Full::new(body)));
        let reply = tokio::select! {
            biased;
            reply = &mut answering => reply,
            // As with hyper, an answer ends when its client leaves.
            () = poll_fn(|cx| io.poll_gone(cx)) => return Ok(Next::End),
            () = site.tasks().stopped() => return Ok(Next::End),
        };
        let is_success = reply.status().is_success();
        if is_success {
            notes.seat().pushed();
        }
        let is_kept = site.keep_alive.is_kept(reply.headers(), &notes, true);
        let rendered = render(&reply, site, is_kept);
        tokio::select! {
            biased;
            written = write(io, &rendered) => written?,
            () = site.tasks().stopped() => return Ok(Next::End),
        }
        notes.waits();
        if !is_kept {
            if !is_success {
                notes.leave_unserved();
            }
            break;
        }
    }
    tokio::select! {
        biased;
        shut = io.shut_down() => shut?,
        () = site.tasks().stopped() => {}
    }
    Ok(Next::End)
}

impl Input {
    fn read(input: &[u8], site: &Site, head: &mut Option<Head>) -> Self {
        if input.is_empty() {
            return Self::Ended;
        }
        match WholePush::read(input, site, head) {
            Some(whole) => Self::Push(whole),
            None => Self::Other(Bytes::copy_from_slice(input)),
        }
    }
}

impl WholePush {
    /// Reads `input` as exactly one push of the known shape, and stores its head in `head`.
    fn read(input: &[u8], site: &Site, head: &mut Option<Head>) -> Option<Self> {
        let again = head.as_mut().and_then(|head| head.again(input, site));
        let body = match again {
            Some(body) => body,
            None => {
                let (read, body) = Head::read(input, site)?;
                *head = Some(read);
                body
            }
        };
        let head = head.as_ref()?;
        let length: usize = std::str::from_utf8(head.length.as_bytes()).ok()?.parse().ok()?;
        (length == body.len()).then(|| Self {
            headers: Arc::clone(&head.headers),
            body: Bytes::copy_from_slice(body),
        })
    }
}

impl Head {
    /// Reads the head at the beginning of `input`, and also returns what comes after it.
    fn read<'a>(input: &'a [u8], site: &Site) -> Option<(Self, &'a [u8])> {
        // Most other requests are recognised at once.
        if !input.starts_with(b"POST ") {
            return None;
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let head_bytes = match request.parse(input) {
            Ok(httparse::Status::Complete(bytes))
                if bytes <= site.api.http_limits().head_bytes_max =>
            {
                bytes
            }
            _ => return None,
        };
        let is_push = request.path == Some(site.api.push_path()) && request.version == Some(1);
        if !is_push {
            return None;
        }
        let (head, body) = input.split_at(head_bytes);
        // A copy of its own, because a kept head must not keep the body.
        let head = Bytes::copy_from_slice(head);
        let mut headers = HeaderMap::with_capacity(request.headers.len());
        let mut length = None;
        let mut has_host = false;
        for header in &*request.headers {
            let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
            let start = header.value.as_ptr().addr().checked_sub(input.as_ptr().addr())?;
            let end = start + header.value.len();
            let value =
                HeaderValue::from_maybe_shared(head.get(start..end).map(|it| head.slice_ref(it))?)
                    .ok()?;
            let is_known = match name {
                CONNECTION => header.value.eq_ignore_ascii_case(b"keep-alive"),
                HOST => host::is_host(header.value) && !std::mem::replace(&mut has_host, true),
                CONTENT_LENGTH => {
                    // `parse` alone would also accept a sign.
                    let is_number = header.value.iter().all(u8::is_ascii_digit);
                    is_number && length.replace((start, end, value.clone())).is_none()
                }
                // With these, the body would end elsewhere, or something must be done before the
                // answer.
                TRANSFER_ENCODING | TE | TRAILER | EXPECT | UPGRADE => false,
                _ => true,
            };
            if !is_known {
                return None;
            }
            headers.append(name, value);
        }
        let (start, end, length) = length.filter(|_| has_host)?;
        let (before, after) = (head.slice(..start), head.slice(end..));
        Some((Self { before, after, length, headers: Arc::new(headers) }, body))
    }

    /// If `input` begins with this head, with any length, stores that length and returns what comes
    /// after the head.
    fn again<'a>(&mut self, input: &'a [u8], site: &Site) -> Option<&'a [u8]> {
        let rest = input.strip_prefix(&*self.before)?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (length, rest) = rest.split_at(digits);
        let body = rest.strip_prefix(&*self.after)?;
        if self.length != length {
            if input.len() - body.len() > site.api.http_limits().head_bytes_max {
                return None;
            }
            self.length = HeaderValue::from_bytes(length).ok()?;
            // In place, if nobody has kept the headers of the last push.
            Arc::make_mut(&mut self.headers).insert(CONTENT_LENGTH, self.length.clone());
        }
        Some(body)
    }
}

/// The bytes of the answer, as hyper would write them.
fn render(reply: &Reply, site: &Site, is_kept: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256 + reply.body().len());
    bytes.extend_from_slice(b"HTTP/1.1 ");
    bytes.extend_from_slice(reply.status().as_str().as_bytes());
    bytes.push(b' ');
    let reason = reply.status().canonical_reason().unwrap_or_default();
    bytes.extend_from_slice(reason.as_bytes());
    let mut line = |name: &str, value: &[u8]| {
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
    };
    for (name, value) in reply.headers() {
        line(name.as_str(), value.as_bytes());
    }
    site.keep_alive.write(&mut bytes, reply.headers(), is_kept);
    bytes.extend_from_slice(b"\r\ncontent-length: ");
    bytes.extend_from_slice(HeaderValue::from(reply.body().len()).as_bytes());
    bytes.extend_from_slice(b"\r\n\r\n");
    bytes.extend_from_slice(reply.body());
    bytes
}

pub(crate) async fn write(io: &mut HttpIo, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = poll_fn(|cx| Pin::new(&mut *io).poll_write(cx, bytes)).await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[count..];
    }
    poll_fn(|cx| Pin::new(&mut *io).poll_flush(cx)).await
}

//! Complete answers for connections that are not served at all: they are closed afterwards.

/// The answer to a connection that exceeds the limit of its listener.
pub(crate) const OVERLOADED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
content-type: text/plain; charset=utf-8\r\nwserver-error: http_connections_max is reached\r\ncontent-length: 4\r\n\r\nbusy";

/// The answer to a connection that exceeds the limit of its address.
pub(crate) const ADDRESS_FULL: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\nconnection: close\r\n\
content-type: text/plain; charset=utf-8\r\n\
wserver-error: http_connections_per_address_max is reached\r\ncontent-length: 38\r\n\r\n\
too many connections from this address";

/// The answer to plain HTTP at a TLS port.
#[cfg(feature = "tls")]
pub(crate) const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\
content-type: text/plain; charset=utf-8\r\nwserver-error: plain HTTP was sent to a TLS port\r\n\
content-length: 56\r\n\r\nthis port speaks TLS: use https:// or wss:// to reach it";

//! Replaces `tls.rs` without the feature `tls`: its types have no values.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub(crate) enum TlsSettings {}

#[derive(Debug)]
pub(crate) enum Tls {}

/// What is wrong with a listener's TLS: without the feature `tls`, nothing can be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsProblem {}

impl TlsProblem {
    pub(crate) fn settings(&self) -> Vec<&'static str> {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) struct TlsStream(Infallible);

#[derive(Debug)]
pub(crate) struct TlsSocket(Infallible);

pub(crate) const PUBLIC: () = ();
pub(crate) const PRIVATE: () = ();

impl TlsSettings {
    pub(crate) fn asks_for_clients(&self) -> bool {
        match *self {}
    }
}

impl Tls {
    pub(crate) fn new(settings: &TlsSettings, (): ()) -> Result<Self, Vec<TlsProblem>> {
        match *settings {}
    }

    #[expect(clippy::unused_async, reason = "as where there is TLS")]
    pub(crate) async fn accept(&self, _stream: TcpStream) -> io::Result<TlsStream> {
        match *self {}
    }
}

impl TlsStream {
    pub(crate) fn get_mut(&mut self) -> (&mut TcpStream, ()) {
        match self.0 {}
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.0 {}
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match self.0 {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }
}

impl From<TlsStream> for TlsSocket {
    fn from(stream: TlsStream) -> Self {
        match stream.0 {}
    }
}

impl TlsSocket {
    pub(crate) fn stream(&self) -> &TcpStream {
        match self.0 {}
    }

    pub(crate) fn poll_read(&self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.0 {}
    }

    pub(crate) fn try_write(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.0 {}
    }

    pub(crate) fn try_flush(&self) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn poll_notify_close(&self, _: &mut Context<'_>) -> Poll<()> {
        match self.0 {}
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as where there is TLS")]
pub(crate) fn reload(_listeners: &[Arc<Tls>]) -> Result<(), Vec<TlsProblem>> {
    Ok(())
}

#[expect(clippy::unused_async, reason = "as where there is TLS")]
pub(crate) async fn watch(_listeners: Arc<[Arc<Tls>]>, _stop: CancellationToken) {}

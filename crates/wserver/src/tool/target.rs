//! The server that a tool talks to, and the certificate authorities that it trusts.

use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use http::Uri;

use crate::files::{self, KEYS_BYTES_MAX};

use super::outcome::Failure;

/// The address where a server listens by default.
pub(super) const PUBLIC: &str = "http://127.0.0.1:12345";
/// The address where a server takes pushes by default, which is without a key.
pub(super) const PRIVATE: &str = "http://127.0.0.1:22345";

/// The arguments that name a server.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// URL of the server: http or ws, https or wss; a path in it replaces the usual path of the request
    #[arg(long, value_name = "URL", default_value = PUBLIC)]
    url: String,
    #[command(flatten)]
    authorities: Authorities,
}

/// The argument that names certificate authorities.
#[derive(Debug, Args)]
pub(super) struct Authorities {
    /// PEM file of certificate authorities to trust in addition to those of this machine
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl Authorities {
    /// The text of the file, if one is given.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, Failure> {
        let Some(file) = &self.ca_file else { return Ok(None) };
        let read = files::read_once(file, KEYS_BYTES_MAX)
            .with_context(|| format!("--ca-file {}", file.display()));
        read.map(Some).map_err(Failure::Usage)
    }
}

/// The protocol of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    WebSocket,
}

impl Target {
    /// The URL of an endpoint, at `path` unless the URL has a path of its own.
    ///
    /// # Errors
    /// When the URL is malformed. The message does not quote it, because it may contain a token.
    pub(super) fn endpoint(&self, scheme: Scheme, path: &str) -> Result<String, Failure> {
        endpoint(&self.url, scheme, path).map_err(Failure::Usage)
    }

    /// The text of the file of certificate authorities, if one is given.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn authorities(&self) -> Result<Option<Vec<u8>>, Failure> {
        self.authorities.read()
    }
}

/// The URL of an endpoint of the server at `url`, at `path` unless `url` has a path of its own.
pub(super) fn endpoint(url: &str, scheme: Scheme, path: &str) -> anyhow::Result<String> {
    let uri = parse(url)?;
    let path = match uri.path() {
        "" | "/" => path,
        path => path,
    };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    Ok(format!("{}{path}{query}", root(&uri, scheme)?))
}

/// The URL of another endpoint of the same server.
pub(super) fn sibling(url: &str, scheme: Scheme, path: &str) -> anyhow::Result<String> {
    Ok(format!("{}{path}", root(&parse(url)?, scheme)?))
}

fn parse(url: &str) -> anyhow::Result<Uri> {
    url.parse().map_err(|_quotes_it| anyhow!("the URL cannot be read"))
}

fn root(uri: &Uri, scheme: Scheme) -> anyhow::Result<String> {
    let scheme = match (uri.scheme_str(), scheme) {
        (Some("http" | "ws"), Scheme::Http) => "http",
        (Some("http" | "ws"), Scheme::WebSocket) => "ws",
        (Some("https" | "wss"), Scheme::Http) => "https",
        (Some("https" | "wss"), Scheme::WebSocket) => "wss",
        _ => bail!("the URL does not begin with http://, https://, ws:// or wss://"),
    };
    let authority = uri.authority().context("the URL names no server")?;
    Ok(format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_url_names_every_endpoint() {
        for (url, scheme, expected) in [
            ("http://a.example:1", Scheme::Http, Some("http://a.example:1/x")),
            ("http://a.example/", Scheme::WebSocket, Some("ws://a.example/x")),
            ("wss://a.example/own?t=1", Scheme::Http, Some("https://a.example/own?t=1")),
            ("https://[::1]:8?t=1", Scheme::WebSocket, Some("wss://[::1]:8/x?t=1")),
            ("a.example", Scheme::Http, None),
            ("a.example:8", Scheme::Http, None),
            ("/x", Scheme::Http, None),
            ("ftp://a.example", Scheme::Http, None),
            ("http://can ary", Scheme::Http, None),
        ] {
            let endpoint = endpoint(url, scheme, "/x");
            if let Err(error) = &endpoint {
                assert!(!format!("{error:#}").contains("canary"), "{error:#}");
            }
            assert_eq!(endpoint.ok().as_deref(), expected, "{url}");
        }
    }
}

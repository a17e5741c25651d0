//! The arguments of the tools that use a server's HTTP API.

use std::env;
use std::io;
use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use wserver_client::{Api, Pusher};

use super::outcome::Failure;
use super::secret::secret;
use super::target::{Authorities, PRIVATE, PUBLIC, Scheme, endpoint};

const KEY_VARIABLE: &str = "WSERVER_PUSH_KEY";

/// The server, and the key.
#[derive(Debug, Args)]
pub(super) struct Access {
    /// File of the push key; - means standard input
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Unix socket of the server's private address, used in place of the URL's host
    #[arg(long, value_name = "FILE")]
    unix_socket: Option<PathBuf>,
    /// URL at which the server takes pushes, http or https; a path in it replaces the usual path of the request. By default `http://127.0.0.1:12345` with a key, and `http://127.0.0.1:22345` without one
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    authorities: Authorities,
}

impl Access {
    /// The URL of the server. By default, a server with a key takes pushes at the public address,
    /// and a server without one at a separate port.
    fn url(&self) -> &str {
        let has_key = self.key_file.is_some() || env::var_os(KEY_VARIABLE).is_some();
        self.url.as_deref().unwrap_or(if has_key { PUBLIC } else { PRIVATE })
    }

    /// The failure, with advice if the URL was our own guess.
    pub(super) fn failure(&self, error: impl Into<anyhow::Error>) -> Failure {
        let error = error.into();
        let is_refused = error.chain().any(|cause| {
            let cause = cause.downcast_ref::<io::Error>();
            cause.is_some_and(|it| it.kind() == io::ErrorKind::ConnectionRefused)
        });
        if !is_refused || self.url.is_some() || self.unix_socket.is_some() {
            return Failure::Failed(error);
        }
        let url = self.url();
        let hint = if url == PRIVATE {
            format!(
                "nothing listens at {url}, where a server accepts pushes without a key; a server \
                 with keys or allow_open_push accepts them at {PUBLIC}: name the key with \
                 --key-file, or the URL with --url"
            )
        } else {
            format!("nothing listens at {url}: name the server with --url")
        };
        Failure::Failed(anyhow!("{error:#}; {hint}"))
    }

    /// The key, if one is given.
    ///
    /// # Errors
    /// When it cannot be read.
    fn key(&self) -> Result<Option<String>, Failure> {
        secret(self.key_file.as_deref(), KEY_VARIABLE)
    }

    /// The HTTP API.
    ///
    /// # Errors
    /// When something that is named cannot be read or used.
    pub(super) fn api(&self) -> Result<Api, Failure> {
        let url = endpoint(self.url(), Scheme::Http, "/").map_err(Failure::Usage)?;
        let mut api = Api::new(&url).map_err(Failure::usage)?;
        if let Some(authorities) = self.authorities.read()? {
            api = api.with_ca_pem(&authorities).map_err(Failure::usage)?;
        }
        if let Some(path) = &self.unix_socket {
            api = api.with_unix_socket(path);
        }
        if let Some(key) = self.key()? {
            api = api.with_key(&key).map_err(Failure::usage)?;
        }
        Ok(api)
    }

    /// The push endpoint of version 1.
    ///
    /// # Errors
    /// As for [`api`](Self::api).
    pub(super) fn pusher(&self) -> Result<Pusher, Failure> {
        let url = endpoint(self.url(), Scheme::Http, "/push").map_err(Failure::Usage)?;
        let mut pusher = Pusher::new(&url).map_err(Failure::usage)?;
        if let Some(path) = &self.unix_socket {
            pusher = pusher.with_unix_socket(path);
        }
        if let Some(authorities) = self.authorities.read()? {
            pusher = pusher.with_ca_pem(&authorities).map_err(Failure::usage)?;
        }
        if let Some(key) = self.key()? {
            pusher = pusher.with_key(&key).map_err(Failure::usage)?;
        }
        Ok(pusher)
    }
}

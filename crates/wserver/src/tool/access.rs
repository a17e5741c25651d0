//! The arguments of those tools that speak to a server's HTTP API.

use std::path::PathBuf;

use clap::Args;
use wserver_client::{Api, Pusher};

use super::Failure;
use super::secret::secret;
use super::target::{Scheme, Target};

/// Which server, and with which key.
#[derive(Debug, Args)]
pub(super) struct Access {
    /// File of the push key; - is standard input
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Unix socket of the server's private address, in place of the URL's host
    #[arg(long, value_name = "FILE")]
    unix_socket: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

impl Access {
    /// The key, if one is given.
    ///
    /// # Errors
    /// When it cannot be read.
    fn key(&self) -> Result<Option<String>, Failure> {
        secret(self.key_file.as_deref(), "WSERVER_PUSH_KEY")
    }

    /// The HTTP API.
    ///
    /// # Errors
    /// When something that is named cannot be read or used.
    pub(super) fn api(&self) -> Result<Api, Failure> {
        let mut api = api(&self.target)?;
        if let Some(path) = &self.unix_socket {
            api = api.with_unix_socket(path);
        }
        if let Some(key) = self.key()? {
            api = api.with_key(&key).map_err(Failure::usage)?;
        }
        Ok(api)
    }

    /// Version 1's endpoint for pushes.
    ///
    /// # Errors
    /// As of [`api`](Self::api).
    pub(super) fn pusher(&self) -> Result<Pusher, Failure> {
        let url = self.target.endpoint(Scheme::Http, "/push")?;
        let mut pusher = Pusher::new(&url).map_err(Failure::usage)?;
        if let Some(path) = &self.unix_socket {
            pusher = pusher.with_unix_socket(path);
        }
        if let Some(authorities) = self.target.authorities()? {
            pusher = pusher.with_ca_pem(&authorities).map_err(Failure::usage)?;
        }
        if let Some(key) = self.key()? {
            pusher = pusher.with_key(&key).map_err(Failure::usage)?;
        }
        Ok(pusher)
    }
}

/// The HTTP API of a server, without a key.
///
/// # Errors
/// When something that is named cannot be read or used.
pub(super) fn api(target: &Target) -> Result<Api, Failure> {
    let api = Api::new(&target.endpoint(Scheme::Http, "/")?).map_err(Failure::usage)?;
    match target.authorities()? {
        Some(authorities) => api.with_ca_pem(&authorities).map_err(Failure::usage),
        None => Ok(api),
    }
}

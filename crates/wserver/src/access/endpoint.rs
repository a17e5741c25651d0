//! A URL in the settings, and the certificate authorities to trust for it.

use std::path::Path;

use anyhow::{Result, anyhow};
use wserver_auth::{HttpEndpoint, HttpEndpointError};

use super::contents::{Contents, source};
use crate::settings::Problem;

/// The settings of one URL.
pub(super) struct Url<'a> {
    /// The name of its setting.
    pub(super) name: String,
    pub(super) url: &'a str,
    /// The table that contains it, and also its `ca_file` and `allow_plain_http`.
    pub(super) prefix: &'a str,
    pub(super) ca_file: Option<&'a Path>,
    pub(super) allow_plain_http: bool,
}

impl Url<'_> {
    fn problem(&self, error: &HttpEndpointError) -> Problem {
        let Self { name, prefix, .. } = self;
        match error {
            HttpEndpointError::Plain { host } => {
                let allow = format!("{prefix}_allow_plain_http");
                let words = format!(
                    "{name}: plain http:// to {host} can be read and changed in transit: use \
                     https://, or set {allow} if you trust that network"
                );
                Problem::new([name, &allow], words)
            }
            HttpEndpointError::NoAuthorities => {
                let words = format!(
                    "{name}: the system has no certificate authorities: install them, or name a \
                     file that contains them with {prefix}_ca_file"
                );
                Problem::new([name], words)
            }
            error => Problem::new([name], format!("{name}: {error}")),
        }
    }
}

/// Whether the path to `url` is unencrypted.
pub(crate) fn is_plain_http(url: &str) -> bool {
    url.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"))
}

pub(super) fn endpoint(contents: &mut Contents, url: &Url<'_>) -> Result<HttpEndpoint> {
    let Some(file) = url.ca_file else {
        let endpoint = if url.allow_plain_http {
            HttpEndpoint::allowing_plain_http(url.url)
        } else {
            HttpEndpoint::new(url.url)
        };
        return Ok(endpoint.map_err(|error| url.problem(&error))?);
    };
    let name = format!("{}_ca_file", url.prefix);
    let authorities = contents.text(&name, file)?;
    if is_plain_http(url.url) {
        let words = format!("{name} needs https://, but {} is http://", url.name);
        return Err(Problem::new([&name, &url.name], words).into());
    }
    HttpEndpoint::trusting(url.url, &authorities).map_err(|error| match error {
        HttpEndpointError::Authority => {
            anyhow!("it contains no certificate, or one that cannot be read")
                .context(source(&name, file))
        }
        HttpEndpointError::AuthorityHalfRead => anyhow!(error).context(source(&name, file)),
        error => url.problem(&error).into(),
    })
}

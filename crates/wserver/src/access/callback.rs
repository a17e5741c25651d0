//! The table `[callback]`: a backend that says which user a token belongs to.

use std::str;

use anyhow::{Context, Result, anyhow};
use wserver_auth::{CallbackAuthenticator, CallbackSettings, CallbackSettingsError};

use super::contents::{Contents, secret, source};
use super::endpoint::{Url, endpoint};
use super::problems::Problems;
use crate::settings::Loaded;

pub(super) fn read(
    contents: &mut Contents,
    loaded: &Loaded,
    problems: &mut Problems,
) -> Option<CallbackAuthenticator> {
    let Some(url) = &loaded.settings.callback_url else {
        problems.tell_idle(loaded, "callback", "callback_url");
        return None;
    };
    let callback = settings(contents, loaded, url);
    problems.note(callback.and_then(|callback| {
        CallbackAuthenticator::new(callback).map_err(|error| match error {
            CallbackSettingsError::OutOfRange { .. } => anyhow!("callback_{error}"),
            CallbackSettingsError::Header { .. } => {
                anyhow!("callback_forward_headers: {error}")
            }
            CallbackSettingsError::TwoAuthorizations => {
                anyhow!("callback_forward_headers, callback_secret_file: {error}")
            }
            error => anyhow!("callback_url: {error}"),
        })
    }))
}

fn settings(contents: &mut Contents, loaded: &Loaded, url: &str) -> Result<CallbackSettings> {
    let settings = &loaded.settings;
    let patience = loaded.limits.authenticate_timeout;
    let mut callback = CallbackSettings::new(endpoint(
        contents,
        &Url {
            name: "callback_url".to_owned(),
            url,
            prefix: "callback",
            ca_file: settings.callback_ca_file.as_deref(),
            allow_plain_http: settings.callback_allow_plain_http,
        },
    )?);
    if let Some(file) = &settings.callback_secret_file {
        let text = contents.text("callback_secret_file", file)?;
        let secret = str::from_utf8(secret(text.as_bytes()))?;
        callback =
            callback.with_secret(secret).with_context(|| source("callback_secret_file", file))?;
    }
    for header in settings.callback_forward_headers.iter().flatten() {
        let name = header.parse().with_context(|| {
            format!("callback_forward_headers: {header:?} is not the name of a header")
        })?;
        callback.forward_headers.push(name);
    }
    callback.timeout = settings.callback_timeout;
    callback.concurrency_max = settings.callback_concurrency_max;
    callback.waiting_max = settings.callback_waiting_max;
    callback.wait_max = settings.callback_wait_max;
    callback.cache_for = settings.callback_cache_for;
    callback.cache_refusals_for = settings.callback_cache_refusals_for;
    callback.cache_entries_max = settings.callback_cache_entries_max;
    callback.failures_max = settings.callback_failures_max;
    callback.rest = settings.callback_rest;
    if callback.timeout.saturating_add(callback.wait_max) >= patience {
        return Err(anyhow!(
            "callback_timeout and callback_wait_max are {:?} and {:?}, but together must be less \
             than authenticate_timeout, which is {patience:?}",
            callback.timeout,
            callback.wait_max
        ));
    }
    Ok(callback)
}

//! The table `[callback]`: a backend that says which user a token belongs to.

use std::str;

use anyhow::{Context, Result};
use wserver_auth::{CallbackAuthenticator, CallbackSettings, CallbackSettingsError};

use super::contents::{Contents, secret, source};
use super::endpoint::{Url, endpoint};
use super::problems::Problems;
use crate::settings::{Loaded, Problem};

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
        CallbackAuthenticator::new(callback).map_err(|error| {
            let problem = match &error {
                CallbackSettingsError::OutOfRange { setting, .. } => {
                    Problem::new([format!("callback_{setting}")], format!("callback_{error}"))
                }
                CallbackSettingsError::Header { .. } => Problem::new(
                    ["callback_forward_headers"],
                    format!("callback_forward_headers: {error}"),
                ),
                CallbackSettingsError::TwoAuthorizations => Problem::new(
                    ["callback_forward_headers", "callback_secret_file"],
                    format!("callback_forward_headers, callback_secret_file: {error}"),
                ),
                error => Problem::new(["callback_url"], format!("callback_url: {error}")),
            };
            problem.into()
        })
    }))
}

fn settings(contents: &mut Contents, loaded: &Loaded, url: &str) -> Result<CallbackSettings> {
    let settings = &loaded.settings;
    let patience = loaded.limits.session.authenticate_timeout;
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
            let words = format!("callback_forward_headers: {header:?} is not the name of a header");
            Problem::new(["callback_forward_headers"], words)
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
        let words = format!(
            "callback_timeout and callback_wait_max are {:?} and {:?}, but together must be less \
             than authenticate_timeout, which is {patience:?}",
            callback.timeout, callback.wait_max
        );
        let settings = ["callback_timeout", "callback_wait_max", "authenticate_timeout"];
        return Err(Problem::new(settings, words).into());
    }
    Ok(callback)
}

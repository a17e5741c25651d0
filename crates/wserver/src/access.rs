//! Access of clients and publishers, built from the settings and the files that they name.
//!
//! This module builds the authenticator and the authoriser. It knows neither the server nor when a
//! reload exchanges them.

mod contents;
mod endpoint;
mod jwt;
mod callback;
mod publishers;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use wserver_auth::{
    AnyOf, AnyOfPush, Authenticator, JwtKeys, PublisherKeys, PushAuthorizer, StaticTokens,
};

pub(crate) use contents::Contents;
pub(crate) use endpoint::is_plain_http;
pub(crate) use jwt::{jwt_listeners, jwt_signer};

use contents::source;

use crate::settings::{Loaded, Settings};
use crate::swap::Swap;

/// The authenticator of clients and the authoriser of publishers; `None` lets everybody in.
#[derive(Debug, Default)]
pub(crate) struct Access {
    pub(crate) authenticator: Option<Swap<dyn Authenticator>>,
    pub(crate) push_authorizer: Option<Swap<dyn PushAuthorizer>>,
    /// The publishers that have a name.
    pub(crate) publishers: Option<Arc<PublisherKeys>>,
    pub(crate) issuers: Issuers,
    pub(crate) contents: Contents,
}

/// Keys of issuers that are fetched over HTTP, each under a digest of all settings for fetching
/// them.
///
/// Tables with equal settings share the keys, and so does a reload with the settings before it: an
/// issuer that is down during the reload takes no keys away.
pub(crate) type Issuers = BTreeMap<u64, JwtKeys>;

/// Collects problems while reading goes on.
#[derive(Debug, Default)]
struct Problems(Vec<String>);

impl Problems {
    fn tell(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    /// Returns the value that was read, or notes why there is none.
    fn note<T>(&mut self, read: Result<T>) -> Option<T> {
        read.map_err(|error| self.tell(format!("{error:#}"))).ok()
    }

    /// Reports settings of the table `prefix` that have no effect without `needed`, if they differ
    /// from their defaults.
    fn tell_idle(&mut self, loaded: &Loaded, prefix: &str, needed: &str) {
        let defaults = Loaded::defaults();
        for it in &loaded.effective {
            let is_ours =
                it.definition.name.strip_prefix(prefix).is_some_and(|it| it.starts_with('_'));
            let default = defaults.effective(it.definition.name);
            let is_default = default.is_some_and(|default| default.shown == it.shown);
            if is_ours && !is_default {
                self.tell(format!("{} needs {needed}", it.definition.name));
            }
        }
    }
}

impl Access {
    /// Reads the authenticator of clients from whichever settings define one; returns the problems.
    /// Takes over the keys that `running` has fetched from its issuers.
    pub(crate) fn read_listeners(&mut self, loaded: &Loaded, running: &Self) -> Vec<String> {
        let mut problems = Problems::default();
        let tokens = self.read_tokens(&loaded.settings);
        let tokens = problems.note(tokens).flatten();
        let jwt = self.read_jwt(loaded, &running.issuers, &mut problems);
        let callback = self.read_callback(loaded, &mut problems);
        let is_open = tokens.is_none() && jwt.is_none() && callback.is_none();
        let mut any = AnyOf::new();
        if let Some(tokens) = tokens {
            any = any.or(tokens);
        }
        if let Some(jwt) = jwt {
            any = any.or(jwt);
        }
        // The only one that can cost a call for each token, so it comes last.
        if let Some(callback) = callback {
            any = any.or(callback);
        }
        if !is_open {
            self.authenticator = Some(Swap::authenticator(any));
        }
        problems.0
    }

    /// Reads the authoriser of publishers from whichever settings define one; returns the problems.
    /// Publishers keep their counts from `running`.
    pub(crate) fn read_publishers(&mut self, loaded: &Loaded, running: &Self) -> Vec<String> {
        let mut problems = Problems::default();
        let keys = self.read_push_keys(&loaded.settings);
        let keys = problems.note(keys).flatten();
        let publishers = problems.note(publishers::named(&loaded.settings.publisher)).flatten();
        let publishers = publishers.map(|publishers| match &running.publishers {
            Some(counted) => Arc::new(publishers.with_counts_of(counted)),
            None => Arc::new(publishers),
        });
        let jwt = self.read_push_jwt(loaded, &running.issuers, &mut problems);
        let is_open = keys.is_none() && publishers.is_none() && jwt.is_none();
        let mut any = AnyOfPush::new();
        if let Some(keys) = keys {
            any = any.or(keys);
        }
        if let Some(publishers) = &publishers {
            any = any.or(Arc::clone(publishers));
        }
        if let Some(jwt) = jwt {
            any = any.or(jwt);
        }
        if !is_open {
            self.push_authorizer = Some(Swap::push_authorizer(any));
        }
        self.publishers = publishers;
        problems.0
    }

    fn read_tokens(&mut self, settings: &Settings) -> Result<Option<StaticTokens>> {
        let Some(file) = &settings.tokens_file else { return Ok(None) };
        let text = self.contents.text("tokens_file", file)?;
        let source = || source("tokens_file", file);
        let tokens = StaticTokens::parse(&text).with_context(source)?;
        if tokens.is_empty() {
            return Err(anyhow!("{} holds no token, so nobody could register", source()));
        }
        Ok(Some(tokens))
    }
}

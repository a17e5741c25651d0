//! Access of clients and publishers, built from the settings and the files that they name.
//!
//! This module builds the authenticator and the authoriser. It knows neither the server nor when a
//! reload exchanges them.

mod problems;
mod contents;
mod endpoint;
mod jwt;
mod callback;
mod publishers;

use std::sync::Arc;

use anyhow::{Context, Result};
use wserver_auth::{AnyOf, AnyOfPush, Authenticator, PublisherKeys, PushAuthorizer, StaticTokens};

pub(crate) use contents::Contents;
pub(crate) use endpoint::is_plain_http;
pub(crate) use jwt::{jwt_listeners, jwt_signer};

use contents::source;
use jwt::{Issuers, JwtReader};
use problems::Problems;

use crate::settings::{Loaded, Problem, Settings};
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

impl Access {
    /// Reads the authenticator of clients from whichever settings define one; returns the problems.
    /// Takes over the keys that `running` has fetched from its issuers.
    pub(crate) fn read_listeners(&mut self, loaded: &Loaded, running: &Self) -> Vec<Problem> {
        let mut problems = Problems::default();
        let tokens = self.read_tokens(&loaded.settings);
        let tokens = problems.note(tokens).flatten();
        let jwt = self.jwt_reader(running).listeners(loaded, &mut problems);
        let callback = callback::read(&mut self.contents, loaded, &mut problems);
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
    pub(crate) fn read_publishers(&mut self, loaded: &Loaded, running: &Self) -> Vec<Problem> {
        let mut problems = Problems::default();
        let keys = publishers::keys(&mut self.contents, &loaded.settings);
        let keys = problems.note(keys).flatten();
        let publishers = problems.note(publishers::named(&loaded.settings.publisher)).flatten();
        let publishers = publishers.map(|publishers| match &running.publishers {
            Some(counted) => Arc::new(publishers.with_counts_of(counted)),
            None => Arc::new(publishers),
        });
        let jwt = self.jwt_reader(running).publishers(loaded, &mut problems);
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

    fn jwt_reader<'a>(&'a mut self, running: &'a Self) -> JwtReader<'a> {
        JwtReader {
            contents: &mut self.contents,
            issuers: &mut self.issuers,
            known: &running.issuers,
        }
    }

    fn read_tokens(&mut self, settings: &Settings) -> Result<Option<StaticTokens>> {
        let Some(file) = &settings.tokens_file else { return Ok(None) };
        let text = self.contents.text("tokens_file", file)?;
        let source = || source("tokens_file", file);
        let tokens = StaticTokens::parse(&text).with_context(source)?;
        if tokens.is_empty() {
            let words = format!("{} contains no token, so nobody could register", source());
            return Err(Problem::new(["tokens_file"], words).into());
        }
        Ok(Some(tokens))
    }
}

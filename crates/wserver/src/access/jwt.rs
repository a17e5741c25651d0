//! The tables `[jwt]` and `[push_jwt]`: the source of the keys, and the claims that tokens must
//! have.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use wserver_auth::{
    JwksUrl, JwtAlgorithm, JwtAuthenticator, JwtKeys, JwtPublishers, JwtSettings, JwtSettingsError,
    JwtSigner, JwtVerifier, without_byte_order_mark,
};

use super::contents::{Contents, secret_bytes, source};
use super::endpoint::{Url, endpoint};
use super::problems::Problems;
use crate::files::{self, KEYS_BYTES_MAX};
use crate::settings::{Loaded, Problem};

/// What the two tables have in common.
struct Table<'a> {
    prefix: &'static str,
    secret_file: &'a Option<PathBuf>,
    public_key_file: &'a Option<PathBuf>,
    jwks_file: &'a Option<PathBuf>,
    jwks_url: &'a Option<String>,
    ca_file: &'a Option<PathBuf>,
    allow_plain_http: bool,
    jwks_timeout: Duration,
    jwks_renew_after: Duration,
    jwks_fetch_interval_min: Duration,
    jwks_stale_max: Duration,
    algorithms: &'a Option<Vec<String>>,
    audience: &'a Option<Vec<String>>,
    issuer: &'a Option<Vec<String>>,
    leeway: Duration,
    /// Maximum duration of the check of one token, including a fetch.
    patience: Duration,
}

/// The source of a table's keys.
enum Source<'a> {
    Secret(&'a Path),
    PublicKey(&'a Path),
    Jwks(&'a Path),
    Url(&'a str),
}

impl<'a> Table<'a> {
    fn of_listeners(loaded: &'a Loaded) -> Self {
        let settings = &loaded.settings;
        Self {
            prefix: "jwt",
            secret_file: &settings.jwt_secret_file,
            public_key_file: &settings.jwt_public_key_file,
            jwks_file: &settings.jwt_jwks_file,
            jwks_url: &settings.jwt_jwks_url,
            ca_file: &settings.jwt_ca_file,
            allow_plain_http: settings.jwt_allow_plain_http,
            jwks_timeout: settings.jwt_jwks_timeout,
            jwks_renew_after: settings.jwt_jwks_renew_after,
            jwks_fetch_interval_min: settings.jwt_jwks_fetch_interval_min,
            jwks_stale_max: settings.jwt_jwks_stale_max,
            algorithms: &settings.jwt_algorithms,
            audience: &settings.jwt_audience,
            issuer: &settings.jwt_issuer,
            leeway: settings.jwt_leeway,
            patience: loaded.limits.session.authenticate_timeout,
        }
    }

    fn of_publishers(loaded: &'a Loaded) -> Self {
        let settings = &loaded.settings;
        Self {
            prefix: "push_jwt",
            secret_file: &settings.push_jwt_secret_file,
            public_key_file: &settings.push_jwt_public_key_file,
            jwks_file: &settings.push_jwt_jwks_file,
            jwks_url: &settings.push_jwt_jwks_url,
            ca_file: &settings.push_jwt_ca_file,
            allow_plain_http: settings.push_jwt_allow_plain_http,
            jwks_timeout: settings.push_jwt_jwks_timeout,
            jwks_renew_after: settings.push_jwt_jwks_renew_after,
            jwks_fetch_interval_min: settings.push_jwt_jwks_fetch_interval_min,
            jwks_stale_max: settings.push_jwt_jwks_stale_max,
            algorithms: &settings.push_jwt_algorithms,
            audience: &settings.push_jwt_audience,
            issuer: &settings.push_jwt_issuer,
            leeway: settings.push_jwt_leeway,
            patience: loaded.limits.session.authenticate_timeout,
        }
    }

    /// The name of a setting of this table.
    fn name(&self, key: &str) -> String {
        format!("{}_{key}", self.prefix)
    }

    fn sources(&self) -> Vec<Source<'a>> {
        let sources = [
            self.secret_file.as_deref().map(Source::Secret),
            self.public_key_file.as_deref().map(Source::PublicKey),
            self.jwks_file.as_deref().map(Source::Jwks),
            self.jwks_url.as_deref().map(Source::Url),
        ];
        sources.into_iter().flatten().collect()
    }

    /// The settings that name keys.
    fn key_names(&self) -> [String; 4] {
        ["secret_file", "public_key_file", "jwks_file", "jwks_url"].map(|key| self.name(key))
    }

    fn check_audience(&self) -> Result<()> {
        match self.audience.as_deref() {
            None => {
                let (name, table) = (self.name("audience"), self.prefix);
                let words = format!(
                    "{name} is missing: in [{table}], write audience = \"whom tokens are meant for\", or \
                     \"any\""
                );
                Err(Problem::new([name], words).into())
            }
            Some([_]) => Ok(()),
            Some(list) if list.iter().any(|it| it == "any") => {
                let name = self.name("audience");
                let words = format!(
                    "{name} contains \"any\" among others: write only \"any\", or \
                                     leave it out"
                );
                Err(Problem::new([name], words).into())
            }
            Some(_) => Ok(()),
        }
    }

    fn verifier(&self, keys: JwtKeys) -> Result<JwtVerifier> {
        let keys = match self.algorithms()? {
            Some(algorithms) => keys.only(algorithms).with_context(|| {
                Problem::new([self.name("algorithms")], self.name("algorithms"))
            })?,
            None => keys,
        };
        let jwt = match self.audience.as_deref().unwrap_or_default() {
            [any] if any == "any" => JwtSettings::for_any_audience(keys),
            audiences => JwtSettings::for_audience(keys, audiences),
        };
        let issuers = self.issuer.clone().unwrap_or_default();
        JwtVerifier::new(jwt.with_issuers(issuers).with_leeway(self.leeway)).map_err(|error| {
            let key = match error {
                JwtSettingsError::NoAudience => "audience",
                JwtSettingsError::EmptyIssuer => "issuer",
                _ => "leeway",
            };
            Problem::new([self.name(key)], format!("{}: {error}", self.name(key))).into()
        })
    }

    fn algorithms(&self) -> Result<Option<Vec<JwtAlgorithm>>> {
        let Some(names) = self.algorithms else { return Ok(None) };
        let algorithm = |name: &String| {
            let setting = self.name("algorithms");
            name.parse().with_context(|| {
                let words = format!("{setting} has {name:?}");
                Problem::new([setting], words)
            })
        };
        Ok(Some(names.iter().map(algorithm).collect::<Result<_>>()?))
    }

    /// Checks the times for fetching a set.
    fn check_times(&self) -> Result<()> {
        let (timeout, patience) = (self.jwks_timeout, self.patience);
        if timeout.is_zero() {
            let name = self.name("jwks_timeout");
            let words = format!("{name} must be longer than zero");
            return Err(Problem::new([name], words).into());
        }
        if timeout >= patience {
            let name = self.name("jwks_timeout");
            let words = format!(
                "{name} is {timeout:?}, but must be less than authenticate_timeout, which is \
                 {patience:?}"
            );
            return Err(Problem::new([&name, "authenticate_timeout"], words).into());
        }
        let stale_max = self.jwks_stale_max;
        for (key, time) in [
            ("jwks_renew_after", self.jwks_renew_after),
            ("jwks_fetch_interval_min", self.jwks_fetch_interval_min),
        ] {
            if stale_max < time {
                let (name, other) = (self.name("jwks_stale_max"), self.name(key));
                let words = format!(
                    "{name} is {stale_max:?}, but must be at least {other}, which is {time:?}"
                );
                return Err(Problem::new([name, other], words).into());
            }
        }
        Ok(())
    }
}

/// The keys of issuers that are asked over HTTP, each under a digest of all that says how.
///
/// Settings that ask the same share them, and so does a reload with the settings before it: an
/// issuer that is down just then takes no keys away.
pub(crate) type Issuers = BTreeMap<u64, JwtKeys>;

/// Reads keys: from files, or from those who are asked for them already.
pub(super) struct JwtReader<'a> {
    pub(super) contents: &'a mut Contents,
    /// Those that were read.
    pub(super) issuers: &'a mut Issuers,
    /// Those of the settings before.
    pub(super) known: &'a Issuers,
}

impl JwtReader<'_> {
    pub(super) fn listeners(
        &mut self,
        loaded: &Loaded,
        problems: &mut Problems,
    ) -> Option<JwtAuthenticator> {
        let settings = &loaded.settings;
        let table = Table::of_listeners(loaded);
        let verifier = self.read_verifier(loaded, &table, problems);
        let claims = [
            ("jwt_user_claim", Some(&settings.jwt_user_claim)),
            ("jwt_events_claim", settings.jwt_events_claim.as_ref()),
        ];
        for (name, claim) in claims {
            if claim.is_some_and(String::is_empty) {
                let words = format!("{name} is empty: write the name of a claim");
                problems.tell(Problem::new([name], words));
            }
        }
        let jwt = JwtAuthenticator::new(verifier?).with_user_claim(&settings.jwt_user_claim);
        Some(match &settings.jwt_events_claim {
            Some(claim) => jwt.with_events_claim(claim),
            None => jwt,
        })
    }

    pub(super) fn publishers(
        &mut self,
        loaded: &Loaded,
        problems: &mut Problems,
    ) -> Option<JwtPublishers> {
        let table = Table::of_publishers(loaded);
        self.read_verifier(loaded, &table, problems).map(JwtPublishers::new)
    }

    fn read_verifier(
        &mut self,
        loaded: &Loaded,
        table: &Table<'_>,
        problems: &mut Problems,
    ) -> Option<JwtVerifier> {
        let sources = table.sources();
        if sources.is_empty() {
            let [secret, public, jwks, url] = table.key_names();
            let needed = format!("{secret}, {public}, {jwks} or {url}");
            problems.tell_idle(loaded, table.prefix, &needed);
            return None;
        }
        let for_url =
            [("ca_file", table.ca_file.is_some()), ("allow_plain_http", table.allow_plain_http)];
        for (key, _) in
            for_url.into_iter().filter(|(_, is_set)| table.jwks_url.is_none() && *is_set)
        {
            let name = table.name(key);
            let words = format!("{name} needs {}", table.name("jwks_url"));
            problems.tell(Problem::new([name], words));
        }
        let keys = match sources.as_slice() {
            [source] => self.read_keys(table, source),
            _ => {
                let names = table.key_names();
                let [secret, public, jwks, url] = &names;
                let words = format!("{secret}, {public}, {jwks} and {url}: choose one");
                Err(Problem::new(names, words).into())
            }
        };
        let keys = problems.note(keys);
        let audience = problems.note(table.check_audience());
        let verifier = table.verifier(keys.filter(|_| audience.is_some())?);
        problems.note(verifier)
    }

    fn read_keys(&mut self, table: &Table<'_>, from: &Source<'_>) -> Result<JwtKeys> {
        let (key, file) = match from {
            Source::Url(url) => return self.read_jwks_url(table, url),
            Source::Secret(file) => ("secret_file", file),
            Source::PublicKey(file) => ("public_key_file", file),
            Source::Jwks(file) => ("jwks_file", file),
        };
        let name = table.name(key);
        let keys = match from {
            Source::Secret(_) => {
                let bytes = self.contents.bytes(&name, file)?;
                JwtKeys::secret(secret_bytes(&bytes).with_context(|| source(&name, file))?)
            }
            Source::PublicKey(_) => JwtKeys::public_key_pem(&self.contents.text(&name, file)?),
            _ => JwtKeys::jwks(&self.contents.text(&name, file)?),
        };
        keys.with_context(|| source(&name, file))
    }

    fn read_jwks_url(&mut self, table: &Table<'_>, url: &str) -> Result<JwtKeys> {
        let from = Url {
            name: table.name("jwks_url"),
            url,
            prefix: table.prefix,
            ca_file: table.ca_file.as_deref(),
            allow_plain_http: table.allow_plain_http,
        };
        let mut jwks = JwksUrl::new(endpoint(self.contents, &from)?);
        table.check_times()?;
        jwks.timeout = table.jwks_timeout;
        jwks.renew_after = table.jwks_renew_after;
        jwks.fetch_interval_min = table.jwks_fetch_interval_min;
        jwks.stale_max = table.jwks_stale_max;
        let authorities = self.contents.digest(&table.name("ca_file"));
        let times = [jwks.timeout, jwks.renew_after, jwks.fetch_interval_min, jwks.stale_max];
        let mut hasher = DefaultHasher::new();
        (url, authorities, table.allow_plain_http, times).hash(&mut hasher);
        let digest = hasher.finish();
        let shared = self.issuers.get(&digest).or_else(|| self.known.get(&digest)).cloned();
        let keys = shared.unwrap_or_else(|| JwtKeys::jwks_url(jwks));
        self.issuers.insert(digest, keys.clone());
        Ok(keys)
    }
}

/// An authenticator that accepts only JSON Web Tokens, if the settings name keys for them.
///
/// # Errors
/// Everything that is wrong with the table `[jwt]`.
pub(crate) fn jwt_listeners(loaded: &Loaded) -> Result<Option<JwtAuthenticator>, Vec<Problem>> {
    let mut problems = Problems::default();
    let mut reader = JwtReader {
        contents: &mut Contents::default(),
        issuers: &mut Issuers::new(),
        known: &Issuers::new(),
    };
    let jwt = reader.listeners(loaded, &mut problems);
    if problems.0.is_empty() { Ok(jwt) } else { Err(problems.0) }
}

/// The key that signs tokens for clients: the private key in `key_file`, or else the secret of the
/// settings.
///
/// # Errors
/// Why there is no such key, or what is wrong with it.
pub(crate) fn jwt_signer(loaded: &Loaded, key_file: Option<&Path>) -> Result<JwtSigner> {
    let (name, file) = match (key_file, &loaded.settings.jwt_secret_file) {
        (Some(file), _) => ("--key-file", file),
        (None, Some(file)) => ("jwt_secret_file", file.as_path()),
        (None, None) => {
            return Err(anyhow!(
                "there is no key to sign with: the settings have no jwt_secret_file; name the \
                 issuer's private key with --key-file"
            ));
        }
    };
    let bytes = match key_file {
        Some(file) => files::read_once(file, KEYS_BYTES_MAX),
        None => files::read(file, KEYS_BYTES_MAX),
    };
    let bytes = bytes.with_context(|| source(name, file))?;
    let secret = match key_file {
        Some(_) => &[][..],
        None => secret_bytes(&bytes).with_context(|| source(name, file))?,
    };
    let sign_with = |algorithm: Option<JwtAlgorithm>| match key_file {
        Some(_) => {
            let pem = String::from_utf8_lossy(&bytes);
            JwtSigner::private_key_pem(without_byte_order_mark(&pem), algorithm)
        }
        None => JwtSigner::secret(secret, algorithm.unwrap_or(JwtAlgorithm::HS256)),
    };
    let accepted = Table::of_listeners(loaded).algorithms()?.unwrap_or_default();
    // The first accepted algorithm that fits the key.
    let mut signers = accepted.into_iter().map(|algorithm| sign_with(Some(algorithm)));
    let first = signers.next().unwrap_or_else(|| sign_with(None));
    signers.fold(first, Result::or).with_context(|| source(name, file))
}

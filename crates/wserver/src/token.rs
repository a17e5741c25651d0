//! JSON Web Tokens by hand: makes a token to try a server with, and inspects a token.

use std::future::Future;
use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow};
use wserver_auth::{EventScope, Identity, Inspection, JwtAuthenticator, JwtDraft, inspect_jwt};
use wserver_core::UserId;

use crate::access::{jwt_listeners, jwt_signer};
use crate::settings::{Loaded, Problem, Sources};
use crate::tool::is_plain;

/// Maximum input from standard input: several times the longest token.
const INPUT_BYTES_MAX: u64 = 64 * 1024;

/// The claims of a token beyond those that the settings require, and the key that signs it.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) user: String,
    /// Patterns; empty means every event.
    pub(crate) events: Vec<String>,
    pub(crate) lifetime: Duration,
    /// The issuer's private key; if it is not given, the secret of the settings signs.
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) key_id: Option<String>,
}

/// The new token, and the reasons why a server with the same settings would refuse it.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) token: String,
    pub(crate) problems: Vec<String>,
}

/// The result of an inspection.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) text: String,
    /// If there are no keys to verify it: whether the token is readable.
    pub(crate) is_accepted: bool,
}

/// Makes the token of `draft`, with the claims that the settings require.
///
/// # Errors
/// What is wrong with the settings, or with the draft under these settings.
pub(crate) fn make(sources: &Sources, draft: Draft) -> Result<Made, Vec<String>> {
    let loaded = sources.load()?;
    let authenticator = authenticator(&loaded)?;
    let made = || {
        let token = sign(&loaded, draft)?;
        let problems = match authenticator {
            Some(authenticator) => judge(&loaded, &authenticator, &token)?.problems,
            None => Vec::new(),
        };
        Ok(Made { token, problems })
    };
    made().map_err(|error: anyhow::Error| vec![loaded.placed(&Problem::of(&error))])
}

fn sign(loaded: &Loaded, draft: Draft) -> Result<String> {
    let settings = &loaded.settings;
    let mut signer = jwt_signer(loaded, draft.key_file.as_deref())?;
    if let Some(key_id) = draft.key_id {
        signer = signer.with_kid(key_id);
    }
    let mut claims = JwtDraft::new(SystemTime::now(), draft.lifetime)
        .with_text(&settings.jwt_user_claim, draft.user);
    match (&settings.jwt_events_claim, draft.events) {
        (None, events) if events.is_empty() => {}
        (None, _) => {
            return Err(anyhow!(
                "--event needs jwt_events_claim; without that setting a token permits every event"
            ));
        }
        (Some(claim), events) if events.is_empty() => claims = claims.with_list(claim, ["*"]),
        (Some(claim), events) => claims = claims.with_list(claim, events),
    }
    if let Some(audience) = settings.jwt_audience.iter().flatten().find(|it| *it != "any") {
        claims = claims.with_text("aud", audience);
    }
    if let Some(issuer) = settings.jwt_issuer.iter().flatten().next() {
        claims = claims.with_text("iss", issuer);
    }
    signer.sign(&claims).context("the token could not be signed")
}

/// Reads a token from standard input.
///
/// # Errors
/// When the input is empty, or too long for a token.
pub(crate) fn read() -> Result<String> {
    let mut text = String::new();
    let read = io::stdin().take(INPUT_BYTES_MAX).read_to_string(&mut text);
    let bytes = read.context("standard input")?;
    let token = text.trim();
    if token.is_empty() {
        return Err(anyhow!("standard input contains no token"));
    }
    if u64::try_from(bytes) == Ok(INPUT_BYTES_MAX) {
        return Err(anyhow!(
            "standard input has {INPUT_BYTES_MAX} bytes or more, which is too long \
                            for a token"
        ));
    }
    Ok(token.to_owned())
}

/// Whether a person types at the terminal, who might wonder why nothing happens.
pub(crate) fn is_typed() -> bool {
    io::stdin().is_terminal()
}

/// Inspects a token as a server with these settings would.
///
/// # Errors
/// What is wrong with the settings.
pub(crate) fn inspect(sources: &Sources, token: &str) -> Result<Verdict, Vec<String>> {
    let loaded = sources.load()?;
    let authenticator = authenticator(&loaded)?;
    let judged = || match authenticator {
        Some(authenticator) => {
            let inspection = judge(&loaded, &authenticator, token)?;
            let is_accepted = inspection.problems.is_empty();
            Ok(Verdict { text: told(&inspection, "refused"), is_accepted })
        }
        None => {
            let inspection = inspect_jwt(token, SystemTime::now());
            let is_accepted = inspection.claims.is_some();
            Ok(Verdict { text: told(&inspection, "problem") + NO_KEYS, is_accepted })
        }
    };
    judged().map_err(|error: anyhow::Error| vec![loaded.placed(&Problem::of(&error))])
}

const NO_KEYS: &str = "help: with --config FILE, it is checked against the [jwt] of that file\n";

fn authenticator(loaded: &Loaded) -> Result<Option<JwtAuthenticator>, Vec<String>> {
    jwt_listeners(loaded)
        .map_err(|problems| problems.iter().map(|problem| loaded.placed(problem)).collect())
}

fn judge(loaded: &Loaded, authenticator: &JwtAuthenticator, token: &str) -> Result<Inspection> {
    let mut inspection = block_on(authenticator.inspect(token, SystemTime::now()))?;
    let bytes_max = loaded.limits.session.name_bytes_max;
    if token.len() > bytes_max {
        let bytes = token.len();
        let problem = format!(
            "it is {bytes} bytes long, but the limit name_bytes_max is \
                               {bytes_max}"
        );
        inspection.problems.push(problem);
    }
    if let Some(identity) = &inspection.identity
        && let Err(error) = UserId::parse(&identity.user, bytes_max)
    {
        inspection.problems.push(format!("its user {error} (name_bytes_max)"));
    }
    Ok(inspection)
}

/// Blocks on `future`, which may have to fetch keys from the issuer.
fn block_on<F: Future>(future: F) -> Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.context("cannot start the async runtime")?.block_on(future))
}

/// All findings, line by line; the problems come after `verdict`.
fn told(inspection: &Inspection, verdict: &str) -> String {
    let mut lines = Vec::new();
    let parts = [("header", &inspection.header), ("claims", &inspection.claims)];
    lines.extend(
        parts.iter().filter_map(|(name, json)| {
            json.as_ref().map(|json| format!("{name}: {}", plain(json)))
        }),
    );
    let times = [
        ("issued at (iat)", inspection.issued_at),
        ("valid from (nbf)", inspection.not_before),
        ("valid until (exp)", inspection.expires_at),
    ];
    lines.extend(
        times.iter().filter_map(|(name, at)| at.map(|at| format!("{name}: {}", moment(at)))),
    );
    lines.extend(inspection.validity.clone());
    lines.extend(inspection.problems.iter().map(|problem| format!("{verdict}: {problem}")));
    let identity = inspection.identity.iter().filter(|_| inspection.problems.is_empty());
    lines.extend(identity.map(accepted));
    lines.join("\n") + "\n"
}

fn accepted(identity: &Identity) -> String {
    let user = &identity.user;
    let until = identity
        .expires_at
        .map_or_else(String::new, |until| format!(" until {}, leeway included", moment(until)));
    let events = match &identity.events {
        EventScope::Only(patterns) if patterns.is_empty() => "no event".to_owned(),
        EventScope::Only(patterns) => format!("the events {patterns:?}"),
        _ => "every event".to_owned(),
    };
    format!("accepted: it registers as user {user:?}{until}, for {events}")
}

/// A moment in UTC, as people write it. Calendars end with the year 9999, but tokens may not.
fn moment(at: SystemTime) -> String {
    const LAST_SECOND: Duration = Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_seconds(at.min(SystemTime::UNIX_EPOCH + LAST_SECOND)).to_string()
}

/// Text from outside, without characters that a terminal would take for commands.
fn plain(json: &str) -> String {
    let mut plain = String::new();
    for letter in json.chars() {
        if letter == '\n' || is_plain(letter) {
            plain.push(letter);
        } else {
            plain.extend(letter.escape_unicode());
        }
    }
    plain
}

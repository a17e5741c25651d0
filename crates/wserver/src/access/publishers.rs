//! Push keys, and publishers with a name.

use std::num::NonZeroU32;

use anyhow::{Context, Result, anyhow};
use wserver_auth::{PublisherEntry, PublisherKeys, PushRate, PushScope, StaticPushKeys};

use super::contents::{Contents, source};
use crate::settings::{Problem, Publisher, Settings, Shown};

pub(super) fn keys(contents: &mut Contents, settings: &Settings) -> Result<Option<StaticPushKeys>> {
    let (source, text) = match (&settings.push_key_file, &settings.push_key) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            let words = "push_key_file and push_key are both set: set only one of them";
            return Err(Problem::new(["push_key_file", "push_key"], words).into());
        }
        (None, Some(key)) => (Problem::new(["push_key"], "push_key"), key.expose().to_owned()),
        (Some(file), None) => {
            (source("push_key_file", file), contents.text("push_key_file", file)?)
        }
    };
    let keys: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !(line.is_empty() || line.starts_with('#')))
        .collect();
    Ok(Some(StaticPushKeys::new(keys).with_context(|| source)?))
}

/// The publishers with a name; `None` if there are none.
pub(super) fn named(records: &[Publisher]) -> Result<Option<PublisherKeys>> {
    if records.is_empty() {
        return Ok(None);
    }
    let entries = records.iter().map(entry).collect::<Result<Vec<_>>>()?;
    Ok(Some(PublisherKeys::new(entries).context(Problem::new(["publisher"], "publisher"))?))
}

/// Refuses patterns that never match, and says what was probably meant.
fn check_patterns(patterns: &[String]) -> Result<()> {
    if patterns.is_empty() {
        return Err(anyhow!(
            "the list is empty, so the publisher could push nothing; leave the list \
                            out to allow everything"
        ));
    }
    for pattern in patterns {
        if pattern.is_empty() {
            return Err(anyhow!("a pattern is empty, but a name never is"));
        }
        let inner = pattern.strip_suffix('*').unwrap_or(pattern);
        if inner.contains('*') {
            return Err(anyhow!(
                "the pattern {} has a * before its end; only a * at the end is a wildcard",
                Shown(pattern)
            ));
        }
    }
    Ok(())
}

fn problem(record: &Publisher, words: &str) -> Problem {
    Problem::new(["publisher"], format!("publisher {}: {words}", record.name))
}

fn entry(record: &Publisher) -> Result<PublisherEntry> {
    for (setting, patterns) in [("users", &record.users), ("events", &record.events)] {
        let Some(patterns) = patterns else { continue };
        check_patterns(patterns).with_context(|| problem(record, setting))?;
    }
    let mut scope = PushScope::everything();
    if let Some(users) = &record.users {
        scope = scope.with_users(users);
    }
    if let Some(events) = &record.events {
        scope = scope.with_events(events);
    }
    let mut entry = PublisherEntry::new(&record.name, record.key_hash).with_scope(scope);
    let least_one = |setting: &str, number: u32| {
        NonZeroU32::new(number)
            .with_context(|| problem(record, &format!("{setting} must be at least 1")))
    };
    match (record.pushes_per_second, record.burst) {
        (None, None) => {}
        (None, Some(_)) => {
            return Err(problem(record, "burst needs pushes_per_second").into());
        }
        (Some(rate), burst) => {
            entry = entry.with_rate(PushRate {
                pushes_per_second: least_one("pushes_per_second", rate)?,
                burst: least_one("burst", burst.unwrap_or(rate))?,
            });
        }
    }
    if record.admin {
        entry = entry.with_admin();
    }
    if let Some(expires_at) = record.expires_at {
        entry = entry.with_expires_at(expires_at);
    }
    Ok(entry)
}

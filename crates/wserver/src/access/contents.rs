//! The files that settings name; each is read once and remembered by a digest.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use wserver_auth::{invisible_character, without_byte_order_mark};

use crate::files::{self, KEYS_BYTES_MAX, TOKENS_BYTES_MAX};
use crate::settings::Problem;

/// A digest of each file's content, by setting, to detect changes.
#[derive(Debug, Default)]
pub(crate) struct Contents(BTreeMap<String, u64>);

impl Contents {
    /// The content of the file that the setting `name` names, without a leading byte order mark.
    pub(super) fn text(&mut self, name: &str, file: &Path) -> Result<String> {
        let text = String::from_utf8(self.bytes(name, file)?)
            .map_err(|error| error.utf8_error())
            .with_context(|| {
            Problem::new([name], format!("{} is not UTF-8", source(name, file)))
        })?;
        Ok(match without_byte_order_mark(&text) {
            rest if rest.len() < text.len() => rest.to_owned(),
            _ => text,
        })
    }

    /// Like [`text`](Self::text), for a file of any bytes.
    pub(super) fn bytes(&mut self, name: &str, file: &Path) -> Result<Vec<u8>> {
        let bytes_max = if name == "tokens_file" { TOKENS_BYTES_MAX } else { KEYS_BYTES_MAX };
        let bytes = files::read(file, bytes_max).with_context(|| source(name, file))?;
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        self.0.insert(name.to_owned(), hasher.finish());
        Ok(bytes)
    }

    /// Notes the content of a file. The code that uses the file reports what is wrong with it.
    pub(crate) fn note(&mut self, name: &str, file: &Path) {
        let _ = self.bytes(name, file);
    }

    /// The digest of the file of the setting `name`, if the file was read.
    pub(super) fn digest(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// Takes over the digests of `next`; returns the settings whose known file has changed.
    pub(crate) fn exchange(&mut self, next: &Self) -> BTreeSet<String> {
        let mut changed = BTreeSet::new();
        for (name, &digest) in &next.0 {
            let running = self.0.insert(name.clone(), digest);
            if running.is_some_and(|running| running != digest) {
                changed.insert(name.clone());
            }
        }
        changed
    }
}

/// How messages about a file begin.
pub(super) fn source(name: &str, file: &Path) -> Problem {
    Problem::new([name], format!("{name} {}", file.display()))
}

/// A secret from a file, without the line end that editors add.
pub(super) fn secret(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

/// Like [`secret`], for a secret of any bytes. A secret that is text must contain no invisible
/// character; control characters are allowed, because random bytes can look like text that has
/// some.
///
/// # Errors
/// When the secret contains an invisible character; the message does not repeat the secret.
pub(super) fn secret_bytes(bytes: &[u8]) -> Result<&[u8]> {
    let secret = secret(bytes);
    let text = str::from_utf8(secret).unwrap_or_default();
    let hidden = text.split(char::is_control).find_map(invisible_character);
    match hidden {
        Some(character) => Err(anyhow!(
            "the secret contains the invisible character U+{:04X}: write the file again without it",
            u32::from(character)
        )),
        None => Ok(secret),
    }
}

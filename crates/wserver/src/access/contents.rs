//! The files that settings name, each read once and remembered by a digest.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use wserver_auth::{invisible_character, without_byte_order_mark};

use crate::files::{self, KEYS_BYTES_MAX, TOKENS_BYTES_MAX};
use crate::settings::Problem;

/// A digest of what stood in each file, by setting, to tell whether it has changed.
#[derive(Debug, Default)]
pub(crate) struct Contents(BTreeMap<String, u64>);

impl Contents {
    /// What stands in the file that the setting `name` names, without a byte order mark before it.
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

    /// The same, whatever it is.
    pub(super) fn bytes(&mut self, name: &str, file: &Path) -> Result<Vec<u8>> {
        let bytes_max = if name == "tokens_file" { TOKENS_BYTES_MAX } else { KEYS_BYTES_MAX };
        let bytes = files::read(file, bytes_max).with_context(|| source(name, file))?;
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        self.0.insert(name.to_owned(), hasher.finish());
        Ok(bytes)
    }

    /// Takes note of what stands in a file. What is wrong with it is told by whoever uses it.
    pub(crate) fn note(&mut self, name: &str, file: &Path) {
        let _ = self.bytes(name, file);
    }

    /// The digest of what stood in the file of the setting `name`, if it was read.
    pub(super) fn digest(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// Takes over what `next` has; the settings whose files were known and hold something else now.
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

/// How problems of a file begin.
pub(super) fn source(name: &str, file: &Path) -> Problem {
    Problem::new([name], format!("{name} {}", file.display()))
}

/// A secret as its file has it, without the line end that editors put behind it.
pub(super) fn secret(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

/// The same of a secret that may be any bytes. One that is text has no character in it that nobody
/// sees, controls excepted, since random bytes may look like text with some.
///
/// # Errors
/// When it has one, which is not repeated.
pub(super) fn secret_bytes(bytes: &[u8]) -> Result<&[u8]> {
    let secret = secret(bytes);
    let text = str::from_utf8(secret).unwrap_or_default();
    let hidden = text.split(char::is_control).find_map(invisible_character);
    match hidden {
        Some(character) => Err(anyhow!(
            "the secret has U+{:04X} in it, which cannot be seen: write the file anew without it",
            u32::from(character)
        )),
        None => Ok(secret),
    }
}

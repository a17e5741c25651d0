//! Files that settings name: read within bounds, and told of while one is waited for.
//!
//! They are read by one thread at a time, at the start or for a reload.

use std::fs::{self, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use wserver_warp::read_regular_file;

/// What a file of keys, secrets or certificates may hold in bytes.
pub(crate) const KEYS_BYTES_MAX: u64 = 1024 * 1024;

/// What a file of listeners' tokens may hold in bytes: some million lines.
pub(crate) const TOKENS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The file that the system was asked about last, until it has answered.
static WAITED_FOR: Mutex<Option<PathBuf>> = Mutex::new(None);

/// What stands in a regular file of at most so many bytes.
///
/// # Errors
/// When it cannot be read, is no regular file, or is larger.
pub(crate) fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let _waiting = Waiting::begin(path);
    read_regular_file(path, bytes_max)
}

/// The same of whatever the file is, also a pipe such as a shell makes with `<(…)`; for tools, which
/// read it once and do nothing else meanwhile.
///
/// # Errors
/// When it cannot be read, or is larger.
pub(crate) fn read_once(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other(format!(
            "it has more than {bytes_max} bytes, which is as much as is read of such a file"
        )));
    }
    Ok(bytes)
}

/// What the system knows of a file.
///
/// # Errors
/// When there is none, or it cannot be looked at.
pub(crate) fn metadata(path: &Path) -> io::Result<Metadata> {
    let _waiting = Waiting::begin(path);
    fs::metadata(path)
}

/// The file that is waited for, if one is.
pub(crate) fn waited_for() -> Option<PathBuf> {
    lock().clone()
}

struct Waiting;

impl Waiting {
    fn begin(path: &Path) -> Self {
        *lock() = Some(path.to_owned());
        Self
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        *lock() = None;
    }
}

fn lock() -> MutexGuard<'static, Option<PathBuf>> {
    WAITED_FOR.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Files that settings name: read with a limit of size, and known by name while a read waits.
//!
//! One thread reads files at a time, at the start or for a reload.

use std::fs::{self, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use wserver_warp::read_regular_file;

/// Maximum size of a file of keys, secrets or certificates, in bytes.
pub(crate) const KEYS_BYTES_MAX: u64 = 1024 * 1024;

/// Maximum size of a file of clients' tokens, in bytes: about a million lines.
pub(crate) const TOKENS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The last file that the system was asked about, until it has answered.
static WAITED_FOR: Mutex<Option<PathBuf>> = Mutex::new(None);

/// The content of a regular file of at most `bytes_max` bytes.
///
/// # Errors
/// When the file cannot be read, is not a regular file, or is larger.
pub(crate) fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let _waiting = Waiting::begin(path);
    read_regular_file(path, bytes_max)
}

/// Like [`read`], for any file, also a pipe such as a shell makes with `<(…)`. It is for tools,
/// which read a file once and do nothing else during the read.
///
/// # Errors
/// When the file cannot be read, or is larger.
pub(crate) fn read_once(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other(format!(
            "it is longer than {bytes_max} bytes, the limit for such a file"
        )));
    }
    Ok(bytes)
}

/// The system's metadata of a file.
///
/// # Errors
/// When there is no such file, or the system refuses the access.
pub(crate) fn metadata(path: &Path) -> io::Result<Metadata> {
    let _waiting = Waiting::begin(path);
    fs::metadata(path)
}

/// The file that a read waits for, if there is one.
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

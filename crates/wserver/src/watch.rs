//! Detects changed files by looking at them from time to time.
//!
//! Looking works wherever files do: on network mounts, through the symbolic links that container
//! platforms exchange, and when an editor puts a new file in place of the old one.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::files;

/// The files to look at.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Each with its stamp at the last note, and its stamp at the last look.
    files: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    noted: Option<Stamp>,
    seen: Option<Stamp>,
}

/// Metadata that differs after a file was written to or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = files::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

impl Watch {
    /// Looks at these files from now on; keeps what it knows of files that it watches already.
    pub(crate) fn set<'a>(&mut self, paths: impl Iterator<Item = &'a Path>) {
        let known = std::mem::take(&mut self.files);
        for path in paths {
            let stamp = known
                .iter()
                .find(|it| it.path == path)
                .map_or_else(|| Stamp::of(path), |it| it.noted);
            self.files.push(Watched { path: path.to_owned(), noted: stamp, seen: stamp });
        }
    }

    /// Notes the state of all files. Call it before the files are read.
    pub(crate) fn note(&mut self) {
        for file in &mut self.files {
            file.seen = Stamp::of(&file.path);
            file.noted = file.seen;
        }
    }

    /// Whether a file has changed and no file is changing: a file that differs from the last look
    /// may be half written, and half a list of tokens is also a list.
    pub(crate) fn has_settled(&mut self) -> bool {
        let mut is_calm = true;
        let mut is_new = false;
        for file in &mut self.files {
            let stamp = Stamp::of(&file.path);
            is_calm &= stamp == file.seen;
            is_new |= stamp != file.noted;
            file.seen = stamp;
        }
        is_calm && is_new
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_taken_up_when_it_has_stopped_changing() {
        let path = std::env::temp_dir().join(format!("wserver-watch-{}", std::process::id()));
        let write = |content: &str| fs::write(&path, content).unwrap();
        write("a");
        let mut watch = Watch::default();
        watch.set([path.as_path()].into_iter());
        assert!(!watch.has_settled(), "as it was");
        write("half of");
        assert!(!watch.has_settled(), "may be half written");
        write("half of it");
        assert!(!watch.has_settled(), "goes on being written");
        assert!(watch.has_settled());
        assert!(watch.has_settled(), "until it is taken note of");
        watch.note();
        assert!(!watch.has_settled());
        // Setting the list again does not make a watched file new.
        write("another");
        watch.set([path.as_path()].into_iter());
        watch.has_settled();
        assert!(watch.has_settled());
        watch.note();
        fs::remove_file(&path).unwrap();
        assert!(!watch.has_settled());
        assert!(watch.has_settled(), "that it is gone is a change too");
    }
}

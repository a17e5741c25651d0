//! The workspace that a command works on: its path, its content, and whether this is a CI run.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use xshell::Shell;

use crate::metadata::Metadata;

/// The open workspace. The working directory of its shell is the root of the repository.
#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) sh: Shell,
    pub(crate) root: PathBuf,
    pub(crate) metadata: Metadata,
    /// Whether `CI` is set: a missing tool is then installed or is a failure, and slow tests run.
    pub(crate) in_ci: bool,
}

impl Project {
    /// Opens the workspace from which this program was built.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask's folder has no parent")?
            .to_path_buf();
        let sh = Shell::new()?;
        sh.change_dir(&root);
        let metadata = Metadata::load(&sh)?;
        let in_ci = env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false");
        Ok(Self { sh, root, metadata, in_ci })
    }
}

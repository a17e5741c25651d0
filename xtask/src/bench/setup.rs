//! How much is measured, and where what is needed for it stands.

use std::path::{Path, PathBuf};
use std::process::Command;

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// Of what the budget judges.
    pub(super) rounds: u32,
    pub(super) seconds: u32,
    pub(super) paced_seconds: u32,
    /// Processes that measure the binder, each with its memory elsewhere.
    pub(super) binder_rounds: u32,
    pub(super) idle_connections: u32,
    /// Clients that come back at once.
    pub(super) resumed: u32,
    /// Users whose messages are kept.
    pub(super) kept_users: u32,
    pub(super) scaling_rounds: u32,
    pub(super) scaling_seconds: u32,
    pub(super) cluster_rounds: u32,
    pub(super) cluster_seconds: u32,
}

impl Effort {
    /// A whole run takes an hour and a half. Of twenty rounds five at each end may be left out, and
    /// rounds are worth more than longer windows: runs differ more than seconds. Not so where a server
    /// is idle nine tenths of the time: figures of 10 s vary half as much as those of 2 s.
    pub(super) fn new(is_quick: bool) -> Self {
        match is_quick {
            true => Self {
                rounds: 1,
                seconds: 1,
                paced_seconds: 1,
                binder_rounds: 1,
                idle_connections: 2000,
                resumed: 2000,
                kept_users: 10_000,
                scaling_rounds: 1,
                scaling_seconds: 1,
                cluster_rounds: 1,
                cluster_seconds: 1,
            },
            false => Self {
                rounds: 20,
                seconds: 1,
                paced_seconds: 5,
                binder_rounds: 12,
                idle_connections: 15_000,
                resumed: 10_000,
                kept_users: 100_000,
                scaling_rounds: 2,
                scaling_seconds: 2,
                cluster_rounds: 3,
                cluster_seconds: 2,
            },
        }
    }
}

/// Where things are.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    pub(super) root: PathBuf,
    pub(super) home: PathBuf,
    pub(super) dist: PathBuf,
    /// Our server.
    pub(super) ours: PathBuf,
    /// An earlier build of it, where two are compared.
    pub(super) before: PathBuf,
    /// A core for the server and another for the generator.
    pub(super) is_pinned: bool,
}

/// A command on one core, where that is possible.
pub(super) fn pinned(place: &Place, core: usize, program: &Path) -> Command {
    if !place.is_pinned {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.arg("--cpu-list").arg(core.to_string()).arg(program);
    command
}

//! The files that the rules check.

/// One Rust file; its path starts at the root and has forward slashes.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: String,
    pub(super) text: String,
}

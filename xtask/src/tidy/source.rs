//! What the rules are about.

/// One Rust file; its path begins at the root and has forward slashes.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: String,
    pub(super) text: String,
}

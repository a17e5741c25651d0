//! Names by pattern: exact names, and prefixes with a trailing `*`.

use std::fmt;
use std::sync::Arc;

/// A set of names, as patterns.
///
/// A pattern that ends with `*` covers every name that begins with the text before it; any other
/// pattern covers exactly the name it spells. A `*` elsewhere has no special meaning, and case
/// matters. Two sets with the same patterns are equal in whatever order they were listed. A clone
/// shares the list.
///
/// ```
/// use wserver_core::Patterns;
///
/// let events: Patterns = ["chat", "order.*"].into_iter().collect();
/// assert!(events.cover("chat"));
/// assert!(events.cover("order.paid"));
/// assert!(!events.cover("chat.admin"));
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Patterns(Arc<[Box<str>]>);

impl Patterns {
    /// Whether a pattern covers `name`. O(patterns).
    #[must_use]
    pub fn cover(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| covers(pattern, name))
    }

    /// Whether there is no pattern, so that no name is covered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The patterns, each once, in the order of the alphabet.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }
}

impl<T: Into<String>> FromIterator<T> for Patterns {
    fn from_iter<I: IntoIterator<Item = T>>(patterns: I) -> Self {
        let mut patterns: Vec<Box<str>> = patterns.into_iter().map(|it| it.into().into()).collect();
        patterns.sort_unstable();
        patterns.dedup();
        Self(patterns.into())
    }
}

/// The list.
impl fmt::Debug for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn covers(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

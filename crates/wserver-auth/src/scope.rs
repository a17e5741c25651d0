//! Scopes: which names a grant covers, by patterns.
//!
//! Names here are plain text; the caller checks whether they are valid user ids or event names.

use wserver_core::Patterns;

/// The events that an identity may register.
///
/// [`Patterns`] says what a pattern covers. Cloning is cheap because clones share the list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventScope {
    /// Every event.
    #[default]
    Any,
    /// The events that these patterns cover; an empty list covers none.
    Only(Patterns),
}

impl EventScope {
    /// The events that `patterns` cover.
    ///
    /// ```
    /// use wserver_auth::EventScope;
    ///
    /// let scope = EventScope::only(["chat", "order.*"]);
    /// assert!(scope.permits("chat"));
    /// assert!(scope.permits("order.paid"));
    /// assert!(!scope.permits("chat.admin"));
    /// ```
    pub fn only<I>(patterns: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        Self::Only(collect(patterns))
    }

    /// Whether `event` is in this scope.
    pub fn permits(&self, event: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(patterns) => patterns.cover(event),
        }
    }
}

/// What a publisher may push: which events, to which users.
///
/// Patterns work as in [`EventScope`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct PushScope {
    /// `None`: every user.
    users: Option<Patterns>,
    events: EventScope,
}

impl PushScope {
    /// Every event, to every user.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Restricts the users to those that `patterns` cover.
    #[must_use]
    pub fn with_users<I>(mut self, patterns: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.users = Some(collect(patterns));
        self
    }

    /// Restricts the events to those that `patterns` cover.
    #[must_use]
    pub fn with_events<I>(mut self, patterns: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.events = EventScope::only(patterns);
        self
    }

    /// Whether a push of `event` to `user` is in this scope.
    pub fn permits(&self, user: &str, event: &str) -> bool {
        self.permits_user(user) && self.permits_event(event)
    }

    /// Whether some push to `user` may be in this scope.
    pub fn permits_user(&self, user: &str) -> bool {
        match &self.users {
            None => true,
            Some(patterns) => patterns.cover(user),
        }
    }

    /// Whether pushes to every user are in this scope.
    pub fn permits_everyone(&self) -> bool {
        match &self.users {
            None => true,
            Some(patterns) => patterns.iter().any(|pattern| pattern == "*"),
        }
    }

    /// Whether some push of `event` may be in this scope.
    pub fn permits_event(&self, event: &str) -> bool {
        self.events.permits(event)
    }
}

fn collect<I>(patterns: I) -> Patterns
where
    I: IntoIterator,
    I::Item: Into<String>,
{
    patterns.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_names() {
        let cases = [
            ("chat", "chat", true),
            ("chat", "Chat", false),
            ("chat", "chat.admin", false),
            ("order.*", "order.paid", true),
            ("order.*", "order.", true),
            ("order.*", "order", false),
            ("order.*", "reorder.paid", false),
            ("*", "anything", true),
            ("*", "", true),
            ("a*b", "a*b", true),
            ("a*b", "axb", false),
            ("a**", "a*x", true),
            ("a**", "ax", false),
            ("ключ*", "ключи", true),
            ("", "", true),
            ("", "x", false),
        ];
        for (pattern, name, covered) in cases {
            assert_eq!(EventScope::only([pattern]).permits(name), covered, "{pattern} {name}");
            let users = PushScope::everything().with_users([pattern]);
            assert_eq!(users.permits(name, "e"), covered, "{pattern} {name}");
        }
    }

    #[test]
    fn any_is_all_and_an_empty_list_is_none() {
        assert!(EventScope::default().permits("chat"));
        assert!(!EventScope::only([""; 0]).permits("chat"));
        assert!(!PushScope::everything().with_users([""; 0]).permits("jack", "chat"));
    }

    #[test]
    fn the_order_of_patterns_means_nothing() {
        let one = PushScope::everything().with_users(["a", "b"]).with_events(["c", "d", "c"]);
        let other = PushScope::everything().with_users(["b", "a"]).with_events(["d", "c"]);
        assert_eq!(one, other);
    }

    #[test]
    fn everyone_is_every_user() {
        assert!(PushScope::everything().permits_everyone());
        assert!(PushScope::everything().with_users(["shop:*", "*"]).permits_everyone());
        assert!(!PushScope::everything().with_users(["shop:*", "**"]).permits_everyone());
        assert!(!PushScope::everything().with_users([""; 0]).permits_everyone());
    }

    #[test]
    fn a_push_needs_both_its_user_and_its_event() {
        let scope = PushScope::everything().with_users(["shop:*"]).with_events(["order.*"]);
        assert!(scope.permits("shop:1", "order.paid"));
        assert!(!scope.permits("bank:1", "order.paid"));
        assert!(!scope.permits("shop:1", "chat"));
    }
}

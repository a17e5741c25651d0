//! The identity of a publisher, apart from its name: the method that authenticated it, and its
//! identity within that method.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// The identity of a publisher. Two requests have the same one if the same publisher sent both.
///
/// A name is not enough: a token's `sub` may equal the name of a listed publisher, two issuers may
/// each have a subject of one name, and a publisher with a plain push key has no name. So each
/// method gives identities that no other method can give.
///
/// It is a digest, from which no key or token can be read. `Debug` shows only the method.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublisherId {
    method: Method,
    digest: [u8; 32],
}

/// The method that authenticated a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Method {
    /// An embedding program's own authoriser, or none.
    Other,
    /// A key of a list of keys.
    Key,
    /// A publisher of a list.
    Named,
    /// A token with a subject.
    #[cfg_attr(not(feature = "jwt"), expect(dead_code, reason = "there are no tokens then"))]
    Subject,
    /// A token without a subject.
    #[cfg_attr(not(feature = "jwt"), expect(dead_code, reason = "there are no tokens then"))]
    Token,
}

impl PublisherId {
    /// The identity that `method` gives for `parts`. Different lists of parts give different
    /// identities, however their bytes are divided.
    pub(crate) fn new<const N: usize>(method: Method, parts: [&[u8]; N]) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Self { method, digest: digest.finalize().into() }
    }

    /// The digest, which is the same for the same publisher on every server with the same keys.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The method that authenticated the publisher, as a label from a closed list: `key`,
    /// `publisher`, `token`, or `other`.
    #[must_use]
    pub fn method(&self) -> &'static str {
        match self.method {
            Method::Other => "other",
            Method::Key => "key",
            Method::Named => "publisher",
            Method::Subject | Method::Token => "token",
        }
    }
}

impl fmt::Debug for PublisherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PublisherId").field(&self.method()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn identities_differ_by_method_and_by_every_part() {
        let ids = [
            PublisherId::new(Method::Other, [b"shop"]),
            PublisherId::new(Method::Key, [b"shop"]),
            PublisherId::new(Method::Named, [b"shop"]),
            PublisherId::new(Method::Token, [b"shop"]),
            PublisherId::new(Method::Subject, [b"shop"]),
            PublisherId::new(Method::Subject, [b"", b"shop"]),
            PublisherId::new(Method::Subject, [b"shop", b""]),
            PublisherId::new(Method::Subject, [b"sh", b"op"]),
        ];
        assert_eq!(HashSet::from(ids).len(), ids.len());
        assert_eq!(ids[0], PublisherId::new(Method::Other, [b"shop"]));
        assert_eq!(format!("{:?}", ids[1]), r#"PublisherId("key")"#);
    }
}

//! Who a publisher is, whatever it is called: by which method it was recognised, and as whom there.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// Who a publisher is. Two requests have the same one when one publisher sent both.
///
/// A name alone says too little: a token's `sub` may be spelt like a publisher of a list, two issuers
/// may have a subject of one name each, and who has a push key has no name at all. So each method
/// gives identities of its own, which no other one can give.
///
/// It is a digest: nothing of a key or a token can be read from it. `Debug` shows the method alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublisherId {
    method: Method,
    digest: [u8; 32],
}

/// By what a publisher was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Method {
    /// An authoriser of an embedder, or nobody was asked for anything.
    Other,
    /// A key of a list of keys.
    Key,
    /// A publisher of a list.
    Named,
    /// A token with a subject.
    #[cfg_attr(not(feature = "jwt"), expect(dead_code, reason = "there are no tokens then"))]
    Subject,
    /// A token without one.
    #[cfg_attr(not(feature = "jwt"), expect(dead_code, reason = "there are no tokens then"))]
    Token,
}

impl PublisherId {
    /// Who is recognised by `method` as `parts`, which are told apart however they are cut.
    pub(crate) fn new<const N: usize>(method: Method, parts: [&[u8]; N]) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Self { method, digest: digest.finalize().into() }
    }

    /// By what the publisher was recognised, as a label from a closed list: `key`, `publisher`,
    /// `token`, or `other`.
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

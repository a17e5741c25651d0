//! A user's name in the table: inline if it is short, as nearly all names are.

use crate::UserId;

/// Bytes of a name that stand inline: a UUID as text has 36.
const INLINE_BYTES_MAX: usize = 38;

/// The text of a [`UserId`].
///
/// The user's entry is in the cache when its name is compared, so a name within the entry costs no
/// additional cache miss, no allocation and no pointer.
pub(super) enum ShortName {
    Inline { bytes: u8, text: [u8; INLINE_BYTES_MAX] },
    Long(Box<str>),
}

impl ShortName {
    pub(super) fn new(user: &UserId) -> Self {
        let name = user.as_str();
        let mut text = [0; INLINE_BYTES_MAX];
        match (u8::try_from(name.len()), text.get_mut(..name.len())) {
            (Ok(bytes), Some(inline)) => {
                inline.copy_from_slice(name.as_bytes());
                Self::Inline { bytes, text }
            }
            _ => Self::Long(name.into()),
        }
    }

    pub(super) fn is(&self, user: &UserId) -> bool {
        self.as_bytes() == user.as_str().as_bytes()
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { bytes, text } => &text[..usize::from(*bytes)],
            Self::Long(name) => name.as_bytes(),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).expect("it was made from text")
    }

    /// The name in the form for callers; allocates.
    pub(super) fn to_user_id(&self) -> UserId {
        UserId::parse(self.as_str(), usize::MAX).expect("it was made from a name")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_comes_back() {
        for bytes in 1..100 {
            let user = UserId::parse(&"x".repeat(bytes), 100).unwrap();
            let longer = UserId::parse(&"x".repeat(bytes + 1), 101).unwrap();
            let name = ShortName::new(&user);
            assert!(name.is(&user) && !name.is(&longer));
            assert_eq!(name.to_user_id(), user);
        }
        assert_eq!(size_of::<Option<ShortName>>(), 40);
    }
}

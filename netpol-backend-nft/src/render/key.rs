//! Names for content.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::name::Name;

/// Names content: 80 bits of SHA-256 of an unambiguous text about it, so that nobody finds two
/// contents of one name, not even on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ContentKey([u8; 10]);

impl ContentKey {
    pub(crate) fn of(text: &str) -> Self {
        let digest: [u8; 32] = Sha256::digest(text).into();
        Self(digest.first_chunk().copied().unwrap_or_default())
    }
}

impl fmt::Display for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digits = self.0.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
        let digits = digits.filter_map(|digit| DIGITS.get(usize::from(digit)).copied());
        digits.map(char::from).try_for_each(|digit| fmt::Write::write_char(f, digit))
    }
}

/// The name of an object of this content.
pub(super) fn name(prefix: &str, key: ContentKey) -> Name {
    Name::known(&format!("{prefix}-{key}"))
}

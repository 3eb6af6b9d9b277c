//! Names of chains and sets, and remarks.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use netpol_core::backend::abridged;
use sha2::{Digest, Sha256};

/// What all our chains and sets begin with, so that they are told from everybody else's: a letter,
/// then letters and digits, 7 at most. Cheap to clone.
///
/// A chain's name has 28 characters at most; 16 of them are needed to name its content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance(Arc<str>);

/// A text that cannot name an instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot name our chains: a letter, then letters and digits, at most 7 characters")]
pub struct InstanceError(String);

impl Instance {
    const MAX_LENGTH: usize = 7;

    /// Checks and takes a name.
    ///
    /// # Errors
    ///
    /// If the names that begin with it would be too long, or could be taken for another instance's.
    pub fn new(text: &str) -> Result<Self, InstanceError> {
        let first_fits = text.starts_with(|c: char| c.is_ascii_alphabetic());
        let rest_fits = text.chars().all(|c| c.is_ascii_alphanumeric());
        if first_fits && rest_fits && text.len() <= Self::MAX_LENGTH {
            Ok(Self(text.into()))
        } else {
            Err(InstanceError(text.to_owned()))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a chain or set of this name is ours.
    #[must_use]
    pub fn owns(&self, name: &str) -> bool {
        name.strip_prefix(self.as_str()).is_some_and(|rest| rest.starts_with('-'))
    }

    /// The name of the one object that is `what`.
    pub(crate) fn name(&self, what: &str) -> Name {
        Name(format!("{self}-{what}").into())
    }

    /// The name of the object of a kind whose content has this key.
    pub(crate) fn keyed(&self, kind: &str, key: ContentKey) -> Name {
        Name(format!("{self}-{kind}-{key}").into())
    }
}

impl Default for Instance {
    fn default() -> Self {
        Self("netpol".into())
    }
}

impl AsRef<str> for Instance {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a chain or a set. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The name of an object that is there, whatever it is.
    pub(crate) fn found(text: &str) -> Self {
        Self(text.into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A remark on a rule, for the operator who lists it. The limit of 255 bytes is kept by cutting, and
/// what the tools would have to escape is replaced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Comment(Arc<str>);

impl Comment {
    const MAX_LENGTH: usize = 255;

    /// Takes a remark, cut and cleaned where it could not be printed and read back as it is.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let fits = |c: &char| !c.is_control() && !['"', '\'', '\\'].contains(c);
        let clean = text.chars().map(|c| if fits(&c) { c } else { '_' });
        Self(abridged(clean.collect(), Self::MAX_LENGTH).into())
    }

    /// The remark as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Comment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names content: 80 bits of SHA-256 of an unambiguous text about it, so that nobody finds two
/// contents of one name, not even on purpose. Prints as 16 letters and digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ContentKey([u8; 10]);

impl ContentKey {
    pub(crate) fn of(text: &str) -> Self {
        let digest: [u8; 32] = Sha256::digest(text).into();
        Self(digest.first_chunk().copied().unwrap_or_default())
    }
}

impl fmt::Display for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: [char; 32] = [
            'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q',
            'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', '2', '3', '4', '5', '6', '7',
        ];
        let mut bytes = [0; 16];
        bytes[6..].copy_from_slice(&self.0);
        let bits = u128::from_be_bytes(bytes);
        let digits = (0..16).rev().filter_map(|at| DIGITS.get((bits >> (5 * at)) as usize & 31));
        digits.copied().try_for_each(|digit| fmt::Write::write_char(f, digit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_do_not_overlap() {
        for good in ["netpol", "a", "Np12345"] {
            assert!(Instance::new(good).is_ok(), "{good}");
        }
        for bad in ["", "1a", "a-b", "a b", "é", "12345678", "abcdefgh"] {
            assert!(Instance::new(bad).is_err(), "{bad}");
        }
        let [a, b] = ["np", "np2"].map(|it| Instance::new(it).unwrap());
        assert!(a.owns("np-forward") && !b.owns("np-forward"));
        assert!(b.owns("np2-forward") && !a.owns("np2-forward") && !a.owns("np"));
    }

    #[test]
    fn keys_tell_all_bits_apart() {
        let mut seen = std::collections::HashSet::new();
        for bit in 0..80 {
            let mut bytes = [0; 10];
            bytes[bit / 8] = 1 << (bit % 8);
            let text = ContentKey(bytes).to_string();
            assert_eq!(text.len(), 16);
            assert!(seen.insert(text));
        }
    }

    #[test]
    fn comments_need_no_escapes() {
        assert_eq!(Comment::new("a \"b\"\\\n").as_str(), "a _b___");
        assert_eq!(Comment::new(&"x".repeat(300)).as_str().len(), 255);
    }
}

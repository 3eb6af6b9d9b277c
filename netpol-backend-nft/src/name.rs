//! Names of nf_tables objects.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use netpol_core::backend::abridged;

/// The kernel's limit, without the terminating zero.
const MAX_LENGTH: usize = 255;

/// A name that both the kernel and the nft tool's syntax accept: a letter or underscore, then
/// letters, digits, `_`, `-`, `.` or `/`, 255 characters at most. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// A text that cannot name an nf_tables object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot name an nf_tables object: a letter or underscore, then letters, digits, `_`, \
     `-`, `.` or `/`, at most 255 characters"
)]
pub struct NameError(String);

impl Name {
    /// Checks and takes a name.
    ///
    /// # Errors
    ///
    /// If the kernel or the nft tool would not accept the name.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let mut characters = text.chars();
        let first_fits = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        let rest_fits = characters.all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
        if first_fits && rest_fits && text.len() <= MAX_LENGTH {
            Ok(Self(text.into()))
        } else {
            Err(NameError(text.to_owned()))
        }
    }

    /// A name that is made of what names may be made of.
    pub(crate) fn known(text: &str) -> Self {
        debug_assert!(Self::new(text).is_ok(), "{text}");
        Self(text.into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The name of a network interface that rules can look up: letters, digits, `_`, `-` or `.`, 15
/// characters at most. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interface(Arc<str>);

/// A text that does not name such an interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no interface: letters, digits, `_`, `-` or `.`, at most 15 characters")]
pub struct InterfaceError(String);

impl Interface {
    /// The kernel's limit, without the terminating zero.
    const MAX_LENGTH: usize = 15;

    /// Checks and takes a name.
    ///
    /// # Errors
    ///
    /// If it is empty, too long, or has other characters.
    pub fn new(text: &str) -> Result<Self, InterfaceError> {
        let fits = text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
        if fits && (1..=Self::MAX_LENGTH).contains(&text.len()) {
            Ok(Self(text.into()))
        } else {
            Err(InterfaceError(text.to_owned()))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A remark on a table, chain, set or rule, for the operator who lists them. The nft tool's limit
/// of 127 bytes is kept by cutting, and what its syntax cannot quote is replaced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Comment(Arc<str>);

impl Comment {
    const MAX_LENGTH: usize = 127;

    /// Takes a remark, cut and cleaned where the nft tool could not print it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let clean = text.chars().map(|c| if c == '"' || c.is_control() { '\'' } else { c });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_nft_can_read_back() {
        for good in ["netpol", "_x", "in-9f3c.a/b", &"a".repeat(255)] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        for bad in ["", "9a", "-a", "a b", "a\"", "é", &"a".repeat(256)] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn interfaces_are_those_of_the_kernel() {
        for good in ["eth0", "tap-17.4", "a", &"v".repeat(15)] {
            assert!(Interface::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "eth0*", "a/b", "\"", &"v".repeat(16)] {
            assert!(Interface::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn comments_are_those_that_nft_can_quote() {
        assert_eq!(Comment::new("a \"b\"\n").as_str(), "a 'b''");
        assert_eq!(Comment::new(&"x".repeat(200)).as_str().len(), 127);
    }
}

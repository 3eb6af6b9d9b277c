//! What can go wrong between a ruleset and the kernel.

use std::fmt;
use std::io;

use nix::errno::Errno;

use crate::name::NameError;
use crate::ruleset::{Family, keyword};

/// Why the kernel's state could not be read or changed. Unless [`Error::OutcomeUnknown`] says
/// otherwise, the transaction that failed has changed nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller may not change this network namespace.
    #[error(
        "nf_tables refused the caller: CAP_NET_ADMIN in the user namespace that owns the network \
         namespace is needed, and a table must not be owned by another process"
    )]
    NotPermitted,

    /// The kernel lacks nf_tables, or a part of it that the ruleset needs.
    #[error("the kernel does not support {what}; check that its nf_tables modules are available")]
    Unsupported {
        /// What is missing.
        what: String,
    },

    /// The kernel refused a part of the change, and with it the whole change.
    #[error(transparent)]
    Refused(#[from] Refusal),

    /// The change needs a larger socket buffer than the system allows an unprivileged caller.
    #[error(
        "the change takes {needed} bytes in one transaction, the socket buffer may have {allowed}; \
         raise net.core.wmem_max"
    )]
    TooLarge {
        /// Bytes of the transaction.
        needed: usize,
        /// Bytes that the socket accepts.
        allowed: usize,
    },

    /// A name, comment or value outgrew its field in the netlink protocol.
    #[error("a value of the ruleset exceeds its length field in the netlink protocol")]
    Oversized,

    /// Somebody else committed between reading the state and changing it, or while it was read,
    /// more often than the backend retries.
    #[error("the nf_tables state keeps changing under the backend; try again")]
    Contended,

    /// The kernel's answer to a change was lost. The change is in force completely or not at all;
    /// the next synchronisation establishes which.
    #[error("the kernel's answer was lost, so the change may or may not be in force")]
    OutcomeUnknown,

    /// The kernel answered something that this crate does not understand.
    #[error("the kernel's answer is not understood: {0}")]
    Protocol(&'static str),

    /// A system call failed.
    #[error("{action} failed: {source}")]
    System {
        /// What was attempted.
        action: &'static str,
        /// The operating system's error.
        source: io::Error,
    },

    /// The calling thread has entered another network namespace.
    #[error("the calling thread is in another network namespace than the one that was opened")]
    OtherNamespace,

    /// A name does not fit nf_tables.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl Error {
    /// The operating system's error number, where there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::NotPermitted => Some(Errno::EPERM as i32),
            Self::Refused(refusal) => Some(refusal.errno),
            Self::System { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// What the kernel refused, and why. Where it refused several objects this is the first, which the
/// others usually follow from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The object.
    pub object: Object,
    /// The system's error number.
    pub errno: i32,
    /// The kernel's own words, if it had any.
    pub reason: Option<String>,
    /// How many further objects were refused.
    pub others: usize,
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errno = Errno::from_raw(self.errno);
        let meaning = match (errno, &self.object) {
            (Errno::ENFILE, Object::Set { .. }) => "the set is full",
            _ => errno.desc(),
        };
        write!(f, "{}: {meaning}", self.object)?;
        if let Some(reason) = &self.reason {
            write!(f, " ({reason})")?;
        }
        if self.others > 0 {
            write!(f, ", and {} more", self.others)?;
        }
        Ok(())
    }
}

/// An nf_tables object, as an operator would name it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Object {
    /// The transaction as a whole.
    Transaction,
    /// A table.
    Table {
        /// Its family.
        family: Family,
        /// Its name.
        table: String,
    },
    /// A chain.
    Chain {
        /// The family of its table.
        family: Family,
        /// Its table.
        table: String,
        /// Its name.
        chain: String,
    },
    /// A rule, by its chain: rules have no names.
    Rule {
        /// The family of its table.
        family: Family,
        /// Its table.
        table: String,
        /// Its chain.
        chain: String,
    },
    /// A set or map, or an element of it.
    Set {
        /// The family of its table.
        family: Family,
        /// Its table.
        table: String,
        /// Its name.
        set: String,
        /// The element's key, if the kernel refused just one.
        element: Option<String>,
    },
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transaction => f.write_str("the transaction"),
            Self::Table { family, table } => write!(f, "table {} {table}", keyword(*family)),
            Self::Chain { family, table, chain } => {
                write!(f, "chain `{chain}` of table {} {table}", keyword(*family))
            }
            Self::Rule { family, table, chain } => {
                write!(f, "a rule of chain `{chain}` of table {} {table}", keyword(*family))
            }
            Self::Set { family, table, set, element: None } => {
                write!(f, "set `{set}` of table {} {table}", keyword(*family))
            }
            Self::Set { family, table, set, element: Some(element) } => {
                write!(f, "element {element} of set `{set}` of table {} {table}", keyword(*family))
            }
        }
    }
}

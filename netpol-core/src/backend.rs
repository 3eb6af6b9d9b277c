//! What a host needs of whatever puts a [`Program`] into force, so that it can choose at run time, and so that a third
//! party can bring its own.
//!
//! A backend sees the program and nothing before it: no policies, selectors or labels. How it makes the kernel agree
//! is its own business; nftables is not iptables with other words.
//!
//! ```
//! use netpol_core::Program;
//! use netpol_core::backend::{Backend, Change, Error};
//!
//! fn enforce(backend: &mut dyn Backend, program: &Program) -> Result<(), Error> {
//!     let report = backend.sync(program)?;
//!     if report.change != Change::None {
//!         println!("{}: {} steps", backend.name(), report.steps);
//!     }
//!     assert!(backend.verify(program)?.is_empty());
//!     Ok(())
//! }
//! ```

pub mod proof;

use std::collections::BTreeSet;
use std::error;
use std::fmt;
use std::net::IpAddr;
use std::ops::AddAssign;

use ipnet::IpNet;

use crate::model::{Direction, Flow};
use crate::program::Program;

/// Puts programs into force in one network namespace.
pub trait Backend: fmt::Debug + Send {
    /// What it writes to, such as `nft` or `iptables-legacy`.
    fn name(&self) -> &str;

    /// Makes the kernel judge packets as the program does. Does nothing if it does already, be it from a previous run;
    /// repairs what others have changed of ours. At no moment anything is allowed that neither the old nor the new
    /// program allows.
    ///
    /// # Errors
    ///
    /// What is in force then is the old program, the new one, or a step in between; the next call goes on from there.
    fn sync(&mut self, program: &Program) -> Result<Report, Error>;

    /// From the next [`sync`](Self::sync) on, denies what [closed](Closed) addresses send and receive while no
    /// endpoint in the program's scope has them: a new endpoint of this host gets no access before it is in the program.
    ///
    /// Of a packet from or for the host itself the host's end is not asked. Where hosts are policed, nodes that share an
    /// address with this one are in scope as it is.
    ///
    /// # Errors
    ///
    /// Of kind [`Unsupported`](ErrorKind::Unsupported), if the backend cannot: nothing has changed then.
    fn deny_unknown(&mut self, closed: &Closed) -> Result<(), Error> {
        if closed.ranges.is_empty() {
            return Ok(());
        }
        let text = format!("{} cannot deny addresses that no endpoint has", self.name());
        Err(Error::new(ErrorKind::Unsupported, text))
    }

    /// Reads back what is in force and compares it with the program, for every kind of packet that either can tell
    /// apart. No mismatch is the proof that they agree.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    fn verify(&mut self, program: &Program) -> Result<Vec<Mismatch>, Error>;

    /// Counts what is in force.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    fn status(&mut self) -> Result<Status, Error>;

    /// Removes everything of ours, whether or not it is there. Nothing is policed afterwards.
    ///
    /// # Errors
    ///
    /// If something is left.
    fn remove(&mut self) -> Result<(), Error>;
}

/// The addresses that only endpoints in a program's scope may use: see [`Backend::deny_unknown`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// The ranges that they are in, of any size.
    pub ranges: Vec<IpNet>,
    /// Addresses in these ranges that are not closed, as somebody has them who is not in scope: some networks lend the
    /// addresses of a node to pods of others.
    pub except: BTreeSet<IpAddr>,
}

impl Closed {
    /// Whether an address is closed. `O(n)` in the ranges.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        !self.except.contains(&address) && self.ranges.iter().any(|it| it.contains(&address))
    }
}

/// The ranges, without an exception.
impl FromIterator<IpNet> for Closed {
    fn from_iter<I: IntoIterator<Item = IpNet>>(ranges: I) -> Self {
        Self { ranges: ranges.into_iter().collect(), except: BTreeSet::new() }
    }
}

/// What a synchronisation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whether the kernel's state had to be changed.
    pub change: Change,
    /// Somebody else had changed what is ours since it was written.
    pub interfered: bool,
    /// How many commits it took, each all or nothing.
    pub steps: usize,
    /// How many bytes were sent to the kernel or its tools.
    pub bytes: usize,
}

/// How a synchronisation changed the kernel's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Not at all: it agreed already.
    None,
    /// Nothing of ours was there.
    Created,
    /// It said something else.
    Updated,
}

/// What is in force, counted over all address families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Something of ours is there.
    pub present: bool,
    /// Chains.
    pub chains: usize,
    /// Rules in all chains.
    pub rules: usize,
    /// Sets and maps.
    pub sets: usize,
    /// Elements in all sets and maps.
    pub elements: usize,
    /// What endpoints were not allowed to send, since the rules were written.
    pub denied_egress: Count,
    /// What endpoints were not allowed to receive, since the rules were written.
    pub denied_ingress: Count,
}

/// What is in force for one address family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableStatus {
    /// Chains.
    pub chains: usize,
    /// Rules in all chains.
    pub rules: usize,
    /// Sets and maps.
    pub sets: usize,
    /// Elements in all sets and maps.
    pub elements: usize,
    /// What endpoints were not allowed to send, since the rules were written.
    pub denied_egress: Count,
    /// What endpoints were not allowed to receive, since the rules were written.
    pub denied_ingress: Count,
}

impl FromIterator<TableStatus> for Status {
    /// Of the families that there is something for.
    fn from_iter<T: IntoIterator<Item = TableStatus>>(tables: T) -> Self {
        let mut all = Self::default();
        for table in tables {
            all.present = true;
            all.chains += table.chains;
            all.rules += table.rules;
            all.sets += table.sets;
            all.elements += table.elements;
            all.denied_egress += table.denied_egress;
            all.denied_ingress += table.denied_ingress;
        }
        all
    }
}

impl Status {
    /// What endpoints were denied in a direction.
    pub fn denied(&self, direction: Direction) -> Count {
        match direction {
            Direction::Egress => self.denied_egress,
            Direction::Ingress => self.denied_ingress,
        }
    }
}

/// Packets that met a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub packets: u64,
    /// Their bytes, headers included.
    pub bytes: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// A kind of packet that the kernel does not treat as the program would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// An example, where the mismatch is about a flow.
    pub flow: Option<Flow>,
    /// What differs, in words.
    pub text: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A text of at most so many bytes, for where the kernel or a tool takes no more. Where it is cut, between two
/// characters, it ends in three dots.
pub fn abridged(mut text: String, most: usize) -> String {
    const DOTS: &str = "...";
    if text.len() > most {
        let room = most.saturating_sub(DOTS.len());
        let end = (0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
        text.push_str(DOTS);
    }
    text
}

/// Why a backend could not do what it was asked. Displays as the backend's own error.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    own: Box<dyn error::Error + Send + Sync>,
}

impl Error {
    /// An error of a kind.
    pub fn new(kind: ErrorKind, own: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        Self { kind, own: own.into() }
    }

    /// What a host can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The backend's own error, which says what the kernel or its tool refused.
    pub fn own(&self) -> &(dyn error::Error + Send + Sync + 'static) {
        &*self.own
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.own.fmt(f)
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.own.source()
    }
}

/// What a host can do about an error of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Get the privilege: the caller may not change this network namespace.
    NotPermitted,
    /// Install what is missing: a kernel module, a tool.
    Unsupported,
    /// Try again: somebody else keeps changing the state, or the kernel was short of something.
    Transient,
    /// Report it: the kernel or its tool refused what was asked.
    Refused,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_a_character() {
        assert_eq!(abridged("as it is".into(), 8), "as it is");
        assert_eq!(abridged("x".repeat(9), 8), "xxxxx...");
        assert_eq!(abridged("é".repeat(5), 8), "éé...");
    }

    #[test]
    fn families_are_counted_together() {
        let count = |packets| Count { packets, bytes: packets * 60 };
        let table = TableStatus {
            chains: 1,
            rules: 2,
            sets: 3,
            elements: 4,
            denied_egress: count(5),
            denied_ingress: count(6),
        };
        let both: Status = [table; 2].into_iter().collect();
        let wanted = Status {
            present: true,
            chains: 2,
            rules: 4,
            sets: 6,
            elements: 8,
            denied_egress: count(10),
            denied_ingress: count(12),
        };
        assert_eq!(both, wanted);
        assert_eq!(
            Direction::ALL.map(|it| both.denied(it)),
            Direction::ALL.map(|it| match it {
                Direction::Egress => count(10),
                Direction::Ingress => count(12),
            })
        );
        assert_eq!(Status::from_iter([]), Status::default());
    }

    #[test]
    fn errors_are_those_of_the_backend() {
        #[derive(Debug)]
        struct Own(fmt::Error);
        impl fmt::Display for Own {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("no such table")
            }
        }
        impl error::Error for Own {
            fn source(&self) -> Option<&(dyn error::Error + 'static)> {
                Some(&self.0)
            }
        }
        let error = Error::new(ErrorKind::Refused, Own(fmt::Error));
        assert_eq!(
            (error.to_string().as_str(), error.kind()),
            ("no such table", ErrorKind::Refused)
        );
        assert!(error::Error::source(&error).is_some_and(|it| it.is::<fmt::Error>()));
        assert!(error.own().is::<Own>());
    }
}

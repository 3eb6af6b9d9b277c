//! What can go wrong between a ruleset and the tools.

use std::io;

use crate::ruleset::ParseError;
use crate::variant::Variant;

/// Why the rules of the host could not be read or changed. A call of `iptables-restore` that failed
/// has changed nothing; one of `ipset restore` has done what stands before the line that it refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tool is not installed.
    #[error("{tool} is not installed; install the package {package}")]
    Missing {
        /// The tool.
        tool: &'static str,
        /// The package that it is in, by the name that most distributions use.
        package: &'static str,
    },

    /// No iptables of this variant is installed.
    #[error(
        "there is no iptables of the {variant} variant: neither {tool}, nor does `iptables \
         --version` say that it is of this variant; install the package iptables"
    )]
    NoVariant {
        /// The variant.
        variant: Variant,
        /// The tool that only this variant has.
        tool: String,
    },

    /// The caller may not change this network namespace.
    #[error(
        "{tool} refused the caller: CAP_NET_ADMIN in the user namespace that owns the network \
         namespace is needed, and the right to write the lock file, for which XTABLES_LOCKFILE may \
         name another ({reason})"
    )]
    NotPermitted {
        /// The tool.
        tool: String,
        /// Its words.
        reason: String,
    },

    /// The kernel lacks what the tool needs.
    #[error("the kernel does not support what {tool} needs ({reason}); {advice}")]
    Unsupported {
        /// The tool.
        tool: String,
        /// Its words.
        reason: String,
        /// How to get it.
        advice: &'static str,
    },

    /// Somebody else holds the lock of the tools, or what we want to destroy.
    #[error("{tool} was kept from its work by others; try again ({reason})")]
    Busy {
        /// The tool.
        tool: String,
        /// Its words.
        reason: String,
    },

    /// A tool refused a part of the change.
    #[error("{tool} refused {}: {reason}", refused(line))]
    Refused {
        /// The tool.
        tool: String,
        /// The line that it refused, where it tells.
        line: Option<String>,
        /// Its words.
        reason: String,
    },

    /// The program judges IPv6 addresses, this host has IPv6, and lacks a tool or a part of the kernel
    /// for it. IPv4 is policed nevertheless.
    #[error(
        "IPv6 is not policed, so not enforced for {endpoint}{}: {lack} (IPv4 is policed)",
        and(*others)
    )]
    NoIpv6 {
        /// An endpoint with such an address, and the address.
        endpoint: String,
        /// How many other endpoints there are.
        others: usize,
        /// What is missing, and how to get it.
        lack: Box<Error>,
    },

    /// A tool printed something that this crate does not understand.
    #[error(transparent)]
    Output(#[from] ParseError),

    /// A system call failed.
    #[error("{action} failed: {source}")]
    System {
        /// What was attempted.
        action: String,
        /// The operating system's error.
        source: io::Error,
    },
}

impl Error {
    /// Whether a tool, a privilege or a part of the kernel is missing, so that trying again is in
    /// vain.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Missing { .. }
            | Self::NoVariant { .. }
            | Self::NoIpv6 { .. }
            | Self::NotPermitted { .. }
            | Self::Unsupported { .. } => true,
            Self::Busy { .. } | Self::Refused { .. } | Self::Output(_) | Self::System { .. } => {
                false
            }
        }
    }
}

fn refused(line: &Option<String>) -> String {
    match line {
        Some(line) => format!("`{line}`"),
        None => "the change".to_owned(),
    }
}

fn and(others: usize) -> String {
    match others {
        0 => String::new(),
        1 => " and one other endpoint".to_owned(),
        others => format!(" and {others} other endpoints"),
    }
}

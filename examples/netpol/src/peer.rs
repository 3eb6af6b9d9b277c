//! The grammar of the ends of a connection on the command line and in files of expectations.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};
use netpol_core::manifest::WorkloadKind;
use netpol_core::model::{Labels, Protocol};

/// One end of a connection, as the user writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// `10.0.0.7`
    Address(IpAddr),
    /// `shop/web`, or `web` in the default namespace.
    Pod { namespace: Option<String>, name: String },
    /// `shop/deploy/web`, or `deploy/web`: all pods of a workload.
    Workload { namespace: Option<String>, kind: WorkloadKind, name: String },
    /// `shop/[app=web,tier=front]`: a pod that there could be.
    Hypothetical { namespace: Option<String>, labels: Labels },
}

/// Protocol and destination port, as the user writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// `80`, `53/udp`
    Number(Protocol, u16),
    /// `http`, `dns/udp`: what the destination declares under the name.
    Named(Protocol, String),
    /// `icmp`
    Icmp,
}

/// `shop/db:5432/tcp`: an end and perhaps a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) peer: Peer,
    pub(crate) port: Option<Port>,
}

const GRAMMAR: &str =
    "an end is namespace/pod, namespace/deploy/name, namespace/[key=value,...] or an address";

impl FromStr for Peer {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        let (namespace, rest) = match text.find('[') {
            Some(0) => (None, text),
            Some(at) => match text[..at].strip_suffix('/') {
                Some(namespace) => (Some(namespace.to_owned()), &text[at..]),
                None => bail!("{text}: {GRAMMAR}"),
            },
            None => return named(text),
        };
        let labels = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let labels = labels.with_context(|| format!("{text}: the bracket is not closed"))?;
        Ok(Self::Hypothetical { namespace, labels: parse_labels(labels)? })
    }
}

fn named(text: &str) -> Result<Peer> {
    let parts: Vec<&str> = text.split('/').collect();
    ensure!(parts.iter().all(|part| !part.is_empty()), "{text}: {GRAMMAR}");
    ensure!(!parts.contains(&"*"), "{text}: there are no wildcards; {GRAMMAR}");
    let (namespace, kind, name) = match parts[..] {
        [name] => (None, None, name),
        [kind, name] if Kind::find(kind).is_some() => (None, Kind::find(kind), name),
        [namespace, name] => (Some(namespace), None, name),
        [namespace, kind, name] => {
            let found = Kind::find(kind);
            ensure!(found.is_some(), "{text}: {kind} is no kind of workload");
            (Some(namespace), found, name)
        }
        _ => bail!("{text}: {GRAMMAR}"),
    };
    let (namespace, name) = (namespace.map(str::to_owned), name.to_owned());
    Ok(match kind {
        Some(Kind::Workload(kind)) => Peer::Workload { namespace, kind, name },
        Some(Kind::Pod) | None => Peer::Pod { namespace, name },
    })
}

enum Kind {
    Pod,
    Workload(WorkloadKind),
}

impl Kind {
    /// The kind of this name: `deploy`, `deployment` or `deployments`.
    fn find(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        let singular = word.strip_suffix('s').unwrap_or(&word);
        if ["po", "pod"].contains(&singular) {
            return Some(Self::Pod);
        }
        let workload = WorkloadKind::ALL
            .into_iter()
            .find(|kind| kind.short() == word || kind.as_str().eq_ignore_ascii_case(singular));
        workload.map(Self::Workload)
    }
}

fn parse_labels(text: &str) -> Result<Labels> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) =
            pair.split_once('=').with_context(|| format!("{pair}: a label is key=value"))?;
        Ok((key.trim().to_owned(), value.trim().to_owned()))
    });
    pairs.collect()
}

impl FromStr for Port {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (port, protocol) = match text.split_once('/') {
            Some((port, protocol)) => (port, Some(protocol)),
            None => (text, None),
        };
        Self::new(port, protocol.unwrap_or("TCP"))
    }
}

impl Port {
    /// `port` of `protocol`, in upper or lower case; ICMP has no port.
    pub(crate) fn new(port: &str, protocol: &str) -> Result<Self> {
        let upper = protocol.to_ascii_uppercase();
        if upper == "ICMP" || (port.eq_ignore_ascii_case("icmp") && upper == "TCP") {
            ensure!(["-", "", "icmp", "ICMP"].contains(&port), "ICMP has no ports");
            return Ok(Self::Icmp);
        }
        let protocol = Protocol::from_api(&upper)
            .with_context(|| format!("{protocol}: a protocol is TCP, UDP, SCTP or ICMP"))?;
        match port.parse() {
            Ok(number) => Ok(Self::Number(protocol, number)),
            Err(_)
                if port.starts_with(|first: char| first.is_ascii_alphanumeric())
                    && port.bytes().any(|byte| byte.is_ascii_alphabetic()) =>
            {
                Ok(Self::Named(protocol, port.to_owned()))
            }
            Err(_) => bail!("{port}: a port is a number up to 65535, or a name"),
        }
    }
}

impl FromStr for Destination {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // An IPv6 address has colons of its own, unless it is in brackets.
        let whole = text.parse::<IpAddr>().is_ok();
        let after = text.rfind(']').map_or(0, |at| at + 1);
        let colon = text[after..].find(':').map(|at| after + at).filter(|_| !whole);
        let (peer, port) = match colon {
            Some(at) => (&text[..at], Some(text[at + 1..].parse()?)),
            None => (text, None),
        };
        Ok(Self { peer: peer.parse()?, port })
    }
}

/// `5432/tcp`, `icmp`.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(protocol, number) => {
                write!(f, "{number}/{}", protocol.as_str().to_ascii_lowercase())
            }
            Self::Named(protocol, name) => {
                write!(f, "{name}/{}", protocol.as_str().to_ascii_lowercase())
            }
            Self::Icmp => f.write_str("icmp"),
        }
    }
}

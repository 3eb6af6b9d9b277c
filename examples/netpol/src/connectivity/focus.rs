use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;

use anyhow::{Error, Result};
use ipnet::IpNet;

use super::addresses::within;
use super::{Pod, Side};
use crate::peer::Peer;

/// What `--from` and `--to` look at, as the user writes it.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// `world`: all addresses that no pod has.
    World,
    /// `10.0.0.0/8`: whatever has such an address.
    Block(IpNet),
    /// As for `check`.
    Peer(Peer),
}

/// What is looked at, looked up.
#[derive(Clone, Debug)]
pub(crate) enum Focus {
    World,
    Block(IpNet),
    /// The pod at this place in the list of all.
    Pod(usize),
}

impl FromStr for Place {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match (text, text.parse(), text.parse::<IpAddr>()) {
            ("world", ..) => Self::World,
            (_, Ok(block), _) => Self::Block(block),
            (_, _, Ok(address)) => Self::Block(address.into()),
            _ => Self::Peer(text.parse()?),
        })
    }
}

impl Focus {
    /// The part of one side that is looked at.
    pub(super) fn narrow(&self, side: &Side, pods: &[Pod]) -> Side {
        match self {
            Self::World => Side { pods: BTreeSet::new(), outside: side.outside.clone() },
            Self::Pod(at) => {
                let pods = side.pods.get(at).into_iter().copied().collect();
                Side { pods, outside: BTreeSet::new() }
            }
            Self::Block(block) => {
                let inside = |at: &&usize| {
                    let pod = pods.get(**at);
                    pod.is_some_and(|pod| pod.addresses.iter().any(|it| block.contains(it)))
                };
                let outside = side.outside.iter().filter_map(|(first, last)| {
                    let part = within(&(*first..=*last), block)?;
                    Some((*part.start(), *part.end()))
                });
                Side {
                    pods: side.pods.iter().filter(inside).copied().collect(),
                    outside: outside.collect(),
                }
            }
        }
    }
}

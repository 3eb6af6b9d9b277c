use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::model::{Family, PortRange, Protocol, Traffic};

use super::members::{predecessor, successor};
use super::{PortMap, Program};

/// Traffic that is judged alike: the parts into which answers about all traffic at once fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TrafficRange {
    /// To these ports by one of the protocols that policies name.
    Ports(Protocol, PortRange),
    /// Any other IP protocol.
    Other,
}

impl TrafficRange {
    /// Whether it includes this traffic.
    pub fn contains(self, traffic: Traffic) -> bool {
        match (self, traffic) {
            (Self::Ports(of, range), Traffic::Port(protocol, port)) => {
                of == protocol && range.contains(port)
            }
            (Self::Other, Traffic::Other(_)) => true,
            _ => false,
        }
    }

    /// One of those that are included.
    pub(super) fn example(self) -> Traffic {
        match self {
            Self::Ports(protocol, range) => Traffic::Port(protocol, range.first()),
            Self::Other => Traffic::ICMP,
        }
    }
}

impl fmt::Display for TrafficRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ports(protocol, range) if *range == PortRange::ALL => {
                write!(f, "all {protocol}")
            }
            Self::Ports(protocol, range) => {
                write!(f, "{range}/{}", protocol.as_str().to_ascii_lowercase())
            }
            Self::Other => f.write_str("other protocols"),
        }
    }
}

/// All traffic, cut wherever one of these port maps is: each range has one class in each of them.
pub(super) fn elementary<'a>(
    maps: impl Iterator<Item = &'a PortMap> + Clone,
) -> impl Iterator<Item = TrafficRange> {
    let of_protocol = move |protocol| {
        let intervals = maps.clone().flat_map(move |map| map.intervals(protocol));
        let lasts = intervals.map(|(range, _)| range.last()).chain([u16::MAX]);
        let mut first = Some(0);
        let ranges = lasts.collect::<BTreeSet<u16>>().into_iter().filter_map(move |last| {
            let range = PortRange::new(first?, last)?;
            first = last.checked_add(1);
            Some(TrafficRange::Ports(protocol, range))
        });
        ranges.collect::<Vec<_>>()
    };
    Protocol::ALL.into_iter().flat_map(of_protocol).chain([TrafficRange::Other])
}

/// Adds a range to others that come before it, and joins it with the last of them if it follows at once.
pub(super) fn append(ranges: &mut Vec<TrafficRange>, next: TrafficRange) {
    if let (Some(TrafficRange::Ports(last_of, last)), TrafficRange::Ports(of, range)) =
        (ranges.last_mut(), next)
        && *last_of == of
        && last.last().checked_add(1) == Some(range.first())
        && let Some(joined) = PortRange::new(last.first(), range.last())
    {
        *last = joined;
        return;
    }
    ranges.push(next);
}

/// All addresses of both families in ascending order, cut wherever one of these programs may tell two apart.
pub(super) fn address_ranges(programs: &[&Program]) -> Vec<RangeInclusive<IpAddr>> {
    let lowest = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let mut starts = BTreeSet::from(lowest);
    for program in programs {
        let addresses = &program.inner.addresses;
        let known = addresses.all_known().map(|(address, _)| address);
        for address in known.chain(addresses.nodes.keys().copied()) {
            starts.extend([Some(address), successor(address)].into_iter().flatten());
        }
        let v4 = addresses.v4.keys().map(IpNet::V4);
        for net in v4.chain(addresses.v6.keys().map(IpNet::V6)) {
            starts.extend([Some(net.network()), successor(net.broadcast())].into_iter().flatten());
        }
    }
    let next = starts.iter().skip(1).map(Some).chain([None]);
    let ranges = starts.iter().zip(next).map(|(first, next)| {
        let highest = match first {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::BROADCAST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)),
        };
        let same = next.filter(|next| Family::of(**next) == Family::of(*first));
        *first..=same.map_or(highest, |next| predecessor(*next))
    });
    ranges.collect()
}

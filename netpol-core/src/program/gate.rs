use std::sync::Arc;

use crate::model::{Direction, Protocol, Traffic};

use super::{ClassId, PortMap, Profile};

/// What a decision looks at of a [`Profile`]: per direction from traffic to class, in one cache line nearly always.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    ingress: Ports,
    egress: Ports,
}

/// A [`PortMap`] the other way round: what holds for most traffic, and where something else does.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(super) enum Ports {
    /// Ranges that are not in use match nothing.
    Few { otherwise: ClassId, first: [u32; FEW], length: [u16; FEW], classes: [ClassId; FEW] },
    /// More ranges than there is room for.
    Many(Arc<PortMap>),
}

/// Traffic as gates are asked about it, which both ends of a connection do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    traffic: Traffic,
    number: u32,
}

const FEW: usize = 5;
const _: () = assert!(size_of::<Option<Gate>>() == 128, "a direction is one cache line");

/// Protocol and port as one number.
const fn number(protocol: Protocol, port: u16) -> u32 {
    ((protocol as u32) << 16) | port as u32
}

/// Any protocol that has no ports.
const OTHER: u32 = 3 << 16;

impl Sent {
    #[inline(always)]
    pub(super) fn new(traffic: Traffic) -> Self {
        let number = match traffic {
            Traffic::Port(protocol, port) => number(protocol, port),
            Traffic::Other(_) => OTHER,
        };
        Self { traffic, number }
    }
}

impl Gate {
    /// Of a profile without any policy.
    pub(super) const OPEN: Self = Self { ingress: Ports::OPEN, egress: Ports::OPEN };

    pub(super) fn new(profile: &Profile) -> Self {
        let ports = |side: &Option<Arc<PortMap>>| side.as_ref().map_or(Ports::OPEN, Ports::new);
        Self { ingress: ports(&profile.ingress), egress: ports(&profile.egress) }
    }

    #[inline]
    pub(super) fn side(&self, direction: Direction) -> &Ports {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

impl Ports {
    const OPEN: Self = Self::constant(ClassId::OPEN);

    const fn constant(otherwise: ClassId) -> Self {
        let (first, length) = ([u32::MAX; FEW], [0; FEW]);
        Self::Few { otherwise, first, length, classes: [otherwise; FEW] }
    }

    fn new(map: &Arc<PortMap>) -> Self {
        let mut few = Self::constant(map.other);
        let Self::Few { first, length, classes, .. } = &mut few else { return few };
        let lanes = first.iter_mut().zip(length).zip(classes);
        let mut lanes = lanes.map(|((first, length), class)| (first, length, class));
        for protocol in Protocol::ALL {
            for (range, class) in map.intervals(protocol) {
                if *class == map.other {
                    continue;
                }
                let Some((first, length, at)) = lanes.next() else {
                    return Self::Many(map.clone());
                };
                *first = number(protocol, range.first());
                *length = range.last() - range.first();
                *at = *class;
            }
        }
        few
    }

    #[inline]
    pub(super) fn class_of(&self, sent: Sent) -> ClassId {
        match self {
            // Every range is looked at, so that no branch can be guessed wrongly.
            Self::Few { otherwise, first, length, classes } => {
                let ranges = first.iter().zip(length).zip(classes);
                ranges.fold(*otherwise, |found, ((first, length), class)| {
                    let inside = sent.number.wrapping_sub(*first) <= u32::from(*length);
                    if inside { *class } else { found }
                })
            }
            Self::Many(map) => map.class_of(sent.traffic),
        }
    }
}

#[cfg(test)]
mod tests {
    use smallvec::SmallVec;

    use super::*;
    use crate::model::PortRange;

    /// As many single ports as given, each with a class of its own; everything else is class 7.
    fn map_of(ports: &[(Protocol, u16)]) -> Arc<PortMap> {
        let intervals = |protocol| {
            let mut intervals = SmallVec::new();
            let mut next = Some(0);
            let own = ports.iter().zip(100..).filter(|((of, _), _)| *of == protocol);
            for ((_, port), class) in own {
                if let Some(first) = next.filter(|first| first < port) {
                    intervals.push((PortRange::new(first, port - 1).unwrap(), ClassId(7)));
                }
                intervals.push((PortRange::single(*port), ClassId(class)));
                next = port.checked_add(1);
            }
            if let Some(first) = next {
                intervals.push((PortRange::new(first, u16::MAX).unwrap(), ClassId(7)));
            }
            intervals
        };
        Arc::new(PortMap {
            ports: Protocol::ALL.map(intervals),
            other: ClassId(7),
            too_large: false,
        })
    }

    #[test]
    fn says_what_the_map_says() {
        use Protocol::{Sctp, Tcp, Udp};
        let edges = [(Tcp, 0), (Tcp, 443), (Udp, 0), (Udp, u16::MAX), (Sctp, u16::MAX)];
        let many = [(Tcp, 0), (Tcp, 1), (Tcp, 443), (Udp, 53), (Udp, u16::MAX), (Sctp, u16::MAX)];
        let long: Vec<_> = (1..20).map(|it| (Udp, it * 3)).collect();
        let lists = [(&edges[..], true), (&many[..], false), (&long[..], false), (&[], true)];
        for (ports, is_few) in lists {
            let map = map_of(ports);
            let gate = Ports::new(&map);
            assert_eq!(matches!(gate, Ports::Few { .. }), is_few);
            for protocol in Protocol::ALL {
                for port in 0..=u16::MAX {
                    let traffic = Traffic::Port(protocol, port);
                    let own = (100..).zip(ports).find(|(_, own)| **own == (protocol, port));
                    let wanted = own.map_or(ClassId(7), |(class, _)| ClassId(class));
                    let found = [gate.class_of(Sent::new(traffic)), map.class_of(traffic)];
                    assert_eq!(found, [wanted; 2], "{traffic}");
                }
            }
            for other in [0, 1, 6, 255] {
                assert_eq!(gate.class_of(Sent::new(Traffic::Other(other))), map.other);
            }
        }
    }
}

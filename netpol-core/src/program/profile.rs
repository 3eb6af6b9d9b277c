use std::sync::Arc;

use smallvec::SmallVec;

use crate::model::{DeclaredPort, Direction, Policy, PortRange, Protocol, Traffic};

use super::ClassId;

/// What the endpoints that share it may do: a function from the other end, the protocol and the port to a verdict,
/// per direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    pub(crate) ingress: Option<Side>,
    pub(crate) egress: Option<Side>,
    /// The policies that apply, in the order in which they are asked.
    pub(crate) policies: Arc<[Arc<Policy>]>,
    /// What its endpoints declare, of the ports that ingress rules ask for by name.
    pub(crate) declared: Arc<[DeclaredPort]>,
}

/// Index of a [`Profile`] in its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProfileId(pub(crate) u32);

/// One direction of a profile. Shared, since profiles often differ in one direction only.
pub(crate) type Side = Arc<PortMap>;

/// For every protocol and port the [`Class`](super::Class) of the other ends that are allowed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PortMap {
    /// Few, and so in place: they are looked at for every packet.
    pub(crate) ports: [SmallVec<[(PortRange, ClassId); 3]>; 3],
    pub(crate) other: ClassId,
    /// All is denied, since to say what is not would take too much.
    pub(crate) too_large: bool,
}

impl ProfileId {
    pub(crate) const NONE: Self = Self(u32::MAX);
}

impl Profile {
    /// What it says in one direction; `None` if no policy says anything there and all is allowed.
    pub fn side(&self, direction: Direction) -> Option<&PortMap> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }

    /// The policies that apply, in the order in which they are asked.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.iter().map(|policy| &**policy)
    }
}

impl PortMap {
    /// The intervals of one protocol's ports: ascending, adjacent, together all of 0-65535; neighbours differ.
    pub fn intervals(&self, protocol: Protocol) -> &[(PortRange, ClassId)] {
        let [tcp, udp, sctp] = &self.ports;
        match protocol {
            Protocol::Tcp => tcp,
            Protocol::Udp => udp,
            Protocol::Sctp => sctp,
        }
    }

    /// All classes in it, one perhaps more than once.
    pub fn classes(&self) -> impl Iterator<Item = ClassId> {
        self.ports.iter().flatten().map(|(_, class)| *class).chain([self.other])
    }

    /// The class for all IP protocols other than TCP, UDP and SCTP.
    pub fn other(&self) -> ClassId {
        self.other
    }

    /// The class for this traffic. `O(log n)` in the number of intervals.
    pub fn class_of(&self, traffic: Traffic) -> ClassId {
        let Traffic::Port(protocol, port) = traffic else { return self.other };
        let intervals = self.intervals(protocol);
        let at = match intervals.len() {
            // Counting has no branch to be guessed wrongly.
            few @ ..=8 => few - intervals.iter().filter(|(range, _)| range.last() >= port).count(),
            _ => intervals.partition_point(|(range, _)| range.last() < port),
        };
        intervals.get(at).map_or(ClassId::NONE, |(_, class)| *class)
    }
}

use std::fmt;
use std::mem::size_of;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{Family, Name, PortRange, Protocol};

use super::gate::Gate;
use super::{
    Class, ClassId, EndpointEntry, EndpointId, Identity, IdentityId, Known, Members, Profile,
    Program,
};

/// How large a program is, and how much a backend would have to put into the kernel for it: to be known before
/// anything is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capacity {
    /// Endpoints that are policed, those without any applicable policy included.
    pub endpoints: usize,
    /// Profiles: different sets of applicable policies.
    pub profiles: usize,
    /// Classes: different sets of other ends that are allowed on some port.
    pub classes: usize,
    /// The identities that differ from their class's default verdict, summed over classes.
    pub exceptions: usize,
    /// Identities: kinds of other ends that policies tell apart.
    pub identities: usize,
    /// Addresses that mean something of their own: of endpoints, nodes and domain names.
    pub known_addresses: usize,
    /// CIDR blocks by which all other addresses are told apart.
    pub blocks: usize,
    /// What sets have to hold for IPv4: [`Members`](super::Members) summed over classes, a range counted once.
    pub set_elements_v4: usize,
    /// The same for IPv6.
    pub set_elements_v6: usize,
    /// About how much memory the program takes, in bytes. Left out are the policies and selectors that it refers to,
    /// and the spare room of its tables. Other programs may share part of it.
    pub bytes: usize,
}

impl Program {
    /// How large the program is.
    ///
    /// Costs as much as listing the [`members`](Self::members) of every class in both families.
    pub fn capacity(&self) -> Capacity {
        let inner = &self.inner;
        let elements = |family| {
            let lists = self.classes().map(move |(id, _)| self.members(id, family));
            lists.map(|Members { ranges, allow, deny, .. }| ranges.len() + allow.len() + deny.len())
        };
        Capacity {
            endpoints: self.endpoints().count(),
            profiles: self.profiles().count(),
            classes: self.classes().count(),
            exceptions: self.classes().map(|(_, class)| class.exceptions.len()).sum(),
            identities: self.identity_count(),
            known_addresses: inner.addresses.all_known().count(),
            blocks: inner.addresses.v4.len() + inner.addresses.v6.len(),
            set_elements_v4: elements(Family::V4).sum(),
            set_elements_v6: elements(Family::V6).sum(),
            bytes: self.bytes(),
        }
    }

    fn bytes(&self) -> usize {
        let inner = &self.inner;
        let known = inner.addresses.all_known().map(|(address, _)| match address {
            IpAddr::V4(_) => size_of::<(u32, Known)>(),
            IpAddr::V6(_) => size_of::<(u128, Known)>(),
        });
        let blocks = inner.addresses.v4.len() + inner.addresses.v6.len();
        let identities = inner.identities.iter().map(|(_, it)| {
            let addresses = it.addresses.len() * size_of::<IpAddr>();
            let blocks = it.blocks.len() * size_of::<IpNet>();
            size_of::<Identity>() + size_of_val(&*it.atoms) + addresses + blocks
        });
        let endpoints = inner
            .endpoints
            .iter()
            .map(|(_, it)| size_of::<EndpointEntry>() + it.namespace.len() + it.name.len());
        let names = inner.names.len() * size_of::<(u32, EndpointId)>();
        let hosts = inner.hosts.iter().map(|_| size_of::<(Name, Name, IpAddr)>());
        let profiles = inner.profiles.iter().map(|(_, it)| {
            let sides = [&it.ingress, &it.egress].into_iter().flatten();
            let intervals = sides.map(|side| {
                Protocol::ALL.map(|protocol| side.intervals(protocol).len()).iter().sum::<usize>()
            });
            let intervals: usize = intervals.sum();
            size_of::<Profile>()
                + size_of::<Gate>()
                + intervals * size_of::<(PortRange, ClassId)>()
                + it.policies.len() * size_of::<usize>()
        });
        let classes = inner
            .classes
            .iter()
            .map(|(_, it)| size_of::<Class>() + it.exceptions.len() * size_of::<IdentityId>());
        known.sum::<usize>()
            + blocks * size_of::<(IpNet, IdentityId)>()
            + identities.sum::<usize>()
            + endpoints.sum::<usize>()
            + names
            + hosts.sum::<usize>()
            + profiles.sum::<usize>()
            + classes.sum::<usize>()
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoints, profiles, classes, exceptions, .. } = self;
        writeln!(
            f,
            "{endpoints} endpoints, {profiles} profiles, {classes} classes with {exceptions} exceptions"
        )?;
        let Self { identities, known_addresses, blocks, .. } = self;
        writeln!(f, "{identities} identities, {known_addresses} known addresses, {blocks} blocks")?;
        let Self { set_elements_v4, set_elements_v6, bytes, .. } = self;
        write!(
            f,
            "{set_elements_v4} set elements for IPv4, {set_elements_v6} for IPv6; about {} KiB",
            bytes.div_ceil(1024)
        )
    }
}

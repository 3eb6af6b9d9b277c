use std::fmt;
use std::mem::size_of;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{Family, Name, PortRange, Protocol};

use super::gate::Gate;
use super::{
    AtomId, Class, ClassId, EndpointEntry, EndpointId, Identity, IdentityId, Known, Members,
    Profile, Program, Segment, Stack, Union, Within,
};

/// How large a program is, and how much a backend would have to put into the kernel for it: to be known before
/// anything is applied. Whose policies make it so large is told by [`Program::heaviest`].
///
/// Endpoints, identities, profiles and classes are numbered with 32 bits each. Their tables alone would take more than
/// 100 GB before the numbers end, so that what limits a program is `bytes`.
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
    /// What holds for identities, summed: a selector or block of a policy counts once for each identity that it
    /// matches.
    pub memberships: usize,
    /// What classes ask, summed: a selector or block of a policy counts once for each class that asks for it. It grows
    /// with the square of the rules where the ports of many overlap for the same endpoint.
    pub terms: usize,
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
            memberships: inner.identities.iter().map(|(_, it)| it.atoms.len()).sum(),
            terms: self.classes().flat_map(|(id, _)| self.stack(id).unions()).map(Union::len).sum(),
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
        let classes =
            inner.classes.iter().map(|(_, it)| size_of::<Class>() + it.exceptions.bytes());
        let stacks = self.classes().map(|(id, _)| self.stack(id)).map(|it| {
            let segments = (it.admin.len() + it.baseline.len()) * size_of::<Segment>();
            let terms = it.unions().map(|union| {
                let left_out = union.blocks.iter().map(|within| size_of_val(&*within.except));
                union.atoms.len() * size_of::<AtomId>()
                    + union.blocks.len() * size_of::<Within>()
                    + left_out.sum::<usize>()
            });
            size_of::<Stack>() + segments + terms.sum::<usize>()
        });
        known.sum::<usize>()
            + blocks * size_of::<(IpNet, IdentityId)>()
            + identities.sum::<usize>()
            + endpoints.sum::<usize>()
            + names
            + hosts.sum::<usize>()
            + profiles.sum::<usize>()
            + classes.sum::<usize>()
            + stacks.sum::<usize>()
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoints, profiles, classes, terms, exceptions, .. } = self;
        writeln!(
            f,
            "{endpoints} endpoints, {profiles} profiles, {classes} classes with {terms} terms and {exceptions} exceptions"
        )?;
        let Self { identities, memberships, known_addresses, blocks, .. } = self;
        writeln!(
            f,
            "{identities} identities with {memberships} memberships, {known_addresses} known addresses, {blocks} blocks"
        )?;
        let Self { set_elements_v4, set_elements_v6, bytes, .. } = self;
        write!(
            f,
            "{set_elements_v4} set elements for IPv4, {set_elements_v6} for IPv6; about {} KiB",
            bytes.div_ceil(1024)
        )
    }
}

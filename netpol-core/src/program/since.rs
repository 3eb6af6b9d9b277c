use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::{ClassId, EndpointEntry, Identity, Profile, ProfileId, Program};

/// What a backend that has put one program into force has to look at again for a later one: everything else says the
/// same, by the same numbers.
///
/// Found by what the two no longer share: some microseconds after an event, if they were made by one
/// [`Compiler`](crate::compile::Compiler). Programs of different origin share nothing, so that all of both is in here.
#[derive(Clone, Debug)]
pub struct Since<'p> {
    /// The endpoints whose entries differ; those that are not policed are among them.
    pub endpoints: Vec<Slot<'p>>,
    /// The profiles that are new, gone, or others by the same number.
    pub profiles: BTreeSet<ProfileId>,
    /// The classes that are new, gone, or ask something else by the same number.
    pub classes: BTreeSet<ClassId>,
    /// The addresses about which classes may say something else, unless that follows from blocks.
    pub addresses: Vec<IpAddr>,
    /// Whether the blocks that tell addresses apart differ: any class may have other ranges, then.
    pub blocks: bool,
}

/// An endpoint before and now.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'p> {
    /// The same for the same endpoint, as long as it is there.
    pub number: u32,
    /// As it was.
    pub before: Option<&'p EndpointEntry>,
    /// As it is.
    pub now: Option<&'p EndpointEntry>,
}

impl Program {
    /// What differs from an earlier program, or from one that says nothing.
    ///
    /// `O(m + n / 128)` for `m` differences between programs of `n` objects that one compiler made.
    pub fn since<'p>(&'p self, before: Option<&'p Self>) -> Since<'p> {
        let Some(before) = before else { return self.all() };
        let (now, then) = (&self.inner, &before.inner);
        let endpoints = now.endpoints.unshared(&then.endpoints).filter(|(_, a, b)| !same(*a, *b));
        let endpoints = endpoints.map(|(number, before, now)| {
            let [before, now] = [before, now].map(|it| it.map(|entry| &**entry));
            Slot { number, before, now }
        });
        let profiles = now.profiles.unshared(&then.profiles).filter(|(_, a, b)| match (a, b) {
            (Some(a), Some(b)) => !a.is(b),
            _ => true,
        });
        let classes = now.stacks.unshared(&then.stacks).filter(|(_, a, b)| !same(*a, *b));
        let classes = classes.map(|(id, ..)| ClassId(id)).filter(|id| *id != ClassId::OPEN);
        let mut addresses = Vec::new();
        // A block that comes, goes or means something else is another entry of these.
        let blocks = !Arc::ptr_eq(&now.addresses.v4, &then.addresses.v4)
            || !Arc::ptr_eq(&now.addresses.v6, &then.addresses.v6);
        for (_, a, b) in now.identities.unshared(&then.identities) {
            moved(a, b, &mut addresses);
        }
        // Whether the exemption of the own node holds for an address is not told by its identity alone.
        for program in [before, self] {
            let own = program.own_node();
            let nodes = program.inner.addresses.nodes.iter();
            let of_own = nodes.filter(|(_, nodes)| own.is_some_and(|own| nodes.contains(&own)));
            addresses.extend(of_own.map(|(address, _)| *address));
        }
        addresses.sort_unstable();
        addresses.dedup();
        Since {
            endpoints: endpoints.collect(),
            profiles: profiles.map(|(id, ..)| ProfileId(id)).collect(),
            classes: classes.collect(),
            addresses,
            blocks,
        }
    }

    fn all(&self) -> Since<'_> {
        let endpoints = self.inner.endpoints.iter();
        let slot = |(number, entry)| {
            let now: &Arc<EndpointEntry> = entry;
            Slot { number, before: None, now: Some(&**now) }
        };
        Since {
            endpoints: endpoints.map(slot).collect(),
            profiles: self.profiles().map(|(id, _)| id).collect(),
            classes: self.classes().map(|(id, _)| id).collect(),
            addresses: self.inner.addresses.all_known().map(|(address, _)| address).collect(),
            blocks: true,
        }
    }
}

fn same<T>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

impl Profile {
    /// Whether both share what they are made of.
    fn is(&self, other: &Self) -> bool {
        same(self.ingress.as_ref(), other.ingress.as_ref())
            && same(self.egress.as_ref(), other.egress.as_ref())
            && self.declared == other.declared
            && self.policies.len() == other.policies.len()
            && self.policies.iter().zip(other.policies.iter()).all(|(a, b)| Arc::ptr_eq(a, b))
    }
}

/// Finds the addresses that an identity gains or loses.
fn moved(before: Option<&Arc<Identity>>, now: Option<&Arc<Identity>>, addresses: &mut Vec<IpAddr>) {
    match (before, now) {
        (Some(before), Some(now)) if Arc::ptr_eq(before, now) => {}
        // The same atoms, so that no class that there was and is says anything else of it.
        (Some(before), Some(now)) if Arc::ptr_eq(&before.atoms, &now.atoms) => {
            addresses.extend(now.addresses.difference(&before.addresses));
        }
        (before, now) => {
            let both = [before, now].into_iter().flatten();
            both.for_each(|identity| addresses.extend(identity.addresses.iter()));
        }
    }
}

//! The compiled form: what the policies say about every possible connection, as one immutable value.
//!
//! Three questions, three structures:
//!
//! 1. *Who is this address?* [`address`](self) maps it to an [`IdentityId`]: the class of all addresses that no
//!    policy can tell apart. Addresses of endpoints, nodes and domain names are found in one hash look-up, all
//!    others by longest prefix in a trie of the CIDR blocks that policies mention.
//! 2. *What may this endpoint do?* Endpoints with the same applicable policies share a [`Profile`].
//! 3. *Does the profile allow it?* Per direction and protocol a profile cuts the ports into intervals, each with a
//!    [`Class`]: the set of identities that are allowed. Tiers, priorities, Pass, excepts and named ports are
//!    resolved by then. What decisions look at of a profile is laid out for them in its gate.
//!
//! A program does not know how it was compiled, and never changes; a clone shares everything, and the program that
//! follows after an event shares all that the event does not touch.

mod address;
mod address_map;
mod atom;
mod capacity;
mod class;
mod decide;
mod diff;
mod explain;
mod gate;
mod identity_set;
mod members;
mod names;
mod partition;
mod profile;
mod reach;
mod shared;
mod since;
mod text;
mod too_large;
mod trace;
mod weight;

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use smallvec::SmallVec;

use crate::model::{Name, Options};

pub(crate) use address::{Addresses, Known};
pub(crate) use atom::{Atom, AtomId, Declares, Identity, Term, Within};
pub(crate) use class::{OwnNode, RareSet, Segment, Stack, Terms, Union};
use gate::Gate;
pub(crate) use identity_set::IdentitySet;
pub(crate) use members::successor;
pub(crate) use names::Names;
pub(crate) use profile::Side;
pub(crate) use shared::{Pages, Shards, SortedSet, Table};

pub use capacity::Capacity;
pub use class::{Class, ClassId};
pub use decide::{Decision, Verdict};
pub use diff::{Cell, DiffPeer, DiffSubject, Difference, Moved};
pub use explain::{Explanation, Judgement, Miss, Missed, Outcome, Reason, RuleRef, Step};
pub use members::{Members, Single};
pub use partition::TrafficRange;
pub use profile::{PortMap, Profile, ProfileId};
pub use reach::{Party, Reach};
pub use since::{Since, Slot};
pub use too_large::TooLarge;
pub use weight::Weight;

/// The compiled policies of a cluster, or of one node of it: see the [module](self).
///
/// `Send + Sync`, and cheap to clone. Two programs compare equal if they were compiled from objects that say the
/// same.
#[derive(Clone)]
pub struct Program {
    inner: Arc<Inner>,
}

/// Whose endpoints a program polices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Every endpoint there is.
    #[default]
    Cluster,
    /// The endpoints of the node of this name only. What they refer to is in the program, nothing else is.
    Node(Name),
}

/// An endpoint as a program knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointEntry {
    pub(crate) namespace: Name,
    pub(crate) name: Name,
    pub(crate) addresses: SmallVec<[IpAddr; 2]>,
    pub(crate) node: Option<NodeId>,
    pub(crate) profile: Option<ProfileId>,
    /// The profile for traffic to itself, where that is policed.
    pub(crate) own: Option<ProfileId>,
    /// Who it is when asked about by name.
    pub(crate) identity: IdentityId,
    /// It stands for the host-network pods of a node.
    pub(crate) host: bool,
}

/// The class of all ends of connections that no policy can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdentityId(pub(crate) u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EndpointId(pub(crate) u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(crate) u32);

/// What an end given by name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NamedEnd {
    Ordinary(EndpointId),
    /// A host-network endpoint: whoever has this address of its node (M4).
    Host(IpAddr),
}

#[derive(Clone)]
pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) scope: Scope,
    pub(crate) addresses: Addresses,
    pub(crate) identities: Pages<Arc<Identity>>,
    pub(crate) atoms: Pages<Atom>,
    pub(crate) endpoints: Pages<Arc<EndpointEntry>>,
    /// Which endpoint goes by a name.
    pub(crate) names: Names,
    /// What host-network endpoints go by: an address of their node.
    pub(crate) hosts: Shards<(Name, Name), IpAddr>,
    profiles: Table<Profile, 32>,
    /// Of each profile what decisions look at.
    gates: Table<Gate>,
    pub(crate) classes: Table<Class>,
    /// What each class asks.
    stacks: Table<Arc<Stack>>,
    pub(crate) nodes: Table<Name>,
}

impl Inner {
    /// An identity, to be changed.
    pub(crate) fn identity_mut(&mut self, id: IdentityId) -> Option<&mut Identity> {
        self.identities.get_mut(id.0).map(Arc::make_mut)
    }

    /// Who goes by a name.
    pub(crate) fn named(&self, name: &(Name, Name)) -> Option<NamedEnd> {
        let ordinary = self.names.get(&name.0, &name.1, &self.endpoints);
        let host = || self.hosts.get(name).copied().map(NamedEnd::Host);
        ordinary.map(NamedEnd::Ordinary).or_else(host)
    }

    /// Says who goes by a name; as [`Names::set`], once the endpoints are up to date.
    pub(crate) fn set_named(&mut self, name: &(Name, Name), end: Option<NamedEnd>) {
        let (id, address) = match end {
            Some(NamedEnd::Ordinary(id)) => (Some(id), None),
            Some(NamedEnd::Host(address)) => (None, Some(address)),
            None => (None, None),
        };
        self.names.set(&name.0, &name.1, id, &self.endpoints);
        match address {
            None => self.hosts.remove(name),
            Some(address) if self.hosts.get(name) == Some(&address) => {}
            Some(address) => self.hosts.insert(name.clone(), address),
        }
    }

    /// All names, in no particular order.
    pub(crate) fn all_names(&self) -> impl Iterator<Item = ((&Name, &Name), NamedEnd)> {
        let ordinary = self.names.iter().filter_map(|id| {
            let entry = self.endpoints.get(id.0)?;
            Some(((&entry.namespace, &entry.name), NamedEnd::Ordinary(id)))
        });
        let hosts = self
            .hosts
            .iter()
            .map(|((namespace, name), address)| ((namespace, name), NamedEnd::Host(*address)));
        ordinary.chain(hosts)
    }

    pub(crate) fn set_profile(&mut self, ProfileId(id): ProfileId, profile: Profile) {
        self.gates.set(id, Gate::new(&profile));
        self.profiles.set(id, profile);
    }

    pub(crate) fn clear_profile(&mut self, ProfileId(id): ProfileId) {
        self.gates.clear(id);
        self.profiles.clear(id);
    }

    pub(crate) fn set_class(&mut self, ClassId(id): ClassId, class: Class, stack: Arc<Stack>) {
        self.classes.set(id, class);
        self.stacks.set(id, stack);
    }

    pub(crate) fn clear_class(&mut self, ClassId(id): ClassId) {
        self.classes.clear(id);
        self.stacks.clear(id);
    }
}

impl Program {
    /// A program without policies and endpoints.
    pub(crate) fn empty(options: Options, scope: Scope) -> Self {
        let inner = Inner {
            options,
            scope,
            addresses: Addresses::default(),
            identities: Pages::default(),
            atoms: Pages::default(),
            endpoints: Pages::default(),
            names: Names::default(),
            hosts: Shards::default(),
            profiles: Table::default(),
            gates: Table::default(),
            classes: Table::default(),
            stacks: Table::default(),
            nodes: Table::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The program's parts, to be changed; shared with nobody by then.
    pub(crate) fn edit(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.inner)
    }

    /// Whose endpoints it polices.
    pub fn scope(&self) -> &Scope {
        &self.inner.scope
    }

    /// The readings of the APIs' open points that it was compiled with.
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// The endpoints that it polices, those without any applicable policy included, in no particular order.
    pub fn endpoints(&self) -> impl Iterator<Item = &EndpointEntry> {
        let endpoints = self.inner.endpoints.iter().map(|(_, entry)| &**entry);
        endpoints.filter(|entry| entry.profile.is_some())
    }

    /// The endpoint that has this address, be it in scope or not; of host-network endpoints the one that
    /// [stands](EndpointEntry::is_host) for all of a node, where they are policed. One look-up.
    pub fn endpoint_at(&self, address: IpAddr) -> Option<&EndpointEntry> {
        self.entry(self.inner.addresses.known(address)?.endpoint()?)
    }

    /// The profile of this id.
    ///
    /// Ids come from this program only; one of another program gives some other profile or the open one.
    #[inline]
    pub fn profile(&self, id: ProfileId) -> &Profile {
        static OPEN: LazyLock<Profile> = LazyLock::new(Profile::default);
        self.inner.profiles.get(id.0).unwrap_or(&OPEN)
    }

    /// All profiles with their ids.
    pub fn profiles(&self) -> impl Iterator<Item = (ProfileId, &Profile)> {
        self.inner.profiles.iter().map(|(id, profile)| (ProfileId(id), profile))
    }

    /// The class of this id; as [`profile`](Self::profile), with one that allows nobody for an id of nothing.
    #[inline]
    pub fn class(&self, id: ClassId) -> &Class {
        static NOBODY: Class = Class::NOBODY;
        self.inner.classes.get(id.0).unwrap_or(&NOBODY)
    }

    /// All classes with their ids.
    pub fn classes(&self) -> impl Iterator<Item = (ClassId, &Class)> {
        let all = self.inner.classes.iter().map(|(id, class)| (ClassId(id), class));
        all.filter(|(id, _)| *id != ClassId::OPEN)
    }

    /// What a class asks.
    pub(crate) fn stack(&self, id: ClassId) -> &Stack {
        static NOTHING: Stack = Stack::NOTHING;
        self.inner.stacks.get(id.0).map_or(&NOTHING, |stack| stack)
    }

    /// What decisions look at of a profile.
    #[inline]
    fn gate(&self, id: ProfileId) -> &Gate {
        static OPEN: Gate = Gate::OPEN;
        self.inner.gates.get(id.0).unwrap_or(&OPEN)
    }

    /// How many identities it tells apart.
    pub fn identity_count(&self) -> usize {
        self.inner.identities.iter().count()
    }
}

impl EndpointEntry {
    /// The namespace it lives in.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its addresses.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Whether it is in the program's scope.
    pub fn is_policed(&self) -> bool {
        self.profile.is_some()
    }

    /// What it may do. An endpoint outside of the program's scope has the open profile's id.
    pub fn profile(&self) -> ProfileId {
        self.profile.unwrap_or(ProfileId::NONE)
    }

    /// What it may do with itself, where that is policed ([`SelfTraffic`](crate::model::SelfTraffic)).
    pub fn own_profile(&self) -> Option<ProfileId> {
        self.own
    }

    /// Whether it stands for the host-network pods of the node that it is named after, which are policed on
    /// request only ([`HostNetworkSubjects`](crate::model::HostNetworkSubjects)).
    pub fn is_host(&self) -> bool {
        self.host
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("scope", &self.inner.scope)
            .field("endpoints", &self.inner.endpoints.iter().count())
            .field("identities", &self.inner.identities.iter().count())
            .field("profiles", &self.inner.profiles.iter().count())
            .field("classes", &self.inner.classes.iter().count())
            .finish_non_exhaustive()
    }
}

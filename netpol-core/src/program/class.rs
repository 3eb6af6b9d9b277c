use crate::model::Action;

use super::identity_set::IdentitySet;
use super::{AtomId, IdentityId, Term, Verdict, Within};

/// A verdict for every identity: the other ends that a profile allows on one or more ports.
///
/// Profiles share it where their policies ask the same of the other end. It is defined by what it asks
/// ([`Program::class_text`](super::Program::class_text)), not by who fulfils it today: a pod that joins or leaves
/// changes a class in place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(align(64))]
pub struct Class {
    pub(crate) default: Verdict,
    /// The identities with the other verdict.
    pub(crate) exceptions: IdentitySet,
    pub(crate) own_node: OwnNode,
    /// Whom `own_node` makes an exception of.
    pub(crate) own_node_list: RareSet,
}

const _: () = assert!(size_of::<Option<Class>>() == 64, "a class is one cache line");

/// Whether traffic with the endpoint's own node is allowed although the class denies it (NP-NODE-1). That depends on
/// the identity of the node's address where the Admin tier decides for some, who are listed beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnNode {
    Never,
    AllBut,
    Only,
}

/// A set that is hardly ever anything but empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RareSet(Option<Box<IdentitySet>>);

/// Index of a [`Class`] in its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassId(pub(crate) u32);

/// What a class asks of the other end, tier by tier, in normal form: the definition that its verdicts follow from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Stack {
    pub(crate) admin: Vec<Segment>,
    /// `None` if the endpoint is not isolated.
    pub(crate) network: Option<Terms>,
    pub(crate) baseline: Vec<Segment>,
    /// The endpoint's own node is allowed unless the Admin tier denies it.
    pub(crate) own_node: bool,
}

/// Successive rules of one action.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Segment {
    pub(crate) action: Action,
    pub(crate) terms: Terms,
}

/// Whom a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Terms {
    /// Every other end.
    Everyone,
    /// Whoever answers one of them; possibly nobody.
    AnyOf(Union),
}

/// Terms of which one is to hold; in normal form in ascending order, and each once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Union {
    pub(crate) atoms: Vec<AtomId>,
    pub(crate) blocks: Vec<Within>,
}

impl ClassId {
    pub(crate) const NONE: Self = Self(u32::MAX);
    /// The class of directions that no policy says anything about: it allows everybody, and is listed nowhere.
    pub(crate) const OPEN: Self = Self(0);
}

impl RareSet {
    pub(crate) fn contains(&self, id: IdentityId) -> bool {
        self.0.as_ref().is_some_and(|ids| ids.contains(id))
    }

    /// In ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = IdentityId> {
        self.0.iter().flat_map(|ids| ids.iter())
    }

    pub(crate) fn insert(&mut self, id: IdentityId) {
        self.0.get_or_insert_with(|| Box::new(IdentitySet::EMPTY)).insert(id);
    }

    pub(crate) fn remove(&mut self, id: IdentityId) {
        if let Some(ids) = &mut self.0 {
            ids.remove(id);
            self.0.take_if(|ids| ids.is_empty());
        }
    }
}

impl Class {
    /// Allows nobody.
    pub(crate) const NOBODY: Self = Self {
        default: Verdict::Deny,
        exceptions: IdentitySet::EMPTY,
        own_node: OwnNode::Never,
        own_node_list: RareSet(None),
    };

    /// The verdict for an identity, the exemption of the own node aside. `O(log n)` in the exceptions.
    #[inline]
    pub fn verdict(&self, identity: IdentityId) -> Verdict {
        if self.exceptions.contains(identity) { self.default.opposite() } else { self.default }
    }

    /// Whether an address of this identity is allowed if it is the endpoint's own node's.
    pub(super) fn allows_own_node(&self, identity: IdentityId) -> bool {
        match self.own_node {
            OwnNode::Never => false,
            OwnNode::AllBut => !self.own_node_list.contains(identity),
            OwnNode::Only => self.own_node_list.contains(identity),
        }
    }

    /// The verdict for every other end, if there is no exception.
    pub fn constant(&self) -> Option<Verdict> {
        let constant = self.exceptions.is_empty()
            && (self.own_node == OwnNode::Never || self.default == Verdict::Allow);
        constant.then_some(self.default)
    }
}

impl Stack {
    /// Of [`ClassId::OPEN`]. Where there is no isolation there is nothing that the own node would be exempt from, so
    /// that no policies ask for just this.
    pub(crate) const OPEN: Self =
        Self { admin: Vec::new(), network: None, baseline: Vec::new(), own_node: true };

    /// Of a class that there is not.
    pub(crate) const NOTHING: Self =
        Self { admin: Vec::new(), network: None, baseline: Vec::new(), own_node: false };

    /// What it says of an end for which exactly these atoms hold.
    pub(crate) fn verdict(&self, atoms: &[AtomId]) -> Verdict {
        match first_match(&self.admin, atoms) {
            Some(Action::Accept) => return Verdict::Allow,
            Some(Action::Deny) => return Verdict::Deny,
            Some(Action::Pass) | None => {}
        }
        let allowed = match &self.network {
            Some(terms) => terms.include(atoms),
            None => first_match(&self.baseline, atoms) != Some(Action::Deny),
        };
        if allowed { Verdict::Allow } else { Verdict::Deny }
    }

    /// What the Admin tier says of it.
    pub(crate) fn admin_action(&self, atoms: &[AtomId]) -> Option<Action> {
        first_match(&self.admin, atoms)
    }

    /// Whether it is NetworkPolicies that deny an end for which exactly these atoms hold, given that it is denied.
    pub(super) fn denies_by_network_policy(&self, atoms: &[AtomId]) -> bool {
        self.network.is_some() && self.admin_action(atoms) != Some(Action::Deny)
    }

    /// All that it asks for, possibly some of it more than once.
    pub(crate) fn unions(&self) -> impl Iterator<Item = &Union> {
        let segments = self.admin.iter().chain(&self.baseline).map(|segment| &segment.terms);
        segments.chain(&self.network).filter_map(|terms| match terms {
            Terms::Everyone => None,
            Terms::AnyOf(union) => Some(union),
        })
    }

    /// The atoms one of which holds for whomever any of its terms holds for, possibly some more than once.
    pub(crate) fn atoms(&self) -> impl Iterator<Item = AtomId> {
        self.unions().flat_map(Union::atoms)
    }

    /// If it denies by default and rules only ever add to it: what they add.
    pub(crate) fn as_union(&self) -> Option<&Union> {
        match &self.network {
            Some(Terms::AnyOf(union)) if self.admin.is_empty() => Some(union),
            _ => None,
        }
    }
}

fn first_match(segments: &[Segment], atoms: &[AtomId]) -> Option<Action> {
    segments.iter().find(|segment| segment.terms.include(atoms)).map(|segment| segment.action)
}

impl Terms {
    pub(crate) const NOBODY: Self = Self::AnyOf(Union::EMPTY);

    /// Whether an end for which exactly these atoms hold is included. All lists are sorted.
    pub(crate) fn include(&self, holding: &[AtomId]) -> bool {
        match self {
            Self::Everyone => true,
            Self::AnyOf(union) => union.include(holding),
        }
    }
}

impl Union {
    pub(crate) const EMPTY: Self = Self { atoms: Vec::new(), blocks: Vec::new() };

    pub(crate) fn push(&mut self, term: Term) {
        match term {
            Term::Atom(atom) => self.atoms.push(atom),
            Term::Within(within) => self.blocks.push(within),
        }
    }

    pub(crate) fn join(&mut self, other: &Self) {
        self.atoms.extend_from_slice(&other.atoms);
        self.blocks.extend_from_slice(&other.blocks);
    }

    pub(crate) fn normalise(&mut self) {
        self.atoms.sort_unstable();
        self.atoms.dedup();
        self.blocks.sort_unstable();
        self.blocks.dedup();
    }

    /// As [`Stack::atoms`].
    pub(crate) fn atoms(&self) -> impl Iterator<Item = AtomId> {
        self.atoms.iter().copied().chain(self.blocks.iter().map(|within| within.block))
    }

    /// How many terms there are.
    pub(crate) fn len(&self) -> usize {
        self.atoms.len() + self.blocks.len()
    }

    fn include(&self, holding: &[AtomId]) -> bool {
        // The shorter list is looked up in the longer.
        let (few, many) = match self.atoms.len() < holding.len() {
            true => (self.atoms.as_slice(), holding),
            false => (holding, self.atoms.as_slice()),
        };
        let holds = |atom| holding.binary_search(&atom).is_ok();
        few.iter().any(|atom| many.binary_search(atom).is_ok())
            || self.blocks.iter().any(|within| within.holds(holds))
    }
}

//! What a class says in one family: the sets of the addresses that it allows or denies.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use netpol_core::model::Family;
use netpol_core::program::{ClassId, Members, Program, Single, Verdict as Decision};

use super::exits::Exits;
use super::key::{ContentKey, name};
use super::ports::Peers;
use super::size;
use crate::name::Name;
use crate::price;
use crate::ruleset::{
    Chain, Elements, Rule, Set, SetDifference, Side, Statement, TableDifference, Verdict,
};
use netpol_core::model::Direction;

/// The keys of classes, made once.
#[derive(Debug, Default)]
pub(super) struct ClassKeys(HashMap<ClassId, ContentKey>);

impl ClassKeys {
    pub(super) fn of(&mut self, program: &Program, id: ClassId) -> ContentKey {
        *self.0.entry(id).or_insert_with(|| ContentKey::of(&program.class_text(id)))
    }

    pub(super) fn forget(&mut self, id: ClassId) {
        self.0.remove(&id);
    }
}

/// The three ways in which a class knows addresses, in the order in which they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Allow,
    Deny,
    Blocks,
}

impl Part {
    const ALL: [Self; 3] = [Self::Allow, Self::Deny, Self::Blocks];

    /// The two directions of a class share its sets.
    fn set(self, key: ContentKey) -> Name {
        let prefix = match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Blocks => "blocks",
        };
        name(prefix, key)
    }
}

/// What is to be said of the other end, as far as rules have to know: by which sets, and which blocks
/// have a rule each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    default: Decision,
    parts: [bool; 3],
    ruled: Arc<[(IpAddr, IpAddr)]>,
}

/// A class as it is rendered.
#[derive(Debug)]
pub(super) struct PeerSets {
    pub(super) key: ContentKey,
    /// How many sides of profiles ask it.
    pub(super) uses: usize,
    /// `default` and `ranges` of its members.
    ranges: Members,
    /// The ranges, if they are so few that a rule each costs less than a set.
    ruled: Arc<[(IpAddr, IpAddr)]>,
    /// How many addresses are listed to be allowed, and to be denied.
    listed: [usize; 2],
    /// What was listed and is listed no more, and the other way round.
    changed: [Moves; 2],
    /// Which sets there are by now.
    shown: [bool; 3],
    /// All of its members, where its sets have to be made or made anew.
    fresh: Option<Members>,
}

/// Addresses that leave and join a list.
#[derive(Debug, Default)]
struct Moves {
    removed: Vec<IpAddr>,
    added: Vec<IpAddr>,
}

/// An address before and now, as it is to classes.
pub(super) struct Moved {
    pub(super) address: IpAddr,
    pub(super) before: Single,
    pub(super) now: Single,
}

impl PeerSets {
    pub(super) fn new(program: &Program, id: ClassId, key: ContentKey, family: Family) -> Self {
        let members = program.members(id, family);
        let ranges = Members { allow: Vec::new(), deny: Vec::new(), ..members.clone() };
        let listed = [members.allow.len(), members.deny.len()];
        let (uses, changed, shown) = (0, Default::default(), [false; 3]);
        let ruled = ruled(&ranges);
        Self { key, uses, ranges, ruled, listed, changed, shown, fresh: Some(members) }
    }

    pub(super) fn peers(&self) -> Peers {
        let asks = self.listed != [0, 0] || !self.ranges.ranges.is_empty();
        match (asks, self.ranges.default) {
            (true, _) => Peers::Some(self.key),
            (false, Decision::Allow) => Peers::All,
            (false, Decision::Deny) => Peers::None,
        }
    }

    pub(super) fn shape(&self) -> Shape {
        let [allow, deny] = self.listed.map(|count| count > 0);
        let in_set = !self.ranges.ranges.is_empty() && self.ruled.is_empty();
        let parts = [allow, deny, in_set];
        Shape { default: self.ranges.default, parts, ruled: Arc::clone(&self.ruled) }
    }

    /// Looks at its blocks again. They are few and change rarely, so all of its sets are made anew.
    pub(super) fn look_at_blocks(&mut self, program: &Program, id: ClassId, family: Family) {
        let ranges = program.member_ranges(id, family);
        if ranges != self.ranges {
            let members = program.members(id, family);
            self.listed = [members.allow.len(), members.deny.len()];
            self.ruled = ruled(&ranges);
            self.ranges = ranges;
            self.fresh = Some(members);
        }
    }

    /// Lists an address that has become somebody else's, or nobody's.
    pub(super) fn look_at(&mut self, before: &Program, now: &Program, id: ClassId, moved: &Moved) {
        let listed = |says: Option<Decision>, this: &Self| {
            says.filter(|says| this.ranges.by_range(moved.address) != *says)
        };
        let old = listed(before.member(id, moved.before), self);
        let new = listed(now.member(id, moved.now), self);
        if old == new || self.fresh.is_some() {
            return;
        }
        let of = |decision| match decision {
            Decision::Allow => 0,
            Decision::Deny => 1,
        };
        for (list, (changes, count)) in self.changed.iter_mut().zip(&mut self.listed).enumerate() {
            if old.is_some_and(|it| of(it) == list) {
                changes.removed.push(moved.address);
                *count = count.saturating_sub(1);
            }
            if new.is_some_and(|it| of(it) == list) {
                changes.added.push(moved.address);
                *count += 1;
            }
        }
    }

    /// Tells what becomes of its sets.
    pub(super) fn settle(
        &mut self,
        program: &Program,
        id: ClassId,
        family: Family,
        difference: &mut TableDifference,
    ) {
        let wanted = if self.uses > 0 { self.shape().parts } else { [false; 3] };
        let appears = wanted.iter().zip(&self.shown).any(|(wanted, shown)| *wanted && !shown);
        if appears && self.fresh.is_none() {
            self.fresh = Some(program.members(id, family));
        }
        let [allow, deny] = std::mem::take(&mut self.changed);
        let (mut allow, mut deny) = (Some(allow), Some(deny));
        let mut fresh = self.fresh.take();
        for (index, part) in Part::ALL.into_iter().enumerate() {
            let is_wanted = wanted.get(index).copied().unwrap_or_default();
            let Some(shown) = self.shown.get_mut(index) else { continue };
            let was_shown = std::mem::replace(shown, is_wanted);
            let moves = match part {
                Part::Allow => allow.take(),
                Part::Deny => deny.take(),
                Part::Blocks => None,
            };
            let change = match (was_shown, is_wanted) {
                (false, false) => continue,
                (true, false) => SetDifference::Gone,
                (_, true) => match &mut fresh {
                    Some(members) => SetDifference::Whole(whole(part, members)),
                    None => match moves.filter(|it| !it.removed.is_empty() || !it.added.is_empty())
                    {
                        Some(Moves { mut removed, mut added }) => {
                            removed.sort_unstable();
                            added.sort_unstable();
                            let count = self.listed.get(index).copied().unwrap_or_default();
                            let size = Some(size::of(count));
                            let [removed, added] = [removed, added].map(Elements::Addresses);
                            SetDifference::Elements { removed, added, size }
                        }
                        None => continue,
                    },
                },
            };
            difference.sets.insert(part.set(self.key), change);
        }
    }
}

fn ruled(members: &Members) -> Arc<[(IpAddr, IpAddr)]> {
    let count = members.ranges.len();
    if price::of_address_rules(count).is_least(price::of_address_intervals(count)) {
        members.ranges.iter().map(|range| (*range.start(), *range.end())).collect()
    } else {
        Arc::new([])
    }
}

fn whole(part: Part, members: &mut Members) -> Set {
    let elements = match part {
        Part::Allow => Elements::Addresses(std::mem::take(&mut members.allow)),
        Part::Deny => Elements::Addresses(std::mem::take(&mut members.deny)),
        Part::Blocks => Elements::AddressRanges(
            members.ranges.iter().map(|range| (*range.start(), *range.end())).collect(),
        ),
    };
    let size = (!elements.is_interval()).then(|| size::of(elements.len()));
    Set { comment: None, size, elements }
}

impl Shape {
    /// The chain that looks the other end up.
    pub(super) fn chain(&self, key: ContentKey, exits: &Exits, counted: bool) -> Chain {
        let side = match exits.direction {
            Direction::Egress => Side::Destination,
            Direction::Ingress => Side::Source,
        };
        let ends = |first: Option<Statement>, decision| {
            let verdict: Verdict = match decision {
                Decision::Allow => exits.allowed(),
                Decision::Deny => exits.denied(),
            };
            let counter = counted.then_some(Statement::Counter);
            let statements = [first, counter, Some(Statement::Verdict(verdict))];
            Rule { statements: statements.into_iter().flatten().collect(), comment: None }
        };
        let mut rules = Vec::new();
        for (part, is_there) in Part::ALL.into_iter().zip(self.parts) {
            let decision = match part {
                Part::Allow => Decision::Allow,
                Part::Deny => Decision::Deny,
                Part::Blocks => self.default.opposite(),
            };
            if is_there {
                rules.push(ends(Some(Statement::AddressIn(side, part.set(key))), decision));
            }
        }
        for (first, last) in self.ruled.iter() {
            let block = Statement::AddressBetween(side, *first, *last);
            rules.push(ends(Some(block), self.default.opposite()));
        }
        rules.push(ends(None, self.default));
        Chain { base: None, comment: None, rules }
    }
}

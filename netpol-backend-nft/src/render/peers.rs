//! What a class says in one family: the sets of the addresses that it allows or denies.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use netpol_core::model::Family;
use netpol_core::program::{ClassId, Members, Program, Single, Verdict as Decision};

use super::blocks::Blocks;
use super::exits::Exits;
use super::key::{ContentKey, name};
use super::ports::Peers;
use super::size;
use crate::name::Name;
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

/// The two lists of a class, in the order in which they are asked; behind them come its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Allow,
    Deny,
}

impl List {
    const ALL: [Self; 2] = [Self::Allow, Self::Deny];

    /// The two directions of a class share its sets.
    fn set(self, key: ContentKey) -> Name {
        let prefix = match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        };
        name(prefix, key)
    }
}

/// What is to be said of the other end, as far as rules have to know: which lists there are, and in which
/// ways blocks are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    default: Decision,
    lists: [bool; 2],
    blocks: Arc<Blocks>,
}

/// A class as it is rendered.
#[derive(Debug)]
pub(super) struct PeerSets {
    pub(super) key: ContentKey,
    /// How many sides of profiles ask it.
    pub(super) uses: usize,
    /// `default` and `ranges` of its members.
    ranges: Members,
    /// The ranges, as they are looked up.
    blocks: Arc<Blocks>,
    /// How many addresses are listed to be allowed, and to be denied.
    listed: [usize; 2],
    /// What was listed and is listed no more, and the other way round.
    changed: [Moves; 2],
    /// Which lists there are by now.
    shown: [bool; 2],
    /// The blocks of which there are sets by now.
    shown_blocks: Arc<Blocks>,
    /// All of its members, where its lists have to be made or made anew.
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
        let (uses, changed, shown) = (0, Default::default(), [false; 2]);
        let blocks = Arc::new(Blocks::new(family, &ranges.ranges));
        let (shown_blocks, fresh) = (Arc::default(), Some(members));
        Self { key, uses, ranges, blocks, listed, changed, shown, shown_blocks, fresh }
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
        let lists = self.listed.map(|count| count > 0);
        Shape { default: self.ranges.default, lists, blocks: Arc::clone(&self.blocks) }
    }

    /// Looks at its blocks again. They are few and change rarely, so all of its sets are made anew.
    pub(super) fn look_at_blocks(&mut self, program: &Program, id: ClassId, family: Family) {
        let ranges = program.member_ranges(id, family);
        if ranges != self.ranges {
            let members = program.members(id, family);
            self.listed = [members.allow.len(), members.deny.len()];
            self.blocks = Arc::new(Blocks::new(family, &ranges.ranges));
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
        let wanted = if self.uses > 0 { self.shape().lists } else { [false; 2] };
        let appears = wanted.iter().zip(&self.shown).any(|(wanted, shown)| *wanted && !shown);
        if appears && self.fresh.is_none() {
            self.fresh = Some(program.members(id, family));
        }
        let mut fresh = self.fresh.take();
        let changed = std::mem::take(&mut self.changed);
        let lists = List::ALL.into_iter().zip(changed).zip(wanted).zip(self.listed);
        for ((((list, moves), is_wanted), count), shown) in lists.zip(&mut self.shown) {
            let was_shown = std::mem::replace(shown, is_wanted);
            let change = match (was_shown, is_wanted, &mut fresh) {
                (false, false, _) => continue,
                (true, false, _) => SetDifference::Gone,
                (_, true, Some(members)) => SetDifference::Whole(whole(list, members)),
                (_, true, None) if moves.removed.is_empty() && moves.added.is_empty() => continue,
                (_, true, None) => {
                    let Moves { mut removed, mut added } = moves;
                    removed.sort_unstable();
                    added.sort_unstable();
                    let size = Some(size::of(count));
                    let [removed, added] = [removed, added].map(Elements::Addresses);
                    SetDifference::Elements { removed, added, size }
                }
            };
            difference.sets.insert(list.set(self.key), change);
        }
        let wanted = if self.uses > 0 { Arc::clone(&self.blocks) } else { Arc::default() };
        if wanted != self.shown_blocks {
            let before = std::mem::replace(&mut self.shown_blocks, wanted).sets(self.key);
            let gone = before.into_keys().map(|name| (name, SetDifference::Gone));
            difference.sets.extend(gone);
            let now = self.shown_blocks.sets(self.key).into_iter();
            difference.sets.extend(now.map(|(name, set)| (name, SetDifference::Whole(set))));
        }
    }
}

fn whole(list: List, members: &mut Members) -> Set {
    let addresses = match list {
        List::Allow => std::mem::take(&mut members.allow),
        List::Deny => std::mem::take(&mut members.deny),
    };
    let size = Some(size::of(addresses.len()));
    Set { comment: None, size, elements: Elements::Addresses(addresses) }
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
        for (list, is_there) in List::ALL.into_iter().zip(self.lists) {
            let decision = match list {
                List::Allow => Decision::Allow,
                List::Deny => Decision::Deny,
            };
            if is_there {
                rules.push(ends(Some(Statement::AddressIn(side, list.set(key))), decision));
            }
        }
        let blocks = self.blocks.statements(side, key).into_iter();
        rules.extend(blocks.map(|block| ends(Some(block), self.default.opposite())));
        rules.push(ends(None, self.default));
        Chain { base: None, comment: None, rules }
    }
}

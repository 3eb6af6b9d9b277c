//! The table of one family, and what becomes of it from one program to the next.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write;
use std::net::IpAddr;

use netpol_core::model::{Direction, Family, Flow, Protocol, SelfTraffic};
use netpol_core::program::{
    ClassId, EndpointEntry, Profile, ProfileId, Program, Since, Verdict as Decision,
};

use super::base::{BaseChains, own_map};
use super::dispatch::Dispatch;
use super::exits::denied_chain;
use super::exits::{Exits, denied, own_addresses};
use super::key::{ContentKey, name};
use super::peers::{ClassKeys, Moved, PeerSets, Shape};
use super::ports::{Judged, Peers, PortChain, judge};
use super::stray;
use super::unknown::closed_ranges;
use super::{Local, Options, size};
use crate::name::{Comment, Name};
use crate::nflog::Prefix;
use crate::ruleset::{
    Chain, Elements, Set, SetDifference, Statement, Table, TableDifference, Verdict,
};

/// Keeps the table of one family up with programs.
///
/// Chains and sets are counted by what leads to them: endpoints to sides of profiles, these to
/// chains and classes. What is no longer led to is told to be gone when all else is settled, so that
/// what is given up and taken up again in between has never changed.
#[derive(Debug)]
pub(super) struct TableRenderer {
    family: Family,
    sides: BTreeMap<(ProfileId, Direction), RenderedSide>,
    classes: HashMap<ClassId, PeerSets>,
    /// The chains that look other ends up.
    peer_chains: HashMap<(ClassId, Exits), PeerChain>,
    /// What never changes under its name.
    fixed: HashMap<Name, Fixed>,
    dispatch: Dispatch,
    pairs: BTreeSet<(IpAddr, IpAddr)>,
    own: BTreeMap<(IpAddr, IpAddr), Verdict>,
    /// What the verdicts of `own` lead to.
    own_uses: Vec<Fixture>,
    base: Option<BaseChains>,
    /// The generations of chains that are in the kernel already, when this begins.
    inherited: BTreeMap<Name, u32>,
}

/// One direction of a profile, and what it leads to.
#[derive(Debug)]
struct RenderedSide {
    entry: Option<Verdict>,
    exits: Exits,
    classes: Vec<ClassId>,
    chains: Vec<Name>,
}

#[derive(Debug, Default)]
struct PeerChain {
    uses: usize,
    /// Its name and what it is like by now.
    shown: Option<(Name, Shape)>,
}

#[derive(Debug)]
struct Fixed {
    uses: usize,
    shown: bool,
    content: PortChain,
}

/// A chain that is to be there, with its maps.
type Fixture = Name;

/// What all tables are rendered from.
pub(super) struct Source<'s> {
    pub(super) options: &'s Options,
    pub(super) before: Option<&'s Program>,
    pub(super) now: &'s Program,
    pub(super) since: &'s Since<'s>,
    pub(super) locals: &'s BTreeMap<u32, Local>,
    /// Some local endpoint is new, gone or changed, or may share its addresses with others.
    pub(super) moved: bool,
    /// The generation of what is new.
    pub(super) generation: Option<u32>,
}

impl TableRenderer {
    pub(super) fn new(family: Family) -> Self {
        Self {
            family,
            sides: BTreeMap::new(),
            classes: HashMap::new(),
            peer_chains: HashMap::new(),
            fixed: HashMap::new(),
            dispatch: Dispatch::default(),
            pairs: BTreeSet::new(),
            own: BTreeMap::new(),
            own_uses: Vec::new(),
            base: None,
            inherited: BTreeMap::new(),
        }
    }

    /// Renders the chains of profiles that are in force already with the generations that they have.
    pub(super) fn inherit(&mut self, table: &Table) {
        let logs = table.chains.iter().filter_map(|(name, chain)| {
            let mut statements = chain.rules.iter().flat_map(|rule| &rule.statements);
            let generation = statements.find_map(|statement| match statement {
                Statement::Log { prefix, .. } => Prefix::parse(prefix.as_str())?.generation,
                _ => None,
            });
            Some((name.clone(), generation?))
        });
        self.inherited.extend(logs);
    }

    /// What differs from the program before.
    pub(super) fn update(&mut self, source: &Source<'_>, keys: &mut ClassKeys) -> TableDifference {
        let mut difference = TableDifference::default();
        self.give_up_sides(source);
        self.give_up_classes(source, &mut difference);
        let reshaped = self.look_at_classes(source);
        let first = self.base.is_none();
        let policed = source.now.options().self_traffic == SelfTraffic::Policed;
        if first || source.moved || !source.since.profiles.is_empty() || reshaped || policed {
            self.take_up_sides(source, keys);
            match source.now.options().self_traffic {
                SelfTraffic::Allowed => self.exempt(source, first, &mut difference),
                SelfTraffic::Policed => self.judge_own(source, keys, &mut difference),
            }
            let (sides, own) = (&self.sides, !self.own.is_empty());
            let entry = |local: &Local, direction| {
                sides.get(&(local.entry.profile(), direction))?.entry.as_ref()
            };
            self.dispatch.update(self.family, source, entry, own, &mut difference);
            self.enter(source, &mut difference);
            self.settle_chains(source, &mut difference);
        }
        for (id, class) in &mut self.classes {
            class.settle(source.now, *id, self.family, &mut difference);
        }
        self.classes.retain(|_, class| class.uses > 0);
        self.inherited.clear();
        difference
    }

    /// The profiles that endpoints of this family have.
    fn profiles(&self, source: &Source<'_>) -> HashSet<ProfileId> {
        let locals = source.locals.values();
        let of_family = locals.filter(|local| local.addresses(self.family).next().is_some());
        of_family.map(|local| local.entry.profile()).collect()
    }

    fn give_up_sides(&mut self, source: &Source<'_>) {
        if !source.moved && source.since.profiles.is_empty() {
            return;
        }
        let used = self.profiles(source);
        let gone = |id: &ProfileId| source.since.profiles.contains(id) || !used.contains(id);
        self.give_up(|(id, _), _| gone(id));
    }

    fn give_up(&mut self, gone: impl Fn(&(ProfileId, Direction), &RenderedSide) -> bool) {
        let all = std::mem::take(&mut self.sides);
        for (key, side) in all {
            if !gone(&key, &side) {
                self.sides.insert(key, side);
                continue;
            }
            for class in side.classes {
                if let Some(class) = self.classes.get_mut(&class) {
                    class.uses -= 1;
                }
                if let Some(chain) = self.peer_chains.get_mut(&(class, side.exits)) {
                    chain.uses -= 1;
                }
            }
            self.release(&side.chains);
        }
    }

    /// Classes that mean something else are others by the same number.
    fn give_up_classes(&mut self, source: &Source<'_>, difference: &mut TableDifference) {
        for id in &source.since.classes {
            let Some(mut class) = self.classes.remove(id) else { continue };
            debug_assert_eq!(class.uses, 0, "a profile that is the same asks the same");
            class.uses = 0;
            class.settle(source.now, *id, self.family, difference);
        }
        let since = &source.since.classes;
        let changed = self.peer_chains.extract_if(|(id, _), _| since.contains(id));
        let names = changed.filter_map(|(_, chain)| Some(chain.shown?.0));
        difference.chains.extend(names.map(|name| (name, None)));
    }

    /// Brings the members of classes up to date. Tells whether rules have to know.
    fn look_at_classes(&mut self, source: &Source<'_>) -> bool {
        let Some(before) = source.before else { return false };
        let family = self.family;
        let moved: Vec<Moved> = source
            .since
            .addresses
            .iter()
            .filter(|address| Family::of(**address) == family)
            .map(|address| Moved {
                address: *address,
                before: before.single(*address),
                now: source.now.single(*address),
            })
            .collect();
        let mut reshaped: HashSet<ClassId> = HashSet::new();
        for (id, class) in &mut self.classes {
            let was = class.shape();
            if source.since.blocks {
                class.look_at_blocks(source.now, *id, family);
            }
            for moved in &moved {
                class.look_at(before, source.now, *id, moved);
            }
            if class.shape() != was {
                reshaped.insert(*id);
            }
        }
        if reshaped.is_empty() {
            return false;
        }
        self.give_up(|_, side| side.classes.iter().any(|id| reshaped.contains(id)));
        true
    }

    fn take_up_sides(&mut self, source: &Source<'_>, keys: &mut ClassKeys) {
        let mut used: Vec<ProfileId> = self.profiles(source).into_iter().collect();
        used.sort_unstable();
        for id in used {
            for direction in Direction::ALL {
                if self.sides.contains_key(&(id, direction)) {
                    continue;
                }
                if let Some(side) = self.take_up(source, keys, id, direction) {
                    self.sides.insert((id, direction), side);
                }
            }
        }
    }

    fn take_up(
        &mut self,
        source: &Source<'_>,
        keys: &mut ClassKeys,
        id: ProfileId,
        direction: Direction,
    ) -> Option<RenderedSide> {
        let profile = source.now.profile(id);
        let side = profile.side(direction)?;
        let exits = exits(source, keys, profile, direction);
        let mut classes: Vec<ClassId> = Vec::new();
        let Judged { entry, ports } = judge(side, &exits, &policies(profile), |id, _| {
            let class = self.classes.entry(id).or_insert_with(|| {
                PeerSets::new(source.now, id, keys.of(source.now, id), self.family)
            });
            if !classes.contains(&id) {
                classes.push(id);
            }
            class.peers()
        });
        for id in &classes {
            if let Some(class) = self.classes.get_mut(id) {
                class.uses += 1;
            }
            self.peer_chains.entry((*id, exits)).or_default().uses += 1;
        }
        let chains = self.acquire(source, &exits, ports);
        Some(RenderedSide { entry, exits, classes, chains })
    }

    /// One more use of a chain of ports, and of a profile's own exits.
    fn acquire(
        &mut self,
        source: &Source<'_>,
        exits: &Exits,
        ports: Option<(Name, PortChain)>,
    ) -> Vec<Name> {
        let self_traffic = source.now.options().self_traffic;
        let generation = |name: &Name| self.inherited.get(name).copied().or(source.generation);
        let ends = exits.chains(source.options, self_traffic, generation);
        let ends = ends.map(|(name, chain)| (name, PortChain { chain, maps: Vec::new() }));
        let all: Vec<_> = ports.into_iter().chain(ends).collect();
        let mut names = Vec::new();
        for (name, content) in all {
            let fixed = self.fixed.entry(name.clone());
            fixed.or_insert(Fixed { uses: 0, shown: false, content }).uses += 1;
            names.push(name);
        }
        names
    }

    fn release(&mut self, chains: &[Name]) {
        for name in chains {
            if let Some(fixed) = self.fixed.get_mut(name) {
                fixed.uses -= 1;
            }
        }
    }

    /// NP-SELF-1, C-HAIR-1: source and destination of what judged endpoints send to themselves.
    fn exempt(&mut self, source: &Source<'_>, first: bool, difference: &mut TableDifference) {
        let judged = source.locals.values().filter(|local| source.judges(local));
        let new: BTreeSet<_> =
            judged.flat_map(|local| local.with_itself(source.now, self.family)).collect();
        let [before, now] = [&self.pairs, &new].map(|it| it.iter().copied().collect());
        let elements = Elements::AddressPairs;
        let comment = "an endpoint may reach itself";
        let change = changed(Some(comment), elements(before), elements(now), first);
        difference.sets.extend(change.map(|change| (own_addresses(), change)));
        self.pairs = new;
    }

    /// CH-SELF: who is judged otherwise when it reaches itself than when it reaches others
    /// (C-HAIR-1). What each says depends on the members of classes, so all are looked at again.
    fn judge_own(
        &mut self,
        source: &Source<'_>,
        keys: &mut ClassKeys,
        difference: &mut TableDifference,
    ) {
        // The own node is exempt from the host's profile as from those of its pods, but not from
        // the one for traffic with itself.
        let differs =
            |entry: &EndpointEntry| entry.is_host() || entry.own_profile() != Some(entry.profile());
        let judged = source.locals.values().filter(|local| source.judges(local));
        let judged = judged.filter(|local| differs(&local.entry));
        let pairs: BTreeSet<_> =
            judged.flat_map(|local| local.with_itself(source.now, self.family)).collect();
        let mut uses = Vec::new();
        let mut new = BTreeMap::new();
        for (sender, receiver) in pairs {
            new.insert((sender, receiver), self.own(source, keys, sender, receiver, &mut uses));
        }
        let released = std::mem::replace(&mut self.own_uses, uses);
        self.release(&released);
        let [before, now] = [&self.own, &new].map(|map| {
            Elements::PairVerdicts(map.iter().map(|(pair, it)| (*pair, it.clone())).collect())
        });
        let comment = "endpoints that others' policies do not judge when they reach themselves";
        let change = match (self.own.is_empty(), new.is_empty()) {
            (_, true) => (!self.own.is_empty()).then_some(SetDifference::Gone),
            (first, false) => changed(Some(comment), before, now, first),
        };
        difference.sets.extend(change.map(|change| (own_map(), change)));
        self.own = new;
    }

    /// What to do with packets from one address to another of the same endpoint, which its profile
    /// for such traffic judges. They concern these two addresses alone, so the peers are decided
    /// here; and the exemption of the own node is not for the node itself (NP-NODE-1).
    fn own(
        &mut self,
        source: &Source<'_>,
        keys: &mut ClassKeys,
        sender: IpAddr,
        receiver: IpAddr,
        uses: &mut Vec<Name>,
    ) -> Verdict {
        let program = source.now;
        let [sends, receives] = [(sender, Direction::Egress), (receiver, Direction::Ingress)].map(
            |(address, direction)| {
                let own = program.endpoint_at(address)?.own_profile()?;
                let profile = program.profile(own);
                let side = profile.side(direction)?;
                let exits = exits(source, keys, profile, direction);
                let judged = judge(side, &exits, &policies(profile), |_, traffic| {
                    let decision = program.decide(&Flow::new(sender, receiver, traffic));
                    let decision = match direction {
                        Direction::Egress => decision.egress,
                        Direction::Ingress => decision.ingress,
                    };
                    if decision == Some(Decision::Deny) { Peers::None } else { Peers::All }
                });
                uses.extend(self.acquire(source, &exits, judged.ports));
                judged.entry
            },
        );
        let verdicts = [sends, Some(receives.unwrap_or(Verdict::Accept))];
        let verdicts: Vec<Verdict> = verdicts.into_iter().flatten().collect();
        if let [only] = verdicts.as_slice() {
            return only.clone();
        }
        let text: Vec<String> = verdicts.iter().map(ToString::to_string).collect();
        let name = name("own", ContentKey::of(&text.join(", ")));
        let rules = verdicts.into_iter().map(|it| [Statement::Verdict(it)].into()).collect();
        let chain = Chain { base: None, comment: None, rules };
        let content = PortChain { chain, maps: Vec::new() };
        let fixed = self.fixed.entry(name.clone());
        fixed.or_insert(Fixed { uses: 0, shown: false, content }).uses += 1;
        uses.push(name.clone());
        Verdict::Goto(name)
    }

    /// The chains that packets enter by, and where those end that no profile is named for.
    fn enter(&mut self, source: &Source<'_>, difference: &mut TableDifference) {
        let hosts = source.locals.values().any(|local| local.entry.is_host());
        let closed = closed_ranges(&source.options.deny_unknown.ranges, self.family);
        let own = !self.own.is_empty();
        let interfaces = !source.options.interfaces.is_empty();
        let judges = self.dispatch.by_address();
        let base = BaseChains { family: self.family, hosts, judges, own, interfaces, closed };
        if self.base.is_none() {
            let self_traffic = source.now.options().self_traffic;
            for direction in Direction::ALL {
                let chain = denied(direction, self_traffic, source.options);
                difference.chains.insert(denied_chain(direction), Some(chain));
            }
            let stray = stray::chains(self_traffic, source.options);
            difference.chains.extend(stray.map(|(name, chain)| (name, Some(chain))));
        }
        if self.base.as_ref() != Some(&base) {
            let before = self.base.as_ref().map(BaseChains::chains).unwrap_or_default();
            let chains = base.chains().into_iter();
            let differ = chains.filter(|(name, chain)| before.get(name) != Some(chain));
            difference.chains.extend(differ.map(|(name, chain)| (name, Some(chain))));
            self.base = Some(base);
        }
    }

    fn settle_chains(&mut self, source: &Source<'_>, difference: &mut TableDifference) {
        for (name, fixed) in &mut self.fixed {
            match (fixed.uses > 0, fixed.shown) {
                (true, false) => {
                    let PortChain { chain, maps } = &fixed.content;
                    difference.chains.insert(name.clone(), Some(chain.clone()));
                    let maps = maps.iter().cloned();
                    difference.sets.extend(maps.map(|(map, set)| (map, SetDifference::Whole(set))));
                    fixed.shown = true;
                }
                (false, true) => {
                    difference.chains.insert(name.clone(), None);
                    let maps = fixed.content.maps.iter().map(|(map, _)| map.clone());
                    difference.sets.extend(maps.map(|map| (map, SetDifference::Gone)));
                }
                _ => {}
            }
        }
        self.fixed.retain(|_, fixed| fixed.uses > 0);
        for ((id, exits), chain) in &mut self.peer_chains {
            let class = self.classes.get(id).filter(|_| chain.uses > 0);
            let class = class.filter(|class| matches!(class.peers(), Peers::Some(_)));
            let wanted = class.map(|class| (class.key, class.shape()));
            match (wanted, &chain.shown) {
                (None, None) => {}
                (None, Some((name, _))) => {
                    difference.chains.insert(name.clone(), None);
                    chain.shown = None;
                }
                (Some((_, shape)), Some((_, shown))) if shape == *shown => {}
                (Some((key, shape)), _) => {
                    let name = exits.peers_chain(key);
                    let rules = shape.chain(key, exits, source.options.counters);
                    difference.chains.insert(name.clone(), Some(rules));
                    chain.shown = Some((name, shape));
                }
            }
        }
        self.peer_chains.retain(|_, chain| chain.uses > 0);
    }
}

impl Source<'_> {
    /// Whether an endpoint's policies judge anything.
    fn judges(&self, local: &Local) -> bool {
        let profile = self.now.profile(local.entry.profile());
        Direction::ALL.iter().any(|direction| profile.side(*direction).is_some())
    }
}

/// How a hash set changes; the whole set if there was none.
pub(super) fn changed(
    comment: Option<&str>,
    old: Elements,
    new: Elements,
    first: bool,
) -> Option<SetDifference> {
    let size = Some(size::of(new.len()));
    if first {
        let comment = comment.map(Comment::new);
        return Some(SetDifference::Whole(Set { comment, size, elements: new }));
    }
    let (removed, added) = old.difference(&new)?;
    let differs = !removed.is_empty() || !added.is_empty();
    differs.then_some(SetDifference::Elements { removed, added, size })
}

/// Where what a profile judges ends: a place of its own where reports name the profile. Its key says
/// what the profile asks and by which policies, and nothing of who fulfils it today.
fn exits(
    source: &Source<'_>,
    keys: &mut ClassKeys,
    profile: &Profile,
    direction: Direction,
) -> Exits {
    if source.options.log.is_none() {
        return Exits::shared(direction);
    }
    Exits::new(direction, profile_key(source.now, keys, profile, direction), source.options)
}

/// Names what a profile says in one direction.
pub(super) fn profile_key(
    program: &Program,
    keys: &mut ClassKeys,
    profile: &Profile,
    direction: Direction,
) -> ContentKey {
    let mut text = format!("{direction}; ");
    if let Some(side) = profile.side(direction) {
        for protocol in Protocol::ALL {
            for (range, class) in side.intervals(protocol) {
                let _ = write!(text, "{protocol} {range} {}; ", keys.of(program, *class));
            }
        }
        let _ = write!(text, "other {}; ", keys.of(program, side.other()));
    }
    for policy in profile.policies() {
        let _ = write!(text, "{}, ", policy.key);
    }
    ContentKey::of(&text)
}

/// The policies behind a profile, for the operator.
fn policies(profile: &Profile) -> Comment {
    let mut text = String::new();
    for policy in profile.policies() {
        let separator = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{separator}{}", policy.key);
    }
    Comment::new(&text)
}

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ahash::{HashMap, HashMapExt};
use ipnet::IpNet;

use crate::cluster::Cluster;
use crate::model::{Block, DeclaredPort, Family, Name, Protocol, Selector};
use crate::program::{Addresses, Atom, AtomId, Declares, Identity, IdentityId, successor};

use super::matching::{ByNamespace, SelectorIndex};
use super::workload::{WorkloadId, Workloads};

/// Which atoms hold for whom.
#[derive(Debug)]
pub(super) struct Identities {
    pub(super) list: Vec<Identity>,
    ids: HashMap<Box<[AtomId]>, IdentityId>,
    /// The identities that an atom holds for.
    members: Vec<Vec<IdentityId>>,
    /// What each workload is, its addresses aside.
    workloads: Vec<Holding>,
    declares: DeclaredAtoms,
    /// What is asked of the labels of nodes and the names of domains, by address.
    by_address: HashMap<IpAddr, Vec<AtomId>>,
    /// For an address of this workload and of this identity by its block alone.
    cache: HashMap<(WorkloadId, IdentityId), IdentityId>,
    pub(super) blocks: Vec<(IpNet, IdentityId)>,
}

/// The atoms that hold for a workload.
#[derive(Clone, Debug, Default)]
struct Holding {
    atoms: Vec<AtomId>,
    /// It declares a port that some rule asks for together with an address.
    depends_on_address: bool,
}

/// The atoms about declared ports, by what must be declared.
type DeclaredAtoms = HashMap<(Name, Protocol, u16), Vec<(AtomId, Option<AtomId>, bool)>>;

impl Identities {
    pub(super) fn new(cluster: &Cluster, workloads: &Workloads<'_>, atoms: &[Atom]) -> Self {
        let nothing = Identity::default();
        let mut this = Self {
            ids: HashMap::from_iter([(nothing.atoms.clone(), Addresses::NOTHING)]),
            list: vec![nothing],
            members: vec![Vec::new(); atoms.len()],
            workloads: Vec::new(),
            declares: declared_atoms(atoms),
            by_address: labelled_addresses(cluster, atoms),
            cache: HashMap::new(),
            blocks: Vec::new(),
        };
        this.match_workloads(cluster, workloads, atoms);
        this.cut_blocks(atoms);
        this
    }

    /// The identities that an atom holds for.
    pub(super) fn with(&self, atom: AtomId) -> &[IdentityId] {
        self.members.get(atom.0 as usize).map_or(&[], |members| members)
    }

    /// Who the ordinary endpoint of a workload is when its addresses are left aside.
    pub(super) fn by_name(&mut self, workload: WorkloadId) -> IdentityId {
        let atoms = self.holding(workload).atoms;
        self.intern(atoms)
    }

    /// Who has an address: an ordinary endpoint of one workload, or host-network endpoints of several, or nobody.
    pub(super) fn at(
        &mut self,
        address: IpAddr,
        by_block: IdentityId,
        owner: Option<WorkloadId>,
        hosts: &[WorkloadId],
        workloads: &Workloads<'_>,
    ) -> IdentityId {
        let labelled = self.by_address.get(&address).cloned();
        let plain = owner.filter(|_| labelled.is_none());
        if let Some(cached) = plain.and_then(|owner| self.cache.get(&(owner, by_block))) {
            return *cached;
        }
        let mut atoms = labelled.unwrap_or_default();
        if let Some(identity) = self.list.get(by_block.0 as usize) {
            atoms.extend_from_slice(&identity.atoms);
        }
        let mut cacheable = plain.is_some();
        match owner {
            Some(owner) => {
                let holding = self.holding(owner);
                atoms.extend_from_slice(&holding.atoms);
                if holding.depends_on_address {
                    let ports = workloads.declared(&[owner], false);
                    self.add_declared(&ports, false, &mut atoms);
                    cacheable = false;
                }
            }
            None => {
                hosts.iter().for_each(|host| atoms.extend(self.holding(*host).atoms));
                let ports = workloads.declared(hosts, true);
                self.add_declared(&ports, true, &mut atoms);
            }
        }
        let id = self.intern(atoms);
        if let Some(owner) = plain.filter(|_| cacheable) {
            self.cache.insert((owner, by_block), id);
        }
        id
    }

    /// The identity for which exactly these atoms hold.
    fn intern(&mut self, mut atoms: Vec<AtomId>) -> IdentityId {
        atoms.sort_unstable();
        atoms.dedup();
        let atoms: Box<[AtomId]> = atoms.into();
        if let Some(id) = self.ids.get(&atoms) {
            return *id;
        }
        #[expect(clippy::cast_possible_truncation, reason = "memory ends before 2^32 identities")]
        let id = IdentityId(self.list.len() as u32);
        for atom in &atoms {
            if let Some(members) = self.members.get_mut(atom.0 as usize) {
                members.push(id);
            }
        }
        self.list.push(Identity { atoms: atoms.clone(), ..Identity::default() });
        self.ids.insert(atoms, id);
        id
    }

    fn holding(&self, workload: WorkloadId) -> Holding {
        self.workloads.get(workload.0 as usize).cloned().unwrap_or_default()
    }

    fn match_workloads(&mut self, cluster: &Cluster, workloads: &Workloads<'_>, atoms: &[Atom]) {
        let selectors = atoms.iter().zip(0..).filter_map(|(atom, id)| match atom {
            Atom::Pods { selector, .. } => Some((selector, id)),
            _ => None,
        });
        let index = SelectorIndex::new(selectors);
        let mut index = ByNamespace::new(&index);
        let counts_hosts = |id: &AtomId| match atoms.get(id.0 as usize) {
            Some(Atom::Pods { host, .. }) => *host,
            _ => false,
        };
        for workload in &workloads.list {
            let labels = || cluster.namespace_labels(&workload.namespace);
            let found = index.matches(&workload.namespace, labels, &workload.labels);
            let mut atoms: Vec<AtomId> = found.into_iter().map(AtomId).collect();
            let mut depends_on_address = false;
            if workload.host_network {
                // What host-network endpoints declare is looked at by address, theirs all together.
                atoms.retain(counts_hosts);
            } else {
                let base = atoms.clone();
                depends_on_address = self.add_declared(&workload.ports, false, &mut atoms);
                debug_assert!(base.iter().all(|atom| atoms.contains(atom)), "atoms are only added");
            }
            self.workloads.push(Holding { atoms, depends_on_address });
        }
    }

    /// Adds the atoms that ask for one of these declared ports and otherwise for atoms that are there. Tells whether
    /// any asked for one that is not.
    fn add_declared(&self, ports: &[DeclaredPort], hosts: bool, atoms: &mut Vec<AtomId>) -> bool {
        let mut unanswered = false;
        let base = atoms.clone();
        for port in ports {
            let asked = self.declares.get(&(port.name.clone(), port.protocol, port.number));
            for (id, also, counts_hosts) in asked.into_iter().flatten() {
                if hosts && !counts_hosts {
                    continue;
                }
                match also {
                    Some(also) if !base.contains(also) => unanswered = true,
                    _ => atoms.push(*id),
                }
            }
        }
        unanswered
    }

    /// Cuts the address space where any block begins or ends.
    ///
    /// The blocks of all rules are sorted so that a block follows the one around it; what holds inside of it is what
    /// holds around it, with the atoms of this very block added and those that except it taken away.
    fn cut_blocks(&mut self, atoms: &[Atom]) {
        let mut edges: BTreeMap<IpNet, (Vec<AtomId>, Vec<AtomId>)> = BTreeMap::new();
        for (atom, id) in atoms.iter().zip((0..).map(AtomId)) {
            let Atom::Block(block) = atom else { continue };
            if is_nothing(block) {
                continue;
            }
            edges.entry(block.cidr()).or_default().0.push(id);
            for except in block.except() {
                edges.entry(*except).or_default().1.push(id);
            }
        }
        let mut edges: Vec<_> = edges.into_iter().collect();
        edges.sort_by_key(|(net, _)| (net.network(), net.prefix_len()));
        let mut around: Vec<(IpNet, Vec<AtomId>)> = Vec::new();
        for (net, (begins, ends)) in edges {
            while around.last().is_some_and(|(outer, _)| !outer.contains(&net)) {
                around.pop();
            }
            let mut inside = around.last().map(|(_, atoms)| atoms.clone()).unwrap_or_default();
            inside.extend(begins);
            let ends: BTreeSet<AtomId> = ends.into_iter().collect();
            inside.retain(|atom| !ends.contains(atom));
            let id = self.intern(inside.clone());
            self.blocks.push((net, id));
            around.push((net, inside));
        }
    }

    /// Fills in which ranges each identity has, single addresses aside.
    pub(super) fn fill_ranges(&mut self) {
        for family in Family::ALL {
            let of_family = self.blocks.iter().filter(|(net, _)| Family::of_block(net) == family);
            let blocks: Vec<_> = of_family.copied().collect();
            for (range, id) in flatten(family, &blocks) {
                if let Some(identity) = self.list.get_mut(id.0 as usize) {
                    identity.ranges.push(range);
                }
            }
        }
    }
}

/// A block of which nothing is left.
fn is_nothing(block: &Block) -> bool {
    block.except().iter().any(|except| except.contains(&block.cidr()))
}

fn declared_atoms(atoms: &[Atom]) -> DeclaredAtoms {
    let mut declared = DeclaredAtoms::new();
    for (atom, id) in atoms.iter().zip((0..).map(AtomId)) {
        if let Atom::Declares(Declares { name, protocol, number, also, host }) = atom {
            let asked = declared.entry((name.clone(), *protocol, *number)).or_default();
            asked.push((id, *also, *host));
        }
    }
    declared
}

/// The atoms that hold for addresses because of a node's labels or a domain's name.
fn labelled_addresses(cluster: &Cluster, atoms: &[Atom]) -> HashMap<IpAddr, Vec<AtomId>> {
    let mut labelled: HashMap<IpAddr, Vec<AtomId>> = HashMap::new();
    let mut add = |address: IpAddr, id| labelled.entry(address).or_default().push(id);
    for (atom, id) in atoms.iter().zip((0..).map(AtomId)) {
        match atom {
            Atom::Nodes(selector) => addresses_of_nodes(cluster, selector, |it| add(it, id)),
            Atom::Domain(pattern) => cluster
                .domains
                .keys()
                .filter(|(name, _)| pattern.matches(name))
                .for_each(|(_, address)| add(*address, id)),
            Atom::Pods { .. } | Atom::Block(_) | Atom::Declares(_) => {}
        }
    }
    labelled
}

fn addresses_of_nodes(cluster: &Cluster, selector: &Selector, add: impl FnMut(IpAddr)) {
    let matching = cluster.nodes.values().filter(|node| selector.matches(&node.labels));
    matching.flat_map(|node| &node.addresses).copied().for_each(add);
}

/// Turns nested blocks, sorted so that each follows the one around it, into disjoint ranges.
fn flatten(
    family: Family,
    blocks: &[(IpNet, IdentityId)],
) -> Vec<(RangeInclusive<IpAddr>, IdentityId)> {
    let (lowest, highest) = bounds(family);
    let mut ranges = Vec::new();
    let mut open = vec![(highest, Addresses::NOTHING)];
    let mut next = Some(lowest);
    // Closes the blocks that end before `until`, and leaves `next` behind the last address that is done.
    let mut close =
        |open: &mut Vec<(IpAddr, IdentityId)>, next: &mut Option<IpAddr>, until: Option<IpAddr>| {
            while let (Some((last, id)), Some(first)) = (open.last().copied(), *next) {
                match until {
                    Some(until) if until <= last => {
                        if first < until {
                            ranges.push((first..=predecessor(until), id));
                        }
                        *next = Some(until);
                        return;
                    }
                    _ => {
                        if first <= last {
                            ranges.push((first..=last, id));
                            *next = successor(last);
                        }
                        open.pop();
                    }
                }
            }
        };
    for (net, id) in blocks {
        close(&mut open, &mut next, Some(net.network()));
        open.push((net.broadcast(), *id));
    }
    close(&mut open, &mut next, None);
    ranges
}

fn bounds(family: Family) -> (IpAddr, IpAddr) {
    match family {
        Family::V4 => (IpAddr::from([0; 4]), IpAddr::from([u8::MAX; 4])),
        Family::V6 => (IpAddr::from([0; 16]), IpAddr::from([u8::MAX; 16])),
    }
}

fn predecessor(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4(u32::from(v4).saturating_sub(1).into()),
        IpAddr::V6(v6) => IpAddr::V6(u128::from(v6).saturating_sub(1).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_blocks_become_disjoint_ranges() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let blocks = [
            (net("10.0.0.0/8"), IdentityId(1)),
            (net("10.0.0.0/30"), IdentityId(2)),
            (net("10.0.0.2/31"), IdentityId(3)),
            (net("255.255.255.255/32"), IdentityId(4)),
        ];
        let ranges: Vec<String> = flatten(Family::V4, &blocks)
            .into_iter()
            .map(|(range, id)| format!("{}-{} {}", range.start(), range.end(), id.0))
            .collect();
        let expected = [
            "0.0.0.0-9.255.255.255 0",
            "10.0.0.0-10.0.0.1 2",
            "10.0.0.2-10.0.0.3 3",
            "10.0.0.4-10.255.255.255 1",
            "11.0.0.0-255.255.255.254 0",
            "255.255.255.255-255.255.255.255 4",
        ];
        assert_eq!(ranges, expected);
        assert_eq!(flatten(Family::V6, &[]).len(), 1);
        let whole = flatten(Family::V6, &[(net("::/0"), IdentityId(7))]);
        assert_eq!(whole.len(), 1);
        assert_eq!(whole[0].1, IdentityId(7));
    }
}

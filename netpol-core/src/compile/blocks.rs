use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::Block;
use crate::program::{AtomId, IdentityId};

/// The CIDR blocks of all rules: where in the address space which of them begin and end.
///
/// The edges are sorted so that a block follows the one around it. What holds inside of a block is what holds around
/// it, with the atoms of this very block added and those that except it taken away.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    edges: BTreeMap<Edge, Marks>,
    /// Blocks in which something has changed.
    changed: Vec<IpNet>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    network: IpAddr,
    prefix: u8,
}

#[derive(Debug, Default)]
struct Marks {
    begins: Vec<AtomId>,
    ends: Vec<AtomId>,
    identity: Option<IdentityId>,
}

/// A block whose addresses may have got another identity.
#[derive(Debug)]
pub(super) struct Recut {
    pub(super) net: IpNet,
    pub(super) before: Option<IdentityId>,
    /// What holds inside; `None` if the block is no edge any more.
    pub(super) atoms: Option<Vec<AtomId>>,
}

impl Blocks {
    pub(super) fn add(&mut self, block: &Block, atom: AtomId) {
        if is_nothing(block) {
            return;
        }
        self.edges.entry(Edge::of(block.cidr())).or_default().begins.push(atom);
        for except in block.except() {
            self.edges.entry(Edge::of(*except)).or_default().ends.push(atom);
        }
        self.changed.push(block.cidr());
    }

    pub(super) fn remove(&mut self, block: &Block, atom: AtomId) {
        if is_nothing(block) {
            return;
        }
        let take = |atoms: &mut Vec<AtomId>| {
            if let Some(at) = atoms.iter().position(|it| *it == atom) {
                atoms.swap_remove(at);
            }
        };
        if let Some(marks) = self.edges.get_mut(&Edge::of(block.cidr())) {
            take(&mut marks.begins);
        }
        for except in block.except() {
            if let Some(marks) = self.edges.get_mut(&Edge::of(*except)) {
                take(&mut marks.ends);
            }
        }
        self.changed.push(block.cidr());
    }

    /// The edges inside of all that has changed, with what holds there now. The blocks that have changed are returned
    /// as well, widest first and without those inside of others.
    pub(super) fn settle(&mut self) -> (Vec<IpNet>, Vec<Recut>) {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_by_key(|net| Edge::of(*net));
        let mut widest: Vec<IpNet> = Vec::new();
        for net in changed {
            if !widest.last().is_some_and(|outer| outer.contains(&net)) {
                widest.push(net);
            }
        }
        let mut recut = Vec::new();
        for net in &widest {
            self.recut(*net, &mut recut);
        }
        (widest, recut)
    }

    /// Notes the identity of an edge.
    pub(super) fn identify(&mut self, net: IpNet, identity: IdentityId) {
        if let Some(marks) = self.edges.get_mut(&Edge::of(net)) {
            marks.identity = Some(identity);
        }
    }

    fn recut(&mut self, within: IpNet, out: &mut Vec<Recut>) {
        let mut around: Vec<(IpNet, Vec<AtomId>)> = vec![(within, self.around(within))];
        let first = Edge::of(within);
        let last = Edge { network: within.broadcast(), prefix: u8::MAX };
        let mut gone = Vec::new();
        for (edge, marks) in self.edges.range(first..=last) {
            let Ok(net) = IpNet::new(edge.network, edge.prefix) else { continue };
            let before = marks.identity;
            if marks.begins.is_empty() && marks.ends.is_empty() {
                gone.push(*edge);
                out.push(Recut { net, before, atoms: None });
                continue;
            }
            while around.last().is_some_and(|(outer, _)| !outer.contains(&net)) {
                around.pop();
            }
            let mut inside = around.last().map(|(_, atoms)| atoms.clone()).unwrap_or_default();
            marks.apply(&mut inside);
            out.push(Recut { net, before, atoms: Some(inside.clone()) });
            around.push((net, inside));
        }
        for edge in gone {
            self.edges.remove(&edge);
        }
    }

    /// What holds around a block.
    fn around(&self, net: IpNet) -> Vec<AtomId> {
        let mut atoms = Vec::new();
        for prefix in 0..net.prefix_len() {
            let Ok(outer) = IpNet::new(net.addr(), prefix) else { continue };
            if let Some(marks) = self.edges.get(&Edge::of(outer.trunc())) {
                marks.apply(&mut atoms);
            }
        }
        atoms
    }
}

impl Marks {
    fn apply(&self, atoms: &mut Vec<AtomId>) {
        atoms.extend_from_slice(&self.begins);
        if !self.ends.is_empty() {
            atoms.retain(|atom| !self.ends.contains(atom));
        }
    }
}

impl Edge {
    fn of(net: IpNet) -> Self {
        Self { network: net.network(), prefix: net.prefix_len() }
    }
}

/// A block of which nothing is left.
fn is_nothing(block: &Block) -> bool {
    block.except().iter().any(|except| except.contains(&block.cidr()))
}

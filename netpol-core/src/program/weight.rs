use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::compile::atom_of;
use crate::hash::HashMap;
use crate::model::{Direction, Peer, Peers, Policy, PolicyKey};

use super::{Atom, AtomId, Declares, Program};

/// A policy, and how much of a program is about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Weight {
    /// The policy.
    pub policy: PolicyKey,
    /// How often the program mentions what the rules of the policy ask of other ends: once for each identity that
    /// answers it, and for each class that asks it. What several policies ask counts for each of them.
    pub mentions: usize,
}

impl Program {
    /// The policies that most of the program is about, the heaviest first: whom to ask if the
    /// [`capacity`](Self::capacity) is more than a host can bear. Policies that apply to nobody in scope have no weight.
    ///
    /// `O(n log n)` in the size of the program.
    ///
    /// ```
    /// # use netpol_core::{Cluster, Scope, compile};
    /// # let (program, budget) = (compile(&Cluster::default(), Scope::Cluster), 1 << 30);
    /// let size = program.capacity();
    /// if size.bytes > budget {
    ///     let heaviest = program.heaviest(3);
    ///     eprintln!("the policies are too large for this host: {size}; the heaviest are {heaviest:?}");
    /// }
    /// ```
    pub fn heaviest(&self, count: usize) -> Vec<Weight> {
        let mentions = self.mentions();
        let atoms: HashMap<&Atom, AtomId> =
            self.inner.atoms.iter().map(|(id, atom)| (atom, AtomId(id))).collect();
        let policies: BTreeMap<&PolicyKey, &Policy> = self
            .profiles()
            .flat_map(|(_, profile)| profile.policies())
            .map(|policy| (&policy.key, policy))
            .collect();
        let mut weights: Vec<Weight> = policies
            .into_values()
            .map(|policy| {
                let asked = self.asked(policy, &atoms);
                let mentions = asked.iter().filter_map(|atom| mentions.get(atom)).sum();
                Weight { policy: policy.key.clone(), mentions }
            })
            .collect();
        weights.retain(|weight| weight.mentions > 0);
        weights.sort_by(|a, b| b.mentions.cmp(&a.mentions).then_with(|| a.policy.cmp(&b.policy)));
        weights.truncate(count);
        weights
    }

    /// How often each atom is mentioned. Those that look up a port name count for what else must hold.
    fn mentions(&self) -> HashMap<AtomId, usize> {
        let mut mentions = HashMap::default();
        let holding = self.inner.identities.iter().flat_map(|(_, it)| it.atoms.iter().copied());
        let asked = self.classes().flat_map(|(id, _)| self.stack(id).atoms());
        for atom in holding.chain(asked) {
            let counted = match self.inner.atoms.get(atom.0) {
                Some(Atom::Declares(Declares { also: Some(also), .. })) => *also,
                _ => atom,
            };
            *mentions.entry(counted).or_default() += 1;
        }
        mentions
    }

    /// What a policy asks of other ends.
    fn asked(&self, policy: &Policy, atoms: &HashMap<&Atom, AtomId>) -> BTreeSet<AtomId> {
        let directions = [Direction::Ingress, Direction::Egress].into_iter();
        let rules = directions.filter_map(|direction| policy.rules(direction)).flatten();
        let peers = rules.flat_map(|rule| match &rule.peers {
            Peers::Everyone => &[][..],
            Peers::AnyOf(peers) => peers,
        });
        let atom = |peer: &Peer| atoms.get(&atom_of(self.options(), policy.tier, peer)?).copied();
        peers.filter_map(atom).collect()
    }
}

/// `NetworkPolicy shop/api: 1200 mentions`.
impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} mentions", self.policy, self.mentions)
    }
}

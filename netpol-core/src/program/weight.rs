use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::compile::{atom_of, by_parts};
use crate::hash::HashMap;
use crate::model::{Direction, Peer, Peers, Policy, PolicyKey};

use super::{Atom, AtomId, Declares, Program, Term, Within};

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
                let mentions = asked.iter().map(|term| mentions.of(self, term)).sum();
                Weight { policy: policy.key.clone(), mentions }
            })
            .collect();
        weights.retain(|weight| weight.mentions > 0);
        weights.sort_by(|a, b| b.mentions.cmp(&a.mentions).then_with(|| a.policy.cmp(&b.policy)));
        weights.truncate(count);
        weights
    }

    fn mentions(&self) -> Mentions {
        let mut mentions = Mentions::default();
        let atom = |id: AtomId| self.inner.atoms.get(id.0);
        for id in self.inner.identities.iter().flat_map(|(_, it)| it.atoms.iter().copied()) {
            match atom(id) {
                Some(Atom::Declares(Declares { also: Some(also), .. })) => mentions.ask(also),
                _ => *mentions.holding.entry(id).or_default() += 1,
            }
        }
        for union in self.classes().flat_map(|(id, _)| self.stack(id).unions()) {
            for id in &union.atoms {
                match atom(*id) {
                    Some(Atom::Declares(Declares { also: Some(also), .. })) => mentions.ask(also),
                    _ => mentions.ask(&Term::Atom(*id)),
                }
            }
            union.blocks.iter().for_each(|it| mentions.ask(&Term::Within(it.clone())));
        }
        mentions
    }

    /// What a policy asks of other ends, as far as the program does.
    fn asked(&self, policy: &Policy, atoms: &HashMap<&Atom, AtomId>) -> BTreeSet<Term> {
        let directions = [Direction::Ingress, Direction::Egress].into_iter();
        let rules = directions.filter_map(|direction| policy.rules(direction)).flatten();
        let peers = rules.flat_map(|rule| match &rule.peers {
            Peers::Everyone => &[][..],
            Peers::AnyOf(peers) => peers,
        });
        let id = |atom: &Atom| atoms.get(atom).copied();
        let term = |peer: &Peer| match (id(&atom_of(self.options(), policy.tier, peer)?), peer) {
            (Some(atom), _) => Some(Term::Atom(atom)),
            (None, Peer::Block(block)) => by_parts(block, id),
            (None, _) => None,
        };
        peers.filter_map(term).collect()
    }
}

/// How often terms are mentioned.
#[derive(Debug, Default)]
struct Mentions {
    /// By identities that answer just this.
    holding: HashMap<AtomId, usize>,
    /// By classes, and by whoever is asked for a port name besides.
    asked: HashMap<Term, usize>,
}

impl Mentions {
    fn ask(&mut self, term: &Term) {
        *self.asked.entry(term.clone()).or_default() += 1;
    }

    fn of(&self, program: &Program, term: &Term) -> usize {
        let holding = |id: &AtomId| self.holding.get(id).copied().unwrap_or_default();
        let answers = match term {
            Term::Atom(atom) => holding(atom),
            Term::Within(Within { block, except }) => {
                // Of parts inside of others, the outer ones tell it all.
                let mut parts: Vec<_> =
                    except.iter().filter_map(|id| Some((program.block(*id)?.cidr(), id))).collect();
                parts.sort_unstable();
                parts.dedup_by(|(inner, _), (outer, _)| outer.contains(&*inner));
                let left_out: usize = parts.into_iter().map(|(_, id)| holding(id)).sum();
                holding(block).saturating_sub(left_out)
            }
        };
        answers + self.asked.get(term).copied().unwrap_or_default()
    }
}

/// `NetworkPolicy shop/api: 1200 mentions`.
impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} mentions", self.policy, self.mentions)
    }
}

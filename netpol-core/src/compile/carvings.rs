use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::hash::HashMap;
use crate::model::{Block, Peer, Peers, Policy, PolicyKey};

/// The blocks of which policies leave out parts, and how they are told apart.
///
/// Usually each is an atom: for all addresses for which the same blocks hold, whichever parts they lie in, the same
/// holds. But where many blocks leave out different parts of the same wide one, as policies do that each allow the
/// world but somebody's own network, nearly all of them hold in every part: what holds would grow with the square of
/// the policies. There the wide block and each part is an atom, of which few hold anywhere, and a block is a term
/// about them. Which it is depends on what all policies say, not on the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Carvings {
    by_cidr: HashMap<IpNet, Carved>,
    touched: Vec<IpNet>,
}

/// Blocks of one CIDR.
#[derive(Debug, Default)]
struct Carved {
    /// How often policies have each.
    blocks: HashMap<Block, usize>,
    policies: BTreeSet<PolicyKey>,
    by_parts: bool,
}

/// So many blocks of one CIDR may differ in what they leave out before they are told apart by their parts.
const MOST: usize = 32;

impl Carvings {
    pub(super) fn add(&mut self, policy: &Policy) {
        for block in carved_blocks(policy) {
            let carved = self.by_cidr.entry(block.cidr()).or_default();
            *carved.blocks.entry(block.clone()).or_default() += 1;
            carved.policies.insert(policy.key.clone());
            self.touched.push(block.cidr());
        }
    }

    pub(super) fn remove(&mut self, policy: &Policy) {
        for block in carved_blocks(policy) {
            let cidr = block.cidr();
            let Some(carved) = self.by_cidr.get_mut(&cidr) else { continue };
            if let Some(count) = carved.blocks.get_mut(block) {
                *count -= 1;
                if *count == 0 {
                    carved.blocks.remove(block);
                }
            }
            carved.policies.remove(&policy.key);
            self.touched.push(cidr);
        }
    }

    /// The policies with blocks that are to be told apart in the other way from now on.
    pub(super) fn settle(&mut self) -> BTreeSet<PolicyKey> {
        let mut redefined = BTreeSet::new();
        for cidr in super::take(&mut self.touched) {
            let Some(carved) = self.by_cidr.get_mut(&cidr) else { continue };
            let by_parts = carved.blocks.len() > MOST;
            if by_parts != carved.by_parts {
                carved.by_parts = by_parts;
                redefined.extend(carved.policies.iter().cloned());
            }
            if carved.blocks.is_empty() {
                self.by_cidr.remove(&cidr);
            }
        }
        redefined
    }

    /// Whether a block is told apart by its parts; never one that has none.
    pub(super) fn is_by_parts(&self, block: &Block) -> bool {
        let of_cidr = || self.by_cidr.get(&block.cidr());
        !block.except().is_empty() && of_cidr().is_some_and(|carved| carved.by_parts)
    }
}

fn carved_blocks(policy: &Policy) -> impl Iterator<Item = &Block> {
    let rules = policy.ingress.iter().chain(&policy.egress).flatten();
    let peers = rules.filter_map(|rule| match &rule.peers {
        Peers::Everyone => None,
        Peers::AnyOf(peers) => Some(peers),
    });
    peers.flatten().filter_map(|peer| match peer {
        Peer::Block(block) if !block.except().is_empty() => Some(block),
        _ => None,
    })
}

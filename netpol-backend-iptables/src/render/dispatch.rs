//! Rules that find an address among many in few steps.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netpol_core::model::Direction;

use super::{Builder, at};
use crate::name::{Comment, Name};
use crate::ruleset::{Block, Match, Rule, Target};

/// How many rules a packet is compared with in one chain, at most. A rule that does not match costs
/// 1 to 15 ns, a jump 10 to 36: so 8 is about right for both variants.
pub(super) const WIDTH: usize = 8;

/// What becomes of packets from or to one address.
#[derive(Debug, Clone, Default)]
pub(super) struct Leaf {
    /// If the other end is this one of the endpoint's own addresses.
    pub(super) own: BTreeMap<IpAddr, Target>,
    /// If it is any other: whose address this is, and what it may do.
    pub(super) others: Option<(Option<Comment>, Name)>,
}

impl Leaf {
    /// The same for every other end.
    pub(super) fn all(chain: Name) -> Self {
        Self { own: BTreeMap::new(), others: Some((None, chain)) }
    }

    fn rules(&self, direction: Direction, address: IpAddr) -> impl Iterator<Item = Rule> {
        let block = Block::single;
        let own = self.own.iter().map(move |(other, target)| {
            let [source, destination] = match direction {
                Direction::Egress => [address, *other],
                Direction::Ingress => [*other, address],
            };
            let pair = [Match::Source(block(source)), Match::Destination(block(destination))];
            Rule::new(pair, target.clone())
        });
        let others = self.others.iter().map(move |(whose, chain)| {
            let whose = whose.iter().cloned().map(Match::Comment);
            let matches: Vec<_> =
                [at(direction, block(address))].into_iter().chain(whose).collect();
            Rule::new(matches, Target::Goto(chain.clone()))
        });
        own.chain(others)
    }
}

/// A tree of chains over addresses.
///
/// Every chain cuts its addresses into [`WIDTH`] parts, none of them much larger than the others
/// whatever the addresses are: so the depth is logarithmic, also where they are not evenly spread.
pub(super) struct Tree {
    kind: &'static str,
    direction: Direction,
    /// The most chains below the first; the last is as long as it has to be. The nft variant allows
    /// 16 chains one within the other, all in all.
    levels: usize,
    /// Where packets go to that are not found; they return if nowhere.
    otherwise: Option<Target>,
}

impl Tree {
    /// Finds what endpoints may do.
    pub(super) fn dispatch(direction: Direction) -> Self {
        let kind = match direction {
            Direction::Egress => "src",
            Direction::Ingress => "dst",
        };
        Self { kind, direction, levels: 4, otherwise: None }
    }

    /// Finds from whom or to whom an answer would go of what is judged in a direction.
    pub(super) fn answers(judged: Direction) -> Self {
        let (kind, direction) = match judged {
            Direction::Egress => ("sd", Direction::Ingress),
            Direction::Ingress => ("ss", Direction::Egress),
        };
        Self { kind, direction, levels: 4, otherwise: None }
    }

    /// Finds what an endpoint sends to itself, which is let through although it would be denied.
    pub(super) fn exemptions(kind: &'static str, otherwise: Target) -> Self {
        Self { kind, direction: Direction::Ingress, levels: 2, otherwise: Some(otherwise) }
    }

    /// Makes the chains below the first, and returns the rules of the first.
    pub(super) fn build(
        &self,
        builder: &mut Builder<'_>,
        leaves: BTreeMap<IpAddr, Leaf>,
    ) -> Vec<Rule> {
        let leaves: Vec<(IpAddr, Leaf)> = leaves.into_iter().collect();
        self.level(builder, &leaves.iter().collect::<Vec<_>>(), self.levels)
    }

    fn level(
        &self,
        builder: &mut Builder<'_>,
        leaves: &[&(IpAddr, Leaf)],
        levels: usize,
    ) -> Vec<Rule> {
        let flat = leaves.len() <= WIDTH || levels == 0;
        let parts = if flat { leaves.iter().map(|it| vec![*it]).collect() } else { cut(leaves) };
        let mut rules = Vec::new();
        for part in parts {
            match part.as_slice() {
                [(address, leaf)] => rules.extend(leaf.rules(self.direction, *address)),
                part => {
                    let inner = self.level(builder, part, levels - 1);
                    let chain = builder.chain(self.kind, inner);
                    rules.extend(
                        span(part).map(|block| {
                            Rule::new([at(self.direction, block)], Target::Goto(chain))
                        }),
                    );
                }
            }
        }
        rules.extend(self.otherwise.clone().map(|target| Rule::new([], target)));
        rules
    }
}

/// The smallest block with all the addresses, which are in ascending order.
fn span<T>(leaves: &[&(IpAddr, T)]) -> Option<Block> {
    leaves.first().zip(leaves.last()).map(|(first, last)| Block::spanning(first.0, last.0))
}

/// Cuts addresses into parts of about the same size, each of them what is in one block and in none
/// of the parts before.
///
/// In the binary tree of prefixes some block has between a third and two thirds of the addresses of
/// any part; so the largest part is divided there until there are enough.
fn cut<'l, T>(leaves: &[&'l (IpAddr, T)]) -> Vec<Vec<&'l (IpAddr, T)>> {
    let mut parts = vec![leaves.to_vec()];
    while parts.len() < WIDTH {
        let largest = (0..parts.len()).rev().max_by_key(|at| parts.get(*at).map(Vec::len));
        let Some((at, part)) = largest.and_then(|at| Some((at, parts.get_mut(at)?))) else { break };
        if part.len() < 2 {
            break;
        }
        let (begin, end) = middle_block(part);
        let inner = part.drain(begin..end).collect();
        // Before the part that it is taken from, whose block it is in.
        parts.insert(at, inner);
    }
    parts
}

/// The addresses of the block that has the closest to half of them.
fn middle_block<T>(leaves: &[&(IpAddr, T)]) -> (usize, usize) {
    let half_off = |(begin, end): (usize, usize)| (2 * (end - begin)).abs_diff(leaves.len());
    let (mut begin, mut end) = (0, leaves.len());
    let mut best = None;
    while let Some(block) = leaves.get(begin..end).filter(|it| it.len() > 1).and_then(span) {
        let upper =
            Block::of(leaves.get(end - 1).map_or(block.first(), |it| it.0), block.prefix() + 1);
        let within = leaves.get(begin..end).unwrap_or_default();
        let middle = begin + within.partition_point(|it| it.0 < upper.first());
        (begin, end) = if middle - begin > end - middle { (begin, middle) } else { (middle, end) };
        if best.is_none_or(|best| half_off((begin, end)) < half_off(best)) {
            best = Some((begin, end));
        }
    }
    best.unwrap_or((0, leaves.len() / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth(leaves: &[&(IpAddr, ())]) -> usize {
        if leaves.len() <= WIDTH {
            return 0;
        }
        let parts = cut(leaves);
        assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), leaves.len());
        let mut seen: Vec<Block> = Vec::new();
        for part in &parts {
            let block = span(part).unwrap();
            for (address, ()) in part {
                assert!(!seen.iter().any(|before| before.contains(*address)), "{address}");
            }
            seen.push(block);
        }
        1 + parts.iter().map(|part| depth(part)).max().unwrap()
    }

    fn depth_of(addresses: impl Iterator<Item = IpAddr>) -> usize {
        let leaves: BTreeMap<IpAddr, ()> = addresses.map(|address| (address, ())).collect();
        let leaves: Vec<(IpAddr, ())> = leaves.into_iter().collect();
        depth(&leaves.iter().collect::<Vec<_>>())
    }

    #[test]
    fn depth_is_logarithmic_however_addresses_are_spread() {
        let v4 = |bits: u32| IpAddr::V4(bits.into());
        let v6 = |bits: u128| IpAddr::V6(bits.into());
        assert_eq!(depth_of((0..250).map(|n| v4(0x0a00_0000 + n))), 2);
        assert_eq!(depth_of((0..64).map(|n| v4(0x0a00_0000 + n))), 1);
        assert!(depth_of((0..4096).map(|n| v4(0x0a00_0000 + 7 * n))) <= 4);
        // Every prefix has just one address beside the next.
        assert_eq!(depth_of((0..32).map(|n| v4(1 << n))), 1);
        assert_eq!(depth_of((0..128).map(|n| v6(1 << n))), 2);
        assert_eq!(depth_of((0..128).map(|n| v6(u128::MAX << n))), 2);
    }
}

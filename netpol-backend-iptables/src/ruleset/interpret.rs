//! What the kernel does with a packet under a ruleset, worked out in user space: the proof that a
//! rendering, or what is in force now, says the same as the program.

use netpol_core::model::Family;

use super::{
    Hook, Match, Name, Packet, Rule, Ruleset, Side, Standing, Table, Target, Transport, hook_name,
};

/// The kernel's limit on nested chains in the nft variant.
const MAX_DEPTH: usize = 16;

/// Why a ruleset gives no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// A rule or a set that this crate does not write.
    #[error("there is a foreign `{0}`")]
    Foreign(String),
    /// A rule refers to a chain or set that is not there.
    #[error("there is no `{0}`")]
    Missing(Name),
    /// Chains lead into each other without an end.
    #[error("chains are nested too deeply at `{0}`")]
    TooDeep(Name),
    /// Rules of others come first, and may let packets pass before ours have seen them.
    #[error("the jump to `{0}` is not the first rule of its chain")]
    NotFirst(Name),
}

impl Ruleset {
    /// Whether our rules let a packet pass the hook. `O(log n)` in the elements of a set.
    ///
    /// # Errors
    ///
    /// If there is something that this crate would not write. Never for a rendered ruleset.
    pub fn passes(&self, hook: Hook, packet: &Packet) -> Result<bool, Undecided> {
        let family = Family::of(packet.source);
        let table = self.tables.get(&family).unwrap_or(const { &Table::EMPTY });
        let name = self.name.name(hook_name(hook));
        match table.jumps.get(&hook).map(Vec::as_slice) {
            None | Some([]) => return Ok(true),
            Some([0, ..]) => {}
            Some(_) => return Err(Undecided::NotFirst(name)),
        }
        let walk = Walk { table, packet };
        Ok(walk.chain(&name, 1)? != Outcome::Dropped)
    }
}

/// How a chain ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Dropped,
    /// Its end, or a return: the caller goes on.
    Through,
}

struct Walk<'a> {
    table: &'a Table,
    packet: &'a Packet,
}

impl Walk<'_> {
    fn chain(&self, name: &Name, depth: usize) -> Result<Outcome, Undecided> {
        if depth >= MAX_DEPTH {
            return Err(Undecided::TooDeep(name.clone()));
        }
        let rules = self.table.chains.get(name).ok_or_else(|| Undecided::Missing(name.clone()))?;
        for rule in rules {
            if !self.matches(rule)? {
                continue;
            }
            match &rule.target {
                Target::Drop => return Ok(Outcome::Dropped),
                Target::Return => return Ok(Outcome::Through),
                Target::Goto(chain) => return self.chain(chain, depth + 1),
                Target::Jump(chain) => {
                    if self.chain(chain, depth + 1)? == Outcome::Dropped {
                        return Ok(Outcome::Dropped);
                    }
                }
                Target::Report { .. } => {}
            }
        }
        Ok(Outcome::Through)
    }

    fn matches(&self, rule: &Rule) -> Result<bool, Undecided> {
        for each in &rule.matches {
            let holds = match each {
                Match::Source(block) => block.contains(self.packet.source),
                Match::Destination(block) => block.contains(self.packet.destination),
                Match::Protocol(number) => self.packet.transport.protocol() == *number,
                Match::Established => self.packet.standing == Standing::Established,
                // Nobody is told to leave packets alone.
                Match::Untracked => false,
                Match::TcpUnderWay | Match::SctpUnderWay => self.packet.standing != Standing::New,
                Match::Ports(slots) => match self.packet.transport {
                    Transport::Port(_, port) => slots.iter().any(|range| range.contains(port)),
                    _ => false,
                },
                Match::IcmpType(wanted) => match self.packet.transport {
                    Transport::Icmp(_, kind) => kind == *wanted,
                    _ => false,
                },
                Match::InSet { set, side, inverted } => {
                    let found =
                        self.table.sets.get(set).ok_or_else(|| Undecided::Missing(set.clone()))?;
                    let address = match side {
                        Side::Source => self.packet.source,
                        Side::Destination => self.packet.destination,
                    };
                    let inside = found
                        .contains(address)
                        .ok_or_else(|| Undecided::Foreign(format!("set {set}")))?;
                    inside != *inverted
                }
                Match::Limit(_) | Match::Comment(_) => true,
                Match::Foreign(text) => return Err(Undecided::Foreign(text.clone())),
            };
            if !holds {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

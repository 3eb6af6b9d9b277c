//! What is measured, in groups that can be asked for by name.

mod compile;
mod decide;
mod memory;
mod nft;
mod packets;
mod recompile;

use crate::figure::Figure;

/// How thoroughly to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// All figures in a few minutes.
    Quick,
    /// More repetitions, for figures to be written down.
    Full,
}

/// Figures that are measured together.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// The name to ask for it by.
    pub name: &'static str,
    /// Measures them.
    pub measure: fn(Effort) -> Vec<Figure>,
}

/// All groups, in the order in which they are measured.
pub const GROUPS: [Group; 9] = [
    Group { name: "decide.scale", measure: decide::scale },
    Group { name: "decide.baselines", measure: decide::baselines },
    Group { name: "compile.antrea", measure: compile::antrea },
    Group { name: "compile.shapes", measure: compile::shapes },
    Group { name: "recompile.cluster", measure: recompile::cluster },
    Group { name: "recompile.node", measure: recompile::node },
    Group { name: "memory", measure: memory::marginal },
    Group { name: "nft", measure: nft::node },
    Group { name: "packets", measure: packets::packets },
];

impl Effort {
    /// How often to repeat something.
    fn rounds(self, quick: usize) -> usize {
        match self {
            Self::Quick => quick,
            Self::Full => quick * 4,
        }
    }
}

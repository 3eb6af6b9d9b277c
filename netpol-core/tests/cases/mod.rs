//! The specification as a table: small scenes and the verdicts derived from the text by hand, citing its numbers.
//! Every engine has to agree with it.

mod cluster_wide;
mod network_policy;
mod open_points;
mod scene;

use netpol_core::model::{Flow, Objects, Options};
use netpol_core::reference::Judgement;

/// One question, and the answer that the specification gives.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The statements it follows from, separated by commas.
    pub(crate) cites: &'static str,
    /// The question as the table has it.
    pub(crate) asks: String,
    pub(crate) objects: Objects,
    pub(crate) options: Options,
    pub(crate) flow: Flow,
    pub(crate) egress: Judgement,
    pub(crate) ingress: Judgement,
}

pub(crate) fn cases() -> Vec<Case> {
    [network_policy::cases(), cluster_wide::cases(), open_points::cases()].concat()
}

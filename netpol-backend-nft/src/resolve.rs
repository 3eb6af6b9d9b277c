//! What a report of the kernel is about: which profile, whose it is, and why.

use std::fmt;

use netpol_core::model::{Direction, End, PolicyKey};
use netpol_core::program::{EndpointEntry, Judgement, ProfileId, Program, Verdict};

use crate::nflog::{Outcome, Packet, Prefix};
use crate::render::profile_keys;

/// What the [`Prefix`] of a report stands for in a program.
#[derive(Debug, Clone)]
pub struct Resolved<'p> {
    /// What judged the packet.
    pub profile: ProfileId,
    /// In which direction.
    pub direction: Direction,
    /// What became of it.
    pub outcome: Outcome,
    /// Since when the rules have said so: see [`Prefix::generation`].
    pub generation: Option<u32>,
    /// The policies behind the profile, in the order in which they are asked.
    pub policies: Vec<&'p PolicyKey>,
    /// The endpoints that have the profile: the packet was of one of them.
    pub endpoints: Vec<&'p EndpointEntry>,
}

/// Finds the profile that a report names: from the prefix alone, so also for a line in somebody's log
/// and away from the node, with a program of the same policies.
///
/// `None` if the prefix names no profile, or if no profile of the program says what that one said: the
/// report is of another generation of the policies then. Costs as much as naming every class.
#[must_use]
pub fn resolve<'p>(prefix: &Prefix, program: &'p Program) -> Option<Resolved<'p>> {
    let key = prefix.profile.as_deref()?;
    let mut keys = profile_keys(program, prefix.direction);
    let (profile, _) = keys.find(|(_, found)| found.to_string() == key)?;
    let policies = program.profile(profile).policies().map(|policy| &policy.key).collect();
    let has_it = |it: &&EndpointEntry| it.profile() == profile || it.own_profile() == Some(profile);
    let endpoints = program.endpoints().filter(has_it).collect();
    let Prefix { direction, outcome, generation, .. } = *prefix;
    Some(Resolved { profile, direction, outcome, generation, policies, endpoints })
}

impl fmt::Display for Resolved<'_> {
    /// `ingress denied by NetworkPolicy shop/db; endpoints: shop/db-0, shop/db-1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} by ", self.direction, self.outcome)?;
        list(f, self.policies.iter())?;
        f.write_str("; endpoints: ")?;
        list(f, self.endpoints.iter().map(|it| format!("{}/{}", it.namespace(), it.name())))
    }
}

fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, all: impl Iterator<Item = T>) -> fmt::Result {
    for (index, one) in all.enumerate() {
        let separator = if index > 0 { ", " } else { "" };
        write!(f, "{separator}{one}")?;
    }
    Ok(())
}

/// Why a reported packet met its fate, as a program sees it.
#[derive(Debug, Clone)]
pub struct Told {
    packet: Packet,
    judgement: Option<Judgement>,
    subject: Option<String>,
    /// The subject is an endpoint that the program polices.
    known: bool,
}

impl Packet {
    /// Asks a program for the reason. It should be the one in force when the packet was judged; with
    /// another [`agrees`](Told::agrees) tells whether it says the same.
    #[must_use]
    pub fn explain(&self, program: &Program) -> Told {
        let explanation = program.explain(&self.flow);
        let (judgement, end) = match self.prefix.direction {
            Direction::Egress => (explanation.egress, &self.flow.source),
            Direction::Ingress => (explanation.ingress, &self.flow.destination),
        };
        let known = match end {
            End::Address(address) => {
                program.endpoint_at(*address).is_some_and(EndpointEntry::is_policed)
            }
            End::Endpoint { .. } => true,
        };
        Told { packet: self.clone(), judgement, subject: Some(end.to_string()), known }
    }
}

impl Told {
    /// What the program says of the packet in the direction that it was reported for; nothing if it
    /// knows no such endpoint.
    #[must_use]
    pub fn judgement(&self) -> Option<&Judgement> {
        self.judgement.as_ref()
    }

    /// Whether the program would do to the packet what was done.
    #[must_use]
    pub fn agrees(&self) -> bool {
        let denied = self.packet.prefix.outcome != Outcome::Allowed;
        self.judgement.as_ref().is_some_and(|it| (it.verdict == Verdict::Deny) == denied)
    }
}

impl fmt::Display for Told {
    /// `10.0.0.2 -> 10.0.0.1:22/TCP: ingress denied by 10.0.0.1 because NetworkPolicy shop/db isolates
    /// the pod; no rule matches`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Prefix { direction, outcome, .. } = &self.packet.prefix;
        write!(f, "{}: {direction} {outcome}", self.packet.flow)?;
        if let Some(subject) = &self.subject {
            write!(f, " by {subject}")?;
        }
        match &self.judgement {
            Some(judgement) if self.agrees() => write!(f, " because {}", judgement.reason),
            Some(_) => f.write_str("; the policies have changed since and say otherwise"),
            None if !self.known => f.write_str(" because no endpoint is known to have the address"),
            None => f.write_str("; the policies have changed since and judge it no more"),
        }
    }
}

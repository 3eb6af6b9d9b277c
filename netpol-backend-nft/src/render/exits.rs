//! Where the judgement of a packet ends: what is allowed and what is denied in a direction.

use netpol_core::model::{Direction, SelfTraffic};

use super::key::{ContentKey, name};
use super::ports::Peers;
use super::{Log, Options};
use crate::name::Name;
use crate::nflog::{Outcome, Prefix};
use crate::ruleset::{Chain, Rule, Statement, Verdict};

/// The ends of one direction: the same for all profiles, or a profile's own where reports name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Exits {
    pub(super) direction: Direction,
    /// The profile that reports name.
    pub(super) profile: Option<ContentKey>,
    /// Accepted packets are reported as well.
    reports_accepted: bool,
}

impl Exits {
    /// The exits of a profile of this key.
    pub(super) fn new(direction: Direction, profile: ContentKey, options: &Options) -> Self {
        let Some(log) = options.log else { return Self::shared(direction) };
        Self { direction, profile: Some(profile), reports_accepted: log.accepted }
    }

    /// The exits of what no profile is to be named for.
    pub(super) fn shared(direction: Direction) -> Self {
        Self { direction, profile: None, reports_accepted: false }
    }

    /// What to do with packets of certain peers.
    pub(super) fn of(&self, peers: Peers) -> Verdict {
        match peers {
            Peers::All => self.allowed(),
            Peers::None => self.denied(),
            Peers::Some(class) => Verdict::Goto(self.peers_chain(class)),
        }
    }

    /// The chain that looks the other end up. One per class, and per profile where reports name it.
    pub(super) fn peers_chain(&self, class: ContentKey) -> Name {
        match self.profile {
            None => directed_name("peers", self.direction, class),
            Some(profile) => {
                let both = ContentKey::of(&format!("{profile} {class}"));
                directed_name("peers", self.direction, both)
            }
        }
    }

    pub(super) fn allowed(&self) -> Verdict {
        match self.profile.filter(|_| self.reports_accepted) {
            Some(profile) => Verdict::Goto(directed_name("allowed", self.direction, profile)),
            None => passes(self.direction),
        }
    }

    pub(super) fn denied(&self) -> Verdict {
        Verdict::Goto(match self.profile {
            Some(profile) => directed_name("denied", self.direction, profile),
            None => denied_chain(self.direction),
        })
    }

    /// The chains of a profile's own exits.
    pub(super) fn chains(
        &self,
        options: &Options,
        self_traffic: SelfTraffic,
        generation: impl Fn(&Name) -> Option<u32>,
    ) -> impl Iterator<Item = (Name, Chain)> {
        let outcomes = [(self.denied(), denies(options)), (self.allowed(), Outcome::Allowed)];
        outcomes.into_iter().filter(|_| self.profile.is_some()).filter_map(
            move |(verdict, outcome)| {
                let name = verdict.chain()?.clone();
                let generation = generation(&name);
                Some((name, self.chain(outcome, options, self_traffic, generation)))
            },
        )
    }

    fn chain(
        &self,
        outcome: Outcome,
        options: &Options,
        self_traffic: SelfTraffic,
        generation: Option<u32>,
    ) -> Chain {
        let denies = outcome != Outcome::Allowed;
        let mut rules: Vec<Rule> = Vec::new();
        // NP-SELF-1, C-HAIR-1.
        if denies && self_traffic == SelfTraffic::Allowed {
            let set = Statement::PairIn(own_addresses());
            rules.push([set, Statement::Verdict(Verdict::Accept)].into());
        }
        let mut last = if denies { vec![Statement::Counter] } else { Vec::new() };
        if let Some(Log { group, per_second, .. }) = options.log {
            let (table, direction) = (&options.table, self.direction);
            let prefix = Prefix::new(table, direction, outcome, self.profile, generation);
            let log = Statement::Log { group, prefix: prefix.text() };
            match per_second {
                Some(rate) => rules.push([Statement::Limit(rate), log].into()),
                None => last.push(log),
            }
        }
        last.push(Statement::Verdict(match outcome {
            Outcome::Allowed => passes(self.direction),
            Outcome::Denied | Outcome::Audited => refusal(options),
        }));
        rules.push(Rule { statements: last, comment: None });
        Chain { rules, ..Chain::default() }
    }
}

/// What becomes of what the policies deny.
fn denies(options: &Options) -> Outcome {
    if options.audit { Outcome::Audited } else { Outcome::Denied }
}

/// What happens to packets that are denied. In an audit they go back to the base chain, so that the
/// other end's policies are asked as well.
pub(super) fn refusal(options: &Options) -> Verdict {
    if options.audit { Verdict::Return } else { Verdict::Drop }
}

/// Where everything ends that is denied in a direction, and that no profile is named for.
pub(super) fn denied(direction: Direction, self_traffic: SelfTraffic, options: &Options) -> Chain {
    Exits::shared(direction).chain(denies(options), options, self_traffic, None)
}

/// Egress allows by going on to ask the destination.
pub(super) fn passes(direction: Direction) -> Verdict {
    match direction {
        Direction::Egress => Verdict::Return,
        Direction::Ingress => Verdict::Accept,
    }
}

fn suffix(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => "out",
        Direction::Ingress => "in",
    }
}

pub(super) fn directed_name(prefix: &str, direction: Direction, key: ContentKey) -> Name {
    name(&format!("{prefix}-{}", suffix(direction)), key)
}

/// The chain for denied packets that no profile is named for.
pub(crate) fn denied_chain(direction: Direction) -> Name {
    Name::known(match direction {
        Direction::Egress => "denied-out",
        Direction::Ingress => "denied-in",
    })
}

/// Whether a chain is one that denied packets end in, of whatever profile.
pub(crate) fn is_denied_chain(chain: &Name, direction: Direction) -> bool {
    let shared = denied_chain(direction);
    let rest = chain.as_str().strip_prefix(shared.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The set of pairs of addresses of one endpoint.
pub(super) fn own_addresses() -> Name {
    Name::known("self")
}

use std::fmt;

use crate::model::{Action, Direction, Flow, Name, PolicyKey, Tier};

use super::too_large::display_largest;
use super::{Decision, Verdict};

/// Why a flow is allowed or denied: the same walk as [`decide`](super::Program::decide), with what it met on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What was asked.
    pub flow: Flow,
    /// Both ends are the same endpoint, whose direct traffic to itself is not policed (NP-SELF-1, C-HAIR-1).
    pub is_self_traffic: bool,
    /// What the policies of the source say; `None` if it is not policed.
    pub egress: Option<Judgement>,
    /// What the policies of the destination say; `None` if it is not policed.
    pub ingress: Option<Judgement>,
}

/// What the policies of one end say, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The side of the connection.
    pub direction: Direction,
    /// Namespace and name of the endpoint whose policies were asked.
    pub subject: (Name, Name),
    /// The answer. What is [undecidable](Self::undecidable) counts as not matching.
    pub verdict: Verdict,
    /// What decided.
    pub reason: Reason,
    /// The policies that apply to the subject and say something in this direction, in the order in which they are
    /// asked.
    pub steps: Vec<Step>,
    /// A rule of an ordered tier that may match, depending on the address of the other end, before another rule of
    /// its policy that does.
    pub(crate) passed_over: Option<(PolicyKey, Miss)>,
}

/// What decided a direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A rule matched.
    Rule {
        /// The policy's tier.
        tier: Tier,
        /// The policy.
        policy: PolicyKey,
        /// The rule.
        rule: RuleRef,
        /// Accept or Deny.
        action: Action,
        /// The rule, or its policy, has a part that is not understood, and so denies (C-FAIL-1, C-FAIL-3).
        failed_closed: bool,
    },
    /// These NetworkPolicies isolate the subject in this direction, and no rule of them matches (NP-ISO-5).
    Isolated(Vec<PolicyKey>),
    /// These policies say too much to be told apart, so that everything is denied; those with the most ports and peers
    /// first. See [`Program::too_large`](super::Program::too_large).
    TooLarge(Vec<PolicyKey>),
    /// The other end is the subject's own node (NP-NODE-1, CH-NODE-EGRESS).
    OwnNode,
    /// The subject reaches itself by way of a service, which its NetworkPolicies do not keep it from (NP-SELF-1,
    /// C-HAIR-2).
    Itself,
    /// Protocols without ports are not judged by rules (CH-PROTO-OPEN, CH-PROTO-CLOSED).
    OtherProtocol,
    /// No policy decided, so that it is allowed (C-TIER-1).
    Default,
}

/// One policy that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its tier.
    pub tier: Tier,
    /// Which one.
    pub policy: PolicyKey,
    /// What it answered.
    pub outcome: Outcome,
}

/// What a policy answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This rule decided.
    Decides(RuleRef, Action),
    /// This rule skipped the rest of the tier (C-ACT-4).
    Passes(RuleRef),
    /// No rule matched; how close each came.
    Misses(Vec<Miss>),
    /// It was not asked, since something before it decided.
    NotReached,
}

/// A rule that did not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    /// Which one.
    pub rule: RuleRef,
    /// What it would have done.
    pub action: Action,
    /// In what.
    pub missed: Missed,
    /// The ports that the rule matches, as text; empty for all.
    pub ports: String,
}

/// What a rule did not match in. The order is that of closeness, the closest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missed {
    /// The ports match; whether the peer does depends on its address, which is not known.
    Address,
    /// The peer matches, the port does not.
    Port,
    /// The port matches, the peer does not.
    Peer,
    /// Neither matches.
    Both,
    /// The rule is not fully understood and so matches nothing (C-FAIL-1, C-FAIL-3); the text says what it was.
    NotUnderstood(Name),
}

/// A rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleRef {
    /// Its place in the list of `spec.ingress` or `spec.egress`, counted from 0.
    pub index: usize,
    /// Its name, if it has one.
    pub name: Option<Name>,
}

impl Explanation {
    /// The verdicts alone; equal to what [`decide`](super::Program::decide) returns.
    pub fn decision(&self) -> Decision {
        let verdict = |judgement: &Option<Judgement>| judgement.as_ref().map(|it| it.verdict);
        Decision { egress: verdict(&self.egress), ingress: verdict(&self.ingress) }
    }

    /// Whether both ends allow the connection.
    pub fn is_allowed(&self) -> bool {
        self.decision().is_allowed()
    }

    /// The judged directions, egress first.
    pub fn judgements(&self) -> impl Iterator<Item = &Judgement> {
        self.egress.iter().chain(&self.ingress)
    }
}

impl Judgement {
    /// The rule that came closest to another verdict, with its policy: of those that would accept what is denied, or
    /// deny what is allowed, one of which the peer matched but not the port, or the other way round.
    pub fn nearest_miss(&self) -> Option<(&PolicyKey, &Miss)> {
        let other = match self.verdict {
            Verdict::Deny => Action::Accept,
            Verdict::Allow => Action::Deny,
        };
        let misses = self.misses().filter(|(_, miss)| miss.missed < Missed::Both);
        let misses = misses.filter(|(_, miss)| miss.action == other);
        misses.min_by_key(|(_, miss)| miss.missed.clone())
    }

    /// A rule that would decide if the address of the other end were known. The verdict stands for the case that it
    /// does not match.
    pub fn undecidable(&self) -> Option<(&PolicyKey, &Miss)> {
        // In the additive tier, what is allowed stays allowed whatever else may match.
        let settled =
            |step: &&Step| self.verdict == Verdict::Allow && step.tier == Tier::NetworkPolicy;
        self.steps
            .iter()
            .filter(|step| !settled(step))
            .flat_map(Step::misses)
            .find(|(_, miss)| miss.missed == Missed::Address)
            .or(self.passed_over.as_ref().map(|(policy, miss)| (policy, miss)))
    }

    fn misses(&self) -> impl Iterator<Item = (&PolicyKey, &Miss)> {
        self.steps.iter().flat_map(Step::misses)
    }
}

impl Step {
    fn misses(&self) -> impl Iterator<Item = (&PolicyKey, &Miss)> {
        let misses = match &self.outcome {
            Outcome::Misses(misses) => misses.as_slice(),
            Outcome::Decides(..) | Outcome::Passes(_) | Outcome::NotReached => &[],
        };
        misses.iter().map(|miss| (&self.policy, miss))
    }
}

/// `rule #2 "from-monitoring"`: counted from 1, as people do.
impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule #{}", self.index + 1)?;
        match &self.name {
            Some(name) => write!(f, " \"{name}\""),
            None => Ok(()),
        }
    }
}

/// `matches the peer, but not the port (80/TCP, 443/TCP)`.
impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.missed {
            Missed::Address => f.write_str("may match, depending on the address of the peer"),
            Missed::Port => write!(f, "matches the peer, but not the port ({})", self.ports),
            Missed::Peer => f.write_str("matches the port, but not the peer"),
            Missed::Both => f.write_str("matches neither the peer nor the port"),
            Missed::NotUnderstood(what) => {
                write!(f, "is not understood ({what}) and matches nothing")
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { policy, rule, action, failed_closed, .. } => {
                write!(f, "{policy} {rule} {}", third_person(*action))?;
                if *failed_closed {
                    f.write_str(", since it is not fully understood")?;
                }
                Ok(())
            }
            Self::Isolated(policies) => {
                for (at, policy) in policies.iter().enumerate() {
                    write!(f, "{}{policy}", if at == 0 { "" } else { ", " })?;
                }
                let verb = if policies.len() == 1 { "isolates" } else { "isolate" };
                write!(f, " {verb} the pod; no rule matches")
            }
            Self::TooLarge(policies) => {
                f.write_str("everything is denied, since the ports and peers of ")?;
                display_largest(policies, f)?;
                f.write_str(" are too many")
            }
            Self::OwnNode => f.write_str("the other end is the pod's own node"),
            Self::Itself => f.write_str("the other end is the pod itself, behind a service"),
            Self::OtherProtocol => f.write_str("protocols without ports are not judged by rules"),
            Self::Default => f.write_str("no policy decides"),
        }
    }
}

fn third_person(action: Action) -> &'static str {
    match action {
        Action::Accept => "accepts",
        Action::Deny => "denies",
        Action::Pass => "passes",
    }
}

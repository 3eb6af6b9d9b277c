//! The form of an explanation for programs.

use netpol_core::model::{PolicyKey, Traffic};
use netpol_core::program::{
    Explanation, Judgement, Miss, Missed, Outcome, Reason, RuleRef, Step, Verdict,
};
use serde::Serialize;

use super::{decided_by, hint, tier};

/// An explanation as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExplanationJson {
    source: String,
    destination: String,
    protocol: String,
    port: Option<u16>,
    allowed: bool,
    self_traffic: bool,
    via_service: bool,
    egress: Option<JudgementJson>,
    ingress: Option<JudgementJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JudgementJson {
    subject: String,
    allowed: bool,
    reason: ReasonJson,
    message: String,
    steps: Vec<StepJson>,
    hint: Option<String>,
    certain: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase", tag = "type")]
enum ReasonJson {
    #[serde(rename_all = "camelCase")]
    Rule {
        tier: &'static str,
        policy: PolicyJson,
        rule: RuleJson,
        action: String,
        failed_closed: bool,
    },
    Isolated {
        policies: Vec<PolicyJson>,
    },
    TooLarge {
        policies: Vec<PolicyJson>,
    },
    OwnNode,
    Itself,
    OtherProtocol,
    Default,
}

#[derive(Serialize)]
struct PolicyJson {
    kind: &'static str,
    namespace: String,
    name: String,
}

#[derive(Serialize)]
struct RuleJson {
    /// Counted from 0, as in field paths.
    index: usize,
    name: Option<String>,
}

#[derive(Serialize)]
struct StepJson {
    tier: &'static str,
    policy: PolicyJson,
    outcome: OutcomeJson,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase", tag = "type")]
enum OutcomeJson {
    Decides { rule: RuleJson, action: String },
    Passes { rule: RuleJson },
    Misses { rules: Vec<MissJson> },
    NotReached,
}

#[derive(Serialize)]
struct MissJson {
    rule: RuleJson,
    missed: &'static str,
    ports: String,
    message: String,
}

impl ExplanationJson {
    pub(crate) fn new(explanation: &Explanation) -> Self {
        let flow = &explanation.flow;
        let (protocol, port) = match flow.traffic {
            Traffic::Port(protocol, port) => (protocol.to_string(), Some(port)),
            Traffic::Other(1 | 58) => ("ICMP".to_owned(), None),
            Traffic::Other(number) => (number.to_string(), None),
        };
        let judgement =
            |it: &Option<Judgement>| it.as_ref().map(|it| JudgementJson::new(it, explanation));
        Self {
            source: flow.source.to_string(),
            destination: flow.destination.to_string(),
            protocol,
            port,
            allowed: explanation.is_allowed(),
            self_traffic: explanation.is_self_traffic,
            via_service: flow.via_service,
            egress: judgement(&explanation.egress),
            ingress: judgement(&explanation.ingress),
        }
    }
}

impl JudgementJson {
    fn new(judgement: &Judgement, explanation: &Explanation) -> Self {
        let (namespace, name) = &judgement.subject;
        Self {
            subject: format!("{namespace}/{name}"),
            allowed: judgement.verdict == Verdict::Allow,
            reason: ReasonJson::new(&judgement.reason),
            message: decided_by(judgement, &explanation.flow),
            steps: judgement.steps.iter().map(StepJson::new).collect(),
            hint: hint(judgement, explanation),
            certain: judgement.undecidable().is_none(),
        }
    }
}

impl ReasonJson {
    fn new(reason: &Reason) -> Self {
        match reason {
            Reason::Rule { tier: of, policy, rule, action, failed_closed } => Self::Rule {
                tier: tier(*of),
                policy: PolicyJson::new(policy),
                rule: RuleJson::new(rule),
                action: action.to_string(),
                failed_closed: *failed_closed,
            },
            Reason::Isolated(policies) => {
                Self::Isolated { policies: policies.iter().map(PolicyJson::new).collect() }
            }
            Reason::TooLarge(policies) => {
                Self::TooLarge { policies: policies.iter().map(PolicyJson::new).collect() }
            }
            Reason::OwnNode => Self::OwnNode,
            Reason::Itself => Self::Itself,
            Reason::OtherProtocol => Self::OtherProtocol,
            Reason::Default => Self::Default,
        }
    }
}

impl PolicyJson {
    fn new(key: &PolicyKey) -> Self {
        Self {
            kind: key.kind.as_str(),
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
        }
    }
}

impl RuleJson {
    fn new(rule: &RuleRef) -> Self {
        Self { index: rule.index, name: rule.name.as_ref().map(ToString::to_string) }
    }
}

impl StepJson {
    fn new(step: &Step) -> Self {
        let outcome = match &step.outcome {
            Outcome::Decides(rule, action) => {
                OutcomeJson::Decides { rule: RuleJson::new(rule), action: action.to_string() }
            }
            Outcome::Passes(rule) => OutcomeJson::Passes { rule: RuleJson::new(rule) },
            Outcome::NotReached => OutcomeJson::NotReached,
            Outcome::Misses(misses) => {
                OutcomeJson::Misses { rules: misses.iter().map(MissJson::new).collect() }
            }
        };
        Self { tier: tier(step.tier), policy: PolicyJson::new(&step.policy), outcome }
    }
}

impl MissJson {
    fn new(miss: &Miss) -> Self {
        let missed = match miss.missed {
            Missed::Address => "address",
            Missed::Port => "port",
            Missed::Peer => "peer",
            Missed::Both => "both",
            Missed::NotUnderstood(_) => "notUnderstood",
        };
        Self {
            rule: RuleJson::new(&miss.rule),
            missed,
            ports: miss.ports.clone(),
            message: miss.to_string(),
        }
    }
}

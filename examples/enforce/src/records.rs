//! Denied packets as records that say which policies it was, one line of JSON each.
//!
//! The kernel reports no more than it is asked to ([`Log::per_second`](netpol_backend_nft::Log)), and says nothing but
//! direction and addresses; [`Record::new`] asks the program in force for the reason.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use netpol_backend_nft::nflog::{Listener, Packet, Report};
use netpol_core::backend::Error;
use netpol_core::model::{Direction, End, Flow, PolicyKey, Tier, Traffic};
use netpol_core::program::{self, Judgement, Outcome, Reason, RuleRef, Step};
use serde::{Serialize, Serializer};

use crate::in_force::{InForce, Numbered};
use crate::metrics::Metrics;

/// One packet that was denied, and why.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// When it was heard of.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// What became of the packet.
    pub verdict: Verdict,
    /// Whose policies it was: egress for those of the source.
    #[serde(serialize_with = "display")]
    pub direction: Direction,
    /// Who sent it.
    pub src: Party,
    /// To whom, and to which port.
    pub dst: Party,
    /// `TCP`, `UDP`, `SCTP`, `ICMP`, `ICMPv6`, or the number of another.
    pub protocol: String,
    /// No rule denies it: the subject is isolated, and none allows it.
    pub default: bool,
    /// The policies that denied it: the one with the rule, or all that isolate the subject. Empty if the program has
    /// changed since, and now allows it.
    pub policies: Vec<PolicyRef>,
    /// The same in words.
    pub reason: String,
    /// The rule that came closest to allowing it, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest_miss: Option<String>,
    /// What each policy that applies answered, in the order in which they are asked.
    pub trace: Vec<TraceStep>,
    /// The number of the program that gave the reason.
    pub program_generation: u64,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It was dropped.
    Deny,
    /// It would have been dropped.
    Audit,
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Party {
    /// Its address.
    pub ip: Option<IpAddr>,
    /// The namespace of the endpoint that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The endpoint's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The port, of a destination that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// A policy, and a rule of it where one decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRef {
    /// The kind of object.
    pub kind: &'static str,
    /// Its namespace, if it has one.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `admin`, `network` or `baseline`.
    pub tier: String,
    /// The rule's place in the list of its direction, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<usize>,
    /// The rule's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_name: Option<String>,
}

/// What one policy answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceStep {
    /// Which.
    #[serde(flatten)]
    pub policy: PolicyRef,
    /// `accept`, `deny`, `pass`, `no-match` or `not-reached`.
    pub action: String,
}

impl Record {
    /// The record of a denied packet, explained by the program that was in force when it was heard of.
    pub fn new(denied: &Packet, verdict: Verdict, in_force: &Numbered) -> Self {
        let Packet { prefix, flow } = denied;
        let direction = &prefix.direction;
        let explanation = in_force.program.explain(flow);
        let judgement = match direction {
            Direction::Egress => explanation.egress,
            Direction::Ingress => explanation.ingress,
        };
        let judgement = judgement.filter(|it| it.verdict == program::Verdict::Deny);
        let (port, protocol) = match flow.traffic {
            Traffic::Port(protocol, port) => (Some(port), protocol.to_string()),
            Traffic::ICMP => (None, "ICMP".to_owned()),
            Traffic::ICMPV6 => (None, "ICMPv6".to_owned()),
            Traffic::Other(number) => (None, number.to_string()),
        };
        let (src, dst) = parties(flow, in_force);
        Self {
            time: SystemTime::now(),
            verdict,
            direction: *direction,
            src,
            dst: Party { port, ..dst },
            protocol,
            default: judgement.as_ref().is_some_and(|it| matches!(it.reason, Reason::Isolated(_))),
            policies: judgement.as_ref().map(deciding).unwrap_or_default(),
            reason: match &judgement {
                Some(judgement) => judgement.reason.to_string(),
                None if !is_known(flow, *direction, in_force) => {
                    "no endpoint of this host is known to have the address".to_owned()
                }
                None => "the program has changed since, and now allows it".to_owned(),
            },
            nearest_miss: judgement.as_ref().and_then(|judgement| {
                let (policy, miss) = judgement.nearest_miss()?;
                Some(format!("{policy} {} {miss}", miss.rule))
            }),
            trace: judgement.iter().flat_map(|it| &it.steps).map(TraceStep::new).collect(),
            program_generation: in_force.generation,
        }
    }
}

/// Whether the end whose policies were asked is an endpoint that is policed here.
fn is_known(flow: &Flow, direction: Direction, in_force: &Numbered) -> bool {
    let end = match direction {
        Direction::Egress => &flow.source,
        Direction::Ingress => &flow.destination,
    };
    match end {
        End::Address(address) => {
            in_force.program.endpoint_at(*address).is_some_and(|entry| entry.is_policed())
        }
        End::Endpoint { .. } => true,
    }
}

/// Turns what a listener hears into records.
#[derive(Debug)]
pub struct Recorder {
    listener: Listener,
    verdict: Verdict,
    in_force: InForce,
    metrics: Arc<Metrics>,
}

/// What there was to hear.
#[derive(Clone, Debug)]
pub enum Heard {
    /// A denied packet.
    Record(Box<Record>),
    /// Reports were lost, since they came faster than they were read.
    Lost,
}

impl Recorder {
    /// Records what `listener` hears ([`open_listener`](crate::backend::open_listener)), explained by the program in
    /// force ([`Enforcer::in_force`](crate::Enforcer::in_force)).
    pub fn new(
        listener: Listener,
        verdict: Verdict,
        in_force: InForce,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { listener, verdict, in_force, metrics }
    }

    /// Waits for the next, for ever if there is no `timeout`; `None` after the timeout.
    ///
    /// # Errors
    ///
    /// If the listener fails.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<Heard>, Error> {
        Ok(match self.listener.wait(timeout)? {
            None => None,
            Some(Report::Lost) => {
                self.metrics.lost_records();
                Some(Heard::Lost)
            }
            Some(Report::Packet(denied)) => {
                self.metrics.recorded();
                let record = Record::new(&denied, self.verdict, &self.in_force.get());
                Some(Heard::Record(Box::new(record)))
            }
        })
    }
}

fn parties(flow: &Flow, in_force: &Numbered) -> (Party, Party) {
    let party = |end: &End| match end {
        End::Address(ip) => {
            let entry = in_force.program.endpoint_at(*ip).filter(|it| !it.is_host());
            Party {
                ip: Some(*ip),
                namespace: entry.map(|it| it.namespace().to_owned()),
                name: entry.map(|it| it.name().to_owned()),
                port: None,
            }
        }
        End::Endpoint { namespace, name } => Party {
            ip: None,
            namespace: Some(namespace.to_string()),
            name: Some(name.to_string()),
            port: None,
        },
    };
    (party(&flow.source), party(&flow.destination))
}

fn deciding(judgement: &Judgement) -> Vec<PolicyRef> {
    match &judgement.reason {
        Reason::Rule { tier, policy, rule, .. } => vec![PolicyRef::new(policy, *tier, Some(rule))],
        Reason::Isolated(policies) => {
            policies.iter().map(|it| PolicyRef::new(it, Tier::NetworkPolicy, None)).collect()
        }
        Reason::TooLarge(policies) => {
            let tier = |it: &PolicyKey| judgement.steps.iter().find(|step| step.policy == *it);
            let tier = |it: &PolicyKey| tier(it).map_or(Tier::NetworkPolicy, |step| step.tier);
            policies.iter().map(|it| PolicyRef::new(it, tier(it), None)).collect()
        }
        Reason::OwnNode | Reason::Itself | Reason::OtherProtocol | Reason::Default => Vec::new(),
    }
}

impl PolicyRef {
    fn new(key: &PolicyKey, tier: Tier, rule: Option<&RuleRef>) -> Self {
        Self {
            kind: key.kind.as_str(),
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            tier: tier.to_string(),
            rule: rule.map(|rule| rule.index),
            rule_name: rule.and_then(|rule| rule.name.as_ref()).map(|name| name.to_string()),
        }
    }
}

impl TraceStep {
    fn new(step: &Step) -> Self {
        let (rule, action) = match &step.outcome {
            Outcome::Decides(rule, action) => (Some(rule), action.to_string()),
            Outcome::Passes(rule) => (Some(rule), "pass".to_owned()),
            Outcome::Misses(_) => (None, "no-match".to_owned()),
            Outcome::NotReached => (None, "not-reached".to_owned()),
        };
        Self { policy: PolicyRef::new(&step.policy, step.tier, rule), action }
    }
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    match Timestamp::try_from(*time) {
        Ok(time) => serializer.collect_str(&format_args!("{time:.6}")),
        Err(error) => Err(serde::ser::Error::custom(error)),
    }
}

fn display<S: Serializer>(direction: &Direction, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(direction)
}

#[cfg(test)]
mod tests {
    use netpol_backend_nft::nflog::Prefix;
    use netpol_core::manifest::{ReadOptions, Value, load};
    use netpol_core::model::Options;
    use netpol_core::{Cluster, Scope, compile};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_names_the_policies_and_the_nearest_miss() {
        let objects = r#"[
          {"apiVersion": "v1", "kind": "Pod",
           "metadata": {"name": "db", "namespace": "shop", "labels": {"app": "db"}},
           "spec": {"containers": []}, "status": {"podIP": "10.0.0.1"}},
          {"apiVersion": "v1", "kind": "Pod",
           "metadata": {"name": "api", "namespace": "shop", "labels": {"app": "api"}},
           "spec": {"containers": []}, "status": {"podIP": "10.0.0.2"}},
          {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
           "metadata": {"name": "db", "namespace": "shop"},
           "spec": {"podSelector": {"matchLabels": {"app": "db"}},
                    "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "api"}}}],
                                 "ports": [{"port": 5432}]}]}}
        ]"#;
        let objects: Vec<Value> = serde_json::from_str(objects).unwrap();
        let loaded = load(&objects, &ReadOptions::default());
        let cluster = Cluster::from_objects(Options::default(), loaded.objects);
        let program = compile(&cluster, Scope::Cluster);
        let in_force = Numbered { generation: 3, program };
        let flow = |from: &str, to: &str, traffic| {
            Flow::new(from.parse().unwrap(), to.parse().unwrap(), traffic)
        };
        let flow = flow("10.0.0.2", "10.0.0.1", Traffic::tcp(22));
        let denied =
            |text: &str| Packet { prefix: Prefix::parse(text).unwrap(), flow: flow.clone() };
        let ingress = denied("netpol: ingress denied ");
        let mut record = Record::new(&ingress, Verdict::Deny, &in_force);
        record.time = SystemTime::UNIX_EPOCH;
        assert_eq!(
            serde_json::to_value(&record).unwrap(),
            json!({
                "time": "1970-01-01T00:00:00.000000Z",
                "verdict": "deny",
                "direction": "ingress",
                "src": {"ip": "10.0.0.2", "namespace": "shop", "name": "api"},
                "dst": {"ip": "10.0.0.1", "namespace": "shop", "name": "db", "port": 22},
                "protocol": "TCP",
                "default": true,
                "policies": [{"kind": "NetworkPolicy", "namespace": "shop", "name": "db", "tier": "network"}],
                "reason": "NetworkPolicy shop/db isolates the pod; no rule matches",
                "nearestMiss":
                    "NetworkPolicy shop/db rule #1 matches the peer, but not the port (5432/TCP)",
                "trace": [{
                    "kind": "NetworkPolicy", "namespace": "shop", "name": "db", "tier": "network",
                    "action": "no-match",
                }],
                "programGeneration": 3,
            })
        );
        let allowed = denied("netpol: egress denied ");
        let record = Record::new(&allowed, Verdict::Deny, &in_force);
        assert!(record.policies.is_empty() && record.reason.contains("changed since"));
        let source = End::Address("10.0.0.7".parse().unwrap());
        let unknown = Flow { source, ..flow.clone() };
        let unknown = Packet { flow: unknown, ..allowed };
        let record = Record::new(&unknown, Verdict::Deny, &in_force);
        assert_eq!(record.reason, "no endpoint of this host is known to have the address");
    }
}

//! Laws that hold in every world, whatever its policies say: checked on generated ones, by the program alone.

use netpol_core::model::{
    Action, Direction, Flow, Name, NamespaceScope, Objects, Options, Peer, Peers, PodSelector,
    Policy, PolicyKey, PolicyKind, Ports, Rule, Selector, Subject, Tier, Traffic,
};
use netpol_core::program::{Decision, Reason, Verdict};
use netpol_core::testing::{Choices, flow, world};
use netpol_core::{Cluster, Program, Scope, compile};

const WORLDS: u64 = 400;

fn program(options: Options, objects: &Objects) -> Program {
    compile(&Cluster::from_objects(options, objects.clone()), Scope::Cluster)
}

/// Generated worlds with flows to ask about, and what is left of the tape for further choices.
fn worlds(law: u64, mut check: impl FnMut(&mut Choices<'_>, Objects, Options, Vec<Flow>)) {
    for seed in 0..WORLDS {
        let mut choices = Choices::from_seed(law * 1_000_000 + seed, 2000);
        let (objects, options) = world(&mut choices);
        let flows = (0..60).map(|_| flow(&mut choices, &objects)).collect();
        check(&mut choices, objects, options, flows);
    }
}

fn all_pods_of(namespace: &str) -> Subject {
    let namespaces = NamespaceScope::Named(namespace.into());
    Subject::Pods(PodSelector { namespaces, pods: Selector::everything() })
}

fn every_pod() -> Subject {
    let namespaces = NamespaceScope::Matching(Selector::everything());
    Subject::Pods(PodSelector { namespaces, pods: Selector::everything() })
}

fn policy(kind: PolicyKind, tier: Tier, name: &str, subject: Subject) -> Policy {
    let namespace = Name::from(if kind == PolicyKind::NetworkPolicy { "n0" } else { "" });
    let key = PolicyKey { kind, namespace, name: name.into() };
    Policy { key, tier, priority: 0, subject, ingress: None, egress: None }
}

fn everything(action: Action) -> Vec<Rule> {
    vec![Rule { name: None, action, peers: Peers::Everyone, ports: Ports::All }]
}

fn sides(decision: Decision) -> [Option<Verdict>; 2] {
    [decision.egress, decision.ingress]
}

fn same_verdicts(a: &Program, b: &Program, flows: &[Flow], law: &str) {
    for flow in flows {
        assert_eq!(a.decide(flow), b.decide(flow), "{law}: {flow}");
    }
}

/// In how many directions the second program says otherwise, which must never be that it forbids.
fn differing(programs: [Program; 2], flows: &[Flow], complaint: &str) -> usize {
    let mut differing = 0;
    for flow in flows {
        let [before, after] = programs.each_ref().map(|it| sides(it.decide(flow)));
        for (before, after) in before.into_iter().zip(after) {
            let opens = before != Some(Verdict::Allow) || after == Some(Verdict::Allow);
            assert!(opens, "{flow}: {complaint}");
            differing += usize::from(before != after);
        }
    }
    differing
}

/// NP-ISO-3: one more rule in a NetworkPolicy that isolates already never forbids anything.
#[test]
fn a_further_rule_only_adds() {
    let mut added = 0;
    worlds(1, |choices, objects, options, flows| {
        let mut more = objects.clone();
        let policies = more.policies.iter_mut().filter(|it| it.tier == Tier::NetworkPolicy);
        for rules in policies.flat_map(|it| [&mut it.ingress, &mut it.egress]).flatten() {
            if choices.one_in(2) {
                rules.extend(everything(Action::Accept));
            }
        }
        let [before, after] = [&objects, &more].map(|it| program(options, it));
        added += differing([before, after], &flows, "a rule took an allowance back");
    });
    assert!(added > 100, "the rules that were added hardly changed anything: {added}");
}

/// NP-ISO-3: policies add up. Whatever NetworkPolicy a pod has besides one that isolates it already, taking it away
/// opens nothing.
#[test]
fn a_further_policy_only_adds() {
    let mut added = 0;
    worlds(8, |choices, objects, options, flows| {
        let mut more = objects;
        for namespace in ["n0", "n1", "n2", "n3"] {
            let mut deny = policy(
                PolicyKind::NetworkPolicy,
                Tier::NetworkPolicy,
                namespace,
                all_pods_of(namespace),
            );
            deny.ingress = Some(Vec::new());
            deny.egress = Some(Vec::new());
            more.policies.push(deny);
        }
        let mut fewer = more.clone();
        let isolating = fewer.policies.split_off(fewer.policies.len() - 4);
        let is_kept = |it: &Policy| it.tier != Tier::NetworkPolicy;
        fewer.policies.retain(|it| is_kept(it) || choices.one_in(2));
        fewer.policies.extend(isolating);
        let [before, after] = [fewer, more].map(|it| program(options, &it));
        added += differing([before, after], &flows, "a policy took an allowance back");
    });
    assert!(added > 100, "the policies that were added hardly changed anything: {added}");
}

/// NP-ISO-3, NP-ISO-4, NP-PEER-2: a NetworkPolicy is as good as a policy of its own for every peer of every rule, in
/// any order, and given twice.
#[test]
fn policies_may_be_taken_apart() {
    worlds(9, |_, objects, options, flows| {
        let mut apart = objects.clone();
        apart.policies.clear();
        for policy in objects.policies.iter().rev() {
            if policy.tier != Tier::NetworkPolicy {
                apart.policies.push(policy.clone());
                continue;
            }
            let named = |suffix: &str| PolicyKey {
                name: format!("{}-{suffix}", policy.key.name).into(),
                ..policy.key.clone()
            };
            let only = |ingress: Option<Vec<Rule>>, egress: Option<Vec<Rule>>, suffix: &str| {
                Policy { key: named(suffix), ingress, egress, ..policy.clone() }
            };
            // What isolates, and then one policy for each that is allowed.
            let empty = |rules: &Option<Vec<Rule>>| rules.as_ref().map(|_| Vec::new());
            apart.policies.push(only(empty(&policy.ingress), empty(&policy.egress), "isolates"));
            for (at, rule) in singles(policy.ingress.as_deref()).into_iter().enumerate() {
                for time in 0..2 {
                    let rules = Some(vec![rule.clone()]);
                    apart.policies.push(only(rules, None, &format!("in{at}-{time}")));
                }
            }
            for (at, rule) in singles(policy.egress.as_deref()).into_iter().enumerate() {
                let rules = Some(vec![rule.clone(), rule]);
                apart.policies.push(only(None, rules, &format!("out{at}")));
            }
        }
        let [whole, apart] = [objects, apart].map(|it| program(options, &it));
        same_verdicts(&whole, &apart, &flows, "taken apart");
    });
}

/// A rule for each peer, unless one that is not understood spoils its rule (C-FAIL-1).
fn singles(rules: Option<&[Rule]>) -> Vec<Rule> {
    let of = |rule: &Rule| match &rule.peers {
        Peers::AnyOf(peers) if !peers.iter().any(|it| matches!(it, Peer::Unknown(_))) => {
            let one = |it: &Peer| Rule { peers: Peers::AnyOf(vec![it.clone()]), ..rule.clone() };
            peers.iter().map(one).collect()
        }
        _ => vec![rule.clone()],
    };
    rules.unwrap_or_default().iter().rev().flat_map(of).collect()
}

/// C-TIER-1: a Baseline policy has no say over an end that an earlier tier decides on; nor is a NetworkPolicy asked
/// about what an Admin rule accepts or denies.
#[test]
fn tiers_are_asked_in_turn() {
    let mut decided = [0, 0];
    worlds(10, |choices, objects, options, flows| {
        let program = program(options, &objects);
        let action = choices.of([Action::Accept, Action::Deny]);
        for (at, tier) in [(0, Tier::Baseline), (1, Tier::NetworkPolicy)] {
            let mut more = objects.clone();
            match tier {
                Tier::NetworkPolicy => {
                    more.policies.retain(|it| it.tier != tier || choices.one_in(2));
                }
                _ => {
                    let mut all = policy(PolicyKind::ClusterNetworkPolicy, tier, "0", every_pod());
                    all.ingress = Some(everything(action));
                    all.egress = Some(everything(action));
                    more.policies.push(all);
                }
            }
            let changed = self::program(options, &more);
            for flow in &flows {
                let explanation = program.explain(flow);
                let earlier = explanation.judgements().filter(|it| match &it.reason {
                    Reason::Rule { tier: by, .. } => *by < tier,
                    Reason::Default => false,
                    _ => tier == Tier::Baseline,
                });
                for judged in earlier {
                    let now = changed.decide(flow);
                    let now = match judged.direction {
                        Direction::Egress => now.egress,
                        Direction::Ingress => now.ingress,
                    };
                    assert_eq!(now, Some(judged.verdict), "{tier:?}: {flow}: {judged:?}");
                    decided[at] += 1;
                }
            }
        }
    });
    assert!(decided.iter().all(|it| *it > 300), "{decided:?}");
}

/// NP-ISO-7, C-TIER-4: a policy that selects no pod changes nothing, nor does one that isolates nothing (NP-TYPE-4).
#[test]
fn a_policy_that_selects_nothing_changes_nothing() {
    worlds(2, |_, objects, options, flows| {
        let mut more = objects.clone();
        let elsewhere = || all_pods_of("nowhere");
        let mut nobody =
            policy(PolicyKind::NetworkPolicy, Tier::NetworkPolicy, "nobody", elsewhere());
        nobody.ingress = Some(Vec::new());
        nobody.egress = Some(Vec::new());
        let mut denies =
            policy(PolicyKind::ClusterNetworkPolicy, Tier::Admin, "nobody", elsewhere());
        denies.ingress = Some(everything(Action::Deny));
        denies.egress = Some(everything(Action::Deny));
        let silent =
            policy(PolicyKind::NetworkPolicy, Tier::NetworkPolicy, "silent", all_pods_of("n0"));
        more.policies.extend([nobody, denies, silent]);
        same_verdicts(&program(options, &objects), &program(options, &more), &flows, "no effect");
    });
}

/// C-TIER-1, C-ACT-1, C-ACT-3: what the first Admin rule decides stands, whatever else there is.
#[test]
fn the_first_admin_rule_stands() {
    worlds(3, |choices, objects, options, flows| {
        let mut more = objects;
        let action = choices.of([Action::Accept, Action::Deny]);
        // Everything else of that name or priority comes after it.
        more.policies.iter_mut().for_each(|it| it.priority += 1);
        let mut first = policy(PolicyKind::ClusterNetworkPolicy, Tier::Admin, "first", every_pod());
        first.ingress = Some(everything(action));
        first.egress = Some(everything(action));
        more.policies.push(first);
        let program = program(options, &more);
        let wanted = if action == Action::Accept { Verdict::Allow } else { Verdict::Deny };
        for flow in flows {
            let explanation = program.explain(&flow);
            // Nodes are no subjects of cluster-wide policies, and self traffic is none of their business.
            let judged = explanation.judgements().filter(|it| {
                it.steps.iter().any(|step| step.tier == Tier::Admin) && !explanation.is_self_traffic
            });
            judged.for_each(|it| assert_eq!(it.verdict, wanted, "{flow}: {it:?}"));
        }
    });
}

/// C-ACT-4: a Pass for everyone at the head of the Admin tier is as good as no Admin tier at all, and one at the head
/// of Baseline as no Baseline.
#[test]
fn passing_everyone_is_leaving_the_tier_out() {
    for tier in [Tier::Admin, Tier::Baseline] {
        worlds(4, |_, objects, options, flows| {
            let mut without = objects.clone();
            without.policies.retain(|it| it.tier != tier);
            let mut passing = objects;
            passing.policies.iter_mut().for_each(|it| it.priority += 1);
            let mut pass = policy(PolicyKind::ClusterNetworkPolicy, tier, "pass", every_pod());
            pass.ingress = Some(everything(Action::Pass));
            pass.egress = Some(everything(Action::Pass));
            passing.policies.push(pass);
            let [without, passing] = [without, passing].map(|it| program(options, &it));
            same_verdicts(&without, &passing, &flows, "pass");
        });
    }
}

/// NP-ISO-2, NP-ISO-6: what is said on one direction does not change the other, unless CH-BASELINE-DIR has it so.
#[test]
fn directions_are_independent() {
    worlds(5, |_, objects, options, flows| {
        if options.baseline_skip != Options::default().baseline_skip {
            return;
        }
        let mut ingress_only = objects.clone();
        ingress_only.policies.iter_mut().for_each(|it| it.egress = None);
        let mut egress_only = objects.clone();
        egress_only.policies.iter_mut().for_each(|it| it.ingress = None);
        let [all, ingress_only, egress_only] =
            [objects, ingress_only, egress_only].map(|it| program(options, &it));
        for flow in flows {
            let whole = all.decide(&flow);
            assert_eq!(whole.ingress, ingress_only.decide(&flow).ingress, "{flow}");
            assert_eq!(whole.egress, egress_only.decide(&flow).egress, "{flow}");
        }
    });
}

/// M1: the same question has the same answer; M9: an address of one family never matches a block of the other.
#[test]
fn default_deny_closes_every_port_of_every_protocol() {
    worlds(6, |_, mut objects, _, flows| {
        // NP-ISO-5, NP-ISO-8: nothing but an isolating policy without rules in every namespace.
        objects.policies.clear();
        for namespace in ["n0", "n1", "n2", "n3"] {
            let mut deny = policy(
                PolicyKind::NetworkPolicy,
                Tier::NetworkPolicy,
                namespace,
                all_pods_of(namespace),
            );
            deny.ingress = Some(Vec::new());
            deny.egress = Some(Vec::new());
            objects.policies.push(deny);
        }
        let program = program(Options::default(), &objects);
        for flow in flows {
            for traffic in [flow.traffic, Traffic::tcp(80), Traffic::udp(0), Traffic::ICMP] {
                let explanation = program.explain(&Flow { traffic, ..flow.clone() });
                for judgement in explanation.judgements() {
                    // NP-NODE-1 and NP-SELF-1 are what a NetworkPolicy cannot close.
                    let left_open = match judgement.reason {
                        Reason::OwnNode => judgement.direction == Direction::Ingress,
                        Reason::Itself => flow.via_service,
                        _ => false,
                    };
                    assert!(
                        left_open || judgement.verdict == Verdict::Deny,
                        "{flow}: {judgement:?}"
                    );
                }
            }
        }
    });
}

/// M8: what endpoints, nodes and namespaces are called changes nothing, as long as everything that names them follows.
#[test]
fn names_of_endpoints_mean_nothing() {
    worlds(7, |_, objects, options, flows| {
        let mut renamed = objects.clone();
        // The order of names is kept: it decides who has an address that two endpoints claim.
        let rename = |name: &Name| Name::from(format!("renamed-{name}"));
        renamed.endpoints.iter_mut().for_each(|it| it.name = rename(&it.name));
        let [before, after] = [objects, renamed].map(|it| program(options, &it));
        let by_address = |flow: &&Flow| {
            [&flow.source, &flow.destination]
                .iter()
                .all(|end| matches!(end, netpol_core::model::End::Address(_)))
        };
        let flows: Vec<Flow> = flows.iter().filter(by_address).cloned().collect();
        same_verdicts(&before, &after, &flows, "renamed");
    });
}

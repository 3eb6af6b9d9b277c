use netpol_core::model::{NamespaceScope, Operator, PodSelector, PolicyKind, Selector, Subject};

use super::super::facts::{Facts, label, subject};
use super::super::{Lint, Report};

const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub(super) fn check(facts: &Facts<'_>, report: &mut Report<'_>) {
    let policy = report.policy;
    if let Subject::AtMost(_) = &policy.subject {
        let message = "the subject is not fully understood: all pods that it may mean are closed";
        report.add(Lint::Unsupported, "spec.subject", message);
    }
    let selector = subject(policy);
    let namespaced = policy.key.kind == PolicyKind::NetworkPolicy;
    let path = if namespaced { "spec.podSelector" } else { "spec.subject" };
    let namespace_is_missing = namespaced
        && !facts.objects.namespaces.is_empty()
        && !facts.namespaces.contains_key(&policy.key.namespace);
    if namespace_is_missing {
        let message = format!("there is no namespace {}", policy.key.namespace);
        report.add(Lint::NoSuchNamespace, "metadata.namespace", message);
    }
    let hosts = facts.hosts(selector);
    if let Some(first) = hosts.first() {
        let message = format!(
            "{} is on the network of its node, where policies of pods have no effect{}",
            label(first),
            more(hosts.len())
        );
        report.add(Lint::HostNetworkSubject, path, message);
    }
    if !facts.pods.is_empty()
        && !namespace_is_missing
        && hosts.is_empty()
        && facts.matching(selector).is_empty()
    {
        match near_miss(facts, selector) {
            Some(hint) => report.add(Lint::NearMiss, path, hint),
            None => report.add(Lint::SelectsNothing, path, "selects no pod of the input"),
        }
    }
    if namespaced {
        cluster_wide(selector, report);
    }
}

/// `, and 3 more`
fn more(count: usize) -> String {
    if count > 1 { format!(", and {} more", count - 1) } else { String::new() }
}

/// Signs that a policy of one namespace is meant for all of them.
fn cluster_wide(selector: &PodSelector, report: &mut Report<'_>) {
    let policy = report.policy;
    if selector.pods.requirements().iter().any(|it| &*it.key == NAME_LABEL) {
        let message = "asks pods for a label of namespaces; a NetworkPolicy selects pods of its own namespace only";
        report.add(Lint::ClusterWide, "spec.podSelector", message);
        return;
    }
    let mut words = policy.key.name.split(['-', '.']);
    if words.any(|word| ["cluster", "clusterwide", "global", "everywhere"].contains(&word))
        && selector.pods.is_everything()
    {
        let message = format!(
            "is called {}, but holds for pods of namespace {} only",
            policy.key.name, policy.key.namespace
        );
        report.add(Lint::ClusterWide, "metadata.name", message);
    }
}

/// What a selector that selects nothing may have meant.
pub(super) fn near_miss(facts: &Facts<'_>, selector: &PodSelector) -> Option<String> {
    if let NamespaceScope::Matching(namespaces) = &selector.namespaces
        && facts.namespaces(&selector.namespaces).is_empty()
    {
        let known = facts.namespaces.values().flat_map(|labels| labels.iter());
        let known: Vec<(&str, &str)> = known.map(|(key, value)| (&**key, &**value)).collect();
        return meant(namespaces, &known)
            .map(|(asked, hint)| format!("no namespace has {asked}; was {hint} meant?"));
    }
    let known = facts.labels_in(&selector.namespaces);
    let known: Vec<(&str, &str)> = known.iter().map(|(key, value)| (&***key, &***value)).collect();
    meant(&selector.pods, &known)
        .map(|(asked, hint)| format!("no pod there has {asked}; was {hint} meant?"))
}

/// A label that is asked for and that nobody has, with one that somebody has and that is spelled nearly so.
fn meant(selector: &Selector, known: &[(&str, &str)]) -> Option<(String, String)> {
    for requirement in selector.requirements() {
        let (key, values) = match &requirement.operator {
            Operator::In(values) => (&*requirement.key, &values[..]),
            Operator::Exists => (&*requirement.key, &[][..]),
            Operator::NotIn(_) | Operator::DoesNotExist => continue,
        };
        let fulfilled = known.iter().any(|(its, value)| {
            *its == key && (values.is_empty() || values.iter().any(|it| &**it == *value))
        });
        if fulfilled {
            continue;
        }
        for value in values {
            let by_value = known.iter().find(|(its, other)| *its == key && similar(value, other));
            let by_key = known.iter().find(|(its, other)| similar(key, its) && **value == **other);
            if let Some((key_, value_)) = by_value.or(by_key) {
                return Some((format!("{key}={value}"), format!("{key_}={value_}")));
            }
        }
        if let Some((near, _)) = known.iter().find(|(its, _)| similar(key, its)) {
            return Some((requirement.to_string(), near.to_string()));
        }
    }
    None
}

/// Whether two different words differ by case, or by at most two letters of many.
fn similar(one: &str, other: &str) -> bool {
    let longer = one.chars().count().max(other.chars().count());
    let allowed = match longer {
        0..=3 => 0,
        4..=5 => 1,
        _ => 2,
    };
    one != other
        && (one.eq_ignore_ascii_case(other) || strsim::damerau_levenshtein(one, other) <= allowed)
}

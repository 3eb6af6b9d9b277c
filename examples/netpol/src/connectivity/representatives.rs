//! Pods that there could be: one for every selector of the policies, to stand for the workloads that are not in the
//! input.

use std::collections::{BTreeMap, BTreeSet};

use netpol_core::model::{
    Direction, Endpoint, Labels, Name, Namespace, NamespaceScope, Objects, Operator, Peer, Peers,
    PodSelector, Policy, Selector, Subject,
};

/// The label that every namespace has.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// A value that is hardly ever listed.
const SOME: &str = "*";

/// Adds to the objects a pod, and perhaps a namespace, for every selector of the policies' peers, and of their subjects
/// if these are wanted; also one in a namespace and with labels that no policy speaks of. The names of the added pods
/// are their selectors in brackets.
pub(crate) fn representatives(objects: &mut Objects, subjects: bool) {
    let selectors: BTreeSet<PodSelector> =
        objects.policies.iter().flat_map(|policy| selectors(policy, subjects)).collect();
    let mut added = BTreeMap::new();
    let anything = NamespaceScope::Matching(Selector::everything());
    let any = PodSelector { namespaces: anything, pods: Selector::everything() };
    for selector in selectors.into_iter().chain([any]) {
        let Some(labels) = example(&selector.pods) else { continue };
        let Some((namespace, labels_of_namespace)) = namespace(&selector.namespaces) else {
            continue;
        };
        if let Some(labels) = labels_of_namespace {
            objects.namespaces.push(Namespace { name: namespace.clone(), labels });
        }
        let name = match selector.pods.is_everything() {
            true => "[any pod]".to_owned(),
            false => format!("[{}]", selector.pods),
        };
        let mut endpoint = Endpoint::new(&namespace, &name);
        endpoint.labels = labels;
        added.insert((namespace, Name::from(name)), endpoint);
    }
    objects.endpoints.extend(added.into_values());
}

fn selectors(policy: &Policy, subjects: bool) -> Vec<PodSelector> {
    let mut found = Vec::new();
    let (Subject::Pods(subject) | Subject::AtMost(subject)) = &policy.subject;
    if subjects {
        found.push(subject.clone());
    }
    let rules = Direction::ALL.into_iter().filter_map(|it| policy.rules(it)).flatten();
    for rule in rules {
        let Peers::AnyOf(peers) = &rule.peers else { continue };
        found.extend(peers.iter().filter_map(|peer| match peer {
            Peer::Pods(selector) => Some(selector.clone()),
            _ => None,
        }));
    }
    found
}

/// A namespace that the scope takes in, with its labels if it has to be made up.
fn namespace(scope: &NamespaceScope) -> Option<(Name, Option<Labels>)> {
    let selector = match scope {
        NamespaceScope::Named(name) => return Some((name.clone(), None)),
        NamespaceScope::Matching(selector) => selector,
    };
    let labels = example(selector)?;
    if let ([_], Some(name)) = (selector.requirements(), labels.get(NAME_LABEL)) {
        return Some((name.into(), None));
    }
    let name = match selector.is_everything() {
        true => "[any namespace]".to_owned(),
        false => format!("[{selector}]"),
    };
    let labels = match labels.get(NAME_LABEL) {
        Some(_) => labels,
        None => labels.with(NAME_LABEL, &name),
    };
    Some((name.into(), Some(labels)))
}

/// Labels that the selector selects, as few as possible; none if it contradicts itself.
fn example(selector: &Selector) -> Option<Labels> {
    let mut wanted: BTreeMap<&str, &str> = BTreeMap::new();
    for requirement in selector.requirements() {
        match &requirement.operator {
            Operator::In(values) => {
                let keys = selector.requirements().iter().filter(|it| it.key == requirement.key);
                let fits = |value: &&Name| {
                    keys.clone().all(|it| match &it.operator {
                        Operator::In(values) => values.contains(value),
                        Operator::NotIn(values) => !values.contains(value),
                        Operator::Exists => true,
                        Operator::DoesNotExist => false,
                    })
                };
                wanted.insert(&requirement.key, values.iter().find(fits)?);
            }
            Operator::Exists => {
                wanted.entry(&requirement.key).or_insert(SOME);
            }
            Operator::NotIn(_) | Operator::DoesNotExist => {}
        }
    }
    let labels: Labels = wanted.into_iter().collect();
    selector.matches(&labels).then_some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netpol_core::model::Requirement;

    fn labels(requirements: Vec<Requirement>) -> Option<String> {
        example(&Selector::new(requirements)).map(|labels| labels.to_string())
    }

    #[test]
    fn examples_are_selected_or_there_are_none() {
        let is_in = |values: &[&str]| Requirement::is_in("app", values.iter().copied());
        let not_in = |values: &[&str]| Requirement::is_not_in("app", values.iter().copied());
        assert_eq!(labels(vec![]).as_deref(), Some(""));
        assert_eq!(labels(vec![is_in(&["a", "b"]), not_in(&["a"])]).as_deref(), Some("app=b"));
        assert_eq!(labels(vec![not_in(&["a"])]).as_deref(), Some(""));
        assert_eq!(
            labels(vec![not_in(&["a"]), Requirement::exists("app")]).as_deref(),
            Some("app=*")
        );
        assert_eq!(labels(vec![is_in(&["a"]), not_in(&["a"])]), None);
        assert_eq!(labels(vec![is_in(&["a"]), Requirement::does_not_exist("app")]), None);
    }
}

use super::{Choices, world};
use crate::cluster::Cluster;
use crate::model::{Endpoint, Objects, Options};

/// Objects of two worlds, which come, change and go one by one.
///
/// Both worlds have their names from the same small alphabets, so that an object of one is nearly always another
/// form of an object of the other.
#[derive(Clone, Debug)]
pub struct History {
    /// The two worlds.
    pub objects: [Objects; 2],
    /// The readings that hold throughout.
    pub options: Options,
}

impl History {
    /// Two worlds, and the options of the first.
    pub fn new(choices: &mut Choices<'_>) -> Self {
        let (first, options) = world(choices);
        let (second, _) = world(choices);
        Self { objects: [first, second], options }
    }

    /// Any object comes, in the form that it has in either world, or goes. Tells in words what happened.
    pub fn step(&self, choices: &mut Choices<'_>, cluster: &mut Cluster) -> String {
        let [first, second] = &self.objects;
        let objects = if choices.one_in(2) { second } else { first };
        let goes = choices.one_in(3);
        match choices.pick(8) {
            0 => {
                let Some(namespace) = any(choices, &objects.namespaces) else {
                    return String::new();
                };
                let told = format!("namespace {} {}", namespace.name, !goes);
                match goes {
                    true => cluster.remove_namespace(&namespace.name),
                    false => cluster.upsert_namespace(namespace),
                }
                told
            }
            1..=3 => {
                let Some(mut endpoint) = any(choices, &objects.endpoints) else {
                    return String::new();
                };
                // One that is there already gets another place, and selectors see nothing of it.
                let there: Vec<Endpoint> = cluster.endpoints().cloned().collect();
                if choices.one_in(3)
                    && let Some(same) = any(choices, &there)
                {
                    let Endpoint { addresses, node, phase, .. } = endpoint;
                    endpoint = Endpoint { addresses, node, phase, ..same };
                }
                let told = format!("endpoint {}/{} {}", endpoint.namespace, endpoint.name, !goes);
                match goes {
                    true => {
                        cluster.remove_endpoint(&endpoint.namespace, &endpoint.name, &endpoint.uid);
                    }
                    false => cluster.upsert_endpoint(endpoint),
                }
                told
            }
            4 => {
                let Some(node) = any(choices, &objects.nodes) else { return String::new() };
                let told = format!("node {} {}", node.name, !goes);
                match goes {
                    true => cluster.remove_node(&node.name),
                    false => cluster.upsert_node(node),
                }
                told
            }
            5 => {
                let Some(domain) = any(choices, &objects.domains) else { return String::new() };
                match goes {
                    true => cluster.expire_domains(10),
                    false => cluster.observe_domain(&domain, Some(10)),
                }
                format!("domain {} {}", domain.name(), !goes)
            }
            _ => {
                let Some(policy) = any(choices, &objects.policies) else { return String::new() };
                let told = format!("policy {} {}", policy.key, !goes);
                match goes {
                    true => cluster.remove_policy(&policy.key),
                    false => cluster.upsert_policy(policy),
                }
                told
            }
        }
    }
}

/// One of them, if there is any.
fn any<T: Clone>(choices: &mut Choices<'_>, all: &[T]) -> Option<T> {
    if all.is_empty() { None } else { all.get(choices.pick(all.len())).cloned() }
}

use std::collections::BTreeMap;
use std::hash::Hash;

use crate::hash::HashSet;

use super::error::{Rejected, Warning};
use super::value::Value;
use super::{Object, ReadOptions, Reading, read};
use crate::model::Objects;

/// What a set of manifests says, and all that is to be told about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// Everything that was understood. A workload that no other object made is an endpoint of its name.
    pub objects: Objects,
    /// What was not accepted. It has no effect on the rest.
    pub rejected: Vec<Rejected>,
    /// What was noticed about the accepted objects.
    pub warnings: Vec<Warning>,
    /// How many objects were left alone because their kind has no meaning here, by `apiVersion` and `kind`.
    pub skipped: BTreeMap<(String, String), usize>,
}

/// Reads all objects in `values`, lists included, into one collection. Of an object that is given more than once the
/// last one counts, as in a [`Cluster`](crate::cluster::Cluster). `O(n)`.
pub fn load<'v>(values: impl IntoIterator<Item = &'v Value>, options: &ReadOptions) -> Loaded {
    let mut loaded = Loaded::default();
    for result in values.into_iter().flat_map(|value| read(value, options)) {
        match result {
            Ok(reading) => loaded.add(reading),
            Err(rejected) => loaded.rejected.push(rejected),
        }
    }
    let Objects { namespaces, endpoints, nodes, policies, .. } = &mut loaded.objects;
    keep_last(namespaces, |it| it.name.clone());
    keep_last(endpoints, |it| (it.namespace.clone(), it.name.clone(), it.uid.clone()));
    keep_last(nodes, |it| it.name.clone());
    keep_last(policies, |it| it.key.clone());
    loaded
}

fn keep_last<T, K: Hash + Eq>(values: &mut Vec<T>, key: impl Fn(&T) -> K) {
    let mut seen = HashSet::default();
    values.reverse();
    values.retain(|value| seen.insert(key(value)));
    values.reverse();
}

impl Loaded {
    fn add(&mut self, Reading { object, warnings }: Reading) {
        self.warnings.extend(warnings);
        match object {
            Object::Namespace(namespace) => self.objects.namespaces.push(namespace),
            Object::Node(node) => self.objects.nodes.push(node),
            Object::Pod(endpoint) => self.objects.endpoints.push(endpoint),
            Object::Workload { owned: true, .. } => {}
            Object::Workload { endpoint, .. } => self.objects.endpoints.push(endpoint),
            Object::Policy(policy) => self.objects.policies.push(policy),
            Object::Skipped { api_version, kind } => {
                *self.skipped.entry((api_version, kind)).or_default() += 1;
            }
        }
    }
}

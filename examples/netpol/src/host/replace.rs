//! From one collection of objects to another.

use std::collections::BTreeMap;

use netpol_core::cluster::Cluster;
use netpol_core::model::Objects;

/// Makes a cluster of `old` objects one of `new`, touching nothing that is the same in both. Returns how many objects
/// came, went or changed.
pub(crate) fn replace(cluster: &mut Cluster, old: &Objects, new: &Objects) -> usize {
    let namespaces = Difference::new(&old.namespaces, &new.namespaces, |it| it.name.clone());
    let nodes = Difference::new(&old.nodes, &new.nodes, |it| it.name.clone());
    let endpoints = Difference::new(&old.endpoints, &new.endpoints, |it| {
        (it.namespace.clone(), it.name.clone(), it.uid.clone())
    });
    let policies = Difference::new(&old.policies, &new.policies, |it| it.key.clone());
    let count = namespaces.len() + nodes.len() + endpoints.len() + policies.len();

    namespaces.gone.iter().for_each(|it| cluster.remove_namespace(&it.name));
    nodes.gone.iter().for_each(|it| cluster.remove_node(&it.name));
    for it in endpoints.gone {
        cluster.remove_endpoint(&it.namespace, &it.name, &it.uid);
    }
    policies.gone.iter().for_each(|it| cluster.remove_policy(&it.key));

    namespaces.new.into_iter().for_each(|it| cluster.upsert_namespace(it.clone()));
    nodes.new.into_iter().for_each(|it| cluster.upsert_node(it.clone()));
    endpoints.new.into_iter().for_each(|it| cluster.upsert_endpoint(it.clone()));
    policies.new.into_iter().for_each(|it| cluster.upsert_policy(it.clone()));
    count
}

struct Difference<'a, T> {
    gone: Vec<&'a T>,
    /// New, or different.
    new: Vec<&'a T>,
}

impl<'a, T: PartialEq> Difference<'a, T> {
    fn new<K: Ord>(old: &'a [T], new: &'a [T], key: impl Fn(&T) -> K) -> Self {
        let mut gone: BTreeMap<K, &T> = old.iter().map(|it| (key(it), it)).collect();
        let new = new.iter().filter(|it| gone.remove(&key(it)) != Some(*it)).collect();
        Self { gone: gone.into_values().collect(), new }
    }

    fn len(&self) -> usize {
        self.gone.len() + self.new.len()
    }
}

#[cfg(test)]
mod tests {
    use netpol_core::model::Options;
    use netpol_core::testing::{Choices, world};
    use netpol_core::{Scope, compile};

    use super::*;

    #[test]
    fn what_is_replaced_is_as_if_it_had_been_new() {
        let worlds: Vec<Objects> =
            (0..40).map(|seed| world(&mut Choices::from_seed(seed, 400)).0).collect();
        let mut cluster = Cluster::new(Options::default());
        let mut old = Objects::default();
        for new in &worlds {
            let mut new = new.clone();
            new.domains.clear();
            replace(&mut cluster, &old, &new);
            let fresh = Cluster::from_objects(Options::default(), new.clone());
            let [kept, fresh] = [&cluster, &fresh].map(|it| compile(it, Scope::Cluster));
            assert_eq!(kept, fresh);
            assert_eq!(replace(&mut cluster, &new, &new), 0);
            old = new;
        }
    }
}

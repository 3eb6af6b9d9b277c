use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::cluster::{Changes, Cluster, EndpointKey};
use crate::model::{Endpoint, Name, Phase, PolicyKey};
use crate::program::Scope;

use super::places::Placed;
use super::workload::Workload;
use super::{Compiler, take};

impl Compiler {
    /// Takes over the objects that have changed.
    pub(super) fn take_in(&mut self, cluster: &Cluster, changes: &Changes) {
        self.places.reserve_room(changes.endpoints.len());
        self.policies.reserve_room(changes.policies.len());
        for name in &changes.nodes {
            self.change_node(cluster, name);
        }
        for name in &changes.namespaces {
            for workload in self.workloads.relabel(name, cluster.namespace_labels(name)) {
                self.dirty.holding.push(workload);
                self.dirty.subjects.push(workload);
            }
        }
        // Before endpoints, so that a first fill does not look for the subjects of each policy among all of them.
        for key in &changes.policies {
            self.change_policy(cluster, key, false);
        }
        for key in &changes.endpoints {
            self.change_endpoint(cluster, key);
        }
        for (name, address) in &changes.domains {
            let known = cluster.domains.contains_key(&(name.clone(), *address));
            self.places.set_domain(name, *address, known);
            self.dirty.addresses.push(*address);
        }
        // A policy that looks up a port name at its peers means something else once the name does.
        let names = take(&mut self.workloads.declared.changed);
        let mut redefined: BTreeSet<PolicyKey> = self.policies.looking_up(&names);
        redefined.append(&mut self.policies.carvings.settle());
        for key in &redefined {
            self.change_policy(cluster, key, true);
        }
    }

    fn change_node(&mut self, cluster: &Cluster, name: &Name) {
        let node = cluster.nodes.get(name).cloned();
        let touched = self.places.set_node(name, node);
        self.dirty.addresses.extend(touched);
        // Whoever shares the node's network goes by its first address.
        let id = self.places.node_id(name);
        for host in self.places.hosts_of(&[id]) {
            self.dirty.entries.push(host);
        }
        self.places.node_names.release(id.0);
    }

    fn change_endpoint(&mut self, cluster: &Cluster, key: &EndpointKey) {
        let new = cluster.endpoints.get(key).filter(|it| it.phase == Phase::Live).cloned();
        let known = self.places.id(key);
        let old = known.and_then(|id| self.places.endpoint(id));
        if old.map(|it| &it.endpoint) == new.as_ref() {
            return;
        }
        if new.is_none() || known.is_some() {
            self.dirty.names.push((key.0.clone(), key.1.clone()));
        }
        let vacated = known.and_then(|id| self.places.displace(id));
        let id = known.unwrap_or_else(|| self.places.reserve());
        // The new workload is joined before the old one is left, which is often the same.
        let place = new.map(|endpoint| self.join(cluster, id, endpoint));
        if let Some(old) = vacated {
            let stays = place.as_ref().is_some_and(|it| it.workload == old.workload);
            self.leave(id, &old, stays);
        }
        match place {
            Some(placed) => self.places.place(id, placed),
            None => self.places.vacate(id),
        }
        self.dirty.entries.push(id);
    }

    fn join(&mut self, cluster: &Cluster, id: u32, endpoint: Arc<Endpoint>) -> Placed {
        let workload = Workload::of(&endpoint, self.options.duplicate_port_names);
        let labels = || cluster.namespace_labels(&endpoint.namespace);
        let (workload, is_new) = self.workloads.join(workload, id, labels);
        let node = endpoint.node.as_ref().map(|name| self.places.node_id(name));
        let in_scope = match &self.scope {
            Scope::Cluster => true,
            Scope::Node(own) => endpoint.node.as_ref() == Some(own),
        };
        let placed = Placed { endpoint, workload, node, in_scope, alone: false };
        if is_new {
            self.dirty.holding.push(workload);
        }
        if self.is_policed(&placed) {
            let state = self.workloads.state(workload);
            state.policed += 1;
            if state.policed == 1 {
                self.dirty.subjects.push(workload);
            }
        }
        self.touch_addresses(&placed);
        placed
    }

    fn leave(&mut self, id: u32, placed: &Placed, stays: bool) {
        if self.is_policed(placed) {
            let state = self.workloads.state(placed.workload);
            state.policed -= 1;
            if state.policed == 0 {
                self.dirty.subjects.push(placed.workload);
            }
        }
        self.touch_addresses(placed);
        if let Some(gone) = self.workloads.leave(placed.workload, id, stays) {
            for policy in &gone.selected_by {
                self.policies.deselect(*policy, &mut self.atoms);
            }
            for profile in gone.profile.into_iter().chain(gone.own) {
                self.profiles.release(profile);
            }
            if let Some(identity) = gone.named {
                self.identities.release(identity.0);
            }
        }
    }

    fn is_policed(&self, placed: &Placed) -> bool {
        match placed.endpoint.host_network {
            true => self.hosts_are_policed(),
            false => placed.in_scope,
        }
    }

    /// The addresses of an endpoint may mean something else.
    pub(super) fn touch_addresses(&mut self, placed: &Placed) {
        if !placed.endpoint.host_network {
            self.dirty.addresses.extend_from_slice(&placed.endpoint.addresses);
        } else if let Some(node) = placed.node.and_then(|id| self.places.node(id)) {
            let addresses: &[IpAddr] = &node.addresses;
            self.dirty.addresses.extend_from_slice(addresses);
        }
    }

    fn change_policy(&mut self, cluster: &Cluster, key: &PolicyKey, redefined: bool) {
        let new = cluster.policies.get(key).cloned();
        if !redefined && self.policies.get(key) == new.as_ref() {
            return;
        }
        if let Some(old) = self.policies.remove(key, &mut self.atoms) {
            self.touch_subjects(old.subject.selector());
        }
        if let Some(policy) = new {
            self.touch_subjects(policy.subject.selector());
            self.policies.insert(policy);
        }
    }

    fn touch_subjects(&mut self, selector: &crate::model::PodSelector) {
        let selected = self.workloads.matching(selector).into_iter();
        let policed =
            selected.filter(|id| self.workloads.peek(*id).is_some_and(|it| it.policed > 0));
        self.dirty.subjects.extend(policed);
    }
}

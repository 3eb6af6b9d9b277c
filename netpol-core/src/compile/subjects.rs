use std::collections::BTreeMap;
use std::net::IpAddr;

use smallvec::SmallVec;

use crate::model::{Name, Tier};
use crate::program::{NodeId, ProfileId};

use super::policies::PolicyId;
use super::workload::WorkloadId;
use super::{Compiler, take};

/// What is policed for the host-network endpoints of nodes, where that is asked for (CH-HOST-SUBJECT): a subject per
/// set of nodes that share addresses, which is nearly always one node.
///
/// Worked out anew at every update: it is rarely asked for, and nodes are few.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    pub(super) subjects: BTreeMap<u32, Host>,
    pub(super) profiles: Vec<ProfileId>,
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: Name,
    pub(super) addresses: SmallVec<[IpAddr; 2]>,
    pub(super) workloads: Vec<WorkloadId>,
    pub(super) in_scope: bool,
    pub(super) profile: Option<ProfileId>,
    pub(super) own: Option<ProfileId>,
}

impl Hosts {
    /// The profiles of a subject, for its traffic with others and with itself.
    pub(super) fn profile_of(&self, id: u32) -> (Option<ProfileId>, Option<ProfileId>) {
        self.subjects.get(&id).map_or((None, None), |host| (host.profile, host.own))
    }
}

impl Compiler {
    /// Finds the policies that select each workload that is policed.
    pub(super) fn settle_subjects(&mut self) {
        for id in take(&mut self.dirty.subjects) {
            let Some(workload) = self.workloads.get(id).cloned() else { continue };
            let policed = self.workloads.peek(id).is_some_and(|it| it.policed > 0);
            let mut selected_by: Vec<PolicyId> = Vec::new();
            if let (true, Some(labels)) =
                (policed, self.workloads.namespace_labels(&workload.namespace))
            {
                let (tie, own) = (self.options.tie, &workload.labels);
                selected_by = self.policies.selecting(&workload.namespace, labels, own, tie);
            }
            if workload.host_network {
                // C-SUBJ-1
                selected_by.retain(|policy| {
                    let tier = self.policies.policy(*policy).map(|it| it.tier);
                    tier == Some(Tier::NetworkPolicy)
                });
            }
            for policy in &selected_by {
                let declared = &self.workloads.declared;
                self.policies.select(*policy, &self.options, declared, &mut self.atoms);
            }
            let state = self.workloads.state(id);
            let before = std::mem::replace(&mut state.selected_by, selected_by);
            for policy in before {
                self.policies.deselect(policy, &mut self.atoms);
            }
            self.dirty.profiles.push(id);
        }
    }

    /// Finds out which nodes are policed for their host-network endpoints.
    pub(super) fn settle_hosts(&mut self) {
        if !self.hosts_are_policed() {
            return;
        }
        for (id, _) in std::mem::take(&mut self.hosts.subjects) {
            self.places.vacate(id);
            self.dirty.entries.push(id);
        }
        let mut shared: BTreeMap<Vec<NodeId>, SmallVec<[IpAddr; 2]>> = BTreeMap::new();
        for (address, nodes) in self.places.node_addresses() {
            if self.places.owner(address).is_none() {
                let mut nodes = nodes.to_vec();
                nodes.sort_unstable();
                shared.entry(nodes).or_default().push(address);
            }
        }
        for (nodes, mut addresses) in shared {
            let hosts = self.places.hosts_of(&nodes).into_iter();
            let hosts = hosts.filter_map(|host| self.places.endpoint(host));
            let mut workloads: Vec<WorkloadId> = hosts.map(|host| host.workload).collect();
            workloads.sort_unstable();
            workloads.dedup();
            let names = nodes.iter().filter_map(|id| self.places.node_names.get(id.0));
            let Some(name) = names.min().cloned().filter(|_| !workloads.is_empty()) else {
                continue;
            };
            addresses.sort_unstable();
            let in_scope = self.own_node.is_none_or(|own| nodes.contains(&own));
            let id = self.places.reserve();
            self.hosts.subjects.insert(
                id,
                Host { name, addresses, workloads, in_scope, profile: None, own: None },
            );
            self.dirty.entries.push(id);
        }
    }
}

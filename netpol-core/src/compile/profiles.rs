use std::sync::Arc;

use crate::hash::HashMap;
use crate::model::{DeclaredPort, Direction, HostNetworkPortNames, SelfTraffic, Tier};
use crate::program::{ClassId, PortMap, Profile, ProfileId, Stack};

use super::interner::Interner;
use super::lower::Lowered;
use super::policies::PolicyId;
use super::ports::port_map;
use super::workload::WorkloadId;
use super::{Compiler, take};

/// Profiles by what makes them: the policies in the order in which they are asked, and the declared ports that these
/// ask for.
#[derive(Debug, Default)]
pub(super) struct Profiles {
    ids: Interner<Arc<Key>>,
    sides: Interner<Arc<PortMap>>,
    /// The sides of each profile.
    used: HashMap<u32, [Option<u32>; 2]>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    policies: Vec<PolicyId>,
    declared: Vec<DeclaredPort>,
    /// It is for host-network endpoints, which have no node but are it: none is their own to be let in (NP-NODE-1).
    host: bool,
}

impl Profiles {
    pub(super) fn release(&mut self, ProfileId(id): ProfileId) {
        self.ids.release(id);
    }

    /// One side of a profile: the one that says the same, if there is one.
    fn side(&mut self, map: PortMap, stacks: &mut Interner<Arc<Stack>>) -> u32 {
        let map = Arc::new(map);
        let (side, is_new) = self.sides.intern(&map);
        if !is_new {
            map.release(stacks);
        }
        side
    }
}

impl PortMap {
    /// Gives up one use of each class in it.
    fn release(&self, stacks: &mut Interner<Arc<Stack>>) {
        let classes = self.ports.iter().flatten().map(|(_, class)| *class).chain([self.other]);
        classes.for_each(|ClassId(id)| stacks.release(id));
    }
}

impl Compiler {
    /// Finds the profile of each workload that is policed.
    pub(super) fn settle_profiles(&mut self) {
        for id in take(&mut self.dirty.profiles) {
            self.settle_profile(id);
        }
        if self.hosts_are_policed() {
            self.settle_host_profiles();
        }
        let settled = self.profiles.ids.settle();
        for id in settled.dying {
            self.program.edit().clear_profile(ProfileId(id));
            let sides = self.profiles.used.remove(&id).unwrap_or_default();
            sides.into_iter().flatten().for_each(|side| self.profiles.sides.release(side));
        }
        for side in self.profiles.sides.settle().dying {
            if let Some(map) = self.profiles.sides.get(side) {
                map.release(&mut self.stacks);
            }
        }
        self.profiles.ids.sweep();
        self.profiles.sides.sweep();
    }

    fn settle_profile(&mut self, id: WorkloadId) {
        let Some(workload) = self.workloads.get(id).cloned() else { return };
        let (mut profile, mut own) = (None, None);
        if let Some(state) = self.workloads.peek(id).filter(|it| it.policed > 0) {
            let policies = state.selected_by.clone();
            if !workload.host_network {
                own = self.own_profile(&policies, &workload.ports, false);
                profile = Some(self.acquire_profile(policies, &workload.ports, false));
            }
        }
        let state = self.workloads.state(id);
        let changed = (state.profile, state.own) != (profile, own);
        let before = [
            std::mem::replace(&mut state.profile, profile),
            std::mem::replace(&mut state.own, own),
        ];
        if changed {
            self.dirty.entries.extend(state.endpoints.iter());
        }
        before.into_iter().flatten().for_each(|before| self.profiles.release(before));
    }

    /// The host-network endpoints of a node are selected by what selects any of them.
    fn settle_host_profiles(&mut self) {
        for before in std::mem::take(&mut self.hosts.profiles) {
            self.profiles.release(before);
        }
        let resolved = self.options.host_network_port_names == HostNetworkPortNames::Resolved;
        for (id, mut host) in std::mem::take(&mut self.hosts.subjects) {
            if host.in_scope {
                let states = host.workloads.iter().filter_map(|id| self.workloads.peek(*id));
                let policies = states.flat_map(|it| it.selected_by.clone()).collect();
                let policies = self.policies.merge(policies, self.options.tie);
                let mut declared: Vec<DeclaredPort> = Vec::new();
                if resolved {
                    let listed = host.workloads.iter().filter_map(|id| self.workloads.get(*id));
                    declared.extend(listed.flat_map(|it| it.ports.clone()));
                    declared.sort_unstable();
                    declared.dedup();
                }
                host.own = self.own_profile(&policies, &declared, true);
                host.profile = Some(self.acquire_profile(policies, &declared, true));
                self.hosts.profiles.extend(host.profile.into_iter().chain(host.own));
            }
            self.hosts.subjects.insert(id, host);
        }
    }

    /// What an endpoint may do with itself, if anybody asks: C-HAIR-1 leaves that to the NetworkPolicies.
    fn own_profile(
        &mut self,
        policies: &[PolicyId],
        declared: &[DeclaredPort],
        host: bool,
    ) -> Option<ProfileId> {
        if self.options.self_traffic == SelfTraffic::Allowed {
            return None;
        }
        let network = policies.iter().copied().filter(|id| {
            self.policies.policy(*id).is_some_and(|policy| policy.tier == Tier::NetworkPolicy)
        });
        let network = network.collect();
        Some(self.acquire_profile(network, declared, host))
    }

    /// The profile of these policies, with one more user.
    fn acquire_profile(
        &mut self,
        policies: Vec<PolicyId>,
        declared: &[DeclaredPort],
        host: bool,
    ) -> ProfileId {
        let lowered: Vec<Arc<Lowered>> =
            policies.iter().filter_map(|id| self.policies.lowered(*id)).cloned().collect();
        let is_asked =
            |port: &&DeclaredPort| lowered.iter().any(|it| it.own_names.contains(&port.name));
        let declared: Vec<DeclaredPort> = declared.iter().filter(is_asked).cloned().collect();
        let key = Arc::new(Key { policies, declared, host });
        let id = self.profiles.ids.acquire(&key);
        if self.profiles.used.contains_key(&id) {
            return ProfileId(id);
        }
        let [ingress, egress] = [Direction::Ingress, Direction::Egress].map(|direction| {
            let (options, stacks, most) = (&self.options, &mut self.stacks, self.most_terms);
            let map = port_map(options, &lowered, &key.declared, host, direction, most, stacks)?;
            Some(self.profiles.side(map, stacks))
        });
        self.profiles.used.insert(id, [ingress, egress]);
        let side = |id: Option<u32>| self.profiles.sides.get(id?).cloned();
        let policies = key.policies.iter().filter_map(|id| self.policies.policy(*id)).cloned();
        let profile = Profile {
            ingress: side(ingress),
            egress: side(egress),
            policies: policies.collect(),
            declared: key.declared.as_slice().into(),
        };
        self.program.edit().set_profile(ProfileId(id), profile);
        ProfileId(id)
    }
}

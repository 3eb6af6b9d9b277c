//! The objects, looked up.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

use netpol_core::model::{
    Endpoint, Labels, Name, Namespace, NamespaceScope, Objects, Phase, PodSelector, Policy, Subject,
};
use netpol_core::program::{Profile, Program};

/// What lints ask about the objects.
pub(super) struct Facts<'a> {
    pub(super) objects: &'a Objects,
    pub(super) program: &'a Program,
    /// The pods that policies are about.
    pub(super) pods: Vec<&'a Endpoint>,
    /// Those of each namespace, by their places in `pods`.
    by_namespace: BTreeMap<&'a str, Vec<usize>>,
    /// The labels of every namespace that is given or that a pod is in.
    pub(super) namespaces: BTreeMap<Name, Labels>,
    /// Who has which address.
    pub(super) addresses: BTreeMap<IpAddr, usize>,
    matching: RefCell<HashMap<PodSelector, Rc<[usize]>>>,
}

/// The pods that the same policies apply to.
pub(super) struct Alike<'a> {
    pub(super) profile: &'a Profile,
    /// The first of them.
    pub(super) pod: &'a Endpoint,
}

impl<'a> Facts<'a> {
    pub(super) fn new(objects: &'a Objects, program: &'a Program) -> Self {
        let pods: Vec<&Endpoint> = objects.endpoints.iter().filter(|it| it.is_ordinary()).collect();
        let mut by_namespace: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut namespaces: BTreeMap<Name, Labels> = BTreeMap::new();
        let mut addresses = BTreeMap::new();
        for (at, pod) in pods.iter().enumerate() {
            by_namespace.entry(&pod.namespace).or_default().push(at);
            namespaces
                .entry(pod.namespace.clone())
                .or_insert_with(|| Namespace::new(&pod.namespace, Labels::default()).labels);
            addresses.extend(pod.addresses.iter().map(|it| (*it, at)));
        }
        let given = objects.namespaces.iter().map(|it| (it.name.clone(), it.labels.clone()));
        namespaces.extend(given);
        let matching = RefCell::default();
        Self { objects, program, pods, by_namespace, namespaces, addresses, matching }
    }

    /// The pods that a selector selects, by their places.
    pub(super) fn matching(&self, selector: &PodSelector) -> Rc<[usize]> {
        if let Some(known) = self.matching.borrow().get(selector) {
            return known.clone();
        }
        let namespaces = self.namespaces(&selector.namespaces);
        let within = namespaces.iter().filter_map(|it| self.by_namespace.get(&**it)).flatten();
        let selected =
            |at: &usize| self.pods.get(*at).is_some_and(|pod| selector.pods.matches(&pod.labels));
        let found: Rc<[usize]> = within.copied().filter(selected).collect();
        self.matching.borrow_mut().insert(selector.clone(), found.clone());
        found
    }

    /// The namespaces that a scope takes in.
    pub(super) fn namespaces(&self, scope: &NamespaceScope) -> Vec<Name> {
        match scope {
            NamespaceScope::Named(name) => vec![name.clone()],
            NamespaceScope::Matching(selector) => {
                let fits = |(_, labels): &(&Name, &Labels)| selector.matches(labels);
                self.namespaces.iter().filter(fits).map(|(name, _)| name.clone()).collect()
            }
        }
    }

    /// The labels of the pods in a scope.
    pub(super) fn labels_in(&self, scope: &NamespaceScope) -> BTreeSet<(&'a Name, &'a Name)> {
        let namespaces = self.namespaces(scope);
        let within = namespaces.iter().filter_map(|it| self.by_namespace.get(&**it)).flatten();
        let pods = within.filter_map(|at| self.pods.get(*at).copied());
        pods.flat_map(|pod| pod.labels.iter()).collect()
    }

    pub(super) fn pod(&self, at: usize) -> Option<&'a Endpoint> {
        self.pods.get(at).copied()
    }

    /// The pods on the network of their node that a policy's selector would select.
    pub(super) fn hosts(&self, selector: &PodSelector) -> Vec<&'a Endpoint> {
        let namespaces = self.namespaces(&selector.namespaces);
        let hosts = self.objects.endpoints.iter();
        hosts
            .filter(|it| it.host_network && it.phase == Phase::Live)
            .filter(|it| namespaces.contains(&it.namespace) && selector.pods.matches(&it.labels))
            .collect()
    }

    /// The profiles that pods have, in the order of the first of these pods.
    pub(super) fn profiles(&self) -> Vec<Alike<'a>> {
        let mut first: BTreeMap<_, &Endpoint> = BTreeMap::new();
        let pods: BTreeMap<_, _> =
            self.pods.iter().map(|it| ((&*it.namespace, &*it.name), *it)).collect();
        for entry in self.program.endpoints().filter(|entry| !entry.is_host()) {
            let Some(pod) = pods.get(&(entry.namespace(), entry.name())) else { continue };
            let name = |pod: &Endpoint| (pod.namespace.clone(), pod.name.clone());
            let known = first.entry(entry.profile()).or_insert(*pod);
            if name(pod) < name(known) {
                *known = *pod;
            }
        }
        let alike =
            first.into_iter().map(|(id, pod)| Alike { profile: self.program.profile(id), pod });
        let mut alike: Vec<_> = alike.collect();
        alike.sort_by(|a, b| (&a.pod.namespace, &a.pod.name).cmp(&(&b.pod.namespace, &b.pod.name)));
        alike
    }
}

/// The pods that a policy is about.
pub(super) fn subject(policy: &Policy) -> &PodSelector {
    let (Subject::Pods(selector) | Subject::AtMost(selector)) = &policy.subject;
    selector
}

/// `shop/web`
pub(super) fn label(pod: &Endpoint) -> String {
    format!("{}/{}", pod.namespace, pod.name)
}

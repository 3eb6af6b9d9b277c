//! The kinds of objects that are watched.

use std::fmt;

use kube::api::{ApiResource, GroupVersionKind};
use netpol_core::model::PolicyKind;

/// A kind of object that policies are about, or that is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Namespace,
    Node,
    Pod,
    NetworkPolicy,
    ClusterNetworkPolicy,
    AdminNetworkPolicy,
    BaselineAdminNetworkPolicy,
}

impl Kind {
    /// All kinds; what policies refer to comes before the policies.
    pub(crate) const ALL: [Self; 7] = [
        Self::Namespace,
        Self::Node,
        Self::Pod,
        Self::NetworkPolicy,
        Self::ClusterNetworkPolicy,
        Self::AdminNetworkPolicy,
        Self::BaselineAdminNetworkPolicy,
    ];

    /// The group, the version, the kind and the plural, as the API server knows them.
    fn names(self) -> [&'static str; 4] {
        const POLICY: &str = "policy.networking.k8s.io";
        match self {
            Self::Namespace => ["", "v1", "Namespace", "namespaces"],
            Self::Node => ["", "v1", "Node", "nodes"],
            Self::Pod => ["", "v1", "Pod", "pods"],
            Self::NetworkPolicy => ["networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"],
            Self::ClusterNetworkPolicy => {
                [POLICY, "v1alpha2", "ClusterNetworkPolicy", "clusternetworkpolicies"]
            }
            Self::AdminNetworkPolicy => {
                [POLICY, "v1alpha1", "AdminNetworkPolicy", "adminnetworkpolicies"]
            }
            Self::BaselineAdminNetworkPolicy => {
                [POLICY, "v1alpha1", "BaselineAdminNetworkPolicy", "baselineadminnetworkpolicies"]
            }
        }
    }

    /// As manifests spell it.
    pub(crate) fn as_str(self) -> &'static str {
        self.names()[2]
    }

    /// The group and version as manifests spell them.
    pub(crate) fn api_version(self) -> String {
        self.resource().api_version
    }

    /// Where the API server has the objects of this kind.
    pub(crate) fn resource(self) -> ApiResource {
        let [group, version, kind, plural] = self.names();
        let gvk = GroupVersionKind::gvk(group, version, kind);
        ApiResource::from_gvk_with_plural(&gvk, plural)
    }

    /// The kind of policy that it is, if it is one.
    pub(crate) fn policy(self) -> Option<PolicyKind> {
        match self {
            Self::Namespace | Self::Node | Self::Pod => None,
            Self::NetworkPolicy => Some(PolicyKind::NetworkPolicy),
            Self::ClusterNetworkPolicy => Some(PolicyKind::ClusterNetworkPolicy),
            Self::AdminNetworkPolicy => Some(PolicyKind::AdminNetworkPolicy),
            Self::BaselineAdminNetworkPolicy => Some(PolicyKind::BaselineAdminNetworkPolicy),
        }
    }

    /// The kind of this name.
    pub(crate) fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether it is a custom resource, which not every API server has.
    pub(crate) fn is_custom(self) -> bool {
        self >= Self::ClusterNetworkPolicy
    }

    /// Whether an object of this kind and name goes on under it with another uid. A pod and the one that takes its
    /// name after it are two.
    pub(crate) fn lasts_by_name(self) -> bool {
        self != Self::Pod
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

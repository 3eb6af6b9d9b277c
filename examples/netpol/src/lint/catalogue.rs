//! The lints, one by one.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, bail};
use serde::{Serialize, Serializer};

use super::Severity;

/// What is looked for. Codes are never given to another lint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Lint {
    SelectsNothing,
    NearMiss,
    NoSuchNamespace,
    NamesForgotten,
    NotIsolated,
    IngressOnly,
    Overlap,
    RedundantPolicy,
    RedundantRule,
    BlockCoversPods,
    IdleExcept,
    UndeclaredPort,
    HostNetworkSubject,
    ProtocolDefaulted,
    ClusterWide,
    Unsupported,
    PeerSelectsNothing,
}

/// What there is to say of a lint.
pub(crate) struct Entry {
    pub(crate) lint: Lint,
    pub(crate) code: &'static str,
    pub(crate) severity: Severity,
    pub(crate) title: &'static str,
    /// What it means, and why it matters.
    pub(crate) why: &'static str,
    /// What to do.
    pub(crate) help: &'static str,
}

/// All of them, in the order of their codes.
pub(crate) const ALL: [Entry; 17] = [
    Entry {
        lint: Lint::SelectsNothing,
        code: "NP001",
        severity: Severity::Warning,
        title: "the policy selects no pod",
        why: "No pod of the input has the labels that the policy asks for. It has no effect, and what it was written \
              for is not protected. Needs pods or workloads in the input.",
        help: "Compare spec.podSelector with the labels of the pods' templates, or delete the policy.",
    },
    Entry {
        lint: Lint::NearMiss,
        code: "NP002",
        severity: Severity::Warning,
        title: "a selector nearly matches a label that there is",
        why: "A selector matches nothing, and a label that exists is spelled nearly as the one that it asks for. \
              Kubernetes accepts any spelling, so that a wrong letter silently opens or closes.",
        help: "Correct the label in the selector, or that of the pods.",
    },
    Entry {
        lint: Lint::NoSuchNamespace,
        code: "NP003",
        severity: Severity::Warning,
        title: "the policy's namespace does not exist",
        why: "The input has Namespace objects, and neither one of this name nor any pod in it. The API server refuses \
              to create the policy, or it protects nobody.",
        help: "Correct metadata.namespace, or add the namespace to the input.",
    },
    Entry {
        lint: Lint::NamesForgotten,
        code: "NP004",
        severity: Severity::Warning,
        title: "egress is isolated and DNS forgotten",
        why: "The pod's egress is isolated and some of it is allowed, but nothing to port 53 by UDP. Most programs \
              resolve a name before they connect, so that what is allowed does not work either.",
        help: "Allow egress to port 53 (UDP and TCP) of the cluster's DNS, as `kube-system` with label \
               `k8s-app=kube-dns`. A pod that uses no names can ignore this.",
    },
    Entry {
        lint: Lint::NotIsolated,
        code: "NP005",
        severity: Severity::Warning,
        title: "there are rules for a direction that the policy does not isolate",
        why: "spec.policyTypes does not list the direction of these rules. They have no effect, and everything stays \
              allowed in that direction unless another policy isolates it.",
        help: "Add the direction to spec.policyTypes, or delete the rules.",
    },
    Entry {
        lint: Lint::IngressOnly,
        code: "NP006",
        severity: Severity::Warning,
        title: "a policy that seems to close everything closes ingress only",
        why: "Without spec.policyTypes and spec.egress a policy isolates ingress alone. One without any rule reads as \
              if it closed the pod, while egress stays open.",
        help: "Say what is meant: policyTypes: [Ingress], or policyTypes: [Ingress, Egress].",
    },
    Entry {
        lint: Lint::Overlap,
        code: "NP007",
        severity: Severity::Info,
        title: "several policies allow together what none of them shows",
        why: "Policies add up: a pod that several of them select may do what any of them allows. Who reads one of them \
              sees less than what is allowed.",
        help: "Read them together: `netpol list --to POD`. To restrict, change all of them.",
    },
    Entry {
        lint: Lint::RedundantPolicy,
        code: "NP008",
        severity: Severity::Warning,
        title: "the policy is redundant",
        why: "It has been proved that without this policy exactly the same connections are allowed: other policies \
              isolate the same pods and allow all that it allows. Of two equal policies both are told, and one has to \
              stay.",
        help: "Delete it, unless it is there to stay when the others go.",
    },
    Entry {
        lint: Lint::RedundantRule,
        code: "NP009",
        severity: Severity::Warning,
        title: "the rule is redundant or shadowed",
        why: "It has been proved that without this rule exactly the same connections are allowed: other rules allow all \
              that it allows, rules before it decide all that it is about, or it matches nothing.",
        help: "Delete it, or the wider rule that was not meant to be that wide.",
    },
    Entry {
        lint: Lint::BlockCoversPods,
        code: "NP010",
        severity: Severity::Warning,
        title: "an ipBlock covers addresses of pods",
        why: "A block matches by address, and pods have addresses: what is meant for the outside also holds for these \
              pods. Addresses of pods change, and some implementations never match pods by block.",
        help: "Take the cluster's pod network out by `except`, and allow pods by their labels.",
    },
    Entry {
        lint: Lint::IdleExcept,
        code: "NP011",
        severity: Severity::Warning,
        title: "an except does nothing",
        why: "It has been proved that the addresses in `except` are judged as if they were not excepted: an except takes \
              them out of its own block only, and another rule allows them.",
        help: "Take the addresses out of the other rules as well. There is no way to deny in a NetworkPolicy.",
    },
    Entry {
        lint: Lint::UndeclaredPort,
        code: "NP012",
        severity: Severity::Warning,
        title: "nobody declares the named port",
        why: "A named port is looked up in the containers' ports of the destination. None of the pods declares one of \
              this name and protocol, so that the entry matches nothing.",
        help: "Name the port in the pods' containers, with the same protocol, or use its number.",
    },
    Entry {
        lint: Lint::HostNetworkSubject,
        code: "NP013",
        severity: Severity::Warning,
        title: "the policy selects a pod on the network of its node",
        why: "Pods with hostNetwork have their node's address, and policies cannot tell their traffic from the node's. \
              Implementations ignore policies for them.",
        help: "Do without hostNetwork, or protect the node itself.",
    },
    Entry {
        lint: Lint::ProtocolDefaulted,
        code: "NP014",
        severity: Severity::Info,
        title: "the protocol is not given and so is TCP",
        why: "An entry of `ports` without a protocol is one of TCP. For DNS, QUIC or syslog this is not what is meant.",
        help: "Write the protocol.",
    },
    Entry {
        lint: Lint::ClusterWide,
        code: "NP015",
        severity: Severity::Warning,
        title: "a policy of one namespace seems to be meant for the cluster",
        why: "A NetworkPolicy selects pods of its own namespace. This one is called as if it held everywhere, or asks \
              pods for a label that namespaces have.",
        help: "Use a ClusterNetworkPolicy, or one NetworkPolicy for each namespace.",
    },
    Entry {
        lint: Lint::Unsupported,
        code: "NP016",
        severity: Severity::Error,
        title: "a part of the policy is not understood",
        why: "A subject, peer or port has fields that the API does not define, or that are newer than this program. What \
              is not understood fails closed: it allows nothing.",
        help: "Correct the field, or use a release that knows it. `netpol validate` tells more.",
    },
    Entry {
        lint: Lint::PeerSelectsNothing,
        code: "NP017",
        severity: Severity::Info,
        title: "a peer selects no pod",
        why: "No pod of the input is meant by this peer. It may come later, or live where the input does not reach. \
              Needs pods or workloads in the input.",
        help: "Check the labels, also those of the namespaces.",
    },
];

impl Lint {
    pub(crate) fn entry(self) -> &'static Entry {
        ALL.iter().find(|entry| entry.lint == self).unwrap_or(&ALL[0])
    }

    pub(crate) fn code(self) -> &'static str {
        self.entry().code
    }
}

impl FromStr for Lint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match ALL.iter().find(|entry| entry.code.eq_ignore_ascii_case(text)) {
            Some(entry) => Ok(entry.lint),
            None => bail!("there are the lints NP001 to {}", ALL[ALL.len() - 1].code),
        }
    }
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Lint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// What `netpol lint --explain` prints.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, severity, title, why, help, .. } = self;
        writeln!(f, "{code} ({severity}): {title}\n\n{why}\n\n{help}")
    }
}

/// The page of all lints.
pub(crate) fn markdown() -> String {
    let mut page = String::from(
        "# Lints\n\nWhat `netpol lint` finds. `netpol lint --explain CODE` prints one of these.\n\n\
         | code | severity | |\n|---|---|---|\n",
    );
    for Entry { code, severity, title, .. } in &ALL {
        page += &format!("| [{code}](#{}) | {severity} | {title} |\n", code.to_ascii_lowercase());
    }
    for Entry { code, severity, title, why, help, .. } in &ALL {
        page += &format!("\n## {code}\n\n*{severity}: {title}*\n\n{why}\n\n{help}\n");
    }
    page
}

//! The objects of the input with whatever a command asks about, ready to be judged.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::{
    End, Endpoint, Family, Flow, Name, Objects, Options, Phase, Traffic, name,
};
use netpol_core::program::{Program, Scope};

use crate::input::Input;
use crate::peer::{Peer, Port};

/// The objects that questions are about.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) input: Input,
    pub(crate) options: Options,
    default_namespace: Name,
}

/// An end of a connection that is known to exist.
#[derive(Clone, Debug)]
pub(crate) enum Party {
    /// Whatever has this address.
    Address(IpAddr),
    /// A pod, or what stands for pods.
    Endpoint(Endpoint),
}

/// From one end to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) source: End,
    pub(crate) destination: End,
    /// By the address of a service (C-HAIR-2).
    pub(crate) via_service: bool,
}

impl World {
    pub(crate) fn new(input: Input, options: Options, default_namespace: &str) -> Self {
        Self { input, options, default_namespace: name(default_namespace) }
    }

    /// Forgets the pods that have nothing to do with connections between these: verdicts do not depend on them.
    pub(crate) fn keep_only(&mut self, parties: [&Party; 2]) {
        let addresses: Vec<IpAddr> =
            parties.into_iter().flat_map(|it| self.addresses(it)).collect();
        self.input.objects.endpoints.retain(|it| {
            let named = |party: &&Party| match party {
                Party::Endpoint(own) => (&own.namespace, &own.name) == (&it.namespace, &it.name),
                Party::Address(_) => false,
            };
            it.host_network
                || parties.iter().any(named)
                || it.addresses.iter().any(|address| addresses.contains(address))
        });
    }

    /// The objects, the hypothetical pods among them.
    pub(crate) fn objects(&self) -> &Objects {
        &self.input.objects
    }

    /// The cluster of these objects.
    pub(crate) fn cluster(&self) -> Cluster {
        Cluster::from_objects(self.options, self.objects().clone())
    }

    /// What the policies say on the whole of it.
    pub(crate) fn program(&self) -> Program {
        compile(&self.cluster(), Scope::Cluster)
    }

    /// Looks up what the user means. A hypothetical pod is there from then on.
    pub(crate) fn resolve(&mut self, peer: &Peer) -> Result<Party> {
        Ok(match peer {
            Peer::Address(address) => Party::Address(*address),
            Peer::Pod { namespace, name } => {
                Party::Endpoint(self.endpoint(&self.namespace(namespace.as_deref()), name)?)
            }
            Peer::Workload { namespace, kind, name } => {
                let namespace = self.namespace(namespace.as_deref());
                let wanted = [&**name, &format!("{}/{name}", kind.short())];
                let found = self.input.workloads.iter().find(|((within, called), of)| {
                    *of == kind && *within == namespace && wanted.contains(&&**called)
                });
                let Some(((_, called), _)) = found else {
                    bail!("there is no {} {namespace}/{name} in the input", kind.as_str())
                };
                Party::Endpoint(self.endpoint(&namespace, called)?)
            }
            Peer::Hypothetical { namespace, labels } => {
                let mut endpoint =
                    Endpoint::new(&self.namespace(namespace.as_deref()), &format!("[{labels}]"));
                endpoint.labels = labels.clone();
                let endpoints = &mut self.input.objects.endpoints;
                if !endpoints.contains(&endpoint) {
                    endpoints.push(endpoint.clone());
                }
                Party::Endpoint(endpoint)
            }
        })
    }

    fn namespace(&self, given: Option<&str>) -> Name {
        given.map_or_else(|| self.default_namespace.clone(), name)
    }

    /// The endpoint of this name; of several the one that is not finished.
    fn endpoint(&self, namespace: &str, name: &str) -> Result<Endpoint> {
        let endpoints = &self.objects().endpoints;
        let mut called =
            endpoints.iter().filter(|it| &*it.namespace == namespace && &*it.name == name);
        let first = called.clone().next();
        if let Some(endpoint) = called.find(|it| it.phase == Phase::Live).or(first) {
            return Ok(endpoint.clone());
        }
        let within = || endpoints.iter().filter(|it| &*it.namespace == namespace);
        let alike: Vec<String> = within()
            .filter(|it| it.name.starts_with(name) || name.starts_with(&*it.name))
            .take(3)
            .map(|it| format!("{namespace}/{}", it.name))
            .collect();
        match within().count() {
            _ if !alike.is_empty() => {
                bail!(
                    "there is no pod {namespace}/{name} in the input; did you mean {}?",
                    alike.join(" or ")
                )
            }
            0 => {
                bail!("there is no pod {namespace}/{name} in the input, and none in this namespace")
            }
            _ => bail!("there is no pod {namespace}/{name} in the input"),
        }
    }

    /// The direct ways from `source` to `destination`: one per address family that both have, IPv4 first, or a single one
    /// by name if one of them is a pod that has no address yet.
    pub(crate) fn ways(&self, source: &Party, destination: &Party) -> Result<Vec<Way>> {
        let (from, to) = (self.addresses(source), self.addresses(destination));
        if from.is_empty() || to.is_empty() {
            return Ok(vec![Way::direct(source.end(), destination.end())]);
        }
        let ways: Vec<_> = Family::ALL
            .into_iter()
            .filter_map(|family| {
                let first = |addresses: &[IpAddr]| {
                    addresses.iter().copied().find(|address| Family::of(*address) == family)
                };
                Some(Way::direct(End::Address(first(&from)?), End::Address(first(&to)?)))
            })
            .collect();
        if ways.is_empty() {
            bail!(
                "{} and {} have no address family in common",
                source.label(),
                destination.label()
            );
        }
        Ok(ways)
    }

    /// The addresses of a party; those of its node for a pod on the host network (M4).
    fn addresses(&self, party: &Party) -> Vec<IpAddr> {
        match party {
            Party::Address(address) => vec![*address],
            Party::Endpoint(endpoint) if endpoint.host_network => {
                let node =
                    self.objects().nodes.iter().find(|it| Some(&it.name) == endpoint.node.as_ref());
                node.map(|node| node.addresses.clone()).unwrap_or_default()
            }
            Party::Endpoint(endpoint) => endpoint.addresses.to_vec(),
        }
    }
}

impl Party {
    /// As the user knows it.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Address(address) => address.to_string(),
            Self::Endpoint(endpoint) => format!("{}/{}", endpoint.namespace, endpoint.name),
        }
    }

    fn end(&self) -> End {
        match self {
            Self::Address(address) => End::Address(*address),
            Self::Endpoint(endpoint) => {
                End::Endpoint { namespace: endpoint.namespace.clone(), name: endpoint.name.clone() }
            }
        }
    }

    /// The traffic to `port` of this party. ICMP is that of the address family that the connection is made in.
    pub(crate) fn traffic(&self, port: &Port, end: &End) -> Result<Traffic> {
        Ok(match port {
            Port::Number(protocol, number) => Traffic::Port(*protocol, *number),
            Port::Icmp if matches!(end, End::Address(address) if address.is_ipv6()) => {
                Traffic::ICMPV6
            }
            Port::Icmp => Traffic::ICMP,
            Port::Named(protocol, name) => {
                let Self::Endpoint(endpoint) = self else {
                    bail!("{} has no named ports", self.label())
                };
                let mut declared = endpoint
                    .ports
                    .iter()
                    .filter(|it| *it.name == **name && it.protocol == *protocol)
                    .map(|it| it.number);
                let number = declared.next().with_context(|| {
                    format!("{} declares no {protocol} port named {name}", self.label())
                })?;
                if declared.any(|other| other != number) {
                    bail!("{} declares several {protocol} ports named {name}", self.label());
                }
                Traffic::Port(*protocol, number)
            }
        })
    }
}

impl Way {
    /// Between the two themselves.
    pub(crate) fn direct(source: End, destination: End) -> Self {
        Self { source, destination, via_service: false }
    }

    /// A flow of this traffic.
    pub(crate) fn flow(&self, traffic: Traffic) -> Flow {
        let (source, destination) = (self.source.clone(), self.destination.clone());
        Flow { source, destination, traffic, via_service: self.via_service }
    }
}

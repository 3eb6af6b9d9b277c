//! How a place is joined to the one above it: the links, addresses and routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use anyhow::Result;
use rtnetlink::packet_route::route::RouteMessage;
use tokio::runtime::Runtime;

use crate::link::{ETH0, LOOPBACK, Links, default_route, host_route, runtime};
use crate::namespace::{Namespace, Visitor};
use crate::topology::Place;

/// The next hop of the nodes: the outside's end of every link to a node.
const OUTSIDE_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 1);
/// The next hop of the outside towards pods: the node's end of its link.
const NODE_UPLINK: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 2);
/// The next hop of the pods: the node's end of every link to a pod.
const NODE_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The upper end of every link, for IPv6. Other than in IPv4 it may be the same on all of them.
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The lower end of every link to a node, for IPv6.
const NODE_UPLINK_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

/// The IPv4 addresses that the testbed needs for itself; those of IPv6 are link-local and nobody
/// else can have them.
pub(crate) const RESERVED: [Ipv4Addr; 3] = [OUTSIDE_GATEWAY, NODE_UPLINK, NODE_GATEWAY];

/// Settings of every namespace.
const COMMON: &[(&str, &str)] = &[
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/all/accept_ra", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    // Every refusal counts, so none may be held back.
    ("ipv4/icmp_ratemask", "0"),
    ("ipv6/icmp/ratelimit", "0"),
];

/// Settings of the namespaces that forward.
const FORWARDING: &[(&str, &str)] = &[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")];

/// A node or a pod of a running cluster.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) namespace: Namespace,
    pub(crate) addresses: Vec<IpAddr>,
    /// What it hangs on: the outside for a node, its node for a pod.
    pub(crate) above: Place,
    /// The index of the link to it, as seen from above.
    pub(crate) link: u32,
}

impl Site {
    /// The source of traffic from here to `to` that does not choose another.
    fn source(&self, to: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|own| own.is_ipv4() == to.is_ipv4())
    }
}

/// Makes the namespace of the outside, as yet without any address or link.
pub(crate) fn create_outside(visitor: &mut Visitor) -> Result<Namespace> {
    create(visitor, &[COMMON, FORWARDING])
}

fn create(visitor: &mut Visitor, settings: &[&[(&str, &str)]]) -> Result<Namespace> {
    let namespace = visitor.create()?;
    settings.iter().try_for_each(|settings| visitor.set(settings))?;
    Ok(namespace)
}

/// A thread at work on the wires of one cluster.
#[derive(Debug)]
pub(crate) struct Wiring<'v> {
    visitor: &'v mut Visitor,
    runtime: Rc<Runtime>,
    outside: Links,
}

impl<'v> Wiring<'v> {
    /// Begins work on the cluster around `outside`.
    pub(crate) fn open(visitor: &'v mut Visitor, outside: &Namespace) -> Result<Self> {
        let runtime = Rc::new(runtime()?);
        let outside = Links::open(&runtime, visitor, outside)?;
        Ok(Wiring { visitor, runtime, outside })
    }

    /// Sets up the inside of the outside.
    pub(crate) fn set_up_outside(&self, addresses: &[IpAddr]) -> Result<()> {
        self.outside.set_up(LOOPBACK)?;
        self.outside.add_address(LOOPBACK, OUTSIDE_GATEWAY.into())?;
        self.add_outside(addresses)
    }

    /// Gives the outside more addresses.
    pub(crate) fn add_outside<'a>(
        &self,
        addresses: impl IntoIterator<Item = &'a IpAddr> + Clone,
    ) -> Result<()> {
        for address in addresses.clone() {
            self.outside.add_address(LOOPBACK, *address)?;
        }
        for address in addresses {
            self.outside.wait_until_local(LOOPBACK, *address)?;
        }
        Ok(())
    }

    /// Takes addresses from the outside.
    pub(crate) fn delete_outside<'a>(
        &self,
        addresses: impl IntoIterator<Item = &'a IpAddr>,
    ) -> Result<()> {
        addresses
            .into_iter()
            .try_for_each(|address| self.outside.delete_address(LOOPBACK, *address))
    }

    /// Makes a node and joins it to the outside.
    pub(crate) fn attach_node(
        &mut self,
        name: &str,
        link: u32,
        addresses: &[IpAddr],
    ) -> Result<Site> {
        let namespace = create(self.visitor, &[COMMON, FORWARDING])?;
        let node = Site { namespace, addresses: addresses.to_vec(), above: Place::Outside, link };
        let inside = Links::open(&self.runtime, self.visitor, &node.namespace)?;
        inside.set_up(LOOPBACK)?;
        inside.add_address(LOOPBACK, NODE_GATEWAY.into())?;

        self.outside.add_veth(link, &format!("node{link}"), name, &node.namespace)?;
        inside.set_up(ETH0)?;
        self.outside.add_address(link, GATEWAY_V6.into())?;
        for address in addresses.iter().chain(&[NODE_UPLINK.into(), NODE_UPLINK_V6.into()]) {
            inside.add_address(ETH0, *address)?;
        }
        for gateway in [OUTSIDE_GATEWAY.into(), GATEWAY_V6.into()] {
            inside.add_route(default_route(gateway, ETH0, node.source(gateway)))?;
        }
        for address in addresses {
            self.outside.add_route(host_route(*address, None, link, None))?;
        }
        Ok(node)
    }

    /// Makes a pod, joins it to its node, and tells the outside the way. All or nothing.
    pub(crate) fn attach_pod(
        &mut self,
        name: &str,
        link: u32,
        addresses: &[IpAddr],
        above: &Place,
        node: &Site,
    ) -> Result<Site> {
        let namespace = create(self.visitor, &[COMMON])?;
        let pod = Site { namespace, addresses: addresses.to_vec(), above: above.clone(), link };
        if let Err(error) = self.wire_pod(name, &pod, node) {
            // The first error is the one to report, and what was not made cannot be deleted.
            let _ = self.detach_pod(&pod, node);
            return Err(error);
        }
        Ok(pod)
    }

    fn wire_pod(&mut self, name: &str, pod: &Site, node: &Site) -> Result<()> {
        let inside = Links::open(&self.runtime, self.visitor, &pod.namespace)?;
        let on_node = Links::open(&self.runtime, self.visitor, &node.namespace)?;
        inside.set_up(LOOPBACK)?;

        on_node.add_veth(pod.link, &format!("pod{}", pod.link), name, &pod.namespace)?;
        inside.set_up(ETH0)?;
        on_node.add_address(pod.link, GATEWAY_V6.into())?;
        for address in &pod.addresses {
            inside.add_address(ETH0, *address)?;
        }
        for gateway in [NODE_GATEWAY.into(), GATEWAY_V6.into()] {
            if let source @ Some(_) = pod.source(gateway) {
                inside.add_route(default_route(gateway, ETH0, source))?;
            }
        }
        for address in &pod.addresses {
            on_node.add_route(host_route(*address, None, pod.link, node.source(*address)))?;
            self.outside.add_route(route_to_pod(*address, node))?;
        }
        Ok(())
    }

    /// Removes the link to a pod, and the routes.
    pub(crate) fn detach_pod(&mut self, pod: &Site, node: &Site) -> Result<()> {
        Links::open(&self.runtime, self.visitor, &node.namespace)?.delete(pod.link)?;
        pod.addresses
            .iter()
            .try_for_each(|address| self.outside.delete_route(route_to_pod(*address, node)))
    }

    /// Waits until packets can go to `site` and come from it.
    pub(crate) fn wait_until_ready(&mut self, site: &Site, above: &Namespace) -> Result<()> {
        let inside = Links::open(&self.runtime, self.visitor, &site.namespace)?;
        inside.wait_until_up(ETH0)?;
        for address in &site.addresses {
            inside.wait_until_local(ETH0, *address)?;
        }
        if site.above == Place::Outside {
            inside.wait_until_local(ETH0, NODE_UPLINK_V6.into())?;
        }
        let above = Links::open(&self.runtime, self.visitor, above)?;
        above.wait_until_up(site.link)?;
        above.wait_until_local(site.link, GATEWAY_V6.into())
    }
}

fn route_to_pod(address: IpAddr, node: &Site) -> RouteMessage {
    let gateway = if address.is_ipv4() { NODE_UPLINK.into() } else { NODE_UPLINK_V6.into() };
    host_route(address, Some(gateway), node.link, None)
}

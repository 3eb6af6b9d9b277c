//! Links, addresses and routes of one network namespace, over rtnetlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressHeaderFlags, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, State};
use rtnetlink::packet_route::route::{RouteMessage, RouteScope, RouteType};
use rtnetlink::{
    AddressMessageBuilder, Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};
use tokio::runtime::Runtime;

use crate::namespace::{Namespace, Visitor};

/// The index of the loopback interface, in every namespace.
pub(crate) const LOOPBACK: u32 = 1;

/// The index of `eth0`. Fixed, so that nobody has to ask; above those that the kernel may give to
/// tunnel devices.
pub(crate) const ETH0: u32 = 50;

/// How long the kernel may take for what it does in the background.
const PATIENCE: Duration = Duration::from_secs(5);

/// A netlink connection into one namespace. It blocks; not to be used on a thread that runs async
/// code.
#[derive(Debug)]
pub(crate) struct Links {
    runtime: Rc<Runtime>,
    handle: Handle,
}

/// What drives the netlink connections of one thread.
pub(crate) fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the event loop of netlink")
}

/// The route to everything: all of IPv4 for an IPv4 gateway, all of IPv6 for an IPv6 gateway.
pub(crate) fn default_route(gateway: IpAddr, link: u32, source: Option<IpAddr>) -> RouteMessage {
    let anything = match gateway {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    route(anything, 0, Some(gateway), link, source)
}

/// The route to one host, directly on `link` or by a gateway there.
pub(crate) fn host_route(
    to: IpAddr,
    gateway: Option<IpAddr>,
    link: u32,
    source: Option<IpAddr>,
) -> RouteMessage {
    route(to, host_prefix(to), gateway, link, source)
}

/// `gateway` and `source`, where given, are of the family of `to`.
fn route(
    to: IpAddr,
    prefix: u8,
    gateway: Option<IpAddr>,
    link: u32,
    source: Option<IpAddr>,
) -> RouteMessage {
    // The typed builders refuse mixed families at compile time; what cannot be paired is left out.
    match to {
        IpAddr::V4(to) => {
            let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(to, prefix)
                .output_interface(link);
            route = match gateway {
                Some(IpAddr::V4(gateway)) => route.gateway(gateway).onlink(),
                _ => route.scope(RouteScope::Link),
            };
            if let Some(IpAddr::V4(source)) = source {
                route = route.pref_source(source);
            }
            route.build()
        }
        IpAddr::V6(to) => {
            let mut route = RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(to, prefix)
                .output_interface(link);
            if let Some(IpAddr::V6(gateway)) = gateway {
                route = route.gateway(gateway);
            }
            if let Some(IpAddr::V6(source)) = source {
                route = route.pref_source(source);
            }
            route.build()
        }
    }
}

fn address_message(link: u32, address: IpAddr) -> AddressMessage {
    let prefix = host_prefix(address);
    match address {
        IpAddr::V4(address) => {
            let builder = AddressMessageBuilder::<Ipv4Addr>::new().index(link);
            let mut message = builder.address(address, prefix).build();
            if address.is_link_local() {
                // A gateway must not become the source of anything that goes beyond the link.
                message.header.scope = AddressScope::Link;
            }
            message
        }
        IpAddr::V6(address) => {
            let builder = AddressMessageBuilder::<Ipv6Addr>::new().index(link);
            let mut message = builder.address(address, prefix).build();
            // Nobody else can have it; to look for duplicates would take a second and more.
            message.header.flags |= AddressHeaderFlags::Nodad;
            message
        }
    }
}

fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl Links {
    /// Opens a connection into `namespace`.
    pub(crate) fn open(
        runtime: &Rc<Runtime>,
        visitor: &mut Visitor,
        namespace: &Namespace,
    ) -> Result<Self> {
        visitor.enter(namespace)?;
        let _inside_runtime = runtime.enter();
        let (connection, handle, _) =
            rtnetlink::new_connection().context("opening a netlink socket")?;
        runtime.spawn(connection);
        Ok(Links { runtime: Rc::clone(runtime), handle })
    }

    /// Sets a link up.
    pub(crate) fn set_up(&self, link: u32) -> Result<()> {
        let message = LinkUnspec::new_with_index(link).up().build();
        self.runtime
            .block_on(self.handle.link().set(message).execute())
            .with_context(|| format!("setting link {link} up"))
    }

    /// Makes a veth pair that joins this namespace (as `name`, with the index
    /// `link`) and `peer` (as `eth0`, still down). `alias` is what `ip link` shows beside the name.
    pub(crate) fn add_veth(
        &self,
        link: u32,
        name: &str,
        alias: &str,
        peer: &Namespace,
    ) -> Result<()> {
        // Both ends are born in their namespace: to move a link later costs milliseconds. The far
        // end cannot be born up, as it is born first and would miss the other.
        let far_end = LinkMessageBuilder::<LinkUnspec>::new()
            .name("eth0")
            .index(ETH0)
            .setns_by_fd(peer.fd())
            .build();
        let near_end = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(name)
            .index(link)
            .up()
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far_end)))
            .build();
        let alias_of = LinkUnspec::new_with_index(link).alias(alias).build();
        self.runtime
            .block_on(async {
                self.handle.link().add(near_end).execute().await?;
                self.handle.link().set(alias_of).execute().await
            })
            .with_context(|| format!("creating the veth pair {name} - eth0"))
    }

    /// Deletes a link, and with it its other end and all routes over it.
    pub(crate) fn delete(&self, link: u32) -> Result<()> {
        self.runtime
            .block_on(self.handle.link().del(link).execute())
            .with_context(|| format!("deleting link {link}"))
    }

    /// Gives a link an address, usable at once.
    pub(crate) fn add_address(&self, link: u32, address: IpAddr) -> Result<()> {
        let mut request = self.handle.address().add(link, address, host_prefix(address));
        *request.message_mut() = address_message(link, address);
        self.runtime
            .block_on(request.execute())
            .with_context(|| format!("adding the address {address} to link {link}"))
    }

    /// Takes an address from a link.
    pub(crate) fn delete_address(&self, link: u32, address: IpAddr) -> Result<()> {
        self.runtime
            .block_on(self.handle.address().del(address_message(link, address)).execute())
            .with_context(|| format!("taking the address {address} from link {link}"))
    }

    /// Adds a route.
    pub(crate) fn add_route(&self, route: RouteMessage) -> Result<()> {
        self.runtime
            .block_on(self.handle.route().add(route.clone()).execute())
            .with_context(|| format!("adding the route {}", describe(&route)))
    }

    /// Deletes a route.
    pub(crate) fn delete_route(&self, route: RouteMessage) -> Result<()> {
        self.runtime
            .block_on(self.handle.route().del(route.clone()).execute())
            .with_context(|| format!("deleting the route {}", describe(&route)))
    }

    /// Waits until a link carries packets.
    ///
    /// The kernel starts the queue of the end that was up first a moment later, in the background,
    /// and drops what is sent before that.
    pub(crate) fn wait_until_up(&self, link: u32) -> Result<()> {
        self.wait(&format!("link {link} is still down"), async || {
            let mut found = self.handle.link().get().match_index(link).execute();
            let message = found.try_next().await?;
            let up = LinkAttribute::OperState(State::Up);
            Ok(message.is_some_and(|link| link.attributes.contains(&up)))
        })
    }

    /// Waits until packets to an address of a link are taken in.
    ///
    /// IPv4 does so at once. IPv6 enters the route and joins the group for neighbour discovery a
    /// moment later, in the background.
    pub(crate) fn wait_until_local(&self, link: u32, address: IpAddr) -> Result<()> {
        let IpAddr::V6(address) = address else { return Ok(()) };
        let mut question = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(address, 128);
        if address.is_unicast_link_local() {
            question = question.output_interface(link);
        }
        let question = question.build();
        self.wait(&format!("the address {address} is still not in use"), async || {
            let mut found = self.handle.route().get(question.clone()).execute();
            // As long as there is no route at all, the kernel answers with an error.
            let route = found.try_next().await.ok().flatten();
            Ok(route.is_some_and(|route| route.header.kind == RouteType::Local))
        })
    }

    fn wait(&self, complaint: &str, done: impl AsyncFn() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        self.runtime.block_on(async {
            while !done().await? {
                ensure!(Instant::now() < deadline, "after {PATIENCE:?} {complaint}");
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            Ok(())
        })
    }
}

fn describe(route: &RouteMessage) -> String {
    format!("{:?} (prefix length {})", route.attributes, route.header.destination_prefix_length)
}

//! The addresses of this host.

use std::net::IpAddr;

use anyhow::{Context, Result};
use nix::ifaddrs::getifaddrs;

/// The addresses of the interfaces of this network namespace by which pods may see their node, in ascending order.
pub(crate) fn addresses() -> Result<Vec<IpAddr>> {
    let interfaces = getifaddrs().context("asking for the addresses of interfaces")?;
    let mut addresses: Vec<IpAddr> = interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))
        })
        .filter(|address| match address {
            IpAddr::V4(v4) => !v4.is_loopback(),
            // Which node a link-local address is of depends on the link.
            IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
        })
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

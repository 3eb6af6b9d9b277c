//! What the input does not say, but the machine: its name, its addresses, and where its interfaces lead.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netpol_core::model::{Name, name};

/// The name by which the kernel knows this machine.
pub(crate) fn host_name() -> Name {
    let text = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let text = text.trim();
    name(if text.is_empty() { "localhost" } else { text })
}

/// The addresses of all interfaces in this network namespace, but for those that mean something on one link only.
pub(crate) fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let interfaces = nix::ifaddrs::getifaddrs()?;
    let addresses = interfaces.filter_map(|it| {
        let address = it.address?;
        let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))
    });
    let mut addresses: Vec<IpAddr> = addresses.filter(|it| !is_local(*it)).collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
    }
}

/// The single addresses that are routed to each interface: whoever is behind it.
pub(crate) fn behind_interfaces() -> io::Result<BTreeMap<String, Vec<IpAddr>>> {
    let mut behind: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    let v4 = fs::read_to_string("/proc/thread-self/net/route")?;
    let v4 = v4.lines().filter_map(host_route_v4);
    // There is no such file on a kernel without IPv6.
    let v6 = fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap_or_default();
    let v6 = v6.lines().filter_map(host_route_v6);
    for (interface, address) in v4.chain(v6).filter(|(_, address)| !is_local(*address)) {
        behind.entry(interface.to_owned()).or_default().push(address);
    }
    Ok(behind)
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask ...`, the addresses in the byte order of the machine.
fn host_route_v4(line: &str) -> Option<(&str, IpAddr)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [interface, destination, _, _, _, _, _, mask, ..] = fields[..] else { return None };
    let number = |text| u32::from_str_radix(text, 16).ok();
    (number(mask)? == u32::MAX).then_some(())?;
    Some((interface, Ipv4Addr::from(number(destination)?.to_ne_bytes()).into()))
}

/// `destination length source length gateway metric references uses flags interface`.
fn host_route_v6(line: &str) -> Option<(&str, IpAddr)> {
    /// The route leads to this machine itself, or to a group.
    const LOCAL: u32 = 0x8000_0000;
    const ANYCAST: u32 = 0x0010_0000;
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [destination, "80", _, _, _, _, _, _, flags, interface] = fields[..] else { return None };
    let flags = u32::from_str_radix(flags, 16).ok()?;
    let destination = Ipv6Addr::from(u128::from_str_radix(destination, 16).ok()?);
    let elsewhere = flags & (LOCAL | ANYCAST) == 0 && !destination.is_multicast();
    elsewhere.then_some((interface, destination.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_routes_are_told_from_others() {
        // As a little-endian machine prints 10.244.1.10.
        let number = u32::from_ne_bytes([10, 244, 1, 10]);
        let line =
            |mask: &str| format!("veth0\t{number:08X}\t00000000\t0005\t0\t0\t0\t{mask}\t0\t0\t0");
        let host = line("FFFFFFFF");
        assert_eq!(host_route_v4(&host), Some(("veth0", [10, 244, 1, 10].into())));
        assert_eq!(host_route_v4(&line("00FFFFFF")), None);
        assert_eq!(
            host_route_v4("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask"),
            None
        );

        let zeros = "0".repeat(32);
        let line = |length: &str, flags: &str| {
            format!(
                "fd00000a00f40001000000000000000a {length} {zeros} 00 {zeros} 00000400 00000001 00000000 {flags}    veth0"
            )
        };
        let address: IpAddr = "fd00:a:f4:1::a".parse().unwrap();
        assert_eq!(host_route_v6(&line("80", "00000001")), Some(("veth0", address)));
        assert_eq!(host_route_v6(&line("40", "00000001")), None);
        assert_eq!(host_route_v6(&line("80", "80200001")), None, "its own address");
    }
}

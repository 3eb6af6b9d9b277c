//! Generators of large clusters: deterministic, and shaped like those that people run.

mod antrea;
mod events;
mod extreme;
mod mixed;
mod parts;

use std::net::IpAddr;

use netpol_core::model::{Flow, Objects, Traffic};

use crate::random::Random;

pub use antrea::{cross_namespace, one_namespace, small_namespaces};
pub use events::{Change, Event, changes};
pub use extreme::{blocks, carved, deep, deep_ports, nested_ports, wide};
pub use mixed::{Size, isolate, mixed};

/// Connections between pods chosen uniformly at random, one in ten with the world outside, to ports of which half
/// are such as policies mention.
pub fn flows(objects: &Objects, count: usize, random: &mut Random) -> Vec<Flow> {
    const PORTS: [u16; 8] = [80, 443, 5432, 53, 8080, 9090, 6379, 22];
    let ordinary = objects.endpoints.iter().filter(|endpoint| endpoint.is_ordinary());
    let pods: Vec<IpAddr> = ordinary.flat_map(|endpoint| &endpoint.addresses).copied().collect();
    let outside = |random: &mut Random| IpAddr::from([203, 0, 113, low_byte(random)]);
    let flow = |_| {
        let mut ends = [random.pick(&pods), random.pick(&pods)];
        if random.percent(10) {
            ends[random.below(2)] = outside(random);
        }
        let port = match random.percent(50) {
            true => random.pick(&PORTS),
            false => u16::try_from(random.below(1 << 16)).unwrap_or(u16::MAX),
        };
        let traffic = match port == 53 || random.percent(10) {
            true => Traffic::udp(port),
            false => Traffic::tcp(port),
        };
        Flow::new(ends[0], ends[1], traffic)
    };
    (0..count).map(flow).collect()
}

fn low_byte(random: &mut Random) -> u8 {
    u8::try_from(random.below(256)).unwrap_or(u8::MAX)
}

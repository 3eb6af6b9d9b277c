//! Sets of protocols and ports, in words and for programs.

use netpol_core::model::{PortRange, Protocol};
use netpol_core::program::TrafficRange;
use serde::Serialize;

/// `TCP 80,8000-8100; UDP 53`, or `all` for everything.
pub(crate) fn words(traffic: &[TrafficRange]) -> String {
    if is_everything(traffic) {
        return "all".to_owned();
    }
    let mut parts: Vec<String> = Vec::new();
    for protocol in Protocol::ALL {
        let ranges: Vec<PortRange> = ports(traffic, protocol).collect();
        match ranges[..] {
            [] => {}
            [PortRange::ALL] => parts.push(protocol.to_string()),
            _ => {
                let ports: Vec<String> = ranges.iter().map(ToString::to_string).collect();
                parts.push(format!("{protocol} {}", ports.join(",")));
            }
        }
    }
    if traffic.contains(&TrafficRange::Other) {
        parts.push("other protocols".to_owned());
    }
    parts.join("; ")
}

/// Whether it is every port of every protocol.
pub(crate) fn is_everything(traffic: &[TrafficRange]) -> bool {
    let whole = |protocol| traffic.contains(&TrafficRange::Ports(protocol, PortRange::ALL));
    traffic.contains(&TrafficRange::Other) && Protocol::ALL.into_iter().all(whole)
}

fn ports(traffic: &[TrafficRange], of: Protocol) -> impl Iterator<Item = PortRange> {
    traffic.iter().filter_map(move |range| match range {
        TrafficRange::Ports(protocol, ports) if *protocol == of => Some(*ports),
        _ => None,
    })
}

/// One range for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TrafficJson {
    /// `TCP`, `UDP`, `SCTP`, or `other` for all protocols without ports.
    protocol: &'static str,
    /// Inclusive; missing for `other`.
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<PortsJson>,
}

#[derive(Debug, Serialize)]
struct PortsJson {
    first: u16,
    last: u16,
}

/// The ranges for programs.
pub(crate) fn json(traffic: &[TrafficRange]) -> Vec<TrafficJson> {
    let one = |range: &TrafficRange| match range {
        TrafficRange::Ports(protocol, ports) => TrafficJson {
            protocol: protocol.as_str(),
            ports: Some(PortsJson { first: ports.first(), last: ports.last() }),
        },
        TrafficRange::Other => TrafficJson { protocol: "other", ports: None },
    };
    traffic.iter().map(one).collect()
}

//! Rendered rules against the program they were rendered from, by the interpreter of rulesets.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netpol_backend_nft::ruleset::{Hook, Packet, Standing, Transport};
use netpol_backend_nft::{Options, render};
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::model::{End, Flow, SelfTraffic, Traffic};
use netpol_core::program::Scope;
use netpol_core::testing::{Choices, flow, world};

fuzz_target!(|tape: &[u8]| {
    let mut choices = Choices::new(tape);
    let (objects, mut options) = world(&mut choices);
    // Traffic of an endpoint with itself does not come past the host, so that no rule can tell it from a hairpin.
    options.self_traffic = SelfTraffic::Allowed;
    let direct = |flow| Flow { via_service: false, ..flow };
    let flows: Vec<_> = (0..40).map(|_| direct(flow(&mut choices, &objects))).collect();
    let nodes: Vec<_> = objects.nodes.iter().map(|node| node.name.clone()).collect();
    let cluster = Cluster::from_objects(options, objects.clone());
    for node in nodes {
        let program = compile(&cluster, Scope::Node(node));
        let ruleset = render(&program, &Options::default());
        for flow in &flows {
            let (End::Address(source), End::Address(destination)) = (&flow.source, &flow.destination)
            else {
                continue;
            };
            if source.is_ipv4() != destination.is_ipv4() {
                continue;
            }
            let transport = match flow.traffic {
                Traffic::Port(protocol, port) => Transport::Port(protocol.number(), port),
                Traffic::ICMP => Transport::Icmp(1, 8),
                Traffic::ICMPV6 => Transport::Icmp(58, 128),
                Traffic::Other(number) => Transport::Other(number),
            };
            let (source, destination) = (*source, *destination);
            let packet = Packet { source, destination, transport, standing: Standing::New };
            let passes = ruleset.passes(Hook::Forward, &packet);
            let decision = program.decide(flow);
            assert_eq!(passes, Ok(decision.is_allowed()), "{flow}: {decision:?}\n{ruleset}\n{objects:#?}");
        }
    }
});

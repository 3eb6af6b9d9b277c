use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use crate::connectivity::{Connectivity, End};
use crate::traffic;

/// Writes the connections as a graph for Graphviz: namespaces as boxes, an arrow for each pair of ends.
pub(crate) fn write(connectivity: &Connectivity, out: &mut impl Write) -> io::Result<()> {
    let mut ends: BTreeMap<Option<String>, BTreeSet<String>> = BTreeMap::new();
    let mut arrows: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for pod in connectivity.pods.iter().filter(|pod| !pod.hypothetical) {
        ends.entry(Some(pod.namespace.to_string())).or_default().insert(pod.label());
    }
    for connection in &connectivity.connections {
        let [sources, destinations] = connectivity.names(connection.sides());
        for source in sources {
            for destination in destinations.iter().filter(|it| !it.is_same_pod(&source)) {
                for end in [&source, destination] {
                    ends.entry(namespace(end)).or_default().insert(end.to_string());
                }
                let labels =
                    arrows.entry((source.to_string(), destination.to_string())).or_default();
                let words = traffic::words(&connection.traffic);
                labels.push(match connection.family_name() {
                    Some(family) => format!("{words} ({family})"),
                    None => words,
                });
            }
        }
    }
    writeln!(out, "digraph netpol {{\n  rankdir=LR;\n  node [shape=box, style=rounded];")?;
    for (namespace, ends) in &ends {
        let indent = match namespace {
            Some(namespace) => {
                let name = quoted(&format!("cluster_{namespace}"));
                writeln!(out, "  subgraph {name} {{\n    label={};", quoted(namespace))?;
                "    "
            }
            None => "  ",
        };
        for end in ends {
            let prefix = namespace.as_ref().map(|namespace| format!("{namespace}/"));
            let label = prefix.and_then(|prefix| end.strip_prefix(&*prefix)).unwrap_or(end);
            writeln!(out, "{indent}{} [label={}];", quoted(end), quoted(label))?;
        }
        if namespace.is_some() {
            writeln!(out, "  }}")?;
        }
    }
    for ((source, destination), labels) in &arrows {
        let (source, destination) = (quoted(source), quoted(destination));
        writeln!(out, "  {source} -> {destination} [label={}];", quoted(&labels.join("; ")))?;
    }
    writeln!(out, "}}")
}

fn namespace(end: &End) -> Option<String> {
    match end {
        End::Pod { namespace, .. } | End::PodsOf(namespace) => Some(namespace.to_string()),
        End::AllPods | End::Node(_) | End::World { .. } | End::Block(_) => None,
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

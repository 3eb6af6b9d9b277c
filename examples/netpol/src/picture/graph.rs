use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::layout::{Layout, Place, Plan};
use super::{Use, escaped, header};
use crate::connectivity::{Connectivity, End};
use crate::traffic;

/// Up to so many arrows have their ports written on them; with more one could not read them.
const LABELLED: usize = 40;
/// With more ends than that, namespaces stand for their pods.
const ENDS: usize = 120;

/// The graph as an SVG element.
pub(super) fn svg(connectivity: &Connectivity, place: Use) -> String {
    let (plan, arrows) = plan(connectivity);
    let layout = plan.layout();
    let mut svg = header(layout.width, layout.height, "who may talk to whom", place);
    for (group, at) in &layout.groups {
        let Place { x, y, width, height } = at;
        let _ = writeln!(
            svg,
            "<rect class=\"group\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"10\"/>\
             <text class=\"quiet\" x=\"{}\" y=\"{}\">{}</text>",
            x + 14,
            y + 20,
            escaped(group)
        );
    }
    let mut labels = String::new();
    for ((from, to), words) in &arrows {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        arrow(&mut svg, &mut labels, &layout, (from, to), &words, arrows.len() <= LABELLED);
    }
    for (end, at) in &layout.ends {
        let Place { x, y, width, height } = at;
        let label = plan.ends.get(end).map_or(&**end, |(_, label)| label);
        let _ = writeln!(
            svg,
            "<g data-end=\"{}\"><rect class=\"end\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" \
             rx=\"7\"/><text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text></g>",
            escaped(end),
            x + width / 2,
            y + height / 2 + 5,
            escaped(label)
        );
    }
    svg + &labels + "</svg>"
}

type Arrows = BTreeMap<(String, String), BTreeSet<String>>;

/// Ends in the groups of their namespaces, and what leads from one to the other.
fn plan(connectivity: &Connectivity) -> (Plan, Arrows) {
    let mut plan = Plan::default();
    let own = connectivity.pods.iter().filter(|pod| !pod.hypothetical);
    let coarse = own.clone().count() > ENDS;
    for pod in own {
        let namespace = pod.namespace.to_string();
        match coarse {
            true => plan.ends.insert(namespace.clone(), (None, namespace)),
            false => plan.ends.insert(pod.label(), (Some(namespace), pod.name.to_string())),
        };
    }
    let mut arrows = Arrows::new();
    for connection in &connectivity.connections {
        let [sources, destinations] = connectivity.names(connection.sides()).map(|ends| {
            let names = ends.iter().map(|end| name(&mut plan, end, coarse));
            names.collect::<BTreeSet<String>>()
        });
        let words = traffic::words(&connection.traffic);
        for source in &sources {
            for destination in destinations.iter().filter(|it| *it != source) {
                let key = (source.clone(), destination.clone());
                arrows.entry(key).or_default().insert(words.clone());
            }
        }
    }
    // Who may do everything says little about what leads to what.
    let telling = arrows.iter().filter(|(_, words)| !words.contains("all"));
    plan.arrows = telling.map(|(ends, _)| ends.clone()).collect();
    (plan, arrows)
}

/// The name of an end or of a group in the plan.
fn name(plan: &mut Plan, end: &End, coarse: bool) -> String {
    match end {
        End::PodsOf(namespace) => namespace.to_string(),
        End::Pod { namespace, .. } if coarse => namespace.to_string(),
        End::Pod { namespace, name } => {
            let label = end.to_string();
            let group = Some(namespace.to_string());
            plan.ends.entry(label.clone()).or_insert((group, name.to_string()));
            label
        }
        End::AllPods | End::Node(_) | End::World { .. } | End::Block(_) => {
            let label = end.to_string();
            plan.ends.entry(label.clone()).or_insert((None, label.clone()));
            label
        }
    }
}

/// An arrow from the right of one end to the left of another one, with what may pass.
fn arrow(
    svg: &mut String,
    labels: &mut String,
    layout: &Layout,
    (from, to): (&str, &str),
    words: &[&str],
    labelled: bool,
) {
    let find = |name: &str| layout.ends.get(name).or_else(|| layout.groups.get(name));
    let (Some(source), Some(destination)) = (find(from), find(to)) else { return };
    let middle = |place: &Place| place.y + place.height / 2;
    let (x1, y1) = (source.x + source.width, middle(source));
    let (x2, y2) = (destination.x, middle(destination));
    let bend = (x1.abs_diff(x2) / 2).clamp(36, 160);
    // What leads back goes around: out to the right and in from the left.
    let (c1, c2) = (x1 + bend, x2.saturating_sub(bend));
    let words = words.join("; ");
    let class = if words == "all" { " all" } else { "" };
    let tip = escaped(&format!("{from} => {to} : {words}"));
    let _ = writeln!(
        svg,
        "<g data-from=\"{}\" data-to=\"{}\"><title>{tip}</title>\
         <path class=\"arrow{class}\" d=\"M{x1} {y1}C{c1} {y1} {c2} {y2} {} {y2}\"/>\
         <path class=\"tip{class}\" d=\"M{x2} {y2}l-9 -4.5v9z\"/></g>",
        escaped(from),
        escaped(to),
        x2.saturating_sub(7)
    );
    if labelled && words != "all" {
        let _ = writeln!(
            labels,
            "<text class=\"label\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            (x1 + x2) / 2,
            (y1 + y2) / 2 - 5,
            escaped(&words)
        );
    }
}

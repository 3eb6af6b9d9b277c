//! One page with everything in it: no other file, no other host.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;

use netpol_core::model::{Direction, End as FlowEnd, Family, PortRange, Protocol};
use netpol_core::program::{EndpointEntry, Judgement, PortMap, Program, TrafficRange, Verdict};
use serde::Serialize;

use super::{COLOURS, Use, graph, table};
use crate::connectivity::{Connectivity, Stranger};
use crate::exit::Failure;
use crate::explanation;
use crate::matrix::Matrix;
use crate::progress::Progress;
use crate::traffic;
use crate::world::{Way, World};

const TEMPLATE: &str = include_str!("page.html");
/// A page tells of every pair; with more pods than that no browser would like it.
const PODS: usize = 300;

/// What the page knows.
#[derive(Serialize)]
struct Data {
    ends: Vec<EndData>,
    /// Every sentence once.
    texts: Vec<String>,
    /// By source and destination, as places in `ends`: all that is allowed, and why.
    pairs: BTreeMap<String, (String, Vec<Part>)>,
}

#[derive(Serialize)]
struct EndData {
    name: String,
    /// Empty for what is no pod.
    namespace: String,
    label: String,
    addresses: Vec<String>,
}

/// Traffic from one end to another that is judged for the same reasons: words, whether it is allowed, and what egress
/// and ingress say, as a verdict and a place in `texts`; null for what is not judged.
#[derive(Serialize, PartialEq)]
struct Part(String, bool, Option<(bool, usize)>, Option<(bool, usize)>);

/// An end with what is needed to ask about it.
struct Asked<'a> {
    entry: Option<&'a EndpointEntry>,
    ends: Vec<FlowEnd>,
}

pub(crate) fn write(
    connectivity: &Connectivity,
    program: &Program,
    world: &World,
    out: &mut impl Write,
) -> Result<(), Failure> {
    if connectivity.pods.len() > PODS {
        return Err(Failure::usage(anyhow::anyhow!(
            "there are {} pods; a page can tell of {PODS}: give it the manifests of fewer namespaces",
            connectivity.pods.len()
        )));
    }
    let strangers = connectivity.strangers();
    let data = Data::new(connectivity, &strangers, program);
    let json = serde_json::to_string(&data)?.replace('<', "\\u003c");
    let matrix = Matrix::new(connectivity, world, None, [None, None])?;
    let page = TEMPLATE
        .replace("/*COLOURS*/", COLOURS)
        .replace("<!--GRAPH-->", &graph::svg(connectivity, Use::Page))
        .replace("<!--TABLE-->", &table::svg(&matrix, Use::Page))
        .replace("/*DATA*/null", &json);
    Ok(out.write_all(page.as_bytes())?)
}

impl Data {
    fn new(connectivity: &Connectivity, strangers: &[Stranger], program: &Program) -> Self {
        let entries: BTreeMap<_, _> = program
            .endpoints()
            .filter(|it| !it.is_host())
            .map(|it| ((it.namespace(), it.name()), it))
            .collect();
        let (mut ends, mut asked) = (Vec::new(), Vec::new());
        for pod in &connectivity.pods {
            let (namespace, name) = (pod.namespace.clone(), pod.name.clone());
            ends.push(EndData {
                name: pod.label(),
                namespace: pod.namespace.to_string(),
                label: pod.name.to_string(),
                addresses: pod.addresses.iter().map(ToString::to_string).collect(),
            });
            let own = pod.addresses.iter().map(|it| FlowEnd::Address(*it));
            let by_name = pod.addresses.is_empty().then_some(FlowEnd::Endpoint { namespace, name });
            asked.push(Asked {
                entry: entries.get(&(&*pod.namespace, &*pod.name)).copied(),
                ends: own.chain(by_name).collect(),
            });
        }
        for Stranger { name, examples } in strangers {
            ends.push(EndData {
                name: name.clone(),
                namespace: String::new(),
                label: name.clone(),
                addresses: Vec::new(),
            });
            let examples = examples.iter().map(|it| FlowEnd::Address(*it)).collect();
            asked.push(Asked { entry: None, ends: examples });
        }
        let mut texts = Texts::default();
        let mut pairs = BTreeMap::new();
        let progress = Progress::new("explaining");
        for (from, source) in asked.iter().enumerate() {
            progress.tell(from, asked.len());
            for (to, destination) in asked.iter().enumerate().filter(|(to, _)| *to != from) {
                let parts = parts(program, source, destination, &mut texts);
                pairs.extend(parts.map(|parts| (format!("{from},{to}"), parts)));
            }
        }
        Self { ends, texts: texts.list, pairs }
    }
}

/// Sentences by their numbers.
#[derive(Default)]
struct Texts {
    list: Vec<String>,
    places: HashMap<String, usize>,
}

impl Texts {
    fn place(&mut self, text: String) -> usize {
        let next = self.list.len();
        *self.places.entry(text).or_insert_with_key(|text| {
            self.list.push(text.clone());
            next
        })
    }

    fn judgement(&mut self, judgement: Option<&Judgement>) -> Option<(bool, usize)> {
        let judgement = judgement?;
        let text = explanation::reason(judgement);
        Some((judgement.verdict == Verdict::Allow, self.place(text)))
    }
}

/// What is allowed from one end to another, and all traffic in parts that are judged for the same reasons.
fn parts(
    program: &Program,
    from: &Asked<'_>,
    to: &Asked<'_>,
    texts: &mut Texts,
) -> Option<(String, Vec<Part>)> {
    if from.entry.is_none() && to.entry.is_none() {
        return None;
    }
    let ways = ways(from, to)?;
    let side = |asked: &Asked<'_>, direction| {
        asked.entry.and_then(|it| program.profile(it.profile()).side(direction)).cloned()
    };
    let sides = [side(from, Direction::Egress), side(to, Direction::Ingress)];
    let mut found: Vec<(Vec<TrafficRange>, Part)> = Vec::new();
    let mut allowed = Vec::new();
    for range in elementary(&sides) {
        let traffic = match range {
            TrafficRange::Ports(protocol, ports) => {
                netpol_core::model::Traffic::Port(protocol, ports.first())
            }
            TrafficRange::Other => netpol_core::model::Traffic::ICMP,
        };
        let explanations: Vec<_> =
            ways.iter().map(|way| program.explain(&way.clone().flow(traffic))).collect();
        // Where families differ, the one that is denied is told of.
        let told = explanations.iter().find(|it| !it.is_allowed()).or(explanations.first());
        let Some(told) = told else { continue };
        let egress = texts.judgement(told.egress.as_ref());
        let ingress = texts.judgement(told.ingress.as_ref());
        if told.is_allowed() {
            join(&mut allowed, range);
        }
        let part = Part(String::new(), told.is_allowed(), egress, ingress);
        match found.iter_mut().find(|(_, other)| *other == part) {
            Some((ranges, _)) => join(ranges, range),
            None => found.push((vec![range], part)),
        }
    }
    found.sort_by_key(|(_, part)| !part.1);
    let parts = found
        .into_iter()
        .map(|(ranges, part)| Part(traffic::words(&ranges), part.1, part.2, part.3));
    Some((traffic::words(&allowed), parts.collect()))
}

/// One way for each address family that both ends have.
fn ways(from: &Asked<'_>, to: &Asked<'_>) -> Option<Vec<Way>> {
    let family = |end: &FlowEnd| match end {
        FlowEnd::Address(address) => Some(Family::of(*address)),
        FlowEnd::Endpoint { .. } => None,
    };
    let mut ways = Vec::new();
    for wanted in Family::ALL {
        let find = |asked: &Asked<'_>| {
            asked.ends.iter().find(|it| family(it).is_none_or(|it| it == wanted)).cloned()
        };
        if let (Some(from), Some(to)) = (find(from), find(to)) {
            let way = Way::direct(from, to);
            if !ways.contains(&way) {
                ways.push(way);
            }
        }
    }
    (!ways.is_empty()).then_some(ways)
}

/// All traffic, cut wherever one of the sides is.
fn elementary(sides: &[Option<PortMap>]) -> Vec<TrafficRange> {
    let mut ranges = Vec::new();
    for protocol in Protocol::ALL {
        let maps = sides.iter().flatten();
        let lasts = maps.flat_map(|map| map.intervals(protocol)).map(|(range, _)| range.last());
        let lasts: BTreeSet<u16> = lasts.chain([u16::MAX]).collect();
        let mut first = Some(0);
        for last in lasts {
            let range = first.and_then(|first| PortRange::new(first, last));
            ranges.extend(range.map(|range| TrafficRange::Ports(protocol, range)));
            first = last.checked_add(1);
        }
    }
    ranges.push(TrafficRange::Other);
    ranges
}

/// Adds a range to those before it.
fn join(ranges: &mut Vec<TrafficRange>, next: TrafficRange) {
    if let (Some(TrafficRange::Ports(of, before)), TrafficRange::Ports(protocol, range)) =
        (ranges.last_mut(), next)
        && *of == protocol
        && before.last().checked_add(1) == Some(range.first())
        && let Some(whole) = PortRange::new(before.first(), range.last())
    {
        *before = whole;
        return;
    }
    ranges.push(next);
}

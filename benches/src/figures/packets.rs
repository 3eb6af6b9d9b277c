use std::time::Duration;

use anyhow::{Context, Result};
use netpol_backend_iptables::Variant;
use netpol_core::model::Family;

use super::Effort;
use crate::figure::Figure;
use crate::figure::Target::{self, AtLeast, AtMost};
use crate::packets::road::{Kind, Packets, Road};
use crate::packets::rules::{By, LockFile, Rules};
use crate::packets::scene::{CLOSED_PORT, PORT, Scene, Shape};

/// How many packets a sample has.
const PACKETS: usize = 4096;
/// How long it takes at most, where rules are slow.
const LONGEST: Duration = Duration::from_millis(25);

const LEGACY: By = By::Iptables(Variant::Legacy);
const BY_NFT: By = By::Iptables(Variant::Nft);

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// The first packet of a connection each, which the last policy allows.
    New,
    /// The same to a port that no policy mentions.
    Denied,
    /// Packets of a connection that is open.
    Established,
}

/// What is sent, and what it may cost.
type Aim = (Sent, Option<Target>);

/// One kind of packets through one set of rules.
#[derive(Debug)]
struct Row {
    rules: Rules,
    scene: Scene,
    sent: Sent,
    target: Option<Target>,
    /// Which road.
    road: usize,
}

/// What rules cost packets that a node forwards: ours, with everything that they are compared with, in one run and in
/// turns.
///
/// A packet costs something to send, too: rows that end in `net` are without that.
pub(super) fn packets(effort: Effort) -> Vec<Figure> {
    let measured = netpol_testbed::enter().and_then(|_| {
        let (mut roads, rows) = build()?;
        let medians = measure(&mut roads, &rows, effort)?;
        Ok(figures(&rows, &medians))
    });
    #[expect(clippy::print_stderr, reason = "says which figures are missing, and why")]
    measured.unwrap_or_else(|error| {
        eprintln!("figures of packets are missing: {error:#}");
        Vec::new()
    })
}

/// Whose rules for which policies, and what is sent through them, with its target.
fn plan() -> Vec<(Rules, Scene, Vec<Aim>)> {
    let plain = |family, policies| Scene { family, policies, shape: Shape::Plain };
    let new = |most| vec![(Sent::New, Some(AtMost(most)))];
    let all = |[new, denied, established]: [f64; 3]| {
        [(Sent::New, new), (Sent::Denied, denied), (Sent::Established, established)]
            .map(|(sent, most)| (sent, most.is_finite().then_some(AtMost(most))))
            .to_vec()
    };
    let mut plan = Vec::new();
    for (by, family) in
        [(By::Nft, Family::V4), (By::Nft, Family::V6), (LEGACY, Family::V4), (BY_NFT, Family::V4)]
    {
        let sent = vec![(Sent::New, None), (Sent::Established, None)];
        plan.push((Rules::Established(by), plain(family, 1), sent));
    }
    let shapes = [(Shape::BothDirections, 1.15), (Shape::Blocks, 1.2), (Shape::WideRanges, 1.2)];
    for family in Family::ALL {
        plan.push((Rules::Dropped, plain(family, 1), vec![(Sent::Denied, None)]));
        let ours = Rules::Ours(By::Nft);
        for policies in [10, 100, 1000] {
            plan.push((ours, plain(family, policies), new(1.15)));
        }
        plan.push((ours, plain(family, 10_000), all([1.15, 0.9, 1.02])));
        for (shape, most) in shapes {
            plan.push((ours, Scene { shape, ..plain(family, 1000) }, new(most)));
        }
        for shape in [Shape::Plain, Shape::BothDirections] {
            let scene = Scene { shape, ..plain(family, 1000) };
            plan.push((Rules::ByInterface, scene, vec![(Sent::New, None)]));
        }
    }
    for (by, most) in [(LEGACY, 1.25), (BY_NFT, 1.35)] {
        for policies in [10, 100, 1000] {
            plan.push((Rules::Ours(by), plain(Family::V4, policies), new(most)));
        }
        plan.push((Rules::Ours(by), plain(Family::V4, 10_000), all([most, f64::NAN, 1.03])));
    }
    for (by, most) in [(By::Nft, 1.15), (LEGACY, 1.25), (BY_NFT, 1.35)] {
        let scene = Scene { shape: Shape::ManyPorts, ..plain(Family::V4, 10_000) };
        plan.push((Rules::Ours(by), scene, new(most)));
    }
    for (rules, least) in [
        (Rules::KubeRouter(LEGACY), Some(AtLeast(150.0))),
        (Rules::KubeRouter(BY_NFT), None),
        (Rules::KubeRouter(By::Nft), None),
        (Rules::Calico(LEGACY), Some(AtLeast(50.0))),
        (Rules::Calico(BY_NFT), None),
        (Rules::Calico(By::Nft), None),
        (Rules::Linear, Some(AtLeast(15.0))),
    ] {
        plan.push((rules, plain(Family::V4, 1000), vec![(Sent::New, least)]));
    }
    plan
}

/// All roads at once, since they take turns.
fn build() -> Result<(Vec<Road>, Vec<Row>)> {
    let lock = LockFile::new();
    let (mut roads, mut rows) = (Vec::new(), Vec::new());
    for (rules, scene, all) in plan() {
        let road = Road::build(scene.sender(), scene.receiver())?;
        rules.load(&road, &scene, &lock).with_context(|| format!("loading {rules}, {scene:?}"))?;
        let at = roads.len();
        rows.extend(all.into_iter().map(|(sent, target)| Row {
            rules,
            scene,
            sent,
            target,
            road: at,
        }));
        roads.push(road);
    }
    Ok((roads, rows))
}

/// Medians, in nanoseconds per packet.
fn measure(roads: &mut [Road], rows: &[Row], effort: Effort) -> Result<Vec<f64>> {
    let mut times = vec![Vec::new(); rows.len()];
    for round in 0..=effort.rounds(7) {
        for (row, times) in rows.iter().zip(&mut times) {
            let time = roads[row.road].sample(&row.packets(), PACKETS, LONGEST)?;
            // The first round is to warm up.
            if round > 0 {
                times.push(time);
            }
        }
    }
    for row in rows {
        roads[row.road].check().with_context(|| row.name())?;
    }
    Ok(times.into_iter().map(median).collect())
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn figures(rows: &[Row], medians: &[f64]) -> Vec<Figure> {
    let of = |wanted: &dyn Fn(&Row) -> bool| {
        let found = rows.iter().zip(medians).find(|(row, _)| wanted(row));
        found.map_or(f64::NAN, |(_, median)| *median)
    };
    let mut figures = Vec::new();
    for (row, &median) in rows.iter().zip(medians) {
        let (name, scene) = (row.name(), row.scene);
        let alike = |it: &Row| it.rules.by() == row.rules.by() && it.scene.family == scene.family;
        match row.rules {
            Rules::Dropped | Rules::Established(_) => figures.push(Figure::new(name, median, "ns")),
            Rules::Ours(_) | Rules::ByInterface => {
                let sent =
                    if row.sent == Sent::Established { Sent::Established } else { Sent::New };
                let base = of(&|it| {
                    alike(it) && it.sent == sent && matches!(it.rules, Rules::Established(_))
                });
                let sending =
                    of(&|it| it.rules == Rules::Dropped && it.scene.family == scene.family);
                figures.push(Figure::new(&name, median, "ns").cost_of(base, row.target));
                let net = Figure::new(format!("{name}.net"), median - sending, "ns");
                figures.push(net.cost_of(base - sending, None));
                if scene.policies == 10_000 && row.sent == Sent::New && scene.shape == Shape::Plain
                {
                    let few =
                        of(&|it| it.rules == row.rules && alike(it) && it.scene.policies == 10);
                    let flat = Figure::new(format!("{name}.than-10"), median, "ns");
                    figures.push(flat.cost_of(few, Some(AtMost(1.05))));
                }
            }
            Rules::KubeRouter(_) | Rules::Calico(_) | Rules::Linear => {
                for by in [By::Nft, LEGACY, BY_NFT] {
                    let ours = Rules::Ours(by);
                    let time =
                        of(&|it| it.rules == ours && it.scene == scene && it.sent == Sent::New);
                    // The goals are about nft; what iptables writes is compared with the same variant.
                    let target = row.target.filter(|_| by == By::Nft);
                    if by == By::Nft || by == row.rules.by() {
                        let name = format!("packets.{ours}.{}.than-{}", scene.policies, row.rules);
                        figures.push(Figure::new(name, time, "ns").faster_than(median, target));
                    }
                }
            }
        }
    }
    figures
}

impl Row {
    fn packets(&self) -> Packets {
        let (port, kind, pass) = match self.sent {
            Sent::New => (PORT, Kind::New, true),
            Sent::Denied => (CLOSED_PORT, Kind::New, false),
            Sent::Established => (PORT, Kind::Established, true),
        };
        Packets { source: self.scene.sender(), port, kind, pass }
    }

    fn name(&self) -> String {
        let Scene { family, policies, shape } = self.scene;
        let family = if family == Family::V6 { "-ipv6" } else { "" };
        let policies = match self.rules {
            Rules::Dropped | Rules::Established(_) => String::new(),
            _ => format!(".{policies}"),
        };
        let shape = match shape {
            Shape::Plain => "",
            Shape::BothDirections => ".both-directions",
            Shape::Blocks => ".100-blocks",
            Shape::WideRanges => ".wide-ranges",
            Shape::ManyPorts => ".500-ports",
        };
        let sent = match self.sent {
            Sent::Denied if self.rules != Rules::Dropped => ".denied",
            Sent::Established => ".established",
            _ => "",
        };
        format!("packets.{}{family}{policies}{shape}{sent}", self.rules)
    }
}

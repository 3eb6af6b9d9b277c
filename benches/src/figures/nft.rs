use std::time::Instant;

use netpol_backend_nft::{Change, Error, Nft, Options, Report, render};
use netpol_core::compile::Compiler;
use netpol_core::model::{Options as Readings, name};
use netpol_core::{Cluster, Program, Scope};
use nix::sched::{CloneFlags, unshare};

use super::Effort;
use crate::figure::{Figure, Target};
use crate::random::Random;
use crate::timing::{Times, in_turns, milliseconds};
use crate::world::{self, Size};

/// A node of a large cluster in the kernel: to put everything into force, and to follow what happens. Wall time,
/// since the kernel waits for readers of what it replaces.
pub(super) fn node(effort: Effort) -> Vec<Figure> {
    let size = Size { namespaces: 1000, pods: 100_000, policies: 10_000, nodes: 1000 };
    let objects = world::mixed(size, 1);
    let changes = world::changes(&objects, effort.rounds(5), &mut Random::new(11));
    let mut cluster = Cluster::from_objects(Readings::default(), objects);
    let mut compiler = Compiler::new(Readings::default(), Scope::Node(name("node-0")));
    let everything = cluster.take_changes();
    let program = compiler.update(&cluster, &everything).clone();
    let mut rendering = || drop(render(&program, &Options::default()));
    let [times] = in_turns(effort.rounds(5), [&mut rendering]);
    let mut figures = vec![Figure::new("nft.render", milliseconds(times.median()), "ms")];

    // A network namespace of our own; without root in a user namespace.
    let own = unshare(CloneFlags::CLONE_NEWNET)
        .or_else(|_| unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET));
    let following = || -> Result<(), Error> {
        let mut kernel = Nft::open(Options::default())?;
        let mut created = Vec::new();
        for _ in 0..effort.rounds(3) {
            kernel.remove()?;
            created.push(synced(&mut kernel, &program)?.0);
        }
        let created = milliseconds(Times::new(created).median());
        let everything = Figure::new("nft.sync.everything", created, "ms");
        figures.push(everything.target(Target::AtMost(100.0)));
        let mut unchanged = Vec::new();
        for _ in 0..effort.rounds(5) {
            unchanged.push(synced(&mut kernel, &program)?.0);
        }
        let unchanged = milliseconds(Times::new(unchanged).median());
        figures.push(Figure::new("nft.sync.nothing", unchanged, "ms"));
        let mut by_kind = std::collections::BTreeMap::<_, Vec<_>>::new();
        for change in changes {
            for (kind, event) in [change.there, change.back] {
                event.apply(&mut cluster);
                let changes = cluster.take_changes();
                let (time, report) = synced(&mut kernel, compiler.update(&cluster, &changes))?;
                if report.change != Change::None {
                    by_kind.entry(kind).or_default().push(time);
                }
            }
        }
        for (kind, times) in by_kind {
            // Most of it is an element; an endpoint's chains and a policy's classes are more.
            let target = match kind.split_once('-') {
                Some(("local", _)) => Some(1.2),
                Some(("pod", _)) => Some(0.3),
                Some(("policy", _)) => Some(3.0),
                _ => None,
            };
            let median = milliseconds(Times::new(times).median());
            let figure = Figure::new(format!("nft.sync.{kind}"), median, "ms");
            figures.push(match target {
                Some(most) => figure.target(Target::AtMost(most)),
                None => figure,
            });
        }
        kernel.remove()
    };
    #[expect(clippy::print_stderr, reason = "says which figures are missing, and why")]
    match own {
        Ok(()) => {
            if let Err(error) = following() {
                eprintln!("figures of nft.sync are missing: {error}");
            }
        }
        Err(error) => eprintln!("figures of nft.sync are missing: no network namespace: {error}"),
    }
    figures
}

fn synced(kernel: &mut Nft, program: &Program) -> Result<(std::time::Duration, Report), Error> {
    let start = Instant::now();
    let report = kernel.sync(program)?;
    Ok((start.elapsed(), report))
}

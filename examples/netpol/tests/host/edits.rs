//! Random edits of the files of a running `netpol run`, with packets all the time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use netpol_core::testing::Choices;
use netpol_testbed::Outcome;

use crate::scene::{A, B, C, Scene, policy, probes};

const PORTS: [u16; 3] = [8001, 8002, 8003];
const SOURCES: [(&str, &str); 2] = [(A, "a"), (C, "c")];

/// Whatever is edited, a may always connect to b:80, and nobody to b:81; and when it is told that an edit is in force,
/// every other port is as it says.
pub(crate) fn under_probes() {
    let edits: usize = if std::env::var_os("NETPOL_LONG").is_some() { 100 } else { 12 };
    let scene = Scene::new();
    scene.write("always.yaml", &policy("always", "a", "80"));
    let mut daemon = scene.start(&[]);
    daemon.says("in force");
    let done = AtomicBool::new(false);
    let mut choices = Choices::from_seed(7, edits * 16);
    let mut allowed = [[false; 3]; 2];
    let mut wrong = Vec::new();
    let invariants = thread::scope(|scope| {
        let invariants = scope.spawn(|| {
            let always = probes(A, B, 80);
            let never = probes(C, B, 81);
            let (mut rounds, mut wrong) = (0_usize, Vec::new());
            while !done.load(Ordering::Relaxed) {
                let all = [always.clone(), never.clone()].concat();
                let outcomes = scene.probe(&all);
                let [Outcome::Allowed, Outcome::Allowed, Outcome::Denied, Outcome::Denied] =
                    outcomes[..]
                else {
                    wrong.push(format!("{outcomes:?}"));
                    continue;
                };
                rounds += 1;
            }
            (rounds, wrong)
        });
        for edit in 0..edits {
            let (source, port) = (choices.pick(2), choices.pick(3));
            allowed[source][port] = !allowed[source][port];
            let name = format!("{}-{}", SOURCES[source].1, PORTS[port]);
            let file = format!("{name}.yaml");
            match (allowed[source][port], choices.pick(2)) {
                (true, 0) => {
                    scene.write(&file, &policy(&name, SOURCES[source].1, &PORTS[port].to_string()));
                }
                (true, _) => {
                    let text = policy(&name, SOURCES[source].1, &PORTS[port].to_string());
                    std::fs::write(scene.directory.join(&file), text).expect("written");
                }
                (false, _) => std::fs::remove_file(scene.directory.join(&file)).expect("removed"),
            }
            daemon.says("1 object changed: updated in ");
            // Every edit is looked at by itself, every fifth with all that came before.
            let looked_at = |at: (usize, usize)| at == (source, port) || edit % 5 == 4;
            let all = (0..2).flat_map(|it| (0..3).map(move |port| (it, port)));
            let chosen: Vec<(usize, usize)> = all.filter(|at| looked_at(*at)).collect();
            let sent: Vec<_> = chosen
                .iter()
                .flat_map(|(source, port)| probes(SOURCES[*source].0, B, PORTS[*port]))
                .collect();
            let outcomes = scene.probe(&sent);
            for ((source, port), outcome) in chosen.iter().flat_map(|at| [at, at]).zip(&outcomes) {
                let expected =
                    if allowed[*source][*port] { Outcome::Allowed } else { Outcome::Denied };
                if *outcome != expected {
                    let (from, to) = (SOURCES[*source].0, PORTS[*port]);
                    wrong.push(format!(
                        "edit {edit}: {from} -> b:{to} is {outcome}, not {expected}"
                    ));
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        invariants.join().expect("no panic")
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
    let (rounds, broken) = invariants;
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(rounds > 3, "{rounds} rounds");
    println!("        {edits} edits, {rounds} rounds of probes, no wrong verdict");
    assert!(daemon.says_within(Duration::from_millis(50)).is_empty());
    assert_eq!(daemon.stop(), Some(0));
}

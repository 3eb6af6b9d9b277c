//! How long it takes from a change of a file to the kernel's acknowledgement, at 1,000 policies.

use std::fmt::Write;
use std::fs;
use std::time::{Duration, Instant};

use crate::scene::Scene;

const POLICIES: usize = 1000;
const CHANGES: usize = 60;
/// What is told of each change; the last is from noticed to acknowledged, the others are in it.
const PARTS: [&str; 3] = ["compiled in ", "written in ", "in force after "];

/// Measured on request only, and reported: a machine that is busy otherwise says nothing about this.
pub(crate) fn of_a_file_change() {
    if std::env::var_os("NETPOL_LONG").is_none() {
        println!("        only with NETPOL_LONG=1");
        return;
    }
    for one_file in [false, true] {
        let scene = Scene::new();
        let mut hosts = "kind: HostEndpoints\nendpoints:\n".to_owned();
        for at in 0..POLICIES {
            let (high, low) = (at / 250, at % 250);
            writeln!(hosts, "- {{name: e{at}, namespace: n{}, labels: {{app: e{at}}}, addresses: [10.1.{high}.{low}]}}", at % 20)
                .expect("a string");
        }
        fs::write(&scene.hosts, hosts).expect("written");
        let mut policies: Vec<String> = (0..POLICIES).map(|at| policy(at, at + 1)).collect();
        let write_all = |policies: &[String]| {
            if one_file {
                scene.write("all.yaml", &policies.join("---\n"));
            }
        };
        if one_file {
            write_all(&policies);
        } else {
            for (at, text) in policies.iter().enumerate() {
                fs::write(scene.directory.join(format!("p{at}.yaml")), text).expect("written");
            }
        }
        let mut daemon = scene.start(&[]);
        let begun = daemon.says("in force");
        let mut times = Vec::new();
        let mut own: [Vec<f64>; 3] = Default::default();
        for round in 0..CHANGES {
            let at = (round * 37) % POLICIES;
            policies[at] = policy(at, at + 2 + round);
            let begin = Instant::now();
            if one_file {
                write_all(&policies);
            } else {
                scene.write(&format!("p{at}.yaml"), &policies[at]);
            }
            let said = daemon.says("in force");
            times.push(begin.elapsed());
            for (part, times) in PARTS.iter().zip(&mut own) {
                let (_, after) = said.split_once(part).expect("a time");
                let number = after.split(' ').next().expect("a number");
                times.push(number.parse::<f64>().expect("a number"));
            }
        }
        times.sort_unstable();
        let files = if one_file { "one file" } else { "a file each" };
        println!("        {POLICIES} policies in {files}; at the start: {begun}");
        println!(
            "        write to told: p50 {:?}, p99 {:?}",
            times[times.len() / 2],
            times[times.len() * 99 / 100],
        );
        for (part, times) in PARTS.iter().zip(&mut own) {
            times.sort_by(f64::total_cmp);
            let [p50, p99] = [50, 99].map(|percent| times[times.len() * percent / 100]);
            println!("        {part}p50 {p50} ms, p99 {p99} ms");
        }
        assert!(times[0] < Duration::from_secs(5));
        assert_eq!(daemon.stop(), Some(0));
    }
}

fn policy(at: usize, peer: usize) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: p{at}, namespace: n{}}}
spec:
  podSelector: {{matchLabels: {{app: e{at}}}}}
  ingress:
  - from: [{{namespaceSelector: {{}}, podSelector: {{matchLabels: {{app: e{}}}}}}}]
    ports: [{{port: 80}}]
",
        at % 20,
        peer % POLICIES
    )
}

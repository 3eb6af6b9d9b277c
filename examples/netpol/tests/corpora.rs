//! Policies that people run, and what kubectl prints: read, listed and linted.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;

use support::{netpol, netpol_with, own};

const CORPORA: [&str; 6] =
    ["argo-cd", "flux2", "kube-prometheus", "kubectl-get", "longhorn", "microservices-demo"];

fn read(file: &str) -> String {
    let path = own("tests/corpora").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

#[test]
fn corpora_are_listed() {
    for name in CORPORA {
        let file = own("tests/corpora").join(format!("{name}.yaml")).display().to_string();
        let run = netpol(&["list", "-f", &file]);
        assert_eq!(run.code, 0, "{name}: {}", run.notes);
        let golden = own("tests/corpora").join(format!("{name}.list"));
        if std::env::var_os("NETPOL_BLESS").is_some() {
            fs::write(&golden, &run.out).expect("written");
        }
        assert_eq!(run.out, read(&format!("{name}.list")), "{name}");
        let lint = netpol(&["lint", "-f", &file, "-v"]);
        assert_eq!(lint.code, 0, "{name}: {}{}", lint.out, lint.notes);
    }
}

/// The documents of a file as the items of a list, as YAML and as JSON: the same answer.
#[test]
fn lists_are_what_is_in_them() {
    for name in CORPORA.into_iter().filter(|it| *it != "kubectl-get") {
        let text = read(&format!("{name}.yaml"));
        let items: String = text
            .split("---\n")
            .map(|document| {
                let lines = document.lines().filter(|it| !it.starts_with('#')).enumerate();
                let indent = |(at, line)| format!("{} {line}\n", if at == 0 { "-" } else { " " });
                lines.map(indent).collect::<String>()
            })
            .collect();
        let list = format!(
            "apiVersion: v1\nitems:\n{items}kind: List\nmetadata:\n  resourceVersion: \"\"\n"
        );
        let run = netpol_with(&["list", "-f", "-"], &list);
        assert_eq!(
            (run.code, run.out),
            (0, read(&format!("{name}.list"))),
            "{name}: {}",
            run.notes
        );
    }
}

#[test]
fn what_kubectl_prints_of_a_live_cluster_is_understood() {
    let text = read("kubectl-get.yaml");
    let run =
        netpol_with(&["check", "-f", "-", "192.0.2.7", "team/web-5d8f7c9b6d-k2v9x:http"], &text);
    assert_eq!((run.code, &*run.out), (0, "yes\n"), "{}", run.notes);
    assert!(run.notes.contains("1 object skipped: 1 Service"), "{}", run.notes);
    let run =
        netpol_with(&["check", "-f", "-", "198.51.100.7", "team/web-5d8f7c9b6d-k2v9x:http"], &text);
    assert_eq!((run.code, &*run.out), (1, "no\n"), "{}", run.notes);
}

/// A mistake in a list is told with its line.
#[test]
fn mistakes_in_lists_have_their_places() {
    let text = read("kubectl-get.yaml").replace("cidr: 192.0.2.0/24", "cidr: 192.0.2.0/240");
    let line = text.lines().position(|it| it.contains("/240")).expect("there") + 1;
    let run = netpol_with(&["validate", "-f", "-"], &text);
    assert_eq!(run.code, 1);
    assert!(
        run.out.starts_with(&format!("<stdin>:{line}: error: NetworkPolicy team/web")),
        "{}",
        run.out
    );
    let broken = text.replace("policyTypes:\n", "policyTypes: [\n");
    let run = netpol_with(&["validate", "-f", "-"], &broken);
    assert_eq!(run.code, 3, "{}", run.out);
}

/// A list that is large enough to be read on several processors says the same, and has the same places.
#[test]
fn large_lists_have_their_places_too() {
    let text = read("kubectl-get.yaml");
    let (head, rest) = text.split_once("items:\n").expect("a list");
    let (items, tail) = rest.split_once("kind: List").expect("a list");
    let mut list = format!("{head}items:\n");
    for at in 0..200 {
        list += &items.replace("name: web", &format!("name: web{at}"));
    }
    list += &format!("kind: List{tail}");
    assert!(list.len() > 1 << 18, "{}", list.len());
    let run = netpol_with(&["validate", "-f", "-"], &list);
    assert_eq!((run.code, &*run.out), (0, "800 objects accepted\n"), "{}", run.notes);
    let mut lines =
        list.lines().enumerate().filter(|(_, line)| line.contains("cidr: 192.0.2.0/24"));
    let (line, _) = lines.nth(150).expect("there");
    let mut broken: Vec<&str> = list.lines().collect();
    broken[line] = "          cidr: 192.0.2.0/240";
    let run = netpol_with(&["validate", "-f", "-"], &broken.join("\n"));
    assert_eq!(run.code, 1);
    let place = format!("<stdin>:{}: error: NetworkPolicy team/web150: ", line + 1);
    assert!(run.out.starts_with(&place), "{place} {}", run.out);
    // What is not readable is told as ever.
    broken[line] = "          cidr: [";
    let run = netpol_with(&["validate", "-f", "-"], &broken.join("\n"));
    assert_eq!(run.code, 3);
    let place = run.out.split(':').nth(1).and_then(|it| it.parse::<usize>().ok());
    assert!(place.is_some_and(|it| it.abs_diff(line) < 4), "{}", run.out);
}

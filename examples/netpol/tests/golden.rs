//! What commands print, byte by byte, in every format. `NETPOL_BLESS=1` writes what is printed now into the files.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use support::{netpol, own};

/// Runs the command in this crate's directory of manifests and holds its output against `tests/golden/FILE`.
fn check(file: &str, code: i32, arguments: &[&str]) {
    let shop = own("../manifests").display().to_string();
    let arguments: Vec<&str> =
        arguments.iter().map(|it| if *it == "SHOP" { shop.as_str() } else { *it }).collect();
    let run = netpol(&arguments);
    assert_eq!(run.code, code, "{arguments:?}: {}", run.notes);
    let path = own("tests/golden").join(file);
    // Files are named as on the command line, which differs from place to place.
    let here = own("tests/golden/input").display().to_string();
    let printed = run.out.replace(&shop, "SHOP").replace(&here, "INPUT");
    if std::env::var_os("NETPOL_BLESS").is_some() {
        std::fs::write(&path, &printed).expect("written");
    }
    let expected = read(&path);
    assert!(printed == expected, "{arguments:?} differs from {path:?}; it prints\n{printed}");
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

#[test]
fn list_in_every_format() {
    for format in ["text", "wide", "json", "yaml", "csv", "md", "dot", "svg", "html"] {
        check(&format!("list.{format}"), 0, &["list", "-f", "SHOP", "-o", format]);
    }
}

#[test]
fn list_with_its_flags() {
    check("list-to.text", 0, &["list", "-f", "SHOP", "--to", "shop/api"]);
    check("list-from-block.text", 0, &["list", "-f", "SHOP", "--from", "10.244.1.0/24"]);
    check("list-world.text", 0, &["list", "-f", "SHOP", "--to", "world"]);
    check("list-hypothetical.text", 0, &["list", "-f", "SHOP", "--from", "shop/[app=api]"]);
    check("list-ingress.text", 0, &["list", "-f", "SHOP", "--direction", "ingress"]);
    check("list-exposure.text", 0, &["list", "-f", "SHOP", "--exposure"]);
    check("list-no-headers.csv", 0, &["list", "-f", "SHOP", "-o", "csv", "--no-headers"]);
}

#[test]
fn truth_tables_in_every_format() {
    for format in ["text", "json", "yaml", "csv", "md", "svg"] {
        let file = format!("matrix.{format}");
        check(&file, 0, &["list", "-f", "SHOP", "--matrix", "http", "-o", format]);
    }
    check("matrix-any.text", 0, &["list", "-f", "SHOP", "--matrix"]);
    check("matrix-udp.text", 0, &["list", "-f", "SHOP", "--matrix", "53/udp"]);
}

#[test]
fn diff_in_every_format() {
    let after = own("tests/golden/input/shop-after.yaml").display().to_string();
    for format in ["text", "json", "yaml", "csv", "md"] {
        let file = format!("diff.{format}");
        let before = own("../manifests/shop-policies.yaml").display().to_string();
        let common = own("../manifests/shop.yaml").display().to_string();
        let files = ["diff", "-f", &before, "-f", &after, "--common", &common, "-o", format];
        check(&file, 1, &files);
    }
}

#[test]
fn lint_in_every_format() {
    let policies = own("tests/golden/input/careless.yaml").display().to_string();
    for format in ["text", "json", "yaml", "csv", "md"] {
        let file = format!("lint.{format}");
        check(&file, 1, &["lint", "-f", "SHOP", "-f", &policies, "--deny", "NP002", "-o", format]);
    }
}

/// The page about output names every field that there is.
#[test]
fn every_field_is_documented() {
    let page = read(&own("docs/output.md"));
    let shop = own("../manifests").display().to_string();
    let explain = ["explain", "-f", &shop, "shop/frontend", "shop/db:5432", "-o", "json"];
    let validate = own("tests/golden/input/careless.yaml").display().to_string();
    let mut documents =
        vec![netpol(&explain).out, netpol(&["validate", "-f", &validate, "-o", "json"]).out];
    let golden = ["list.json", "matrix.json", "diff.json", "lint.json"];
    documents.extend(golden.map(|file| read(&own("tests/golden").join(file))));
    for document in documents {
        let document: Value = serde_json::from_str(&document).expect("JSON");
        assert_eq!(document["apiVersion"], "netpol/v1");
        let kind = document["kind"].as_str().expect("a kind");
        assert!(page.contains(&format!("\n## {kind}: ")), "{kind}");
        let mut fields = BTreeSet::new();
        collect(&document, &mut fields);
        for field in fields {
            assert!(
                page.contains(&format!("`{field}`")) || page.contains(&format!("**{field}**")),
                "{field} of {kind}"
            );
        }
    }
}

fn collect(value: &Value, fields: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (field, value) in map {
                fields.insert(field.clone());
                collect(value, fields);
            }
        }
        Value::Array(items) => items.iter().for_each(|it| collect(it, fields)),
        _ => {}
    }
}

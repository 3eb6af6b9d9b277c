//! Runs the reader over a corpus of manifests that is not part of the project. `NETPOL_CORPUS` names a directory with
//! `conformance/*/{cluster,policies}.yaml`, which must be readable, and `conformance-invalid/*/manifest.yaml` with the
//! API server's verdict beside each in `expect.txt`.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test that says what it skipped"
)]

use std::fs;
use std::path::{Path, PathBuf};

use netpol_core::manifest::{self, ReadOptions, Strictness, Value};

fn corpus() -> Option<PathBuf> {
    let corpus = std::env::var_os("NETPOL_CORPUS").map(PathBuf::from);
    if corpus.is_none() {
        eprintln!("SKIPPED: set NETPOL_CORPUS to the directory of the conformance corpus");
    }
    corpus
}

fn cases(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the corpus has this directory");
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.is_dir());
    cases.sort();
    assert!(!cases.is_empty(), "no case in {}", directory.display());
    cases
}

fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn invalid_manifests_are_rejected_as_the_api_server_does() {
    let Some(corpus) = corpus() else { return };
    let options = ReadOptions::default();
    let mut wrong = Vec::new();
    for case in cases(&corpus.join("conformance-invalid")) {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let expect = fs::read_to_string(case.join("expect.txt")).unwrap();
        let expected = |field: &str| {
            let line = expect.lines().find_map(|line| line.strip_prefix(field));
            line.map(|rest| rest.trim_start_matches(": ").to_owned())
        };
        let loaded = manifest::load(&documents(&case.join("manifest.yaml")), &options);
        let found: Vec<String> = loaded
            .rejected
            .iter()
            .flat_map(|rejected| &rejected.errors)
            .map(|error| format!("{} {}", error.path, error.reason))
            .collect();
        let wanted = match expected("verdict").as_deref() {
            Some("accept") => Vec::new(),
            _ => vec![format!("{} {}", expected("path").unwrap(), expected("reason").unwrap())],
        };
        if found != wanted {
            wrong.push(format!("{name}: found {found:?}, expected {wanted:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn stored_objects_are_all_readable() {
    let Some(corpus) = corpus() else { return };
    let options = ReadOptions { strictness: Strictness::Lenient, ..ReadOptions::default() };
    let mut wrong = Vec::new();
    let mut objects = 0;
    for case in cases(&corpus.join("conformance")) {
        for file in ["cluster.yaml", "policies.yaml"] {
            let documents = documents(&case.join(file));
            objects += documents.len();
            let loaded = manifest::load(&documents, &options);
            wrong.extend(loaded.rejected.iter().map(|r| format!("{}: {r}", case.display())));
            assert!(loaded.skipped.is_empty(), "{}: {:?}", case.display(), loaded.skipped);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(objects > 0);
}

//! Every statement of the specification is cited by a test, and every citation is of a statement that exists.
//!
//! `statements.txt` lists them. A test cites one by its number, in a comment or a string; `NP-TYPE-1…4` cites four.
//! Looked at are the tests of all crates: their `tests` directories, with the cases in them, and the test modules in
//! their sources. `NETPOL_CORPUS` may name a directory with the text itself, `semantics.md`, for the list to be held
//! against.
#![expect(clippy::expect_used, clippy::print_stderr, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The statements with what they ask.
fn statements() -> BTreeMap<&'static str, &'static str> {
    let lines = include_str!("statements.txt").lines();
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut statements = BTreeMap::new();
    for line in lines {
        let (number, words) = line.split_once(' ').expect("a number and a few words");
        assert!(is_number(number), "{line}");
        assert!(statements.insert(number, words).is_none(), "twice: {number}");
    }
    statements
}

/// `M1`, `SEL-1`, `NP-IPB-11`, `CH-NODE-EGRESS`.
fn is_number(word: &str) -> bool {
    let parts: Vec<&str> = word.split('-').collect();
    let letters = |part: &str| !part.is_empty() && part.bytes().all(|it| it.is_ascii_uppercase());
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|it| it.is_ascii_digit());
    match parts[..] {
        [model] => model.strip_prefix('M').is_some_and(digits),
        ["SEL" | "A", number] => digits(number),
        ["NP" | "C", topic, number] => letters(topic) && digits(number),
        ["CH", ref words @ ..] => !words.is_empty() && words.iter().all(|it| letters(it)),
        _ => false,
    }
}

/// The numbers in a text.
fn cited(text: &str) -> BTreeSet<String> {
    let mut cited = BTreeSet::new();
    let is_outside = |it: char| !it.is_ascii_alphanumeric() && !matches!(it, '-' | '…' | '_');
    for word in text.split(is_outside) {
        let (first, last) = word.split_once('…').unwrap_or((word, ""));
        if !is_number(first) {
            continue;
        }
        cited.insert(first.to_owned());
        let (stem, from) = first.rsplit_once('-').unwrap_or(("", ""));
        if let (Ok(from), Ok(to)) = (from.parse::<u32>(), last.parse::<u32>()) {
            cited.extend((from..=to).map(|number| format!("{stem}-{number}")));
        }
    }
    cited
}

/// The tests of the repository, as file and text; `None` where the crate has been taken out of it.
fn tests() -> Option<Vec<(PathBuf, String)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    let crates = [root.to_owned(), root.join("examples")];
    let mut crates: Vec<PathBuf> = crates.iter().flat_map(|it| directory(it)).collect();
    crates.retain(|it| it.join("Cargo.toml").is_file());
    if crates.len() < 2 {
        eprintln!("SKIPPED: the other crates of the workspace are not there");
        return None;
    }
    let mut tests = Vec::new();
    for home in crates {
        let ours = [file!(), "tests/statements.txt", "tests/reference.rs"];
        let files = files_below(&home.join("tests"));
        // These list statements rather than test them, and those draw: `M128` is a place in a picture.
        let files = files.into_iter().filter(|file| !ours.iter().any(|it| file.ends_with(it)));
        let is_drawn = |file: &Path| file.extension().is_some_and(|it| it == "html" || it == "svg");
        let files = files.filter(|file| !is_drawn(file));
        tests.extend(files.map(|file| {
            let text = fs::read(&file).expect("readable");
            (file, String::from_utf8_lossy(&text).into_owned())
        }));
        for file in files_below(&home.join("src")) {
            let text = fs::read_to_string(&file).expect("readable");
            if let Some((_, module)) = text.split_once("#[cfg(test)]") {
                tests.push((file, module.to_owned()));
            }
        }
    }
    Some(tests)
}

fn directory(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten();
    entries.map(|entry| entry.expect("readable").path()).collect()
}

fn files_below(path: &Path) -> Vec<PathBuf> {
    let (directories, mut files): (Vec<_>, Vec<_>) =
        directory(path).into_iter().partition(|it| it.is_dir());
    files.extend(directories.iter().flat_map(|it| files_below(it)));
    files
}

#[test]
fn every_statement_is_cited_by_a_test() {
    let Some(tests) = tests() else { return };
    let cited: BTreeSet<String> = tests.iter().flat_map(|(_, text)| cited(text)).collect();
    let missing = statements().into_iter().filter(|(number, _)| !cited.contains(*number));
    let missing: Vec<_> = missing.map(|(number, words)| format!("{number} {words}")).collect();
    assert!(missing.is_empty(), "no test cites:\n{}", missing.join("\n"));
}

#[test]
fn every_citation_is_of_a_statement() {
    let Some(tests) = tests() else { return };
    let statements = statements();
    let mut unknown = Vec::new();
    for (file, text) in &tests {
        let wrong = cited(text).into_iter().filter(|it| !statements.contains_key(&**it));
        unknown.extend(wrong.map(|number| format!("{}: {number}", file.display())));
    }
    assert!(unknown.is_empty(), "no such statement:\n{}", unknown.join("\n"));
}

#[test]
fn the_list_is_that_of_the_specification() {
    let Some(corpus) = std::env::var_os("NETPOL_CORPUS") else {
        eprintln!("SKIPPED: set NETPOL_CORPUS to the directory of the specification");
        return;
    };
    let text = fs::read_to_string(Path::new(&corpus).join("semantics.md")).expect("readable");
    // A statement begins with its number in bold, or is a row of a table; a row may hold two.
    let bold = text.split("**").skip(1).step_by(2).filter(|it| is_number(it));
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    let rows = rows.flat_map(|it| it.split(" / ")).filter(|it| is_number(it));
    let defined: BTreeSet<&str> = bold.chain(rows).collect();
    assert_eq!(statements().into_keys().collect::<BTreeSet<_>>(), defined);
}

#[test]
fn citations_are_found() {
    let text = "M1, NP-TYPE-1…3; (C-FAIL-1) CH-NODE-EGRESS: M25x NP- A-Z a-1 CH-PROTO-* \"SEL-2\"";
    let found =
        ["C-FAIL-1", "CH-NODE-EGRESS", "M1", "NP-TYPE-1", "NP-TYPE-2", "NP-TYPE-3", "SEL-2"];
    assert_eq!(cited(text), found.map(str::to_owned).into());
}

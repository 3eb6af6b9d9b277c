//! Cases of policies and what is expected of them: the project's own in `tests/cases`, and with `NETPOL_CORPUS` those
//! of a conformance corpus of the same form.

mod support;

use std::path::Path;

use support::{Run, corpus, directories, netpol, own};

#[test]
fn the_program_says_what_is_expected() {
    all_pass(&own("tests/cases"), &["--engine", "program"]);
}

#[test]
fn the_reference_says_what_is_expected() {
    all_pass(&own("tests/cases"), &["--engine", "reference"]);
}

#[test]
fn the_rules_say_what_is_expected() {
    all_pass(&own("tests/cases"), &["--engine", "nft"]);
}

#[test]
fn the_rules_agree_with_the_corpus() {
    if let Some(cases) = corpus("conformance") {
        all_pass(&cases, &["--engine", "nft"]);
    }
}

#[test]
fn packets_find_what_is_expected() {
    all_pass(&own("tests/cases"), &["--live", "nft"]);
}

#[test]
fn the_program_agrees_with_the_corpus() {
    if let Some(cases) = corpus("conformance") {
        all_pass(&cases, &["--engine", "program"]);
    }
}

#[test]
fn the_reference_agrees_with_the_corpus() {
    if let Some(cases) = corpus("conformance") {
        all_pass(&cases, &["--engine", "reference"]);
    }
}

#[test]
fn the_other_reading_of_an_open_point_changes_the_rows_that_depend_on_it() {
    let case = own("tests/cases/a-pod-reaches-itself");
    let (manifests, expect) =
        (case.display().to_string(), case.join("expect.tsv").display().to_string());
    let choice = case.join("choice.tsv").display().to_string();
    let run = netpol(&["test", "-f", &manifests, &expect, "--reading", "CH-SELF=policed"]);
    assert_eq!((run.code, last_line(&run)), (1, "1 passed, 2 failed"));
    let run = netpol(&[
        "test",
        "-f",
        &manifests,
        &expect,
        "--reading",
        "CH-SELF=policed",
        "--skip",
        &choice,
    ]);
    assert_eq!((run.code, last_line(&run)), (0, "1 passed, 0 failed, 2 skipped"));
}

#[test]
fn manifests_that_the_shell_made_of_one_option_are_manifests() {
    let case = own("tests/cases/a-pod-reaches-itself");
    let path = |name: &str| case.join(name).display().to_string();
    let [cluster, policies, expect] = ["cluster.yaml", "policies.yaml", "expect.tsv"].map(path);
    let run = netpol(&["test", "-f", &cluster, &policies, &expect]);
    assert_eq!((run.code, last_line(&run)), (0, "3 passed, 0 failed"));
    let run = netpol(&["test", "-f", &cluster, &policies]);
    assert_eq!(run.code, 2, "there is nothing to expect");
}

fn all_pass(cases: &Path, how: &[&str]) {
    let mut wrong = Vec::new();
    for case in directories(cases) {
        let file = |name: &str| Some(case.join(name)).filter(|path| path.exists());
        let mut arguments = vec!["test".into(), "-f".into(), case.clone().into_os_string()];
        arguments.extend(how.iter().map(Into::into));
        if let Some(dns) = file("dns.tsv") {
            arguments.extend(["--dns".into(), dns.into_os_string()]);
        }
        let expectations = [file("expect.tsv"), file("derived.tsv")].into_iter().flatten();
        arguments.extend(expectations.map(std::path::PathBuf::into_os_string));
        let run = netpol(&arguments);
        if run.is_skipped() {
            return;
        }
        let passed = last_line(&run).split_once(" passed, 0 failed").map(|(passed, _)| passed);
        if run.code != 0 || passed.is_none_or(|passed| passed == "0") {
            wrong.push(format!("{}: {run:#?}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn last_line(run: &Run) -> &str {
    run.out.lines().last().unwrap_or_default()
}

//! The console examples of the README are what the program prints.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use support::own;

/// A command of a console block, with what it is said to print.
struct Example {
    line: usize,
    command: String,
    printed: Vec<String>,
}

/// The commands that begin with `netpol`, or feed it by `sed`, and show what they print. `...` stands for lines that are left out.
fn examples(page: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let (mut inside, mut current) = (false, None);
    for (at, line) in page.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(language) => {
                examples.extend(current.take());
                inside = !inside && language == "console";
            }
            None if !inside => {}
            None => match line.strip_prefix("$ ") {
                Some(command) => {
                    examples.extend(current.take());
                    let command = command.split("  # ").next().unwrap_or(command).trim().to_owned();
                    current = Some(Example { line: at + 1, command, printed: Vec::new() });
                }
                None => {
                    if let Some(example) = &mut current {
                        example.printed.push(line.to_owned());
                    }
                }
            },
        }
    }
    // Clusters and history are not at hand.
    let ours = |it: &str| {
        it.starts_with("netpol ") || (it.starts_with("sed ") && it.contains("| netpol "))
    };
    examples.retain(|it| ours(&it.command) && !it.printed.is_empty());
    examples
}

/// Whether the lines are those expected; `...` takes any number of them.
fn is_as_expected(printed: &[&str], expected: &[String]) -> bool {
    match expected.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first.trim() == "..." => {
            (0..=printed.len()).any(|at| is_as_expected(&printed[at..], rest))
        }
        Some((first, rest)) => {
            printed.first().is_some_and(|it| it == first) && is_as_expected(&printed[1..], rest)
        }
    }
}

#[test]
fn the_readme_shows_what_is_printed() {
    let root = own("../..");
    let page = fs::read_to_string(root.join("README.md")).expect("there is a README");
    let examples = examples(&page);
    assert!(!examples.is_empty(), "the README has examples");
    let program = Path::new(env!("CARGO_BIN_EXE_netpol"));
    let directory = program.parent().expect("in a directory").display().to_string();
    let path = format!("{directory}:{}", env::var("PATH").expect("there is a PATH"));
    for Example { line, command, printed } in examples {
        let output = Command::new("sh")
            .args(["-c", &command])
            .current_dir(&root)
            .env("PATH", &path)
            .output()
            .expect("a shell starts");
        let out = String::from_utf8(output.stdout).expect("text");
        let lines: Vec<&str> = out.trim_end().lines().map(str::trim_end).collect();
        assert!(
            is_as_expected(&lines, &printed),
            "README.md:{line}: {command}\nprints\n{out}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn examples_are_found_and_compared() {
    let page = "```console\n$ netpol a   # why\none\n...\nlast\n$ ls\nfile\n$ netpol b\n```\n```rust\n$ netpol c\nx\n```\n";
    let found = examples(page);
    assert_eq!(found.len(), 1, "one that is ours, has output and is in a console");
    assert_eq!(found[0].command, "netpol a");
    assert!(is_as_expected(&["one", "two", "three", "last"], &found[0].printed));
    assert!(!is_as_expected(&["one", "two"], &found[0].printed));
    assert!(!is_as_expected(&["one", "last", "more"], &found[0].printed));
}

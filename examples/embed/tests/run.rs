//! The examples do what they say.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::process::Command;

/// What a program prints, which must end well.
fn output(program: &str) -> String {
    let output = Command::new(program).output().expect("the example runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn controller_follows_events() {
    let printed = output(env!("CARGO_BIN_EXE_embed_controller"));
    if printed.starts_with("skipped") {
        eprintln!("SKIPPED: {printed}");
        return;
    }
    let changes: Vec<bool> = printed.lines().map(|line| line.contains("change: None")).collect();
    // The policy isolates the pod, and then no longer does.
    assert_eq!(changes, [false; 3], "{printed}");
}

#[test]
fn userspace_asks_for_every_connection() {
    let printed = output(env!("CARGO_BIN_EXE_embed_userspace"));
    assert_eq!(printed, "127.0.0.3:0 hears \"welcome\"\n127.0.0.4:0 hears \"\"\n");
}

#[test]
fn vm_host_puts_the_rules_into_force_or_shows_them() {
    let printed = output(env!("CARGO_BIN_EXE_embed_vm_host"));
    let shown = printed.contains("5432 : goto");
    assert!(printed.starts_with("in force: ") || shown, "{printed}");
    if shown {
        eprintln!("SKIPPED: {}", printed.lines().next().unwrap_or_default());
    }
}

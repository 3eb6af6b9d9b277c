//! How long the tests are that get better the longer they are.
//!
//! | variable | |
//! |---|---|
//! | `NETPOL_LONG` | as long as it takes to be sure: hours, all in all |
//! | `NETPOL_WORLDS` | generated worlds |
//! | `NETPOL_EVENTS` | events |
//! | `NETPOL_CHANGES`, `NETPOL_PACKETS` | changes of rules, and packets meanwhile |
//! | `NETPOL_SEED` | where generated worlds begin, so that a long run can be made in pieces |
#![allow(dead_code, reason = "every test binary uses its own part")]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

/// Whether a long run is wanted.
pub(crate) fn is_long() -> bool {
    std::env::var_os("NETPOL_LONG").is_some()
}

/// As many as the variable says, or else as usual or as in long runs.
pub(crate) fn length(variable: &str, usual: u64, long: u64) -> u64 {
    match std::env::var(variable) {
        Ok(number) => number.parse().expect("a number"),
        Err(_) if is_long() => long,
        Err(_) => usual,
    }
}

/// Where generated worlds begin.
pub(crate) fn first_seed() -> u64 {
    length("NETPOL_SEED", 0, 0)
}

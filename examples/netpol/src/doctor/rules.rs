//! The backend, and what is in force.

use netpol_core::backend::Backend;
use netpol_core::program::Program;
use netpol_enforce::backend::{Choice, Options, missing_hooks};

use super::Finding;
use crate::exit::Failure;
use crate::host::BackendArgs;
use crate::notes::count;

pub(super) fn check(
    args: &BackendArgs,
    program: Option<&Program>,
) -> Result<Vec<Finding>, Failure> {
    let options = args.options()?;
    let mut backend = match netpol_enforce::backend::open(args.backend, &options) {
        Ok(opened) => opened.backend,
        Err(error) => {
            let advice = "run as root, or with CAP_NET_ADMIN in this network namespace; check that \
                          the kernel's nf_tables modules can be loaded";
            return Ok(vec![Finding::bad("backend", error.to_string(), advice)]);
        }
    };
    let mut findings = vec![Finding::good("backend", format!("{} answers", backend.name()))];
    let present = match backend.status() {
        // Sets without rules, as are left when somebody flushes the rules of iptables, police nothing.
        Ok(status) if status.rules > 0 => {
            let denied = status.denied_egress.packets + status.denied_ingress.packets;
            let message = format!(
                "{} are in force; {} denied so far",
                count(status.rules, "rule", "rules"),
                count(usize::try_from(denied).unwrap_or(usize::MAX), "packet was", "packets were"),
            );
            findings.push(Finding::good("in-force", message));
            true
        }
        Ok(_) => {
            let message =
                format!("nothing of {} is in force: everything is allowed", args.instance);
            let advice = "netpol apply, or netpol run; or name another --instance";
            findings.push(Finding::bad("in-force", message, advice));
            false
        }
        Err(error) => {
            let advice = "try again; if it stays, report it";
            findings.push(Finding::bad("in-force", error.to_string(), advice));
            false
        }
    };
    if present {
        findings.push(families(args.backend, &options));
        findings.push(agreement(&mut *backend, program));
    }
    Ok(findings)
}

/// Both families have their hooks.
fn families(choice: Choice, options: &Options) -> Finding {
    match missing_hooks(choice, options) {
        Ok(missing) if missing.is_empty() => {
            Finding::good("hooks", "input, forward and output lead to our rules, for IPv4 and IPv6")
        }
        Ok(missing) => {
            let name = |(family, hook)| format!("{family:?} {hook:?}").to_lowercase();
            let missing: Vec<String> = missing.into_iter().map(name).collect();
            let message = format!("packets do not reach our rules at: {}", missing.join(", "));
            Finding::bad("hooks", message, "netpol apply; somebody has changed our rules")
        }
        Err(error) => Finding::unknown("hooks", error.to_string(), "try again"),
    }
}

/// Whether what is in force is what the input says.
fn agreement(backend: &mut dyn Backend, program: Option<&Program>) -> Finding {
    let Some(program) = program else {
        let message = "what is in force was not compared with any input";
        return Finding::unknown("agreement", message, "give the manifests with -f");
    };
    match backend.verify(program) {
        Ok(mismatches) if mismatches.is_empty() => {
            let endpoints = count(program.endpoints().count(), "endpoint", "endpoints");
            Finding::good(
                "agreement",
                format!("the kernel says what the input says, for {endpoints}"),
            )
        }
        Ok(mismatches) => {
            let message = format!(
                "the kernel does not say what the input says: {}{}",
                mismatches.first().map(ToString::to_string).unwrap_or_default(),
                match mismatches.len() - 1 {
                    0 => String::new(),
                    more => format!(", and {more} more"),
                }
            );
            let advice = "netpol apply; netpol verify tells all differences (an audit denies nothing, \
                          so that everything denied is one)";
            Finding::bad("agreement", message, advice)
        }
        Err(error) => Finding::unknown("agreement", error.to_string(), "try again"),
    }
}

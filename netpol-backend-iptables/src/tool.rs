//! Runs the tools: iptables, ip6tables and ipset.
//!
//! The crate `iptables` (0.6) was looked at for the variant and for the jumps, and can serve for
//! neither. Of what `iptables --version` prints it keeps three numbers, and not the words that tell
//! the variants apart; and it knows one name, `iptables` in the path, where a host may have both. It
//! makes one change per process, so a jump that has lost its place would be deleted by one and put
//! back by another, and packets would pass in between: here both are in the commit that replaces the
//! chains. And it waits for the lock for ever (`--wait`), where a host wants to hear that it is held.

use std::env;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::error::Error;

/// Where the tools are if they are not in the path, as it is for services and ordinary users.
const USUAL: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// A tool that is installed.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    name: String,
    path: PathBuf,
}

/// The tool of this name, if it is installed.
pub(crate) fn find(name: &str) -> Option<Program> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(USUAL.iter().map(PathBuf::from));
    let path = directories.map(|it| it.join(name)).find(|it| Path::is_file(it))?;
    Some(Program { name: name.to_owned(), path })
}

impl Program {
    /// Runs the tool in the calling thread's namespaces, tells it a script, and returns what it
    /// prints.
    pub(crate) fn run(&self, arguments: &[&str], script: &str) -> Result<String, Error> {
        let output = self.output(arguments, script).map_err(|source| Error::System {
            action: format!("running {}", self.path.display()),
            source,
        })?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(self.failure(&output, script))
        }
    }

    fn output(&self, arguments: &[&str], script: &str) -> io::Result<Output> {
        // In a file and not through a pipe: if this process is killed while it writes, a tool would
        // be left with half of a script, and half of an address is an address.
        let mut input = File::from(memfd_create(c"script", MFdFlags::MFD_CLOEXEC)?);
        input.write_all(script.as_bytes())?;
        input.rewind()?;
        Command::new(&self.path).args(arguments).stdin(input).output()
    }

    /// Puts a failure into an operator's terms.
    fn failure(&self, output: &Output, script: &str) -> Error {
        let text = String::from_utf8_lossy(&output.stderr);
        let has = |words: &[&str]| words.iter().any(|it| text.contains(it));
        let tool = self.name.clone();
        let reason = reason(&text, &self.name);
        if has(&["Permission denied", "not permitted", "must be root"]) {
            return Error::NotPermitted { tool, reason };
        }
        if has(&[
            "xtables lock",
            "temporarily unavailable",
            "in use by a kernel",
            "Device or resource busy",
        ]) {
            return Error::Busy { tool, reason };
        }
        if has(&["Table does not exist", "do you need to insmod"]) {
            let advice = "load the modules ip_tables and iptable_filter, or ip6_tables and \
                          ip6table_filter, or use the nft variant";
            return Error::Unsupported { tool, reason, advice };
        }
        if has(&["set type not supported", "Cannot open session to kernel", "kernel support"]) {
            let advice = "load the modules ip_set, ip_set_hash_ip and ip_set_hash_net";
            return Error::Unsupported { tool, reason, advice };
        }
        if has(&["rule set generation id", "missing kernel module", "Address family not supported"])
        {
            let advice = "load the modules nf_tables, nft_compat, xt_set, xt_conntrack and \
                          xt_multiport, or use the legacy variant";
            return Error::Unsupported { tool, reason, advice };
        }
        let line = line_number(&text).and_then(|number| script.lines().nth(number.checked_sub(1)?));
        Error::Refused { tool, line: line.map(str::to_owned), reason }
    }
}

/// What a tool said, without its own name and what is no help here.
fn reason(text: &str, tool: &str) -> String {
    let usage = |line: &&str| !line.is_empty() && !line.starts_with("Try `");
    let lines: Vec<&str> = text.lines().map(str::trim).filter(usage).collect();
    let short = lines.join("; ");
    let short = short.strip_prefix(tool).unwrap_or(&short);
    short.trim_start_matches(':').trim().to_owned()
}

/// The line of the script that a tool complains about: `line 3 failed`, `Error in line 3:`, `Error
/// occurred at line: 3`.
fn line_number(text: &str) -> Option<usize> {
    let behind = text.split("line").skip(1);
    behind
        .map(|rest| rest.trim_start_matches([':', ' ']))
        .map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default())
        .find_map(|number| number.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    /// What a tool's failure is told as, if these are its words.
    fn told(tool: &str, words: &str) -> Error {
        let program = Program { name: tool.to_owned(), path: PathBuf::new() };
        let status = ExitStatus::from_raw(0x100);
        let output = Output { status, stdout: Vec::new(), stderr: words.into() };
        program.failure(&output, "*filter\n:a - [0:0]\n-A a -j DROP\nCOMMIT\n")
    }

    #[test]
    fn what_is_missing_is_told() {
        for (tool, words, advice) in [
            (
                "iptables-legacy-restore",
                "iptables-restore v1.8.9 (legacy): iptables-restore: unable to initialize table \
                 'filter': Table does not exist (do you need to insmod?)",
                "ip_tables and iptable_filter",
            ),
            ("ipset", "ipset v7.17: Cannot open session to kernel.", "ip_set_hash_net"),
            (
                "ipset",
                "ipset v7.17: Error in line 1: Kernel error received: set type not supported",
                "ip_set_hash_net",
            ),
            (
                "iptables-nft-restore",
                "iptables-restore v1.8.9 (nf_tables): Could not fetch rule set generation id: \
                 Invalid argument",
                "nf_tables",
            ),
            (
                "iptables-nft-restore",
                "Warning: Extension set revision 0 not supported, missing kernel module?\n\
                 line 3: RULE_APPEND failed (No such file or directory): rule in chain a",
                "xt_set",
            ),
        ] {
            let error = told(tool, words);
            assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(tool) && text.contains(advice), "{text}");
        }
        for words in [
            "iptables v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied \
             (you must be root)",
            "Fatal: can't open lock file /run/xtables.lock: Permission denied",
            "ipset v7.17: Kernel error received: Operation not permitted",
        ] {
            assert!(matches!(told("x", words), Error::NotPermitted { .. }), "{words}");
        }
        for words in [
            "Another app is currently holding the xtables lock; still 1s 0us time ahead",
            "ipset v7.17: Set cannot be destroyed: it is in use by a kernel component",
        ] {
            assert!(matches!(told("x", words), Error::Busy { .. }), "{words}");
        }
        let refused = told("iptables-restore", "iptables-restore: line 3 failed");
        assert!(refused.to_string().contains("`-A a -j DROP`"), "{refused}");
    }

    #[test]
    fn refused_lines_are_found() {
        for text in [
            "ipset v7.17: Error in line 3: Set cannot be created: set with the same name exists",
            "iptables-restore v1.8.9 (nf_tables): \nline 3: CHAIN_ADD failed (Device busy)",
            "iptables-restore: line 3 failed",
            "Bad argument `x'\nError occurred at line: 3\nTry `iptables-restore -h' or ...",
        ] {
            assert_eq!(line_number(text), Some(3), "{text}");
        }
        assert_eq!(line_number("online and other outlines"), None);
    }
}

//! What a process needs to make network namespaces, and how it comes by it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Error, Result, anyhow};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

use crate::namespace;

const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
const CAP_SYS_ADMIN: u32 = 21;

/// How this process came by the right to make network namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// It had the capabilities from the start, as root has.
    Capabilities,
    /// It moved into a user namespace of its own, in which it is root.
    UserNamespace,
}

/// Makes sure that this process may build a testbed.
///
/// Must be called first in `main`, while the process has one thread only: a process with several
/// threads cannot change its user namespace. With the capabilities NET_ADMIN, NET_RAW and SYS_ADMIN
/// nothing changes. Otherwise the process moves into a new user namespace, in which its user is
/// root; outside of it nothing can be done that could not be done before. Programs that it starts
/// later are in that user namespace as well.
///
/// # Errors
///
/// If user namespaces are not available, if the process already has other threads, or if network
/// namespaces cannot be made for another reason.
pub fn enter() -> Result<Privilege> {
    let privilege = if has_capabilities()? {
        Privilege::Capabilities
    } else {
        enter_user_namespace()?;
        Privilege::UserNamespace
    };
    // Some systems grant the user namespace but no rights within it, so only the attempt tells.
    namespace::visit(|visitor| visitor.create().map(drop)).context(match privilege {
        Privilege::Capabilities => "network namespaces cannot be made here",
        Privilege::UserNamespace => {
            "network namespaces cannot be made here by an ordinary user: run as root, or allow it \
             (on Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0)"
        }
    })?;
    Ok(privilege)
}

fn has_capabilities() -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .context("/proc/self/status does not tell the capabilities of this process")?;
    let needed = (1 << CAP_NET_ADMIN) | (1 << CAP_NET_RAW) | (1 << CAP_SYS_ADMIN);
    Ok(effective & needed == needed)
}

fn enter_user_namespace() -> Result<()> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|errno| {
        let threads = fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
        match errno {
            Errno::EINVAL if threads > 1 => anyhow!(
                "cannot enter a user namespace: this process already has {threads} threads; call \
                 `enter` first in main"
            ),
            Errno::EINVAL | Errno::ENOSYS => {
                anyhow!("this kernel has no user namespaces: run as root")
            }
            Errno::ENOSPC | Errno::EUSERS => anyhow!(
                "no more user namespaces are allowed here: run as root, or raise the limit (sysctl \
                 user.max_user_namespaces)"
            ),
            Errno::EPERM | Errno::EACCES => anyhow!(
                "user namespaces are not allowed for ordinary users here: run as root, or allow \
                 them (on Debian: sysctl kernel.unprivileged_userns_clone=1; in a container: a \
                 seccomp profile that permits unshare)"
            ),
            errno => Error::new(errno).context("entering a user namespace"),
        }
    })?;
    // Without this an unprivileged process may not map groups.
    write(Path::new("/proc/self/setgroups"), "deny")?;
    write(Path::new("/proc/self/uid_map"), &format!("0 {uid} 1"))?;
    write(Path::new("/proc/self/gid_map"), &format!("0 {gid} 1"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| {
        format!("becoming root of a user namespace: writing `{text}` to {}", path.display())
    })
}

//! Rulesets in the words of the tools: what `iptables-restore` and `ipset restore` read, and
//! `iptables-save` and `ipset save` print.

use std::fmt;

use netpol_core::model::{Family, Protocol};

use super::{Block, Hook, Match, Name, Rule, Ruleset, Set, Side, Table, Target};

/// How many elements a set may have; it takes memory for those only that it has.
pub(super) const MAX_ELEMENTS: u32 = 1 << 24;

pub(super) const ICMPV6: u8 = 58;

impl fmt::Display for Ruleset {
    /// Prints what the tools can load, sets first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (family, table) in &self.tables {
            let [set_tool, rule_tool] = match family {
                Family::V4 => ["ipset restore", "iptables-restore --noflush"],
                Family::V6 => ["ipset restore", "ip6tables-restore --noflush"],
            };
            writeln!(f, "# {set_tool}")?;
            let mut text = String::new();
            for (name, set) in &table.sets {
                create(&mut text, *family, name, set);
            }
            writeln!(f, "{text}# {rule_tool}")?;
            f.write_str(&whole(self, table))?;
        }
        Ok(())
    }
}

/// Loads a table where nothing of ours is.
fn whole(ruleset: &Ruleset, table: &Table) -> String {
    let jumps = table.jumps.keys().map(|hook| (*hook, 0, true));
    restore(ruleset, table.chains.iter(), [].into_iter(), jumps)
}

/// One transaction of `iptables-restore --noflush`: chains to be made or replaced, chains to be
/// deleted, and by hook how many jumps of ours to delete and whether to insert one.
pub(crate) fn restore<'r>(
    ruleset: &Ruleset,
    chains: impl Iterator<Item = (&'r Name, &'r Vec<Rule>)> + Clone,
    deleted: impl Iterator<Item = &'r Name> + Clone,
    jumps: impl Iterator<Item = (Hook, usize, bool)>,
) -> String {
    let mut text = String::from("*filter\n");
    // This also empties a chain that is there already.
    for name in chains.clone().map(|(name, _)| name).chain(deleted.clone()) {
        push(&mut text, format_args!(":{name} - [0:0]\n"));
    }
    for (name, rules) in chains {
        for rule in rules {
            push(&mut text, format_args!("-A {name} {rule}\n"));
        }
    }
    for (hook, present, wanted) in jumps {
        let (chain, jump) = (builtin(hook), ruleset.name.name(hook_name(hook)));
        for _ in 0..present {
            push(&mut text, format_args!("-D {chain} -j {jump}\n"));
        }
        if wanted {
            push(&mut text, format_args!("-I {chain} 1 -j {jump}\n"));
        }
    }
    for name in deleted {
        push(&mut text, format_args!("-X {name}\n"));
    }
    text.push_str("COMMIT\n");
    text
}

/// Makes a set with its elements.
pub(crate) fn create(text: &mut String, family: Family, name: &Name, set: &Set) {
    let kind = set_type(set);
    let word = family_name(family);
    // The default would be 8 KB for every set.
    let buckets = set.len().next_power_of_two().clamp(64, MAX_ELEMENTS as usize);
    push(
        text,
        format_args!(
            "create {name} {kind} family {word} hashsize {buckets} maxelem {MAX_ELEMENTS}\n"
        ),
    );
    add(text, name, set);
}

/// Adds the elements of a set to the one of this name.
pub(crate) fn add(text: &mut String, name: &Name, set: &Set) {
    match set {
        Set::Addresses(list) => {
            list.iter().for_each(|address| push(text, format_args!("add {name} {address}\n")));
        }
        Set::Blocks(list) => {
            for (block, inside) in list {
                let exception = if *inside { "" } else { " nomatch" };
                push(text, format_args!("add {name} {block}{exception}\n"));
            }
        }
        Set::Foreign(_) => {}
    }
}

/// Deletes the elements of a set from the one of this name.
pub(crate) fn delete(text: &mut String, name: &Name, set: &Set) {
    match set {
        Set::Addresses(list) => {
            list.iter().for_each(|address| push(text, format_args!("del {name} {address}\n")));
        }
        Set::Blocks(list) => {
            list.iter().for_each(|(block, _)| push(text, format_args!("del {name} {block}\n")));
        }
        Set::Foreign(_) => {}
    }
}

fn push(text: &mut String, line: fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    _ = fmt::Write::write_fmt(text, line);
}

fn set_type(set: &Set) -> &str {
    match set {
        Set::Addresses(_) => "hash:ip",
        Set::Blocks(_) => "hash:net",
        Set::Foreign(kind) => kind,
    }
}

pub(super) fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "inet",
        Family::V6 => "inet6",
    }
}

/// The built-in chain of a hook.
pub(super) fn builtin(hook: Hook) -> &'static str {
    match hook {
        Hook::Input => "INPUT",
        Hook::Forward => "FORWARD",
        Hook::Output => "OUTPUT",
    }
}

/// What our chain for a hook is called, behind the name of the instance.
pub(crate) fn hook_name(hook: Hook) -> &'static str {
    match hook {
        Hook::Input => "input",
        Hook::Forward => "forward",
        Hook::Output => "output",
    }
}

pub(super) fn protocol_name(number: u8) -> Option<&'static str> {
    Some(match Protocol::ALL.into_iter().find(|it| it.number() == number) {
        Some(Protocol::Tcp) => "tcp",
        Some(Protocol::Udp) => "udp",
        Some(Protocol::Sctp) => "sctp",
        None if number == ICMPV6 => "ipv6-icmp",
        None => return None,
    })
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut protocol = None;
        for each in &self.matches {
            match each {
                Match::Source(block) => write!(f, "-s {block} ")?,
                Match::Destination(block) => write!(f, "-d {block} ")?,
                Match::Protocol(number) => {
                    protocol = protocol_name(*number);
                    match protocol {
                        Some(word) => write!(f, "-p {word} ")?,
                        None => write!(f, "-p {number} ")?,
                    }
                }
                Match::Established => f.write_str("-m conntrack --ctstate RELATED,ESTABLISHED ")?,
                Match::Untracked => f.write_str("-m conntrack --ctstate UNTRACKED ")?,
                Match::TcpUnderWay => f.write_str("-m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN ")?,
                Match::SctpUnderWay => f.write_str("-m sctp ! --chunk-types any INIT ")?,
                Match::Ports(slots) => match slots.as_slice() {
                    [range] => {
                        write!(f, "-m {} --dport ", protocol.unwrap_or_default())?;
                        ports(f, *range)?;
                        f.write_str(" ")?;
                    }
                    slots => {
                        f.write_str("-m multiport --dports ")?;
                        for (index, range) in slots.iter().enumerate() {
                            f.write_str(if index == 0 { "" } else { "," })?;
                            ports(f, *range)?;
                        }
                        f.write_str(" ")?;
                    }
                },
                Match::IcmpType(kind) => write!(f, "-m icmp6 --icmpv6-type {kind} ")?,
                Match::InSet { set, side, inverted } => {
                    let not = if *inverted { "! " } else { "" };
                    let side = match side {
                        Side::Source => "src",
                        Side::Destination => "dst",
                    };
                    write!(f, "-m set {not}--match-set {set} {side} ")?;
                }
                Match::Limit(rate) => write!(f, "-m limit --limit {rate}/sec ")?,
                Match::Comment(text) => {
                    f.write_str("-m comment --comment ")?;
                    quoted(f, text.as_str())?;
                    f.write_str(" ")?;
                }
                Match::Foreign(text) => return f.write_str(text),
            }
        }
        match &self.target {
            Target::Return => f.write_str("-j RETURN"),
            Target::Drop => f.write_str("-j DROP"),
            Target::Jump(chain) => write!(f, "-j {chain}"),
            Target::Goto(chain) => write!(f, "-g {chain}"),
            Target::Report { group, prefix } => {
                f.write_str("-j NFLOG --nflog-prefix ")?;
                quoted(f, prefix.as_str())?;
                write!(f, " --nflog-group {group}")
            }
        }
    }
}

fn ports(f: &mut fmt::Formatter<'_>, range: netpol_core::model::PortRange) -> fmt::Result {
    match (range.first(), range.last()) {
        (first, last) if first == last => write!(f, "{first}"),
        (first, last) => write!(f, "{first}:{last}"),
    }
}

/// As the tools print texts; nothing in ours has to be escaped.
fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !text.is_empty() && text.chars().all(plain) {
        f.write_str(text)
    } else {
        write!(f, "\"{text}\"")
    }
}

impl Block {
    /// As `ipset` prints it: single addresses without a prefix.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.split_once('/') {
            Some((address, prefix)) => {
                let (address, prefix) = (address.parse().ok()?, prefix.parse().ok()?);
                Some(Self::of(address, prefix)).filter(|it| it.first() == address)
            }
            None => text.parse().ok().map(Self::single),
        }
    }
}

//! What `iptables-save` and `ipset save` print, as a ruleset.

use std::collections::BTreeMap;
use std::sync::Arc;

use netpol_core::model::{Family, PortRange, Protocol};

use super::text::{self, ICMPV6, builtin, family_name, hook_name};
use super::{Block, Comment, Hook, Instance, Match, Name, Rule, Ruleset, Set, Side, Table, Target};

/// A line that is not of the format that the tool prints.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of what {tool} printed is not understood: `{text}`")]
pub struct ParseError {
    /// The tool.
    pub tool: &'static str,
    /// The line's number, from 1.
    pub line: usize,
    /// The line.
    pub text: String,
}

/// How many packets, and how many bytes of packets, have met the last rule of each of our chains.
pub type Counters = BTreeMap<Name, (u64, u64)>;

impl Ruleset {
    /// Reads what is ours in the output of `iptables-save -t filter` or `ip6tables-save`, with or
    /// without `-c`. Sets are not in it.
    ///
    /// # Errors
    ///
    /// If a line of ours is no such output. Rules that this crate does not write are no error: see
    /// [`Match::Foreign`].
    pub fn read_rules(&mut self, family: Family, saved: &str) -> Result<Counters, ParseError> {
        let mut counters = Counters::new();
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        let mut in_filter = false;
        let mut table = Table::default();
        for (index, line) in saved.lines().enumerate() {
            let error =
                || ParseError { tool: "iptables-save", line: index + 1, text: line.to_owned() };
            if let Some(name) = line.strip_prefix('*') {
                in_filter = name == "filter";
            }
            if !in_filter {
                continue;
            }
            if let Some(rest) = line.strip_prefix(':') {
                let name = rest.split(' ').next().unwrap_or_default();
                if self.name.owns(name) {
                    table.chains.insert(Name::found(name), Vec::new());
                }
                continue;
            }
            let (count, line) = match line.strip_prefix('[').and_then(|it| it.split_once("] ")) {
                Some((count, rest)) => (count.split_once(':'), rest),
                None => (None, line),
            };
            let Some(rest) = line.strip_prefix("-A ") else { continue };
            // A rule may be empty: all that it does is count.
            let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
            if self.name.owns(chain) {
                let rules = table.chains.get_mut(chain).ok_or_else(error)?;
                rules.push(parse_rule(rule));
                if let Some((packets, bytes)) = count {
                    let count = packets.parse().ok().zip(bytes.parse().ok()).ok_or_else(error)?;
                    counters.insert(Name::found(chain), count);
                }
            } else if let Some(hook) = Hook::ALL.into_iter().find(|hook| builtin(*hook) == chain) {
                let place = places.entry(builtin(hook)).or_default();
                if rule == format!("-j {}", self.name.name(hook_name(hook))) {
                    table.jumps.entry(hook).or_default().push(*place);
                }
                *place += 1;
            }
        }
        let found = self.tables.entry(family).or_default();
        (found.chains, found.jumps) = (table.chains, table.jumps);
        Ok(counters)
    }

    /// Reads what is ours in the output of `ipset save`.
    ///
    /// # Errors
    ///
    /// If a line of ours is no such output.
    pub fn read_sets(&mut self, saved: &str) -> Result<(), ParseError> {
        let mut sets: BTreeMap<&str, (Option<Family>, Set)> = BTreeMap::new();
        for (index, line) in saved.lines().enumerate() {
            let error =
                || ParseError { tool: "ipset save", line: index + 1, text: line.to_owned() };
            let mut words = line.split(' ');
            let (Some(verb), Some(name)) = (words.next(), words.next()) else { continue };
            if !self.name.owns(name) {
                continue;
            }
            match verb {
                "create" => _ = sets.insert(name, header(words)),
                "add" => {
                    let (_, set) = sets.get_mut(name).ok_or_else(error)?;
                    element(set, words).ok_or_else(error)?;
                }
                _ => return Err(error()),
            }
        }
        for (name, (family, mut set)) in sets {
            match &mut set {
                Set::Addresses(list) => list.sort_unstable(),
                Set::Blocks(list) => list.sort_unstable(),
                Set::Foreign(_) => {}
            }
            // A set of something else than addresses is of no family.
            let table = self.tables.entry(family.unwrap_or(Family::V4)).or_default();
            table.sets.insert(Name::found(name), Arc::new(set));
        }
        Ok(())
    }
}

/// The words behind a set's name.
fn header<'a>(words: impl Iterator<Item = &'a str>) -> (Option<Family>, Set) {
    let words: Vec<&str> = words.collect();
    let after = |key| {
        let at = words.iter().position(|word| *word == key)?;
        words.get(at + 1).copied()
    };
    let family = Family::ALL.into_iter().find(|it| after("family") == Some(family_name(*it)));
    let ours = after("maxelem").and_then(|it| it.parse().ok()) == Some(text::MAX_ELEMENTS)
        && words.iter().all(|word| {
            // What else may be there changes what the set does.
            !["timeout", "netmask", "bitmask", "counters", "comment", "skbinfo", "forceadd"]
                .contains(word)
        });
    let kind = words.first().copied().unwrap_or_default();
    let set = match kind {
        "hash:ip" if ours => Set::Addresses(Vec::new()),
        "hash:net" if ours => Set::Blocks(Vec::new()),
        _ => Set::Foreign(kind.to_owned()),
    };
    (family, set)
}

fn element<'a>(set: &mut Set, mut words: impl Iterator<Item = &'a str>) -> Option<()> {
    let key = words.next()?;
    match set {
        Set::Addresses(list) => list.push(key.parse().ok()?),
        Set::Blocks(list) => {
            let exception = words.next();
            if !matches!(exception, None | Some("nomatch")) {
                return None;
            }
            list.push((Block::parse(key)?, exception.is_none()));
        }
        Set::Foreign(_) => {}
    }
    Some(())
}

/// A rule as `iptables-save` prints it, without its chain.
fn parse_rule(text: &str) -> Rule {
    known_rule(text).unwrap_or_else(|| Rule::new([Match::Foreign(text.to_owned())], Target::Return))
}

fn known_rule(text: &str) -> Option<Rule> {
    let words = words(text)?;
    let mut words = words.iter().map(String::as_str);
    let mut matches = Vec::new();
    let target = loop {
        let word = words.next()?;
        match word {
            "-s" => matches.push(Match::Source(Block::parse(words.next()?)?)),
            "-d" => matches.push(Match::Destination(Block::parse(words.next()?)?)),
            "-p" => matches.push(Match::Protocol(protocol_number(words.next()?)?)),
            "-m" => matches.push(known_match(&mut words)?),
            "-g" => break Target::Goto(Name::found(words.next()?)),
            "-j" => break known_target(&mut words)?,
            _ => return None,
        }
    };
    // What this crate writes prints as it was written; so whatever has been skipped shows.
    let rule = Rule { matches, target };
    (words.next().is_none() && ports_have_protocol(&rule)).then_some(rule)
}

/// Whether every match for ports stands behind a protocol that has some.
fn ports_have_protocol(rule: &Rule) -> bool {
    let with_ports = rule.matches.iter().any(|it| {
        matches!(it, Match::Protocol(number) if Protocol::ALL.iter().any(|p| p.number() == *number))
    });
    with_ports || !rule.matches.iter().any(|it| matches!(it, Match::Ports(_)))
}

fn known_match<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Match> {
    let module = words.next()?;
    let option = words.next()?;
    Some(match (module, option) {
        ("conntrack", "--ctstate") => match words.next()? {
            "RELATED,ESTABLISHED" => Match::Established,
            "UNTRACKED" => Match::Untracked,
            _ => return None,
        },
        ("tcp", "!") => {
            let rest = ["--tcp-flags", "FIN,SYN,RST,ACK", "SYN"];
            rest.iter().all(|it| words.next() == Some(it)).then_some(Match::TcpUnderWay)?
        }
        ("sctp", "!") => {
            let rest = ["--chunk-types", "any", "INIT"];
            rest.iter().all(|it| words.next() == Some(it)).then_some(Match::SctpUnderWay)?
        }
        ("tcp" | "udp" | "sctp", "--dport") => Match::Ports(vec![port_range(words.next()?)?]),
        ("multiport", "--dports") => {
            Match::Ports(words.next()?.split(',').map(port_range).collect::<Option<_>>()?)
        }
        ("icmp6", "--icmpv6-type") => Match::IcmpType(words.next()?.parse().ok()?),
        ("set", "--match-set") => in_set(words, false)?,
        ("set", "!") => (words.next()? == "--match-set").then(|| in_set(words, true))??,
        ("limit", "--limit") => {
            let (rate, unit) = words.next()?.split_once('/')?;
            let per_second = unit == "sec" || unit == "second" || unit == "s";
            per_second.then_some(Match::Limit(rate.parse().ok()?))?
        }
        ("comment", "--comment") => {
            let text = words.next()?;
            let comment = Comment::new(text);
            (comment.as_str() == text).then_some(Match::Comment(comment))?
        }
        _ => return None,
    })
}

fn in_set<'a>(words: &mut impl Iterator<Item = &'a str>, inverted: bool) -> Option<Match> {
    let set = Name::found(words.next()?);
    let side = match words.next()? {
        "src" => Side::Source,
        "dst" => Side::Destination,
        _ => return None,
    };
    Some(Match::InSet { set, side, inverted })
}

fn known_target<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Target> {
    Some(match words.next()? {
        "RETURN" => Target::Return,
        "DROP" => Target::Drop,
        "NFLOG" => {
            let (mut group, mut prefix) = (0, Comment::new(""));
            while let Some(option) = words.next() {
                match option {
                    "--nflog-prefix" => prefix = Comment::new(words.next()?),
                    "--nflog-group" => group = words.next()?.parse().ok()?,
                    _ => return None,
                }
            }
            Target::Report { group, prefix }
        }
        // No target of any module is in lower case.
        chain if chain.contains('-') => Target::Jump(Name::found(chain)),
        _ => return None,
    })
}

fn protocol_number(word: &str) -> Option<u8> {
    let known = Protocol::ALL.into_iter().map(Protocol::number).chain([ICMPV6]);
    known
        .into_iter()
        .find(|number| text::protocol_name(*number) == Some(word))
        .or_else(|| (word == "icmpv6").then_some(ICMPV6))
        .or_else(|| word.parse().ok())
}

fn port_range(text: &str) -> Option<PortRange> {
    match text.split_once(':') {
        Some((first, last)) => PortRange::new(first.parse().ok()?, last.parse().ok()?),
        None => text.parse().ok().map(PortRange::single),
    }
}

/// Splits at spaces outside of quotes; `None` if a quote does not end.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = behind.trim_start();
    }
    Some(words)
}

impl Instance {
    /// An empty ruleset of this name, to read into.
    pub(crate) fn nothing(&self) -> Ruleset {
        let tables = Family::ALL.into_iter().map(|family| (family, Table::default()));
        Ruleset { name: self.clone(), tables: tables.collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn rule(text: &str) -> Rule {
        parse_rule(text)
    }

    #[test]
    fn rules_print_as_they_were_read() {
        for text in [
            "-j RETURN",
            "-s 10.0.0.0/28 -g netpol-src-x",
            "-s 10.0.0.1/32 -d 10.0.0.2/32 -j RETURN",
            "-d fd00::1/128 -m comment --comment \"shop/web 0\" -g netpol-in-x",
            "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN",
            "-m conntrack --ctstate UNTRACKED -j RETURN",
            "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j netpol-stray",
            "-p sctp -m sctp ! --chunk-types any INIT -j netpol-stray",
            "-p tcp -m tcp --dport 80 -m set --match-set netpol-4-x src -j RETURN",
            "-p sctp -m multiport --dports 1,2:5 -m set ! --match-set netpol-4-x dst -j DROP",
            "-p ipv6-icmp -m icmp6 --icmpv6-type 135 -j RETURN",
            "-m limit --limit 10/sec -j NFLOG --nflog-prefix \"netpol: ingress denied \" \
             --nflog-group 3",
            "-m comment --comment bare-word_1 -j netpol-egress",
        ] {
            let read = rule(text);
            assert!(!read.matches.iter().any(|it| matches!(it, Match::Foreign(_))), "{text}");
            assert_eq!(read.to_string(), text);
        }
    }

    #[test]
    fn other_rules_are_foreign() {
        for text in [
            "-i eth0 -j RETURN",
            "! -s 10.0.0.1/32 -j DROP",
            "-p tcp -m tcp --dport 80 --sport 1 -j DROP",
            "-m set --match-set netpol-4-x src,dst -j DROP",
            "-m set --match-set netpol-4-x src --return-nomatch -j DROP",
            "-j ACCEPT",
            "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK ACK -j DROP",
            "-p sctp -m sctp ! --dport 80 -j DROP",
            "-j REJECT --reject-with icmp-port-unreachable",
            "-m multiport --dports 80 -j RETURN",
            "-m comment --comment \"a",
            "-j RETURN -x",
            "",
        ] {
            assert_eq!(rule(text).matches, [Match::Foreign(text.to_owned())], "{text}");
        }
    }

    #[test]
    fn empty_rules_are_rules() {
        let mut ruleset = Instance::default().nothing();
        let saved = "*filter\n:FORWARD ACCEPT [0:0]\n:count - [0:0]\n:netpol-x - [0:0]\n[1:60] -A FORWARD\n\
                     [2:80] -A FORWARD -j netpol-forward\n[0:0] -A count\n[3:90] -A netpol-x\nCOMMIT\n";
        let counters = ruleset.read_rules(Family::V4, saved).unwrap();
        let table = &ruleset.tables[&Family::V4];
        assert_eq!(table.jumps[&Hook::Forward], [1], "a rule stands before it");
        assert_eq!(table.chains["netpol-x"], [rule("")]);
        assert_eq!(counters["netpol-x"], (3, 90));
    }

    #[test]
    fn sets_are_told_from_those_of_others() {
        let mut ruleset = Instance::default().nothing();
        let saved = "create netpol-4-a hash:ip family inet hashsize 64 maxelem 16777216 bucketsize 12 initval 0x1\n\
                     add netpol-4-a 10.0.0.2\nadd netpol-4-a 10.0.0.1\n\
                     create other hash:ip family inet hashsize 64 maxelem 65536\nadd other 1.1.1.1\n\
                     create netpol-6-b hash:net family inet6 hashsize 64 maxelem 16777216\n\
                     add netpol-6-b fd00::/8\nadd netpol-6-b fd00::1 nomatch\n\
                     create netpol-4-c hash:ip family inet hashsize 64 maxelem 16777216 timeout 5\n\
                     create netpol-d bitmap:port range 0-9\nadd netpol-d 4\n";
        ruleset.read_sets(saved).unwrap();
        let [v4, v6] = Family::ALL.map(|family| &ruleset.tables[&family].sets);
        let addresses: Vec<IpAddr> = ["10.0.0.1", "10.0.0.2"].map(|it| it.parse().unwrap()).into();
        assert_eq!(*v4["netpol-4-a"], Set::Addresses(addresses));
        assert_eq!(*v4["netpol-4-c"], Set::Foreign("hash:ip".into()));
        assert_eq!(*v4["netpol-d"], Set::Foreign("bitmap:port".into()));
        let blocks = [("fd00::/8", true), ("fd00::1", false)];
        let blocks = blocks.map(|(block, inside)| (Block::parse(block).unwrap(), inside));
        assert_eq!(*v6["netpol-6-b"], Set::Blocks(blocks.into()));
        assert!(!v4.contains_key("other") && v4.len() == 3 && v6.len() == 1);
    }
}

//! Rulesets in the syntax of the nft tool.

use std::fmt;

use super::{
    AddressVerdict, Base, Chain, Comment, Elements, Family, Hook, Name, Rule, Ruleset, Set, Side,
    Statement, Table, Verdict, netmask,
};

/// Elements are wrapped at about this column.
const WIDTH: usize = 100;

/// nft's name of a family.
pub(crate) fn keyword(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (family, table)) in self.tables.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            writeln!(f, "table {} {} {{", keyword(*family), self.name)?;
            write_table(f, *family, table)?;
            writeln!(f, "}}")?;
        }
        Ok(())
    }
}

fn write_table(f: &mut fmt::Formatter<'_>, family: Family, table: &Table) -> fmt::Result {
    write_comment(f, table.comment.as_ref())?;
    let mut first = table.comment.is_none();
    let mut separate = |f: &mut fmt::Formatter<'_>| {
        if !std::mem::take(&mut first) { writeln!(f) } else { Ok(()) }
    };
    for (name, set) in &table.sets {
        separate(f)?;
        let kind = if set.elements.is_map() { "map" } else { "set" };
        writeln!(f, "\t{kind} {name} {{")?;
        write_set(f, family, set)?;
        writeln!(f, "\t}}")?;
    }
    for (name, chain) in &table.chains {
        separate(f)?;
        writeln!(f, "\tchain {name} {{")?;
        write_chain(f, family, chain)?;
        writeln!(f, "\t}}")?;
    }
    Ok(())
}

fn write_comment(f: &mut fmt::Formatter<'_>, comment: Option<&Comment>) -> fmt::Result {
    match comment {
        Some(comment) => writeln!(f, "\tcomment \"{comment}\""),
        None => Ok(()),
    }
}

fn write_set(f: &mut fmt::Formatter<'_>, family: Family, set: &Set) -> fmt::Result {
    let address = match family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    };
    match &set.elements {
        Elements::Addresses(_) | Elements::AddressRanges(_) => writeln!(f, "\t\ttype {address}")?,
        Elements::AddressPairs(_) => writeln!(f, "\t\ttype {address} . {address}")?,
        Elements::AddressVerdicts(_) => writeln!(f, "\t\ttype {address} : verdict")?,
        Elements::InterfaceVerdicts(_) => writeln!(f, "\t\ttype ifname : verdict")?,
        Elements::PairVerdicts(_) => writeln!(f, "\t\ttype {address} . {address} : verdict")?,
        Elements::PortVerdicts(_) | Elements::PortRangeVerdicts(_) => {
            writeln!(f, "\t\ttype inet_service : verdict")?;
        }
    }
    if let Some(size) = set.size {
        writeln!(f, "\t\tsize {size}")?;
    }
    if set.elements.is_interval() {
        writeln!(f, "\t\tflags interval")?;
    }
    if let Some(comment) = &set.comment {
        writeln!(f, "\t\tcomment \"{comment}\"")?;
    }
    match &set.elements {
        Elements::Addresses(list) => write_elements(f, list, |address| address.to_string()),
        Elements::AddressPairs(list) => write_elements(f, list, |(a, b)| format!("{a} . {b}")),
        Elements::AddressRanges(list) => write_elements(f, list, |(a, b)| range(a, b)),
        Elements::AddressVerdicts(list) => write_elements(f, list, |element| {
            let AddressVerdict { address, comment, verdict } = element;
            match comment {
                Some(comment) => format!("{address} comment \"{comment}\" : {verdict}"),
                None => format!("{address} : {verdict}"),
            }
        }),
        Elements::InterfaceVerdicts(list) => {
            write_elements(f, list, |(interface, it)| format!("\"{interface}\" : {it}"))
        }
        Elements::PairVerdicts(list) => {
            write_elements(f, list, |((a, b), verdict)| format!("{a} . {b} : {verdict}"))
        }
        Elements::PortVerdicts(list) => {
            write_elements(f, list, |(port, verdict)| format!("{port} : {verdict}"))
        }
        Elements::PortRangeVerdicts(list) => {
            write_elements(f, list, |((a, b), verdict)| format!("{} : {verdict}", range(a, b)))
        }
    }
}

fn range<T: PartialEq + fmt::Display>(first: T, last: T) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

fn write_elements<T>(
    f: &mut fmt::Formatter<'_>,
    list: &[T],
    text: impl Fn(&T) -> String,
) -> fmt::Result {
    if list.is_empty() {
        return Ok(());
    }
    f.write_str("\t\telements = { ")?;
    let mut column = 0;
    for (index, element) in list.iter().enumerate() {
        if index > 0 {
            let separator = if column < WIDTH { ", " } else { ",\n\t\t\t     " };
            if column >= WIDTH {
                column = 0;
            }
            f.write_str(separator)?;
        }
        let element = text(element);
        column += element.len() + 2;
        f.write_str(&element)?;
    }
    writeln!(f, " }}")
}

fn write_chain(f: &mut fmt::Formatter<'_>, family: Family, chain: &Chain) -> fmt::Result {
    if let Some(comment) = &chain.comment {
        writeln!(f, "\t\tcomment \"{comment}\"")?;
    }
    if let Some(base) = chain.base {
        let Base { hook, priority } = base;
        writeln!(f, "\t\ttype filter hook {hook} priority {priority}; policy accept;")?;
    }
    for rule in &chain.rules {
        f.write_str("\t\t")?;
        write_rule(f, family, rule)?;
        writeln!(f)?;
    }
    Ok(())
}

fn write_rule(f: &mut fmt::Formatter<'_>, family: Family, rule: &Rule) -> fmt::Result {
    let mut protocol = None;
    for (index, statement) in rule.statements.iter().enumerate() {
        // `tcp dport` implies the protocol, as does `icmpv6 type`; nft prints it so, too.
        let implied = matches!(
            rule.statements.get(index + 1),
            Some(
                Statement::PortMap(_)
                    | Statement::PortBetween(..)
                    | Statement::IcmpType(..)
                    | Statement::TcpUnderWay
            )
        );
        if let Statement::Protocol(number) = statement {
            protocol = Some(protocol_name(*number));
            if implied {
                continue;
            }
        }
        write_statement(f, family, statement, protocol.as_deref())?;
        if index + 1 < rule.statements.len() {
            f.write_str(" ")?;
        }
    }
    match &rule.comment {
        Some(comment) => write!(f, " comment \"{comment}\""),
        None => Ok(()),
    }
}

fn write_statement(
    f: &mut fmt::Formatter<'_>,
    family: Family,
    statement: &Statement,
    protocol: Option<&str>,
) -> fmt::Result {
    let ip = keyword(family);
    match statement {
        Statement::Established => f.write_str("ct state established,related"),
        Statement::Untracked => f.write_str("ct state untracked"),
        Statement::TcpUnderWay => f.write_str("tcp flags & (fin | syn | rst | ack) != syn"),
        Statement::SctpUnderWay => f.write_str("@th,96,8 != 1"),
        Statement::Protocol(number) => write!(f, "meta l4proto {}", protocol_name(*number)),
        Statement::IcmpType(first, last) => {
            write!(f, "{} type {}", protocol.unwrap_or("icmpv6"), range(first, last))
        }
        Statement::AddressIn(side, set) => write!(f, "{ip} {} @{set}", side_name(*side)),
        Statement::AddressNotIn(side, set) => write!(f, "{ip} {} != @{set}", side_name(*side)),
        Statement::BlockIn(side, length, set) => {
            write!(f, "{ip} {} & {} == @{set}", side_name(*side), netmask(family, *length))
        }
        Statement::AddressBetween(side, first, last) => {
            write!(f, "{ip} {} {}", side_name(*side), range(first, last))
        }
        Statement::PortBetween(first, last) => {
            write!(f, "{} dport {}", protocol.unwrap_or("th"), range(first, last))
        }
        Statement::PairIn(set) => write!(f, "{ip} saddr . {ip} daddr @{set}"),
        Statement::PairMap(map) => write!(f, "{ip} saddr . {ip} daddr vmap @{map}"),
        Statement::AddressMap(side, map) => write!(f, "{ip} {} vmap @{map}", side_name(*side)),
        Statement::InterfaceMap(side, map) => match side {
            Side::Source => write!(f, "iifname vmap @{map}"),
            Side::Destination => write!(f, "oifname vmap @{map}"),
        },
        Statement::PortMap(map) => write!(f, "{} dport vmap @{map}", protocol.unwrap_or("th")),
        Statement::Counter => f.write_str("counter"),
        Statement::Limit(rate) => write!(f, "limit rate {rate}/second burst 5 packets"),
        Statement::Log { group, prefix } => write!(f, "log prefix \"{prefix}\" group {group}"),
        Statement::Verdict(verdict) => write!(f, "{verdict}"),
        Statement::Foreign(name) => write!(f, "<{name}>"),
    }
}

fn side_name(side: Side) -> &'static str {
    match side {
        Side::Source => "saddr",
        Side::Destination => "daddr",
    }
}

fn protocol_name(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        132 => "sctp".to_owned(),
        other => other.to_string(),
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with_chain =
            |f: &mut fmt::Formatter<'_>, how: &str, chain: &Name| write!(f, "{how} {chain}");
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => with_chain(f, "jump", chain),
            Self::Goto(chain) => with_chain(f, "goto", chain),
        }
    }
}

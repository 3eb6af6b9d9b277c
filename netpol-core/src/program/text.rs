use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::{
    Atom, AtomId, ClassId, IdentityId, OwnNode, PortMap, Program, Stack, Term, Terms, Union, Within,
};
use crate::model::{Block, Protocol};

impl Program {
    /// What a class asks of the other end, as one line of text: the same for the same question in every program and
    /// process, and different for every other question.
    ///
    /// Neither addresses nor numbers that depend on history are in it, so that a name made from it stays while pods
    /// come and go.
    pub fn class_text(&self, id: ClassId) -> String {
        Writer::new(self).stack(self.stack(id))
    }

    /// Everything that the program says, as text in canonical order.
    ///
    /// Two programs are equal if and only if their dumps are, however they came about. Costs several times the memory
    /// of the program; meant for tests and for people.
    pub fn dump(&self) -> String {
        let mut writer = Writer::new(self);
        let mut sections: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        let inner = &self.inner;
        let mut line = |section, text| {
            sections.entry(section).or_default().insert(text);
        };
        line("0 program", format!("{:?} {:?}", inner.scope, inner.options));
        for (address, known) in inner.addresses.all_known() {
            let identity = writer.identity(known.identity());
            let endpoint = known.endpoint().and_then(|id| inner.endpoints.get(id.0));
            let endpoint = endpoint.map(|it| (&it.namespace, &it.name, &it.addresses));
            let profile = known.profile().map(|id| writer.profile(id));
            line("1 address", format!("{address} {endpoint:?} {identity} {profile:?}"));
        }
        for (address, nodes) in inner.addresses.nodes.iter() {
            let mut names: Vec<_> = nodes.iter().map(|id| inner.nodes.get(id.0)).collect();
            names.sort_unstable();
            line("2 node address", format!("{address} {names:?}"));
        }
        for (net, id) in inner.addresses.v4.iter() {
            line("3 block", format!("{net} {}", writer.identity(*id)));
        }
        for (net, id) in inner.addresses.v6.iter() {
            line("3 block", format!("{net} {}", writer.identity(*id)));
        }
        for (id, identity) in inner.identities.iter() {
            let addresses: Vec<_> = identity.addresses.iter().collect();
            let blocks: Vec<_> = identity.blocks.iter().collect();
            let name = writer.identity(IdentityId(id));
            line("4 identity", format!("{name} {addresses:?} {blocks:?}"));
        }
        for (_, entry) in inner.endpoints.iter() {
            let node = entry.node.and_then(|id| inner.nodes.get(id.0));
            let profile = entry.profile.map(|id| writer.profile(id));
            let own = entry.own.map(|id| writer.profile(id));
            let identity = writer.identity(entry.identity);
            let name = (&entry.namespace, &entry.name, entry.host, &entry.addresses);
            line("5 endpoint", format!("{name:?} {node:?} {identity} {profile:?} {own:?}"));
        }
        for (name, end) in inner.all_names() {
            let end = match end {
                super::NamedEnd::Ordinary(id) => {
                    let entry = inner.endpoints.get(id.0);
                    format!("{:?}", entry.map(|it| (&it.namespace, &it.name, &it.addresses)))
                }
                super::NamedEnd::Host(address) => address.to_string(),
            };
            line("6 name", format!("{name:?} {end}"));
        }
        for (id, _) in inner.profiles.iter() {
            line("7 profile", writer.profile(super::ProfileId(id)));
        }
        for (id, class) in self.classes() {
            let stack = writer.stack(self.stack(id));
            let exceptions = writer.identities(class.exceptions.iter());
            let listed = writer.identities(class.own_node_list.iter());
            let own_node = match class.own_node {
                OwnNode::Never => "never".to_owned(),
                OwnNode::AllBut => format!("all but {listed:?}"),
                OwnNode::Only => format!("only {listed:?}"),
            };
            line("8 class", format!("{stack} {:?} {exceptions:?} {own_node}", class.default));
        }
        for (_, atom) in inner.atoms.iter() {
            line("9 atom", writer.atom_text(atom));
        }
        let mut text = String::new();
        for (section, lines) in sections {
            for line in lines {
                let _ = writeln!(text, "{section}: {line}");
            }
        }
        text
    }
}

/// Programs are equal if they say the same.
impl PartialEq for Program {
    fn eq(&self, other: &Self) -> bool {
        std::sync::Arc::ptr_eq(&self.inner, &other.inner) || self.dump() == other.dump()
    }
}

impl Eq for Program {}

/// Writes parts of a program without the numbers that it happens to have given them.
struct Writer<'a> {
    program: &'a Program,
    atoms: BTreeMap<AtomId, String>,
}

impl<'a> Writer<'a> {
    fn new(program: &'a Program) -> Self {
        Self { program, atoms: BTreeMap::new() }
    }

    /// The derived form quotes all text, so that different atoms are written differently.
    fn atom_text(&mut self, atom: &Atom) -> String {
        match atom {
            Atom::Declares(it) => {
                let also = it.also.as_ref().map(|also| self.term(also));
                format!("Declares {:?}", (&it.name, it.protocol, it.number, it.host, also))
            }
            atom => format!("{atom:?}"),
        }
    }

    fn atom(&mut self, id: AtomId) -> String {
        if let Some(text) = self.atoms.get(&id) {
            return text.clone();
        }
        let atom = self.program.inner.atoms.get(id.0).cloned();
        let text = atom.map(|atom| self.atom_text(&atom)).unwrap_or_default();
        self.atoms.insert(id, text.clone());
        text
    }

    fn atom_list(&mut self, atoms: &[AtomId]) -> String {
        let mut texts: Vec<String> = atoms.iter().map(|atom| self.atom(*atom)).collect();
        texts.sort_unstable();
        format!("{texts:?}")
    }

    fn term(&mut self, term: &Term) -> String {
        match term {
            Term::Atom(atom) => self.atom(*atom),
            Term::Within(within) => self.within(within),
        }
    }

    fn within(&mut self, Within { block, except }: &Within) -> String {
        let program = self.program;
        let net = |id: &AtomId| program.block(*id).map(Block::cidr);
        let block = net(block).map(|cidr| Block::new(cidr, except.iter().filter_map(net)));
        // However it is told apart, it says the same.
        block.map(|block| self.atom_text(&Atom::Block(block))).unwrap_or_default()
    }

    fn union(&mut self, union: &Union) -> String {
        let atoms = union.atoms.iter().map(|atom| self.atom(*atom));
        let mut texts: Vec<String> = atoms.collect();
        texts.extend(union.blocks.iter().map(|within| self.within(within)));
        texts.sort_unstable();
        format!("{texts:?}")
    }

    fn identity(&mut self, id: IdentityId) -> String {
        match self.program.inner.identities.get(id.0).map(|it| it.atoms.clone()) {
            Some(atoms) => self.atom_list(&atoms),
            None => "unknown".to_owned(),
        }
    }

    fn identities(&mut self, ids: impl Iterator<Item = IdentityId>) -> Vec<String> {
        let mut texts: Vec<String> = ids.map(|id| self.identity(id)).collect();
        texts.sort_unstable();
        texts
    }

    fn terms(&mut self, terms: &Terms) -> String {
        match terms {
            Terms::Everyone => "everyone".to_owned(),
            Terms::AnyOf(union) => self.union(union),
        }
    }

    fn stack(&mut self, stack: &Stack) -> String {
        let mut text = String::new();
        for (tier, segments) in [("admin", &stack.admin), ("baseline", &stack.baseline)] {
            for segment in segments {
                let terms = self.terms(&segment.terms);
                let _ = write!(text, "{tier} {} {terms}; ", segment.action);
            }
        }
        if let Some(terms) = &stack.network {
            let terms = self.terms(terms);
            let _ = write!(text, "network accept {terms}; ");
        }
        let _ = write!(text, "own node {}", stack.own_node);
        text
    }

    fn profile(&mut self, id: super::ProfileId) -> String {
        let profile = self.program.profile(id).clone();
        let side =
            |this: &mut Self, map: &Option<super::Side>| map.as_ref().map(|map| this.port_map(map));
        let ingress = side(self, &profile.ingress);
        let egress = side(self, &profile.egress);
        format!("{ingress:?} {egress:?} {:?} {:?}", profile.declared, profile.policies)
    }

    fn port_map(&mut self, map: &PortMap) -> String {
        let mut text = String::new();
        for protocol in Protocol::ALL {
            for (range, class) in map.intervals(protocol) {
                let stack = self.stack(self.program.stack(*class));
                let _ = write!(text, "{protocol} {range}: {stack}; ");
            }
        }
        let stack = self.stack(self.program.stack(map.other));
        let _ = write!(text, "other: {stack}");
        text
    }
}

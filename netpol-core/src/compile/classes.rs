use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::model::Action;
use crate::program::{
    AtomId, Class, ClassId, IdentityId, IdentitySet, OwnNode, RareSet, Scope, SortedSet, Stack,
    Union, Within,
};

use super::Compiler;

/// For each atom the identities that it holds for, and the classes that ask for it.
#[derive(Debug, Default)]
pub(super) struct AtomUsers(Vec<Users>);

#[derive(Debug, Default)]
struct Users {
    identities: IdentitySet,
    classes: SortedSet<ClassId>,
}

impl AtomUsers {
    fn of(&mut self, AtomId(id): AtomId) -> &mut Users {
        let at = id as usize;
        if self.0.len() <= at {
            self.0.resize_with(at + 1, Users::default);
        }
        #[expect(clippy::indexing_slicing, reason = "resized just above")]
        &mut self.0[at]
    }

    fn identities(&self, AtomId(id): AtomId) -> &IdentitySet {
        static NOBODY: IdentitySet = IdentitySet::EMPTY;
        self.0.get(id as usize).map_or(&NOBODY, |users| &users.identities)
    }

    /// Whom a union includes. Where it is about one thing, the set of who that is is shared.
    fn included(&self, union: &Union) -> IdentitySet {
        let atoms = union.atoms.iter().map(|atom| Cow::Borrowed(self.identities(*atom)));
        let alike = union.blocks.chunk_by(|a, b| a.block == b.block);
        let sets: Vec<Cow<'_, IdentitySet>> =
            atoms.chain(alike.map(|alike| Cow::Owned(self.inside(alike)))).collect();
        match sets.as_slice() {
            [only] => only.clone().into_owned(),
            sets => sets.iter().flat_map(|set| set.iter()).collect(),
        }
    }

    /// Whom any of these includes that are about the same block.
    fn inside(&self, alike: &[Within]) -> IdentitySet {
        let Some(Within { block, .. }) = alike.first() else { return IdentitySet::EMPTY };
        let left_out = self.left_out(alike);
        let block = self.identities(*block);
        // To take out few leaves most of the set shared.
        if left_out.len() < block.len() / 8 {
            let mut inside = block.clone();
            left_out.into_iter().for_each(|id| inside.remove(id));
            return inside;
        }
        block.iter().filter(|id| left_out.binary_search(id).is_err()).collect()
    }

    /// Whom every one of these leaves out of the same block; ascending. Many that leave out different parts cost as
    /// much as what they leave out, and not that times the block.
    fn left_out(&self, alike: &[Within]) -> Vec<IdentityId> {
        let mut lists = alike.iter().map(|within| {
            let parts = within.except.iter();
            let mut list: Vec<_> = parts.flat_map(|atom| self.identities(*atom).iter()).collect();
            list.sort_unstable();
            list
        });
        let mut all = lists.next().unwrap_or_default();
        for list in lists {
            if all.is_empty() {
                break;
            }
            all.retain(|id| list.binary_search(id).is_ok());
        }
        all
    }

    /// The classes that ask for any of these atoms.
    fn classes(&self, atoms: &[AtomId]) -> BTreeSet<ClassId> {
        let users = atoms.iter().filter_map(|AtomId(id)| self.0.get(*id as usize));
        users.flat_map(|users| users.classes.iter()).collect()
    }
}

impl Compiler {
    /// Finds out whom each class allows, and frees what nobody uses any more.
    pub(super) fn settle_classes(&mut self) {
        let identities = self.identities.settle();
        let stacks = self.stacks.settle();
        for id in identities.dying {
            self.forget_identity(IdentityId(id));
        }
        for id in stacks.dying {
            let Some(stack) = self.stacks.get(id).cloned() else { continue };
            for atom in stack.atoms() {
                self.users.of(atom).classes.remove(ClassId(id));
            }
            self.program.edit().clear_class(ClassId(id));
        }
        for id in &identities.born {
            let Some(atoms) = self.identities.get(*id).cloned() else { continue };
            for atom in atoms.iter() {
                self.users.of(*atom).identities.insert(IdentityId(*id));
            }
        }
        let before = self.program.classes().next().is_some();
        for id in &stacks.born {
            let Some(stack) = self.stacks.get(*id).cloned() else { continue };
            for atom in stack.atoms() {
                self.users.of(atom).classes.insert(ClassId(*id));
            }
            let class = self.evaluate(&stack);
            self.program.edit().set_class(ClassId(*id), class, stack);
        }
        // Classes that were there before have yet to hear of the new identities.
        for id in identities.born.into_iter().filter(|_| before) {
            self.introduce_identity(IdentityId(id));
        }
        self.identities.sweep();
        self.stacks.sweep();
        self.atoms.sweep();
    }

    fn forget_identity(&mut self, id: IdentityId) {
        let Some(atoms) = self.identities.get(id.0).cloned() else { return };
        let classes = self.users.classes(&atoms);
        for atom in atoms.iter() {
            self.users.of(*atom).identities.remove(id);
        }
        let inner = self.program.edit();
        for ClassId(class) in classes {
            if !inner.classes.get(class).is_some_and(|it| it.mentions(id)) {
                continue;
            }
            if let Some(class) = inner.classes.get_mut(class) {
                class.exceptions.remove(id);
                class.own_node_list.remove(id);
            }
        }
        inner.identities.clear(id.0);
    }

    fn introduce_identity(&mut self, id: IdentityId) {
        let Some(atoms) = self.identities.get(id.0).cloned() else { return };
        let inner = self.program.edit();
        for ClassId(at) in self.users.classes(&atoms) {
            let (Some(class), Some(stack)) = (inner.classes.get(at), self.stacks.get(at)) else {
                continue;
            };
            let excepted = stack.verdict(&atoms) != class.default;
            let listed = class.own_node.lists(stack.admin_action(&atoms));
            if (excepted || listed)
                && let Some(class) = inner.classes.get_mut(at)
            {
                if excepted {
                    class.exceptions.insert(id);
                }
                if listed {
                    class.own_node_list.insert(id);
                }
            }
        }
    }

    fn evaluate(&self, stack: &Stack) -> Class {
        let default = stack.verdict(&[]);
        let own_node = match (stack.own_node, stack.admin_action(&[])) {
            (false, _) => OwnNode::Never,
            (true, Some(Action::Accept | Action::Deny)) => OwnNode::Only,
            (true, Some(Action::Pass) | None) => OwnNode::AllBut,
        };
        let mut own_node_list = RareSet::default();
        if let Some(union) = stack.as_union() {
            let exceptions = self.users.included(union);
            return Class { default, exceptions, own_node, own_node_list };
        }
        let mut mentioned: Vec<IdentityId> =
            stack.atoms().flat_map(|atom| self.users.identities(atom).iter()).collect();
        mentioned.sort_unstable();
        mentioned.dedup();
        let atoms = |id: &IdentityId| self.identities.get(id.0).map_or(&[][..], |atoms| atoms);
        for id in &mentioned {
            if own_node.lists(stack.admin_action(atoms(id))) {
                own_node_list.insert(*id);
            }
        }
        let is_exception = |id: &IdentityId| stack.verdict(atoms(id)) != default;
        let exceptions = mentioned.into_iter().filter(is_exception).collect();
        Class { default, exceptions, own_node, own_node_list }
    }

    /// The names of nodes, as the program numbers them.
    pub(super) fn settle_nodes(&mut self) {
        let settled = self.places.node_names.settle();
        let all = self.scope == Scope::Cluster || self.hosts_are_policed();
        for id in settled.born {
            let own = self.own_node.is_some_and(|own| own.0 == id);
            if let Some(name) = self.places.node_names.get(id).filter(|_| all || own) {
                self.program.edit().nodes.set(id, name.clone());
            }
        }
        for id in settled.dying {
            self.program.edit().nodes.clear(id);
        }
        self.places.node_names.sweep();
    }
}

impl Class {
    fn mentions(&self, id: IdentityId) -> bool {
        self.own_node_list.contains(id) || self.exceptions.contains(id)
    }
}

impl OwnNode {
    /// Whether an identity that the Admin tier does this to is in the list.
    fn lists(self, action: Option<Action>) -> bool {
        match self {
            Self::Never => false,
            Self::AllBut => action == Some(Action::Deny),
            Self::Only => action == Some(Action::Pass),
        }
    }
}

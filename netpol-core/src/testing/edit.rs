//! Worlds that change.

use super::Choices;
use crate::model::{Endpoint, Objects};

/// Changes a world as its objects change in a cluster: some come, go, or become like those of
/// another world.
pub fn edit(choices: &mut Choices<'_>, objects: &mut Objects, other: &Objects) {
    for _ in 0..=choices.pick(3) {
        match choices.pick(7) {
            0 => _ = pluck(choices, &mut objects.endpoints),
            1 => _ = pluck(choices, &mut objects.policies),
            2 | 3 => {
                let Some(new) = choose(choices, &other.endpoints) else { continue };
                match objects.endpoints.iter_mut().find(|it| is_same(it, new)) {
                    Some(old) => *old = new.clone(),
                    None => objects.endpoints.push(new.clone()),
                }
            }
            4 => {
                let Some(new) = choose(choices, &other.endpoints) else { continue };
                let at = choices.pick(objects.endpoints.len());
                if let Some(old) = objects.endpoints.get_mut(at) {
                    old.labels = new.labels.clone();
                }
            }
            5 => {
                let Some(new) = choose(choices, &other.policies) else { continue };
                match objects.policies.iter_mut().find(|it| it.key == new.key) {
                    Some(old) => *old = new.clone(),
                    None => objects.policies.push(new.clone()),
                }
            }
            _ => objects.namespaces.clone_from(&other.namespaces),
        }
    }
}

fn is_same(a: &Endpoint, b: &Endpoint) -> bool {
    (&a.namespace, &a.name, &a.uid) == (&b.namespace, &b.name, &b.uid)
}

fn choose<'a, T>(choices: &mut Choices<'_>, items: &'a [T]) -> Option<&'a T> {
    items.get(choices.pick(items.len()))
}

fn pluck<T>(choices: &mut Choices<'_>, items: &mut Vec<T>) -> Option<T> {
    let at = choices.pick(items.len());
    (at < items.len()).then(|| items.remove(at))
}

use std::collections::hash_map::Entry;

use smallvec::SmallVec;

use crate::hash::HashMap;
use crate::model::{Labels, Name, NamespaceScope, Operator, PodSelector, Selector};
use crate::program::SortedSet;

/// Finds which of many selectors match some labels, without trying those that cannot.
///
/// Nearly every selector asks for some label to have one of a few values. It is filed under these label pairs, and
/// labels are looked up pair by pair; what asks for no value is tried on everyone.
#[derive(Debug)]
pub(super) struct SelectorMap<T> {
    by_label: HashMap<(Name, Name), Filed<T>>,
    others: Vec<(Selector, T)>,
}

/// Selectors that ask for the same label pair, which few have in common.
type Filed<T> = SmallVec<[(Selector, T); 1]>;

/// The other way round: finds the objects that a selector matches, among those that have one of the values it asks
/// for.
#[derive(Debug, Default)]
pub(super) struct LabelIndex {
    by_label: HashMap<(Name, Name), SortedSet<u32>>,
    all: SortedSet<u32>,
}

/// Pod selectors, by the namespaces that they look into.
#[derive(Debug)]
pub(super) struct PodSelectors<T> {
    named: HashMap<Name, SelectorMap<T>>,
    /// The namespace selectors, each of which is also the key of its pod selectors.
    matching: SelectorMap<Selector>,
    by_selector: HashMap<Selector, SelectorMap<T>>,
}

/// The key for which a selector asks the fewest values.
fn anchor(selector: &Selector) -> Option<(&Name, &[Name])> {
    let wanted = selector.requirements().iter().filter_map(|it| match &it.operator {
        Operator::In(values) => Some((&it.key, &**values)),
        _ => None,
    });
    wanted.min_by_key(|(_, values)| values.len())
}

impl<T> Default for SelectorMap<T> {
    fn default() -> Self {
        Self { by_label: HashMap::default(), others: Vec::new() }
    }
}

impl<T: Clone + PartialEq> SelectorMap<T> {
    pub(super) fn insert(&mut self, selector: &Selector, value: T) {
        let Some((key, values)) = anchor(selector) else {
            return self.others.push((selector.clone(), value));
        };
        for wanted in values {
            let filed = self.by_label.entry((key.clone(), wanted.clone())).or_default();
            filed.push((selector.clone(), value.clone()));
        }
    }

    pub(super) fn remove(&mut self, selector: &Selector, value: &T) {
        let place = |filed: &[(Selector, T)]| {
            filed.iter().position(|(of, it)| it == value && of == selector)
        };
        let Some((key, values)) = anchor(selector) else {
            if let Some(at) = place(&self.others) {
                self.others.swap_remove(at);
            }
            return;
        };
        for wanted in values {
            if let Entry::Occupied(mut filed) = self.by_label.entry((key.clone(), wanted.clone())) {
                if let Some(at) = place(filed.get()) {
                    filed.get_mut().swap_remove(at);
                }
                if filed.get().is_empty() {
                    filed.remove();
                }
            }
        }
    }

    /// The values of all selectors that match. A key has one value, so that each is found once.
    pub(super) fn matching(&self, labels: &Labels) -> impl Iterator<Item = &T> {
        let by_label = labels.pairs().iter().filter_map(|pair| self.by_label.get(pair));
        let filed = by_label.flatten().chain(&self.others);
        filed.filter(|(selector, _)| selector.matches(labels)).map(|(_, value)| value)
    }

    fn is_empty(&self) -> bool {
        self.by_label.is_empty() && self.others.is_empty()
    }
}

impl LabelIndex {
    pub(super) fn insert(&mut self, labels: &Labels, id: u32) {
        for pair in labels.pairs() {
            self.by_label.entry(pair.clone()).or_default().insert(id);
        }
        self.all.insert(id);
    }

    pub(super) fn remove(&mut self, labels: &Labels, id: u32) {
        for pair in labels.pairs() {
            if let Some(ids) = self.by_label.get_mut(pair) {
                ids.remove(id);
                if ids.is_empty() {
                    self.by_label.remove(pair);
                }
            }
        }
        self.all.remove(id);
    }

    /// All that the selector may match: a set per value that it asks for, or everything.
    pub(super) fn candidates(&self, selector: &Selector) -> Vec<&SortedSet<u32>> {
        match anchor(selector) {
            None => vec![&self.all],
            Some((key, values)) => {
                let pairs = values.iter().map(|value| (key.clone(), value.clone()));
                pairs.filter_map(|pair| self.by_label.get(&pair)).collect()
            }
        }
    }
}

impl<T> Default for PodSelectors<T> {
    fn default() -> Self {
        Self {
            named: HashMap::default(),
            matching: SelectorMap::default(),
            by_selector: HashMap::default(),
        }
    }
}

impl<T: Clone + PartialEq> PodSelectors<T> {
    pub(super) fn insert(&mut self, selector: &PodSelector, value: T) {
        let pods = match &selector.namespaces {
            NamespaceScope::Named(name) => self.named.entry(name.clone()).or_default(),
            NamespaceScope::Matching(namespaces) => {
                if !self.by_selector.contains_key(namespaces) {
                    self.matching.insert(namespaces, namespaces.clone());
                }
                self.by_selector.entry(namespaces.clone()).or_default()
            }
        };
        pods.insert(&selector.pods, value);
    }

    pub(super) fn remove(&mut self, selector: &PodSelector, value: &T) {
        match &selector.namespaces {
            NamespaceScope::Named(name) => {
                if let Some(pods) = self.named.get_mut(name) {
                    pods.remove(&selector.pods, value);
                    if pods.is_empty() {
                        self.named.remove(name);
                    }
                }
            }
            NamespaceScope::Matching(namespaces) => {
                if let Some(pods) = self.by_selector.get_mut(namespaces) {
                    pods.remove(&selector.pods, value);
                    if pods.is_empty() {
                        self.by_selector.remove(namespaces);
                        self.matching.remove(namespaces, namespaces);
                    }
                }
            }
        }
    }

    /// The values of all selectors that match a pod with `labels` in `namespace`.
    pub(super) fn matching(
        &self,
        namespace: &Name,
        namespace_labels: &Labels,
        labels: &Labels,
    ) -> impl Iterator<Item = &T> {
        let by_selector = self.matching.matching(namespace_labels);
        let pods = by_selector.filter_map(|namespaces| self.by_selector.get(namespaces));
        let pods = pods.chain(self.named.get(namespace));
        pods.flat_map(move |pods| pods.matching(labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Requirement;

    #[test]
    fn removal_leaves_nothing() {
        let selectors = [
            Selector::everything(),
            Selector::new([Requirement::is_in("app", ["a", "b"])]),
            Selector::new([Requirement::exists("app")]),
        ];
        let mut index = PodSelectors::default();
        for namespaces in [NamespaceScope::Named("x".into())]
            .into_iter()
            .chain(selectors.clone().map(NamespaceScope::Matching))
        {
            for pods in selectors.clone() {
                index.insert(&PodSelector { namespaces: namespaces.clone(), pods }, 1);
            }
        }
        let app = Labels::from_iter([("app", "a")]);
        assert_eq!(index.matching(&"x".into(), &app, &app).count(), 12);
        for namespaces in [NamespaceScope::Named("x".into())]
            .into_iter()
            .chain(selectors.clone().map(NamespaceScope::Matching))
        {
            for pods in selectors.clone() {
                index.remove(&PodSelector { namespaces: namespaces.clone(), pods }, &1);
            }
        }
        assert!(
            index.named.is_empty() && index.by_selector.is_empty() && index.matching.is_empty()
        );
    }

    #[test]
    fn a_label_index_forgets() {
        let mut index = LabelIndex::default();
        let labels = Labels::from_iter([("app", "a"), ("tier", "b")]);
        index.insert(&labels, 7);
        index.remove(&labels, 7);
        assert!(index.by_label.is_empty() && index.all.is_empty());
    }
}

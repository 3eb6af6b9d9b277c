use ahash::{HashMap, HashMapExt};

use crate::model::{Labels, Name, NamespaceScope, Operator, PodSelector, Selector};

/// Finds which of many pod selectors match a workload, without trying those that cannot.
///
/// Nearly every selector asks for some label to have one of a few values. It is filed under these label pairs, and a
/// workload looks only under the pairs that it has; what asks for no value is tried on everyone.
#[derive(Debug, Default)]
pub(super) struct SelectorIndex<'a> {
    named: HashMap<&'a Name, Bucket<'a>>,
    matching: HashMap<&'a Selector, Bucket<'a>>,
}

/// Pod selectors that look into the same namespaces.
#[derive(Debug, Default)]
pub(super) struct Bucket<'a> {
    by_label: HashMap<(&'a Name, &'a Name), Vec<(&'a Selector, u32)>>,
    others: Vec<(&'a Selector, u32)>,
}

impl<'a> SelectorIndex<'a> {
    pub(super) fn new(selectors: impl IntoIterator<Item = (&'a PodSelector, u32)>) -> Self {
        let mut index = Self::default();
        for (selector, id) in selectors {
            let bucket = match &selector.namespaces {
                NamespaceScope::Named(name) => index.named.entry(name).or_default(),
                NamespaceScope::Matching(labels) => index.matching.entry(labels).or_default(),
            };
            bucket.insert(&selector.pods, id);
        }
        index
    }

    /// The selectors that look into this namespace.
    pub(super) fn buckets(&self, namespace: &Name, labels: &Labels) -> Vec<&Bucket<'a>> {
        let matching = self.matching.iter().filter(|(selector, _)| selector.matches(labels));
        matching.map(|(_, bucket)| bucket).chain(self.named.get(namespace)).collect()
    }
}

impl<'a> Bucket<'a> {
    fn insert(&mut self, selector: &'a Selector, id: u32) {
        let wanted = selector.requirements().iter().filter_map(|it| match &it.operator {
            Operator::In(values) => Some((&it.key, values)),
            _ => None,
        });
        match wanted.min_by_key(|(_, values)| values.len()) {
            // A key has one value, so that the selector is found at most once.
            Some((key, values)) => values.iter().for_each(|value| {
                self.by_label.entry((key, value)).or_default().push((selector, id));
            }),
            None => self.others.push((selector, id)),
        }
    }

    /// Adds the ids of the selectors that match these labels.
    pub(super) fn matches(&self, labels: &Labels, found: &mut Vec<u32>) {
        let by_label = labels.iter().filter_map(|pair| self.by_label.get(&pair)).flatten();
        let matching =
            by_label.chain(&self.others).filter(|(selector, _)| selector.matches(labels));
        found.extend(matching.map(|(_, id)| *id));
    }
}

/// The buckets per namespace, found once each.
#[derive(Debug)]
pub(super) struct ByNamespace<'i, 'a> {
    index: &'i SelectorIndex<'a>,
    buckets: HashMap<Name, Vec<&'i Bucket<'a>>>,
}

impl<'i, 'a> ByNamespace<'i, 'a> {
    pub(super) fn new(index: &'i SelectorIndex<'a>) -> Self {
        Self { index, buckets: HashMap::new() }
    }

    /// The ids of the selectors that match, in ascending order.
    pub(super) fn matches(
        &mut self,
        namespace: &Name,
        namespace_labels: impl FnOnce() -> Labels,
        labels: &Labels,
    ) -> Vec<u32> {
        let mut found = Vec::new();
        let buckets = match self.buckets.get(namespace) {
            Some(buckets) => buckets,
            None => {
                let buckets = self.index.buckets(namespace, &namespace_labels());
                self.buckets.entry(namespace.clone()).or_insert(buckets)
            }
        };
        buckets.iter().for_each(|bucket| bucket.matches(labels, &mut found));
        found.sort_unstable();
        found
    }
}

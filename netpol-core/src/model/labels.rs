use std::fmt;
use std::sync::Arc;

/// A shared, immutable piece of text: an object's name, a label key or a label value.
pub type Name = Arc<str>;

/// Makes a [`Name`] from text.
pub fn name(text: &str) -> Name {
    Name::from(text)
}

/// The labels of one object, sorted by key; cheap to clone.
///
/// ```
/// use netpol_core::model::Labels;
/// let labels = Labels::from_iter([("app", "web"), ("tier", "")]);
/// assert_eq!(labels.get("app"), Some("web"));
/// assert_eq!(labels.get("tier"), Some(""));
/// assert_eq!(labels.get("zone"), None);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Arc<[(Name, Name)]>);

impl Labels {
    /// The value of `key`, if the key is present. Values may be empty. `O(log n)`.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| &**value)
    }

    /// All pairs in ascending order of the key.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Name)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// All pairs in ascending order of the key.
    pub(crate) fn pairs(&self) -> &[(Name, Name)] {
        &self.0
    }

    /// Whether there is no label at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same labels with `key` set to `value`.
    pub fn with(&self, key: &str, value: &str) -> Self {
        let others = self.0.iter().filter(|(k, _)| &**k != key).cloned();
        others.chain([(name(key), name(value))]).collect()
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self(Arc::new([]))
    }
}

impl<K: Into<Name>, V: Into<Name>> FromIterator<(K, V)> for Labels {
    /// Of a key that occurs twice the last value counts.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut pairs: Vec<(Name, Name)> =
            pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        pairs.reverse();
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        pairs.dedup_by(|(later, _), (kept, _)| later == kept);
        Self(pairs.into())
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

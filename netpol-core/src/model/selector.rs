use std::fmt;
use std::sync::Arc;

use super::{Labels, Name};

/// A label selector: the AND of its requirements; without any it selects everything (SEL-1).
///
/// The requirements are kept sorted and without repetition, so that two selectors written in a different
/// order are equal and hash alike.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector(Arc<[Requirement]>);

/// One condition on one label key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Requirement {
    /// The label key, compared byte by byte, prefix included (SEL-8).
    pub key: Name,
    /// The condition.
    pub operator: Operator,
}

/// What a [`Requirement`] asks of its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operator {
    /// The key is absent (SEL-6).
    DoesNotExist,
    /// The key is present, whatever its value (SEL-5).
    Exists,
    /// The key is present and its value listed (SEL-2, SEL-3).
    In(Arc<[Name]>),
    /// The key is absent, or its value not listed (SEL-4).
    NotIn(Arc<[Name]>),
}

impl Selector {
    /// The selector without requirements, which selects everything.
    pub fn everything() -> Self {
        Self(Arc::new([]))
    }

    /// The AND of `requirements`.
    pub fn new(requirements: impl IntoIterator<Item = Requirement>) -> Self {
        let mut requirements: Vec<_> = requirements.into_iter().collect();
        requirements.sort();
        requirements.dedup();
        Self(requirements.into())
    }

    /// Whether an object with these labels is selected. `O(r log l)`.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels))
    }

    /// Whether this is the selector without requirements.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// The requirements in canonical order.
    pub fn requirements(&self) -> &[Requirement] {
        &self.0
    }
}

impl Requirement {
    /// `key` must be present and have one of `values`.
    pub fn is_in<V: Into<Name>>(key: impl Into<Name>, values: impl IntoIterator<Item = V>) -> Self {
        Self { key: key.into(), operator: Operator::In(canonical(values)) }
    }

    /// `key` must be absent or have none of `values`.
    pub fn is_not_in<V: Into<Name>>(
        key: impl Into<Name>,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        Self { key: key.into(), operator: Operator::NotIn(canonical(values)) }
    }

    /// `key` must be present.
    pub fn exists(key: impl Into<Name>) -> Self {
        Self { key: key.into(), operator: Operator::Exists }
    }

    /// `key` must be absent.
    pub fn does_not_exist(key: impl Into<Name>) -> Self {
        Self { key: key.into(), operator: Operator::DoesNotExist }
    }

    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| listed(values, value)),
            Operator::NotIn(values) => value.is_none_or(|value| !listed(values, value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

fn canonical<V: Into<Name>>(values: impl IntoIterator<Item = V>) -> Arc<[Name]> {
    let mut values: Vec<Name> = values.into_iter().map(Into::into).collect();
    values.sort();
    values.dedup();
    values.into()
}

fn listed(values: &[Name], value: &str) -> bool {
    values.binary_search_by(|listed| (**listed).cmp(value)).is_ok()
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selector({self})")
    }
}

/// The form `kubectl -l` takes: `app=web,tier in (a,b),!old`; nothing for the selector of everything.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, requirement) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.operator {
            Operator::In(values) => match &**values {
                [value] => write!(f, "{key}={value}"),
                values => write!(f, "{key} in ({})", values.join(",")),
            },
            Operator::NotIn(values) => match &**values {
                [value] => write!(f, "{key}!={value}"),
                values => write!(f, "{key} notin ({})", values.join(",")),
            },
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

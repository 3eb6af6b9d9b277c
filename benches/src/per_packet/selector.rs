//! Selectors as kube-network-policies turns them from what an object says into what can be asked: each time.

use netpol_core::model::{Labels, Name, Operator, Selector};

/// `LabelSelector` of `k8s.io/apimachinery/pkg/apis/meta/v1`.
#[derive(Debug)]
pub(super) struct LabelSelector {
    match_labels: Vec<(Name, Name)>,
    match_expressions: Vec<Expression>,
}

#[derive(Debug)]
struct Expression {
    key: Name,
    operator: Relation,
    values: Vec<Name>,
}

#[derive(Clone, Copy, Debug)]
enum Relation {
    Equals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// `Requirement` of `k8s.io/apimachinery/pkg/labels`.
#[derive(Debug)]
pub(super) struct Requirement<'a> {
    key: &'a str,
    operator: Relation,
    values: Vec<&'a str>,
}

impl LabelSelector {
    /// As people would write it: one value as a label, everything else as an expression.
    pub(super) fn new(selector: &Selector) -> Self {
        let mut this = Self { match_labels: Vec::new(), match_expressions: Vec::new() };
        for requirement in selector.requirements() {
            let key = requirement.key.clone();
            let (operator, values) = match &requirement.operator {
                Operator::In(values) if values.len() == 1 => {
                    this.match_labels.extend(values.iter().map(|it| (key.clone(), it.clone())));
                    continue;
                }
                Operator::In(values) => (Relation::In, values.to_vec()),
                Operator::NotIn(values) => (Relation::NotIn, values.to_vec()),
                Operator::Exists => (Relation::Exists, Vec::new()),
                Operator::DoesNotExist => (Relation::DoesNotExist, Vec::new()),
            };
            this.match_expressions.push(Expression { key, operator, values });
        }
        this
    }

    pub(super) fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// `LabelSelectorAsSelector`: a list of requirements with a list of values each, all checked, which `Add` copies
    /// into another list and sorts by key. `None` if a requirement is not valid.
    pub(super) fn as_selector(&self) -> Option<Vec<Requirement<'_>>> {
        if self.is_empty() {
            return Some(Vec::new());
        }
        let count = self.match_labels.len() + self.match_expressions.len();
        let mut requirements = Vec::with_capacity(count);
        for (key, value) in &self.match_labels {
            requirements.push(Requirement::new(key, Relation::Equals, vec![value])?);
        }
        for Expression { key, operator, values } in &self.match_expressions {
            let values = values.iter().map(|value| &**value).collect();
            requirements.push(Requirement::new(key, *operator, values)?);
        }
        let mut selector = Vec::with_capacity(count);
        selector.extend(requirements);
        selector.sort_unstable_by_key(|requirement: &Requirement<'_>| requirement.key);
        Some(selector)
    }
}

impl<'a> Requirement<'a> {
    /// `NewRequirement`, which checks key and values.
    fn new(key: &'a str, operator: Relation, values: Vec<&'a str>) -> Option<Self> {
        let (prefix, name) = key.split_once('/').unwrap_or(("", key));
        let is_subdomain = |prefix: &str| prefix.split('.').all(is_text) && prefix.len() <= 253;
        let of_key = (prefix.is_empty() || is_subdomain(prefix)) && is_text(name);
        let of_values = values.iter().all(|value| value.is_empty() || is_text(value));
        (of_key && of_values).then_some(Self { key, operator, values })
    }

    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(self.key);
        let is_listed = |value: &str| self.values.contains(&value);
        match self.operator {
            Relation::Equals | Relation::In => value.is_some_and(is_listed),
            Relation::NotIn => !value.is_some_and(is_listed),
            Relation::Exists => value.is_some(),
            Relation::DoesNotExist => value.is_none(),
        }
    }
}

/// Whether all requirements match.
pub(super) fn matches(selector: &[Requirement<'_>], labels: &Labels) -> bool {
    selector.iter().all(|requirement| requirement.matches(labels))
}

/// Letters and digits, between them `-`, `_` and `.` as well; where the original has a regular expression.
fn is_text(text: &str) -> bool {
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let ends = [text.as_bytes().first(), text.as_bytes().last()];
    text.len() <= 63
        && ends.iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
        && text.as_bytes().iter().all(inside)
}

use super::error::{Concern, Reason};
use super::field::Field;
use super::names;
use crate::model::{Name, Requirement, Selector};

/// How much the API server itself checks of a selector.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Checked {
    /// All of it: NetworkPolicy (NP-V-4…10).
    Fully,
    /// Little more than its types: the cluster-wide kinds (C-V-22). What cannot be understood is read fail-closed
    /// (C-SEL-1).
    Barely,
}

/// Reads a label selector (SEL-1…7). If part of it cannot be understood, the error is what is left without that
/// part: a selector of everything that the whole could possibly select.
pub(super) fn read(field: &Field<'_, '_>, checked: Checked) -> Result<Selector, Selector> {
    if !field.is_object(&["matchLabels", "matchExpressions"]) {
        return Err(Selector::everything());
    }
    let mut requirements = Vec::new();
    let mut understood = true;
    if let Some(labels) = field.get("matchLabels") {
        understood &= match_labels(&labels, checked, &mut requirements);
    }
    if let Some(expressions) = field.get("matchExpressions") {
        match expressions.items() {
            Some(items) => {
                for item in items {
                    match requirement(&item, checked) {
                        Some(requirement) => requirements.push(requirement),
                        None => understood = false,
                    }
                }
            }
            None => understood = false,
        }
    }
    let selector = Selector::new(requirements);
    if understood { Ok(selector) } else { Err(selector) }
}

fn match_labels(labels: &Field<'_, '_>, checked: Checked, into: &mut Vec<Requirement>) -> bool {
    let Some(entries) = labels.entries() else { return false };
    let mut understood = true;
    for (key, _) in entries {
        match labels.child(key).text() {
            Some(value) if good_key(labels, key, checked) & good_value(labels, value, checked) => {
                into.push(Requirement::is_in(&**key, [value]));
            }
            _ => understood = false,
        }
    }
    understood
}

/// Reads one entry of `matchExpressions`; nothing if it is not understood.
fn requirement(field: &Field<'_, '_>, checked: Checked) -> Option<Requirement> {
    if !field.is_object(&["key", "operator", "values"]) {
        return None;
    }
    let operator = required(field, "operator", checked)?;
    let values = match field.get("values") {
        Some(list) => list.items()?.map(|item| item.text()).collect::<Option<Vec<_>>>()?,
        None => Vec::new(),
    };
    let listed = field.child("values");
    let make: fn(Name, Vec<&str>) -> Requirement = match operator {
        "In" | "NotIn" if values.is_empty() => {
            let message = format!("values are needed with the operator {operator}");
            broken(&listed, checked, Reason::Required, message);
            return None;
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let message = format!("values cannot be given with the operator {operator}");
            broken(&listed, checked, Reason::Forbidden, message);
            return None;
        }
        "In" => |key, values| Requirement::is_in(key, values),
        "NotIn" => |key, values| Requirement::is_not_in(key, values),
        "Exists" => |key, _| Requirement::exists(key),
        "DoesNotExist" => |key, _| Requirement::does_not_exist(key),
        _ => {
            let message =
                format!("In, NotIn, Exists or DoesNotExist is needed, not \"{operator}\"");
            broken(&field.child("operator"), checked, Reason::Invalid, message);
            return None;
        }
    };
    let key = required(field, "key", checked)?;
    let mut understood = good_key(&field.child("key"), key, checked);
    if let Some(items) = listed.items() {
        for item in items {
            understood &= item.text().is_some_and(|value| good_value(&item, value, checked));
        }
    }
    understood.then(|| make(key.into(), values))
}

/// A text that the schema of the cluster-wide kinds asks for; NetworkPolicy has the empty text instead.
fn required<'v>(field: &Field<'v, '_>, key: &str, checked: Checked) -> Option<&'v str> {
    match (field.get(key), checked) {
        (Some(found), _) => found.value.as_str().or_else(|| found.wrong_type("a string")),
        (None, Checked::Fully) => Some(""),
        (None, Checked::Barely) => {
            field.child(key).fault(Reason::Required, format!("the {key} is needed"));
            None
        }
    }
}

fn good_key(field: &Field<'_, '_>, key: &str, checked: Checked) -> bool {
    let Err(wanted) = names::label_key(key) else { return true };
    broken(field, checked, Reason::Invalid, format!("\"{key}\" is not a label key: {wanted}"));
    false
}

/// A stored NetworkPolicy may keep a value that is none (NP-V-9): no label can have it, which is clear enough.
fn good_value(field: &Field<'_, '_>, value: &str, checked: Checked) -> bool {
    let Err(wanted) = names::label_value(value) else { return true };
    let message = format!("\"{value}\" is not a label value: {wanted}");
    match checked {
        Checked::Fully => field.blemish(Reason::Invalid, message),
        Checked::Barely => broken(field, checked, Reason::Invalid, message),
    }
    checked == Checked::Fully
}

fn broken(field: &Field<'_, '_>, checked: Checked, reason: Reason, message: String) {
    match checked {
        Checked::Fully => field.fault(reason, message),
        Checked::Barely => field.note(Concern::FailClosed, message),
    }
}

//! One measured number, with what it is to be compared with.

use std::fmt;

use serde::Serialize;

/// A measured number.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What was measured, in words separated by points.
    pub name: String,
    /// The number.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// What it is compared with, measured in the same run, in the same unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<f64>,
    /// How they compare; what that should be is part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<Ratio>,
}

/// How a number compares with its baseline.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratio {
    /// The ratio.
    pub value: f64,
    /// What it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
}

/// What a number should be.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Figure {
    /// A number by itself.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, target: None, baseline: None, ratio: None }
    }

    /// What the number should be.
    #[must_use]
    pub fn target(self, target: Target) -> Self {
        Self { target: Some(target), ..self }
    }

    /// How many times the baseline it is: what something costs compared to something else.
    #[must_use]
    pub fn cost_of(self, baseline: f64, target: Option<Target>) -> Self {
        let ratio = Some(Ratio { value: self.value / baseline, target });
        Self { baseline: Some(baseline), ratio, ..self }
    }

    /// How many times the baseline is it: how much faster something is than something else.
    #[must_use]
    pub fn faster_than(self, baseline: f64, target: Option<Target>) -> Self {
        let ratio = Some(Ratio { value: baseline / self.value, target });
        Self { baseline: Some(baseline), ratio, ..self }
    }

    /// Whether it is what it should be; `None` if nothing is asked of it.
    pub fn is_met(&self) -> Option<bool> {
        let own = self.target.map(|target| target.is_met(self.value));
        let ratio = self.ratio.and_then(|it| Some(it.target?.is_met(it.value)));
        match (own, ratio) {
            (None, None) => None,
            (own, ratio) => Some(own.unwrap_or(true) && ratio.unwrap_or(true)),
        }
    }

    /// The head of the table that [`row`](Self::row)s belong to, in Markdown.
    pub fn head() -> String {
        let cells = ["figure", "value", "unit", "target", "baseline", "ratio", "target", "met"];
        let [a, b, c, d, e, f, g, h] = cells;
        let title =
            format!("| {a:<44} | {b:>9} | {c:<10} | {d:>8} | {e:>9} | {f:>8} | {g:>8} | {h:<3} |");
        let rule = "|----------------------------------------------|----------:|------------|---------:|----------:|---------:|---------:|-----|";
        format!("{title}\n{rule}")
    }

    /// The figure as a row of a table in Markdown.
    pub fn row(&self) -> String {
        let optional = |value: Option<String>| value.unwrap_or_default();
        let target = optional(self.target.map(|it| it.to_string()));
        let baseline = optional(self.baseline.map(short));
        let ratio = optional(self.ratio.map(|it| format!("{}x", short(it.value))));
        let wanted = optional(self.ratio.and_then(|it| it.target).map(|it| it.to_string()));
        let met = match self.is_met() {
            None => "",
            Some(true) => "yes",
            Some(false) => "NO",
        };
        let (name, value, unit) = (&self.name, short(self.value), self.unit);
        format!(
            "| {name:<44} | {value:>9} | {unit:<10} | {target:>8} | {baseline:>9} | {ratio:>8} | {wanted:>8} | {met:<3} |"
        )
    }
}

impl Target {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(bound) => write!(f, "<= {}", short(*bound)),
            Self::AtLeast(bound) => write!(f, ">= {}", short(*bound)),
        }
    }
}

/// A number with three digits, or all that it has before the point.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.2e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_whether_a_target_is_met() {
        let cost = Figure::new("cost", 60.0, "ns").target(Target::AtMost(60.0));
        assert_eq!(cost.is_met(), Some(true));
        let flat = cost.cost_of(40.0, Some(Target::AtMost(1.3)));
        assert_eq!(flat.is_met(), Some(false));
        assert!(flat.row().ends_with("|    1.50x |  <= 1.30 | NO  |"), "{}", flat.row());
        let fast =
            Figure::new("fast", 2.0, "ns").faster_than(5000.0, Some(Target::AtLeast(1000.0)));
        assert_eq!(fast.is_met(), Some(true));
        assert!(fast.row().contains("2500x"), "{}", fast.row());
        assert_eq!(Figure::new("plain", 1.0, "ms").is_met(), None);
        assert_eq!(Figure::head().lines().last().map(str::len), Some(flat.row().len()));
    }
}

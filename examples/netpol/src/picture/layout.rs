//! Where the parts of a graph go: columns from those that connect to those that are connected to.

use std::collections::{BTreeMap, BTreeSet};

/// A rectangle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// What is to be placed: ends in groups, and who connects to whom among ends and groups.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The ends, each with its group and its label. An end in no group stands for itself.
    pub(super) ends: BTreeMap<String, (Option<String>, String)>,
    /// From and to, by the names of ends or of groups: what decides about the order.
    pub(super) arrows: BTreeSet<(String, String)>,
}

/// Where everything is.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) ends: BTreeMap<String, Place>,
    pub(super) groups: BTreeMap<String, Place>,
    pub(super) width: usize,
    pub(super) height: usize,
}

const HEIGHT: usize = 34;
/// Between ends of a group.
const GAP: usize = 18;
/// Between the columns of a group.
const AISLE: usize = 84;
/// Around the ends of a group.
const PADDING: usize = 16;
/// For the name of a group.
const TITLE: usize = 22;
/// Between groups.
const STREET: usize = 130;
const MARGIN: usize = 24;

impl Plan {
    /// The group of an end, or itself for one in no group, and for a group.
    fn group<'a>(&'a self, name: &'a str) -> &'a str {
        self.ends.get(name).and_then(|(group, _)| group.as_deref()).unwrap_or(name)
    }

    pub(super) fn layout(&self) -> Layout {
        let mut members: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for end in self.ends.keys() {
            members.entry(self.group(end)).or_default().push(end);
        }
        let arrows = self.arrows.iter().map(|(from, to)| (from.as_str(), to.as_str()));
        let between: BTreeSet<(&str, &str)> = arrows
            .clone()
            .map(|(from, to)| (self.group(from), self.group(to)))
            .filter(|(from, to)| from != to)
            .collect();
        let ranks = ranks(&members.keys().copied().collect::<Vec<_>>(), &between);
        let mut columns: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
        for (group, rank) in &ranks {
            columns.entry(*rank).or_default().push(group);
        }
        let mut layout = Layout::default();
        let mut x = MARGIN;
        let mut heights = Vec::new();
        for groups in columns.values() {
            let (mut y, mut widest) = (MARGIN, 0);
            for group in groups {
                let inside = members.get(group).map_or(&[][..], Vec::as_slice);
                let within: BTreeSet<(&str, &str)> = arrows
                    .clone()
                    .filter(|(from, to)| inside.contains(from) && inside.contains(to) && from != to)
                    .collect();
                let place = self.place_group(&mut layout, group, inside, &within, (x, y));
                widest = widest.max(place.width);
                y += place.height + GAP * 2;
            }
            heights.push((x..x + widest, y - GAP * 2));
            x += widest + STREET;
        }
        layout.width = (x + MARGIN).saturating_sub(STREET);
        let lowest = heights.iter().map(|(_, height)| *height).max().unwrap_or_default();
        layout.height = lowest + MARGIN;
        // Columns are centred.
        let places = layout.ends.values_mut().chain(layout.groups.values_mut());
        for place in places {
            let column = heights.iter().find(|(column, _)| column.contains(&place.x));
            place.y += column.map_or(0, |(_, height)| (lowest - height) / 2);
        }
        layout
    }

    /// Places the ends of one group, and says what room they take.
    fn place_group(
        &self,
        layout: &mut Layout,
        group: &str,
        inside: &[&str],
        within: &BTreeSet<(&str, &str)>,
        (x, y): (usize, usize),
    ) -> Place {
        let alone = !self.ends.get(group).is_none_or(|(group, _)| group.is_some());
        let (padding, title) = if alone { (0, 0) } else { (PADDING, TITLE) };
        let mut columns: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
        for (end, rank) in ranks(inside, within) {
            columns.entry(rank).or_default().push(end);
        }
        let (mut at, mut lowest) = (x + padding, 0);
        for (step, ends) in columns.values().enumerate() {
            let labels = ends.iter().filter_map(|end| self.ends.get(*end));
            let width = labels.map(|(_, label)| text_width(label)).max().unwrap_or_default();
            // Each column begins lower, so that what passes one end by does not pass through it.
            let mut top = y + padding + title + step * (HEIGHT + GAP);
            for end in ends {
                let place = Place { x: at, y: top, width, height: HEIGHT };
                layout.ends.insert((*end).to_owned(), place);
                top += HEIGHT + GAP;
            }
            lowest = lowest.max(top - GAP);
            at += width + AISLE;
        }
        let width = (at - AISLE + padding - x).max(text_width(group));
        let place = Place { x, y, width, height: lowest + padding - y };
        if !alone {
            layout.groups.insert(group.to_owned(), place);
        }
        place
    }
}

/// About how wide a label is with its margins.
pub(super) fn text_width(label: &str) -> usize {
    label.chars().count() * 15 / 2 + 28
}

/// The column of each: one more than that of all that lead to it. Ways that lead back are not followed.
fn ranks<'a>(all: &[&'a str], arrows: &BTreeSet<(&'a str, &'a str)>) -> BTreeMap<&'a str, usize> {
    // Those that connect more than they are connected to come first.
    let weight = |of: &str| {
        let out = arrows.iter().filter(|(from, _)| *from == of).count();
        let into = arrows.iter().filter(|(_, to)| *to == of).count();
        (all.len() + into).saturating_sub(out)
    };
    let mut order: Vec<&str> = all.to_vec();
    order.sort_by_key(|it| (weight(it), *it));
    let (mut done, mut forward) = (BTreeSet::new(), Vec::new());
    for start in &order {
        walk(start, arrows, &mut Vec::new(), &mut done, &mut forward);
    }
    let mut ranks: BTreeMap<&str, usize> = all.iter().map(|it| (*it, 0)).collect();
    for _ in all {
        for (from, to) in &forward {
            let next = ranks.get(from).copied().unwrap_or_default() + 1;
            if let Some(rank) = ranks.get_mut(to) {
                *rank = next.max(*rank);
            }
        }
    }
    ranks
}

/// Collects the arrows that do not lead back to where one comes from.
fn walk<'a>(
    at: &'a str,
    arrows: &BTreeSet<(&'a str, &'a str)>,
    path: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
    forward: &mut Vec<(&'a str, &'a str)>,
) {
    if !done.insert(at) {
        return;
    }
    path.push(at);
    for (from, to) in arrows.iter().filter(|(from, _)| *from == at) {
        if !path.contains(to) {
            forward.push((from, to));
            walk(to, arrows, path, done, forward);
        }
    }
    path.pop();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_follow_the_arrows_and_survive_circles() {
        let plan = |arrows: &[(&str, &str)]| Plan {
            ends: ["a", "b", "c"].map(|it| (it.to_owned(), (None, it.to_owned()))).into(),
            arrows: arrows.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
        };
        let columns = |arrows: &[(&str, &str)]| {
            let layout = plan(arrows).layout();
            let x = |end: &str| layout.ends[end].x;
            (x("a") < x("b"), x("b") < x("c"))
        };
        assert_eq!(columns(&[("a", "b"), ("b", "c")]), (true, true));
        assert_eq!(columns(&[("a", "b"), ("b", "c"), ("c", "a")]), (true, true));
        assert_eq!(columns(&[("c", "b"), ("b", "a")]), (false, false));
    }

    #[test]
    fn nothing_lies_on_anything_else() {
        let ends = (0..12)
            .map(|at| (format!("{}/{at}", at % 3), (Some(format!("{}", at % 3)), at.to_string())));
        let arrows = (0..12).map(|at| (format!("{}/{at}", at % 3), "world".to_owned()));
        let mut plan = Plan { ends: ends.collect(), arrows: arrows.collect() };
        plan.ends.insert("world".to_owned(), (None, "world".to_owned()));
        let layout = plan.layout();
        let places: Vec<Place> = layout.ends.values().copied().collect();
        for (at, one) in places.iter().enumerate() {
            for other in places.iter().skip(at + 1) {
                let apart = one.x + one.width <= other.x
                    || other.x + other.width <= one.x
                    || one.y + one.height <= other.y
                    || other.y + other.height <= one.y;
                assert!(apart, "{one:?} {other:?}");
            }
            assert!(one.x + one.width <= layout.width && one.y + one.height <= layout.height);
        }
        assert_eq!(layout.groups.len(), 3);
    }
}

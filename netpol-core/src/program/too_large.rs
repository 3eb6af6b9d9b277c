use std::fmt;

use crate::model::{Direction, Peers, Policy, PolicyKey, Ports};

use super::{EndpointEntry, Profile, Program};

/// A direction of endpoints that is closed since it would take too much to say what their policies allow there: where
/// the ports of rules overlap, their peers multiply.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TooLarge<'p> {
    /// Whose it is; at least one.
    pub endpoints: Vec<&'p EndpointEntry>,
    /// Which direction.
    pub direction: Direction,
    /// The policies that say something there, those with the most ports and peers first.
    pub policies: Vec<PolicyKey>,
}

impl Program {
    /// The directions of endpoints that are closed since their policies say too much: whatever they allow, all new
    /// connections are denied but those with the endpoint's own node. [`explain`](Self::explain) tells so, too.
    ///
    /// One policy alone can do that to the endpoints that it selects, and to no others. What endpoints send to themselves
    /// is not told of. `O(n)` in the endpoints.
    ///
    /// ```
    /// # use netpol_core::{Cluster, Scope, compile};
    /// # let program = compile(&Cluster::default(), Scope::Cluster);
    /// for closed in program.too_large() {
    ///     eprintln!("warning: {closed}");
    /// }
    /// ```
    pub fn too_large(&self) -> impl Iterator<Item = TooLarge<'_>> {
        let closed = self.profiles().flat_map(|(id, profile)| {
            let is_closed =
                |direction: &Direction| profile.side(*direction).is_some_and(|side| side.too_large);
            Direction::ALL.into_iter().filter(is_closed).map(move |it| (id, profile, it))
        });
        closed.filter_map(|(id, profile, direction)| {
            let endpoints: Vec<_> = self.endpoints().filter(|it| it.profile() == id).collect();
            let policies = largest_first(profile, direction);
            (!endpoints.is_empty()).then_some(TooLarge { endpoints, direction, policies })
        })
    }
}

/// The policies of a profile that say something in a direction, those with the most ports and peers first.
pub(super) fn largest_first(profile: &Profile, direction: Direction) -> Vec<PolicyKey> {
    let said = profile.policies().filter_map(|it| Some((size(it, direction)?, &it.key)));
    let mut said: Vec<(usize, &PolicyKey)> = said.collect();
    said.sort_by(|(a, of_a), (b, of_b)| b.cmp(a).then_with(|| of_a.cmp(of_b)));
    said.into_iter().map(|(_, key)| key.clone()).collect()
}

fn size(policy: &Policy, direction: Direction) -> Option<usize> {
    let sizes = policy.rules(direction)?.iter().map(|rule| {
        let ports = match &rule.ports {
            Ports::All => 1,
            Ports::AnyOf(ports) => ports.len(),
        };
        let peers = match &rule.peers {
            Peers::Everyone => 1,
            Peers::AnyOf(peers) => peers.len(),
        };
        ports.saturating_mul(peers)
    });
    Some(sizes.fold(0, usize::saturating_add))
}

/// `ingress of shop/web and 2 more is denied: the ports and peers of NetworkPolicy shop/huge are too many`.
impl fmt::Display for TooLarge<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of ", self.direction)?;
        if let [first, more @ ..] = self.endpoints.as_slice() {
            write!(f, "{}/{}", first.namespace(), first.name())?;
            if !more.is_empty() {
                write!(f, " and {} more", more.len())?;
            }
        }
        f.write_str(" is denied: the ports and peers of ")?;
        display_largest(&self.policies, f)?;
        f.write_str(" are too many")
    }
}

pub(super) fn display_largest(policies: &[PolicyKey], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match policies {
        [first, other] => write!(f, "{first} and {other}"),
        [first, others @ ..] if !others.is_empty() => {
            write!(f, "{first} and {} other policies", others.len())
        }
        few => few.iter().try_for_each(|only| write!(f, "{only}")),
    }
}

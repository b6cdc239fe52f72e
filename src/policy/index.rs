//! A scope index in front of Cedar, which itself evaluates every policy each time.
//!
//! Policies are kept in buckets by what their scope demands of action, resource and principal. A question
//! evaluates only the buckets whose demands it can meet. That is sound: a policy whose scope is false can
//! neither decide nor err, a bucket holds no policy whose demand the question meets only elsewhere, and
//! Cedar's decision over a union is `a forbid in any, else a permit in any`.

use std::collections::{BTreeSet, HashMap};

use cedar_policy::{
    ActionConstraint, Authorizer, Decision, EntityUid, Policy, PolicyId, PolicySet, PolicySetError,
    PrincipalConstraint, Request, ResourceConstraint,
};

use super::facts::{Facts, Stated};
use super::schema::Kind;
use crate::domain::ActionName;

/// What Cedar said.
#[derive(Default, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) permitted: bool,
    /// The policies that decided.
    pub(super) policies: BTreeSet<PolicyId>,
    pub(super) errors: BTreeSet<String>,
}

/// Policies with the same demands of action and resource.
#[derive(Default)]
struct Bucket {
    anybody: PolicySet,
    by_principal: HashMap<EntityUid, PolicySet>,
}

/// All policies of a bundle, by their scopes.
pub(super) struct Index {
    authorizer: Authorizer,
    buckets: Vec<Bucket>,
    /// The buckets that matter to a question about an action.
    routes: HashMap<(Kind, ActionName), Vec<usize>>,
}

type Demand = (Option<EntityUid>, Option<EntityUid>);

impl Index {
    /// Sorts `policies` for the questions that `facts` can state.
    pub(super) fn new<'a>(
        policies: impl IntoIterator<Item = &'a Policy>,
        facts: &Facts,
    ) -> Result<Self, Box<PolicySetError>> {
        let mut by_demand: HashMap<Demand, Bucket> = HashMap::new();
        for policy in policies {
            let resource = resource_demand(policy);
            for action in action_demands(policy) {
                let bucket = by_demand.entry((action, resource.clone())).or_default();
                let set = match principal_demand(policy) {
                    None => &mut bucket.anybody,
                    Some(principal) => bucket.by_principal.entry(principal).or_default(),
                };
                set.add(policy.clone()).map_err(Box::new)?;
            }
        }
        let (demands, buckets): (Vec<_>, Vec<_>) = by_demand.into_iter().unzip();
        let places: HashMap<Demand, usize> = demands.into_iter().zip(0..).collect();
        let mut routes = HashMap::new();
        for (kind, name, member, resource, target) in facts.members() {
            let actions = [None, Some(member.clone()), Some(facts.group(kind))];
            let resources = [None, Some(resource.clone()), Some(target.clone())];
            let route = actions
                .iter()
                .flat_map(|action| resources.iter().map(move |r| (action.clone(), r.clone())))
                .filter_map(|demand| places.get(&demand).copied())
                .collect();
            routes.insert((kind, name.clone()), route);
        }
        Ok(Self {
            authorizer: Authorizer::new(),
            buckets,
            routes,
        })
    }

    /// What the policies say, together.
    pub(super) fn answer(&self, kind: Kind, stated: &Stated<'_>, request: &Request) -> Answer {
        let key = (kind, stated.action.clone());
        let route = self.routes.get(&key).map(Vec::as_slice).unwrap_or_default();
        let buckets = route.iter().filter_map(|place| self.buckets.get(*place));
        let sets = buckets.flat_map(|bucket| {
            let named = stated.principals.iter();
            let named = named.filter_map(|principal| bucket.by_principal.get(principal));
            named.chain((!bucket.anybody.is_empty()).then_some(&bucket.anybody))
        });
        let (mut permits, mut forbids) = (BTreeSet::new(), BTreeSet::new());
        let mut errors = BTreeSet::new();
        for set in sets {
            let response = self
                .authorizer
                .is_authorized(request, set, &stated.entities);
            let decided = match response.decision() {
                Decision::Allow => &mut permits,
                Decision::Deny => &mut forbids,
            };
            decided.extend(response.diagnostics().reason().cloned());
            errors.extend(response.diagnostics().errors().map(ToString::to_string));
        }
        Answer {
            permitted: !permits.is_empty() && forbids.is_empty() && errors.is_empty(),
            policies: if forbids.is_empty() { permits } else { forbids },
            errors,
        }
    }
}

/// The actions a policy's scope names; `None` stands for any.
fn action_demands(policy: &Policy) -> BTreeSet<Option<EntityUid>> {
    match policy.action_constraint() {
        ActionConstraint::Any => BTreeSet::from([None]),
        ActionConstraint::Eq(action) => BTreeSet::from([Some(action)]),
        ActionConstraint::In(actions) => actions.into_iter().map(Some).collect(),
    }
}

fn resource_demand(policy: &Policy) -> Option<EntityUid> {
    match policy.resource_constraint() {
        ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
        ResourceConstraint::Eq(resource)
        | ResourceConstraint::In(resource)
        | ResourceConstraint::IsIn(_, resource) => Some(resource),
    }
}

fn principal_demand(policy: &Policy) -> Option<EntityUid> {
    match policy.principal_constraint() {
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
        PrincipalConstraint::Eq(principal)
        | PrincipalConstraint::In(principal)
        | PrincipalConstraint::IsIn(_, principal) => Some(principal),
    }
}

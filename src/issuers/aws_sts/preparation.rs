//! What an AWS administrator sets up once.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use super::AwsStsIssuer;
use super::arn::IamArn;
use super::documents::{self, GuardKind, INLINE_GUARD};
use super::policy::Policy;
use crate::issuers::GuardContent;

/// The documents that prepare one target.
#[derive(Debug, Serialize)]
pub struct Preparation {
    lease_role: LeaseRole,
    guard: GuardPolicy,
    broker: Identity,
    #[serde(skip_serializing_if = "Option::is_none")]
    guard_writer: Option<Writer>,
}

#[derive(Debug, Serialize)]
struct LeaseRole {
    arn: String,
    trust_policy: Policy,
    #[serde(skip_serializing_if = "Option::is_none")]
    permissions_boundary: Option<String>,
    must_also_allow: Policy,
}

#[derive(Debug, Serialize)]
struct GuardPolicy {
    arn: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    inline_policy_name: Option<&'static str>,
    first_version: Policy,
}

#[derive(Debug, Serialize)]
struct Identity {
    arn: String,
    policy: Policy,
}

#[derive(Debug, Serialize)]
struct Writer {
    arn: String,
    trust_policy: Policy,
    policy: Policy,
}

impl AwsStsIssuer {
    /// The documents that prepare AWS for this target, for a broker that is `broker` there.
    ///
    /// # Errors
    /// When `broker` is not the ARN of a role or user.
    pub fn preparation(&self, broker: &str) -> Result<Preparation, String> {
        IamArn::parse(broker, "role")
            .or_else(|_| IamArn::parse(broker, "user"))
            .map_err(|why| format!("--broker: {why}"))?;
        let guard = &self.guard;
        let publish = documents::may_publish(guard.kind, &guard.arn);
        let roles = BTreeSet::from([self.role.clone()]);
        let writers = guard.writer.iter().map(|(role, _)| role.clone()).collect();
        let own = if guard.writer.is_some() {
            Vec::new()
        } else {
            vec![publish.clone()]
        };
        let is_boundary = guard.kind == GuardKind::Boundary;
        Ok(Preparation {
            lease_role: LeaseRole {
                arn: self.role.to_string(),
                trust_policy: documents::trust_policy(broker, &self.external_id),
                permissions_boundary: is_boundary.then(|| guard.arn.to_string()),
                must_also_allow: documents::canary_permission(),
            },
            guard: GuardPolicy {
                arn: guard.arn.to_string(),
                inline_policy_name: (!is_boundary).then_some(INLINE_GUARD),
                first_version: documents::guard(guard.kind, &GuardContent::default(), None),
            },
            broker: Identity {
                arn: broker.to_owned(),
                policy: documents::broker_policy(&roles, &writers, own),
            },
            guard_writer: guard.writer.as_ref().map(|(role, external_id)| Writer {
                arn: role.to_string(),
                trust_policy: documents::writer_trust_policy(broker, external_id),
                policy: Policy::new(vec![publish]),
            }),
        })
    }
}

impl Preparation {
    /// The documents as JSON.
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issuers::aws_sts::documents::{
        broker_policy, canary_permission, may_publish, trust_policy,
    };

    #[test]
    fn the_page_shows_the_documents_as_they_are_printed() {
        let page = include_str!("../../../docs/targets/aws.md");
        let broker = "arn:aws:iam::111111111111:role/countersign-broker";
        let role = "arn:aws:iam::111111111111:role/countersign/orders";
        let guard = "arn:aws:iam::111111111111:policy/countersign/guard-orders";
        let role = IamArn::parse(role, "role").unwrap();
        let guard = IamArn::parse(guard, "policy").unwrap();
        let publish = may_publish(GuardKind::Boundary, &guard);
        for document in [
            documents::guard(GuardKind::Boundary, &GuardContent::default(), None),
            trust_policy(broker, "0123456789abcdef0123456789abcdef"),
            canary_permission(),
            broker_policy(&BTreeSet::from([role]), &BTreeSet::new(), vec![publish]),
        ] {
            let pretty = document.to_pretty();
            assert!(page.contains(&pretty), "{pretty}");
        }
    }
}

//! The rehearsal: whether the role, its guard and the broker's own rights are as the scheme needs them.

use aws_credential_types::Credentials;
use serde_json::Value;

use super::AwsStsIssuer;
use super::cloud::Done;
use super::documents::{
    self, CANARY_ACTION, CONTROL_SESSION, GuardKind, REHEARSAL_SESSION, canary_policy,
};
use super::policy::Policy;
use super::scope::{self, Form};
use super::sessions::Wish;
use super::trouble::Trouble;
use crate::domain::{Seconds, Time};
use crate::issuers::{EndError, Rehearsal};

/// A session's name that the trust policy must refuse.
const WRONG_NAME: &str = "countersign-rehearsal";

impl AwsStsIssuer {
    pub(super) async fn rehearse_scopes(&self, scopes: &[Value]) -> Result<Rehearsal, EndError> {
        let mut rehearsal = Rehearsal {
            target: format!("AWS role {} behind guard {}", self.role, self.guard.arn),
            ..Rehearsal::default()
        };
        let own = self.cloud.own_keys().await;
        let own = own.map_err(|trouble| trouble.while_ending("no_credentials"))?;
        self.look_for_excess(&own, &mut rehearsal).await?;
        if !self.may_assume(&mut rehearsal).await? {
            return Ok(rehearsal);
        }
        self.is_picky(&mut rehearsal).await?;
        match self.control_is_allowed().await {
            Ok(()) => self.is_guarded(&mut rehearsal).await?,
            Err(error) if error.code == "control_denied" => rehearsal.problems.push(format!(
                "role {} may not make the canary call {CANARY_ACTION}, with which the end of a session is proven; add to its policy: {}",
                self.role,
                shown(&documents::canary_permission()),
            )),
            Err(error) => return Err(error),
        }
        self.guard_is_writable(&mut rehearsal).await?;
        for scope in scopes {
            self.try_scope(scope, &mut rehearsal).await?;
        }
        Ok(rehearsal)
    }

    fn trust(&self) -> String {
        let policy = documents::trust_policy("(the broker's ARN)", &self.external_id);
        let hidden = shown(&policy).replace(&self.external_id, "(external_id)");
        format!("its trust policy should be {hidden}")
    }

    /// Whether the role can be assumed at all, as leases will.
    async fn may_assume(&self, rehearsal: &mut Rehearsal) -> Result<bool, EndError> {
        let mut wish = self.own_wish(CONTROL_SESSION, &canary_policy(None))?;
        wish.tags = vec![("countersign_request", "rehearsal".into())];
        match self.cloud.assume(&wish).await {
            Ok(_) => Ok(true),
            Err(trouble @ Trouble::Said { .. }) => {
                rehearsal.problems.push(format!(
                    "the broker may not assume role {} with a session name, tags and source identity ({}); {}",
                    self.role,
                    trouble.detail(),
                    self.trust()
                ));
                Ok(false)
            }
            Err(trouble) => Err(trouble.while_ending("assume_refused")),
        }
    }

    /// Whether the role refuses who does not know the external id, and names that are no lease's.
    async fn is_picky(&self, rehearsal: &mut Rehearsal) -> Result<(), EndError> {
        let right = self.own_wish(CONTROL_SESSION, &canary_policy(None))?;
        let without_id = Wish {
            external_id: None,
            ..self.own_wish(CONTROL_SESSION, &canary_policy(None))?
        };
        let wrong_name = Wish {
            name: WRONG_NAME,
            source_identity: Some(WRONG_NAME),
            ..right
        };
        for (wish, what) in [
            (without_id, "without the external id"),
            (
                wrong_name,
                "under a session name that does not begin with lse_",
            ),
        ] {
            match self.cloud.assume(&wish).await {
                Ok(_) => rehearsal.problems.push(format!(
                    "role {} can be assumed {what}; {}",
                    self.role,
                    self.trust()
                )),
                Err(Trouble::Said { .. }) => {}
                Err(trouble) => return Err(trouble.while_ending("assume_refused")),
            }
        }
        Ok(())
    }

    /// Whether the guard is in force for this role: its rehearsal entry denies.
    async fn is_guarded(&self, rehearsal: &mut Rehearsal) -> Result<(), EndError> {
        let (guard, role) = (&self.guard.arn, &self.role);
        match self.guard.is_published().await {
            Ok(true) => {}
            Ok(false) => {
                rehearsal.problems.push(format!(
                    "publish pending: guard {guard} does not hold what this broker writes; start the broker, which publishes it, and look again"
                ));
                return Ok(());
            }
            Err(error) if error.code == "target_unavailable" => return Err(error),
            Err(error) => {
                rehearsal.problems.push(format!(
                    "guard {guard} cannot be read ({error}); create it, and allow its writer: {}",
                    self.publish_right()
                ));
                return Ok(());
            }
        }
        let keys = self.own_session(REHEARSAL_SESSION, None).await?;
        if !self.is_denied_steadily(&keys).await? {
            let mend = match self.guard.kind {
                GuardKind::Boundary => format!(
                    "make it the boundary: aws iam put-role-permissions-boundary --role-name {} --permissions-boundary {guard}",
                    role.name()
                ),
                GuardKind::Inline => format!(
                    "look whether its policy {} is there",
                    documents::INLINE_GUARD
                ),
            };
            rehearsal.problems.push(format!(
                "guard {guard} does not deny what it should to sessions of role {role}; {mend}"
            ));
        }
        Ok(())
    }

    fn publish_right(&self) -> String {
        let right = documents::may_publish(self.guard.kind, &self.guard.arn);
        shown(&Policy::new(vec![right]))
    }

    /// Whether the guard can be written, without touching what is in force.
    async fn guard_is_writable(&self, rehearsal: &mut Rehearsal) -> Result<(), EndError> {
        match self.guard.rehearse().await {
            Ok(()) => Ok(()),
            Err(trouble @ Trouble::Said { .. }) => {
                rehearsal.problems.push(format!(
                    "guard {} cannot be written ({}); allow its writer: {}",
                    self.guard.arn,
                    trouble.detail(),
                    self.publish_right()
                ));
                Ok(())
            }
            Err(trouble) => Err(trouble.while_ending("guard_refused")),
        }
    }

    /// Whether STS takes a scope's policy, with the tags a lease has.
    async fn try_scope(&self, scope: &Value, rehearsal: &mut Rehearsal) -> Result<(), EndError> {
        let scope = match scope::read(scope, &self.place, Form::Template) {
            Ok(scope) => scope,
            Err(why) => {
                rehearsal.problems.push(why);
                return Ok(());
            }
        };
        if !scope.undenied.is_empty() {
            rehearsal.warnings.push(format!(
                "a resource whose own policy is open to everybody can add to a scope of role {}, as its session policy has no room to deny it: {}; split the action, or name fewer resources",
                self.role,
                scope.undenied.join("; ")
            ));
        }
        // The fence is long past: the session can do nothing.
        let past = documents::instant(Time::default().plus(Seconds(1)));
        let mut wish = self.own_wish(CONTROL_SESSION, &scope.policy(&past))?;
        let longest = "r".repeat(30);
        wish.tags = vec![
            ("countersign_request", longest.clone()),
            ("countersign_agent", longest.clone()),
            ("countersign_sponsor", longest),
        ];
        match self.cloud.assume(&wish).await {
            Ok(_) => Ok(()),
            Err(trouble @ Trouble::Said { .. }) => {
                rehearsal.problems.push(format!(
                    "AWS does not take the session policy of a scope ({}): {}",
                    trouble.detail(),
                    shown(&scope.policy("(end of the lease)"))
                ));
                Ok(())
            }
            Err(trouble) => Err(trouble.while_ending("assume_refused")),
        }
    }

    /// Tries what the broker must not be able to do, with names that do not exist. Denied is right.
    async fn look_for_excess(
        &self,
        own: &Credentials,
        rehearsal: &mut Rehearsal,
    ) -> Result<(), EndError> {
        let mut random = [0; 8];
        self.cloud.entropy.fill(&mut random);
        let nobody = format!("countersign-probe-{}", hex::encode(random));
        let policy = format!(
            "arn:{}:iam::{}:policy/{nobody}",
            self.role.partition.name, self.role.account
        );
        let document = shown(&documents::canary_permission());
        let name = ("RoleName", nobody.as_str());
        let probes: [(&str, &[(&str, &str)]); 6] = [
            (
                "PutRolePolicy",
                &[name, ("PolicyName", &nobody), ("PolicyDocument", &document)],
            ),
            (
                "AttachRolePolicy",
                &[("RoleName", self.role.name()), ("PolicyArn", &policy)],
            ),
            ("DeleteRolePermissionsBoundary", &[name]),
            (
                "UpdateAssumeRolePolicy",
                &[name, ("PolicyDocument", &document)],
            ),
            (
                "CreatePolicyVersion",
                &[("PolicyArn", &policy), ("PolicyDocument", &document)],
            ),
            ("CreateAccessKey", &[("UserName", &nobody)]),
        ];
        for (action, fields) in probes {
            let answer = self.probe(own, action, fields).await?;
            if answer {
                rehearsal.problems.push(format!(
                    "the broker's own identity may call iam:{action} on what is none of its business; take that right away, so that a broken-in broker cannot widen any role"
                ));
            }
        }
        if self.probe(own, "ListRoles", &[("MaxItems", "1")]).await? {
            rehearsal.warnings.push("the broker's own identity may call iam:ListRoles, which it never needs; take that right away".into());
        }
        if self.is_allowed(own).await? {
            rehearsal.warnings.push(format!(
                "the broker's own identity may call {CANARY_ACTION}, which it never needs as itself; take that right away"
            ));
        }
        Ok(())
    }

    /// Whether `action` was let through.
    async fn probe(
        &self,
        own: &Credentials,
        action: &str,
        fields: &[(&str, &str)],
    ) -> Result<bool, EndError> {
        let partition = self.role.partition;
        let answer: Result<Done, _> = self.cloud.ask_iam(own, partition, action, fields).await;
        match answer {
            Ok(_) => Ok(true),
            Err(trouble) if trouble.is_denied() => Ok(false),
            Err(Trouble::Said { code, .. }) if KNOWN_TO_FOLLOW.contains(&code.as_str()) => Ok(true),
            Err(trouble) => Err(trouble.while_ending("probe_refused")),
        }
    }
}

/// What IAM answers to a call it has let through, about names that do not exist.
const KNOWN_TO_FOLLOW: [&str; 4] = [
    "NoSuchEntity",
    "InvalidInput",
    "ValidationError",
    "MalformedPolicyDocument",
];

fn shown(policy: &Policy) -> String {
    policy.to_text().unwrap_or_default()
}

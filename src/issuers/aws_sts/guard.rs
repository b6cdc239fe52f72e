//! The guard: a deny list in IAM, written whole, by one writer a broker, and read back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use tokio::sync::Mutex;

use super::arn::IamArn;
use super::cloud::{Cloud, Done};
use super::documents::{self, GuardKind, INLINE_GUARD, SHORTEST_SESSION};
use super::policy::{self, Meaning, Policy};
use super::sessions::{self, Wish};
use super::trouble::Trouble;
use super::versions::{CreatedVersion, GotRolePolicy, GotVersion, ListedVersions, Version};
use crate::config::{GuardConfig, GuardWriter};
use crate::domain::{GuardName, GuardRoom, Seconds};
use crate::issuers::{Deployment, EndError, Guard, GuardContent};

/// Versions a managed policy can have.
const MOST_VERSIONS: usize = 5;
/// How long IAM may take to show what was just written.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// A writer's session is renewed this long before it expires.
const RENEW: Seconds = Seconds(120);

/// A guard in IAM.
pub struct IamGuard {
    name: GuardName,
    room: usize,
    pub(super) kind: GuardKind,
    /// The policy, or for an inline guard its role.
    pub(super) arn: IamArn,
    pub(super) writer: Option<(IamArn, String)>,
    cloud: Arc<Cloud>,
    /// Whose it is: two Countersigns on one guard would undo each other's denials.
    keeper: Deployment,
    writer_session: Mutex<Option<Credentials>>,
    /// Held while publishing, so that one publish follows another.
    seen: Mutex<Seen>,
}

/// What this broker last wrote or saw.
#[derive(Default)]
struct Seen {
    in_force: Option<InForce>,
    /// The newest version it made, in force or not.
    newest: u64,
}

/// A guard at one moment: judged and written on one list of its versions, so that what is written in between shows.
struct Look {
    versions: Vec<Version>,
    /// `None` when an inline guard is not there yet.
    in_force: Option<InForce>,
}

impl Look {
    /// The number of the newest version there was.
    fn newest(&self) -> u64 {
        self.versions.iter().map(Version::number).max().unwrap_or(0)
    }
}

/// What is in force.
#[derive(Clone, PartialEq, Eq, Debug)]
struct InForce {
    /// The version's number; zero for an inline policy.
    version: u64,
    meaning: Vec<Meaning>,
}

fn error(code: &str, detail: impl Into<String>) -> EndError {
    EndError {
        code: code.into(),
        detail: detail.into(),
    }
}

/// Reads a document as IAM gives it: JSON, percent-encoded.
fn decoded(document: &str) -> Result<Vec<Meaning>, EndError> {
    let text = percent_encoding::percent_decode_str(document).decode_utf8();
    let unreadable = |why: String| error("guard_unreadable", why);
    let text = text.map_err(|why| unreadable(why.to_string()))?;
    policy::read(&text).map_err(unreadable)
}

/// Whether every statement of `old` is in `new`, with at least its values: nothing would be lost by writing `new`.
fn covers(new: &[Meaning], old: &[Meaning]) -> bool {
    let within = |old: &Meaning, new: &Meaning| {
        let same = Meaning {
            conditions: new.conditions.clone(),
            sid: new.sid.clone(),
            ..old.clone()
        };
        let kept = |(place, values): (&(String, String), &BTreeSet<String>)| {
            let watermark = place.1 == "aws:TokenIssueTime";
            new.conditions.get(place).is_some_and(|more| {
                more.is_superset(values) || watermark && more.iter().max() >= values.iter().max()
            })
        };
        same == *new
            && old.conditions.len() == new.conditions.len()
            && old.conditions.iter().all(kept)
    };
    old.iter()
        .filter(|old| !old.allows)
        .all(|old| new.iter().any(|new| within(old, new)))
}

impl IamGuard {
    /// # Errors
    /// What in the guard's configuration cannot stand, and what to write instead.
    pub fn new(
        name: &GuardName,
        config: &GuardConfig,
        cloud: Arc<Cloud>,
        keeper: Deployment,
    ) -> Result<Self, String> {
        let wrong = |why: String| format!("guard {name}: {why}");
        let (kind, arn, writer) = match config {
            GuardConfig::Boundary { policy_arn, writer } => {
                let arn = IamArn::parse(policy_arn, "policy");
                (GuardKind::Boundary, arn, writer)
            }
            GuardConfig::Inline { role_arn, writer } => {
                (GuardKind::Inline, IamArn::parse(role_arn, "role"), writer)
            }
        };
        let arn = arn.map_err(wrong)?;
        let read_writer = |writer: &GuardWriter| {
            let role = IamArn::parse(&writer.role_arn, "role").map_err(wrong)?;
            if role.account != arn.account {
                return Err(wrong(format!(
                    "its writer {role} is in another account than {arn}; name a role of account {}",
                    arn.account
                )));
            }
            check_external_id(&writer.external_id).map_err(wrong)?;
            Ok((role, writer.external_id.clone()))
        };
        let writer = writer.as_ref().map(read_writer).transpose()?;
        Ok(Self {
            name: name.clone(),
            room: documents::guard_room(kind),
            kind,
            arn,
            writer,
            cloud,
            keeper,
            writer_session: Mutex::new(None),
            seen: Mutex::default(),
        })
    }

    /// Whether it can guard `role`.
    pub(super) fn check_role(&self, role: &IamArn) -> Result<(), String> {
        let (guard, arn) = (&self.name, &self.arn);
        if (&arn.account, &arn.partition) != (&role.account, &role.partition) {
            return Err(format!(
                "guard {guard} ({arn}) is in another account than {role}; name a guard of account {}",
                role.account
            ));
        }
        if self.kind == GuardKind::Inline && arn != role {
            return Err(format!(
                "guard {guard} is an inline policy of {arn}, which is not {role}; make a guard for this role"
            ));
        }
        Ok(())
    }

    fn rendered(&self, content: &GuardContent) -> Policy {
        documents::guard(self.kind, content, Some(&self.keeper))
    }

    fn check_keeper(&self, in_force: &InForce) -> Result<(), EndError> {
        match documents::other_keeper(&in_force.meaning, &self.keeper) {
            None => Ok(()),
            Some(other) => Err(error(
                "guard_of_another",
                format!(
                    "guard {} is kept by Countersign {other} and this is {}: each would undo what the other denies; give each a guard of its own or, when the other is gone for good, put the first version that `countersign target init-iam` prints in force",
                    self.arn,
                    self.keeper.as_str()
                ),
            )),
        }
    }

    /// Adds a version that is not in force and takes it away again, to see that it can be done.
    pub(super) async fn rehearse(&self) -> Result<(), Trouble> {
        if self.kind == GuardKind::Inline {
            return Ok(());
        }
        let mut seen = self.seen.lock().await;
        let versions = self.versions().await?;
        self.prune(&versions).await?;
        let content = GuardContent::default();
        let document = self.rendered(&content).to_text();
        let version = self
            .create(&document.map_err(Trouble::Unsent)?, false)
            .await?;
        seen.newest = version;
        self.delete(version).await
    }

    /// Who may write: the broker, or the writer role.
    pub(super) async fn keys(&self) -> Result<Credentials, Trouble> {
        let Some((role, external_id)) = &self.writer else {
            return self.cloud.own_keys().await;
        };
        let mut session = self.writer_session.lock().await;
        let soon = self.cloud.clock.utc().plus(RENEW);
        if let Some(keys) = session.as_ref()
            && sessions::expiry(keys).is_some_and(|expiry| expiry > soon)
        {
            return Ok(keys.clone());
        }
        let wish = Wish {
            role,
            external_id: Some(external_id),
            name: "countersign-guard",
            source_identity: None,
            policy: None,
            tags: Vec::new(),
            duration: SHORTEST_SESSION,
        };
        let keys = self.cloud.assume(&wish).await?;
        *session = Some(keys.clone());
        Ok(keys)
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        action: &str,
        fields: &[(&str, &str)],
    ) -> Result<T, Trouble> {
        let keys = self.keys().await?;
        let partition = self.arn.partition;
        self.cloud.ask_iam(&keys, partition, action, fields).await
    }

    pub(super) async fn versions(&self) -> Result<Vec<Version>, Trouble> {
        let fields = [("PolicyArn", self.arn.as_str())];
        let listed: ListedVersions = self.ask("ListPolicyVersions", &fields).await?;
        Ok(listed.all())
    }

    async fn document(&self, version: u64) -> Result<String, Trouble> {
        let version = format!("v{version}");
        let fields = [("PolicyArn", self.arn.as_str()), ("VersionId", &version)];
        let got: GotVersion = self.ask("GetPolicyVersion", &fields).await?;
        let document = got.version().document;
        document.ok_or_else(|| Trouble::Lost("GetPolicyVersion answered without a document".into()))
    }

    async fn look(&self) -> Result<Look, EndError> {
        let failed = |trouble: Trouble| trouble.while_ending("guard_unreadable");
        match self.kind {
            GuardKind::Boundary => {
                let versions = self.versions().await.map_err(failed)?;
                let default = versions.iter().find(|version| version.is_default_version);
                let default =
                    default.ok_or_else(|| error("guard_unreadable", "no default version"))?;
                let document = self.document(default.number()).await.map_err(failed)?;
                let in_force = Some(InForce {
                    version: default.number(),
                    meaning: decoded(&document)?,
                });
                Ok(Look { versions, in_force })
            }
            GuardKind::Inline => {
                let fields = [("RoleName", self.arn.name()), ("PolicyName", INLINE_GUARD)];
                let got: Result<GotRolePolicy, _> = self.ask("GetRolePolicy", &fields).await;
                let in_force = match got {
                    Ok(got) => Some(InForce {
                        version: 0,
                        meaning: decoded(&got.document())?,
                    }),
                    Err(trouble) if trouble.code() == Some("NoSuchEntity") => None,
                    Err(trouble) => return Err(failed(trouble)),
                };
                let versions = Vec::new();
                Ok(Look { versions, in_force })
            }
        }
    }

    /// Whether the guard denies the rehearsal session, as every guard this broker publishes does.
    pub(super) async fn is_published(&self) -> Result<bool, EndError> {
        let empty = self.rendered(&GuardContent::default()).meaning();
        let in_force = self.look().await?.in_force;
        if let Some(in_force) = &in_force {
            self.check_keeper(in_force)?;
        }
        Ok(in_force.is_some_and(|in_force| covers(&in_force.meaning, &empty)))
    }

    /// Makes room for a version: the oldest that is not in force goes.
    pub(super) async fn prune(&self, versions: &[Version]) -> Result<(), Trouble> {
        if versions.len() < MOST_VERSIONS {
            return Ok(());
        }
        let spare = versions
            .iter()
            .filter(|version| !version.is_default_version);
        let Some(oldest) = spare.map(Version::number).min() else {
            return Ok(());
        };
        self.delete(oldest).await
    }

    /// Deletes a version; one that is gone already is as good.
    pub(super) async fn delete(&self, version: u64) -> Result<(), Trouble> {
        let version = format!("v{version}");
        let fields = [("PolicyArn", self.arn.as_str()), ("VersionId", &version)];
        match self.ask("DeletePolicyVersion", &fields).await {
            Ok(Done { .. }) => Ok(()),
            Err(trouble) if trouble.code() == Some("NoSuchEntity") => Ok(()),
            Err(trouble) => Err(trouble),
        }
    }

    /// Adds a version and says which.
    pub(super) async fn create(&self, document: &str, in_force: bool) -> Result<u64, Trouble> {
        let fields = [
            ("PolicyArn", self.arn.as_str()),
            ("PolicyDocument", document),
            ("SetAsDefault", if in_force { "true" } else { "false" }),
        ];
        let created: CreatedVersion = self.ask("CreatePolicyVersion", &fields).await?;
        Ok(created.version().number())
    }

    /// Writes what was judged by `look`, and reads it back.
    async fn write(
        &self,
        document: &str,
        wanted: &[Meaning],
        look: &Look,
        seen: &mut Seen,
    ) -> Result<(), EndError> {
        let failed = |trouble: Trouble| trouble.while_ending("guard_refused");
        if self.kind == GuardKind::Inline {
            let fields = [
                ("RoleName", self.arn.name()),
                ("PolicyName", INLINE_GUARD),
                ("PolicyDocument", document),
            ];
            let _: Done = self.ask("PutRolePolicy", &fields).await.map_err(failed)?;
            seen.in_force = Some(self.confirm(0, wanted).await?);
            return Ok(());
        }
        // IAM may not list yet what this broker made last.
        let newest = look.newest().max(seen.newest);
        self.prune(&look.versions).await.map_err(failed)?;
        let version = match self.create(document, true).await {
            Ok(version) => version,
            // Somebody else took the room that was made.
            Err(trouble) if trouble.code() == Some("LimitExceeded") => {
                return Err(error("guard_contended", trouble.detail()));
            }
            Err(trouble) => return Err(failed(trouble)),
        };
        seen.newest = version;
        // Numbers are given in turn, and never twice: a missing one was written since the list was read, perhaps with
        // an entry that this version lacks.
        if version > newest.saturating_add(1) {
            return Err(error(
                "guard_contended",
                format!("v{version} follows v{newest}: another writer wrote in between"),
            ));
        }
        seen.in_force = Some(self.confirm(version, wanted).await?);
        Ok(())
    }

    /// Looks until IAM shows what was written; IAM may take its time. Sees when somebody else wrote meanwhile.
    async fn confirm(&self, written: u64, wanted: &[Meaning]) -> Result<InForce, EndError> {
        let give_up = tokio::time::Instant::now() + SHOWN_WITHIN;
        loop {
            let look = self.look().await?;
            if look.newest() > written {
                return Err(error(
                    "guard_contended",
                    format!("another writer wrote v{} after v{written}", look.newest()),
                ));
            }
            if let Some(in_force) = look.in_force
                && in_force.version == written
                && in_force.meaning == wanted
            {
                return Ok(in_force);
            }
            if tokio::time::Instant::now() >= give_up {
                let what = match self.kind {
                    GuardKind::Boundary => format!("v{written} of {}", self.arn),
                    GuardKind::Inline => format!("{INLINE_GUARD} of {}", self.arn),
                };
                return Err(error(
                    "guard_contended",
                    format!("IAM does not show what was written as {what}"),
                ));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

#[async_trait]
impl Guard for IamGuard {
    fn room(&self) -> GuardRoom {
        GuardRoom {
            name: self.name.clone(),
            room: self.room,
        }
    }

    async fn publish(&self, content: &GuardContent) -> Result<(), EndError> {
        let wanted = self.rendered(content);
        let document = wanted
            .to_text()
            .map_err(|why| error("guard_unwritable", why))?;
        let wanted = wanted.meaning();
        if content.cut.len() > self.room {
            let detail = format!(
                "{} leases do not fit into guard {}",
                content.cut.len(),
                self.name
            );
            return Err(error("guard_full", detail));
        }
        let mut seen = self.seen.lock().await;
        let look = self.look().await?;
        if let Some(found) = &look.in_force {
            self.check_keeper(found)?;
            // IAM may still show what was there before our last write.
            let last = seen.in_force.as_ref();
            let late = last.is_some_and(|last| found.version < last.version);
            let known = last == Some(found) || late;
            if found.meaning == wanted && !late {
                seen.in_force = Some(found.clone());
                return Ok(());
            }
            if !late {
                seen.in_force = Some(found.clone());
            }
            if !known && !covers(&wanted, &found.meaning) {
                return Err(error(
                    "guard_contended",
                    format!(
                        "guard {} denies what this broker did not know of; render it again",
                        self.name
                    ),
                ));
            }
        }
        self.write(&document, &wanted, &look, &mut seen).await
    }

    async fn holds(&self, content: &GuardContent) -> Result<bool, EndError> {
        let wanted = self.rendered(content).meaning();
        let in_force = self.look().await?.in_force;
        Ok(in_force.is_some_and(|in_force| in_force.meaning == wanted))
    }
}

/// An external id worth the name: it cannot be guessed, and STS takes it.
pub(super) fn check_external_id(id: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&b);
    if !(22..=1_224).contains(&id.len()) || !id.bytes().all(plain) {
        return Err(
            "external_id must be 22 or more of A-Z a-z 0-9 _ + = , . @ : / -; draw one with `openssl rand -hex 16`"
                .into(),
        );
    }
    Ok(())
}

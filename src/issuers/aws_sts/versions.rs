//! What IAM answers about policies and their versions.

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedVersions {
    list_policy_versions_result: Versions,
}

impl ListedVersions {
    pub(super) fn all(self) -> Vec<Version> {
        self.list_policy_versions_result.versions.member
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Versions {
    versions: Members,
}

#[derive(Deserialize)]
struct Members {
    #[serde(default)]
    member: Vec<Version>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Version {
    version_id: String,
    #[serde(default)]
    pub(super) is_default_version: bool,
    #[serde(default)]
    pub(super) document: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GotVersion {
    get_policy_version_result: OneVersion,
}

impl GotVersion {
    pub(super) fn version(self) -> Version {
        self.get_policy_version_result.policy_version
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreatedVersion {
    create_policy_version_result: OneVersion,
}

impl CreatedVersion {
    pub(super) fn version(self) -> Version {
        self.create_policy_version_result.policy_version
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OneVersion {
    policy_version: Version,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GotRolePolicy {
    get_role_policy_result: RolePolicy,
}

impl GotRolePolicy {
    pub(super) fn document(self) -> String {
        self.get_role_policy_result.policy_document
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RolePolicy {
    policy_document: String,
}

impl Version {
    /// Versions are `v1`, `v2`, …; a number is never given twice.
    pub(super) fn number(&self) -> u64 {
        let digits = self.version_id.strip_prefix('v');
        digits
            .and_then(|digits| digits.parse().ok())
            .unwrap_or(u64::MAX)
    }
}

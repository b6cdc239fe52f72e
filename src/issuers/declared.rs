//! Targets as a bundle declares them: which place each is and what it allows, apart from how this broker reaches it.
//! Whoever has the bundle judges scopes and lifetimes as the broker did, without a connection or a password.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{IssuerSet, aws_sts, mariadb, postgres};
use crate::config::{Config, GuardConfig, MariadbAuthentication, TargetConfig};
use crate::domain::{Explanation, GuardName, GuardRoom, Seconds, TargetName, Targets};

/// One target, in the canonical form of a bundle.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Declared {
    Postgres {
        host: String,
        port: u16,
        database: String,
        user: String,
        procedures: String,
        longest_ttl_seconds: Seconds,
    },
    Mariadb {
        host: String,
        port: u16,
        database: String,
        user: String,
        procedures: String,
        authentication: MariadbAuthentication,
        longest_ttl_seconds: Seconds,
    },
    AwsSts {
        role_arn: String,
        region: String,
        guard: DeclaredGuard,
        longest_ttl_seconds: Seconds,
    },
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeclaredGuard {
    name: GuardName,
    /// The boundary's policy, or the role of an inline guard.
    arn: String,
    inline: bool,
}

/// The targets of `config` as they stand in a bundle.
///
/// # Errors
/// Which target names a section that is not there.
pub fn declare(config: &Config) -> Result<BTreeMap<TargetName, Value>, String> {
    let targets = config.targets.iter();
    targets
        .map(|(name, target)| {
            let declared = declared(config, target).map_err(|why| format!("target {name}: {why}"));
            let value = serde_json::to_value(declared?).map_err(|why| why.to_string())?;
            Ok((name.clone(), value))
        })
        .collect()
}

fn declared(config: &Config, target: &TargetConfig) -> Result<Declared, String> {
    Ok(match target {
        TargetConfig::Postgres(target) => Declared::Postgres {
            host: target.host.clone(),
            port: target.port,
            database: target.database.clone(),
            user: target.user.clone(),
            procedures: target.procedures.clone(),
            longest_ttl_seconds: Seconds(target.longest_ttl_seconds),
        },
        TargetConfig::Mariadb(target) => Declared::Mariadb {
            host: target.host.clone(),
            port: target.port,
            database: target.database.clone(),
            user: target.user.clone(),
            procedures: target.procedures.clone(),
            authentication: target.authentication,
            longest_ttl_seconds: Seconds(target.longest_ttl_seconds),
        },
        TargetConfig::AwsSts(target) => {
            let guard = config.guards.get(&target.guard);
            let region = config.aws.as_ref().map(|aws| &aws.region);
            Declared::AwsSts {
                role_arn: target.role_arn.clone(),
                region: target
                    .region
                    .as_ref()
                    .or(region)
                    .ok_or("there is no section [aws]")?
                    .clone(),
                guard: declared_guard(
                    &target.guard,
                    guard.ok_or_else(|| format!("there is no guard {}", target.guard))?,
                ),
                longest_ttl_seconds: Seconds(target.longest_ttl_seconds),
            }
        }
    })
}

fn declared_guard(name: &GuardName, guard: &GuardConfig) -> DeclaredGuard {
    let (arn, inline) = match guard {
        GuardConfig::Boundary { policy_arn, .. } => (policy_arn, false),
        GuardConfig::Inline { role_arn, .. } => (role_arn, true),
    };
    DeclaredGuard {
        name: name.clone(),
        arn: arn.clone(),
        inline,
    }
}

/// The targets of a bundle, as the rules see them. What only pages show comes from this broker's own issuers.
pub struct DeclaredTargets {
    declared: BTreeMap<TargetName, Declared>,
    issuers: IssuerSet,
}

impl DeclaredTargets {
    /// Reads what [`declare`] wrote.
    ///
    /// # Errors
    /// Which target cannot be read.
    pub fn read(targets: &BTreeMap<TargetName, Value>, issuers: IssuerSet) -> Result<Self, String> {
        let read = targets.iter().map(|(name, value)| {
            let declared = Declared::deserialize(value);
            Ok((
                name.clone(),
                declared.map_err(|why| format!("target {name}: {why}"))?,
            ))
        });
        Ok(Self {
            declared: read.collect::<Result<_, String>>()?,
            issuers,
        })
    }
}

impl Targets for DeclaredTargets {
    fn check_scope(&self, target: &TargetName, scope: &Value) -> Result<(), String> {
        match self.declared.get(target) {
            None => Err(format!("there is no target {target} in countersign.toml")),
            Some(Declared::Postgres {
                database,
                user,
                procedures,
                ..
            }) => postgres::check_scope(database, user, procedures, scope),
            Some(Declared::Mariadb { procedures, .. }) => mariadb::check_scope(procedures, scope),
            Some(Declared::AwsSts {
                role_arn, region, ..
            }) => aws_sts::check_scope(role_arn, region, scope),
        }
    }

    fn longest_ttl(&self, target: &TargetName) -> Option<Seconds> {
        Some(match self.declared.get(target)? {
            Declared::Postgres {
                longest_ttl_seconds,
                ..
            }
            | Declared::Mariadb {
                longest_ttl_seconds,
                ..
            }
            | Declared::AwsSts {
                longest_ttl_seconds,
                ..
            } => *longest_ttl_seconds,
        })
    }

    fn guard(&self, target: &TargetName) -> Option<GuardRoom> {
        match self.declared.get(target)? {
            Declared::AwsSts { guard, .. } => Some(GuardRoom {
                name: guard.name.clone(),
                room: aws_sts::guard_room(guard.inline),
            }),
            Declared::Postgres { .. } | Declared::Mariadb { .. } => None,
        }
    }

    fn explain(&self, target: &TargetName, scope: &Value, ttl: Seconds) -> Explanation {
        self.issuers.explain(target, scope, ttl)
    }
}

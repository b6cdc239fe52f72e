//! Leases that act as an owner from their first statement.
//!
//! A function with rights of its own cannot say that (`role` cannot be set inside one), so the lease says it of itself:
//! the broker logs in with the new password once, before anybody else has it.

use std::time::Duration;

use secrecy::SecretString;

use super::scope::Scope;
use super::sql::{Ident, Sql};
use super::text::{self, Leases};
use super::{PostgresIssuer, links::Trouble};
use crate::domain::ServerId;
use crate::issuers::MintError;

/// How often it is asked whether our own session is gone, and how long each wait is.
const LOOKS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);

impl PostgresIssuer {
    /// Makes sessions of the lease `handle` act as the scope's owner, if it has one.
    pub(super) async fn act_as_owner(
        &self,
        scope: &Scope,
        handle: &str,
        password: &SecretString,
        server: &ServerId,
    ) -> Result<(), MintError> {
        let Some(owner) = &scope.acting else {
            return Ok(());
        };
        // It exists: whatever goes wrong from here on, it has to be ended.
        let unknown = |trouble: Trouble| MintError::Unknown {
            detail: format!(
                "the new role could not be made to act as {owner}: {}; GRANT CONNECT ON DATABASE {} TO {owner}",
                trouble.detail(),
                scope.database
            ),
        };
        let role = Ident::new(handle).map_err(|detail| MintError::Unknown { detail })?;
        let database = scope.database.as_str();
        let act = Sql::new("ALTER ROLE ")
            .ident(&role)
            .text(" SET role = ")
            .literal(owner.as_str());
        let visit = self.door.visit(database, handle, password, &act).await;
        drop(visit.map_err(unknown)?);
        // Our session counts against its connection limit until it is gone.
        let leases = Leases {
            handles: &[handle],
            deployment: self.deployment.as_str(),
            server: Some(server),
        };
        for _ in 0..LOOKS {
            let kill = text::kill(&self.names, &leases);
            let rows = self.links.ask_once(database, &kill).await;
            if text::killed(&rows.map_err(unknown)?) == 0 {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(MintError::Unknown {
            detail: "our own session as the new role does not end; tried again".into(),
        })
    }
}

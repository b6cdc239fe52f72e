//! What the DBA runs once, and again when the catalog's grants change, so that the broker can work with no rights of its own.

use std::collections::BTreeSet;

use serde_json::Value;

use super::scope::{Grants, Scope, filled};
use super::sql::{Account, Ident, MODE, Sql};
use super::text::{Procedure, common_procedures, create_procedure};
use crate::config::{DatabaseTls, MariadbTarget};

/// The names a target's preparation is made of.
#[derive(Clone, Debug)]
pub struct Names {
    /// The database that holds the procedures.
    pub procedures: Ident,
    /// The broker's account.
    pub broker: Account,
    /// The account whose rights the procedures have; nobody can log in to it.
    pub definer: Account,
    /// Whether connections must be encrypted.
    pub encrypted: bool,
}

impl Names {
    /// Those of `target`.
    ///
    /// # Errors
    /// When a name in its configuration cannot be one.
    pub fn of(target: &MariadbTarget) -> Result<Self, String> {
        let procedures = Ident::new(&target.procedures)?;
        let definer = Ident::new(&format!("{}_definer", target.procedures))?;
        if target.user == definer.as_str() || target.user.starts_with("jit_") {
            return Err(format!(
                "the broker's account must be its own: {:?} is taken",
                target.user
            ));
        }
        Ok(Self {
            procedures,
            broker: Account::anywhere(Ident::new(&target.user)?),
            definer: Account::local(definer),
            encrypted: !matches!(target.tls, DatabaseTls::Disable),
        })
    }

    /// All procedures for `lists` of grants.
    ///
    /// # Errors
    /// Never: their names are plain.
    pub fn procedures_for(&self, lists: &BTreeSet<Grants>) -> Result<Vec<Procedure>, String> {
        let mut procedures = Vec::from(common_procedures(&self.procedures)?);
        for grants in lists {
            procedures.push(create_procedure(grants, self.encrypted)?);
        }
        Ok(procedures)
    }
}

/// The statements that prepare `target` for what `scopes` of the catalog ask for. For the client `mariadb`, as an
/// administrator; they may be run again.
///
/// # Errors
/// When a name cannot be one in MariaDB, or a scope is wrong.
pub fn preparation_sql(target: &MariadbTarget, scopes: &[Value]) -> Result<String, String> {
    let names = Names::of(target)?;
    let lists: BTreeSet<_> = scopes
        .iter()
        .map(|scope| Scope::read(&filled(scope), &names.procedures).map(|scope| scope.grants))
        .collect::<Result<_, _>>()?;
    let mut sql = accounts(&names, &lists).text("DELIMITER $$\n");
    let procedures = names.procedures_for(&lists)?;
    for procedure in &procedures {
        sql = sql.then(&definition(&names, procedure)).text("$$\n");
    }
    sql = sql.text("DELIMITER ;\n-- The broker may call these and do nothing else.\n");
    for procedure in &procedures {
        sql = sql
            .text("GRANT EXECUTE ON PROCEDURE ")
            .path(&names.procedures, &procedure.name)
            .text(" TO ")
            .account(&names.definer)
            .text(", ")
            .account(&names.broker)
            .text(";\n");
    }
    Ok(sql.to_string())
}

/// The two accounts and what the definer may pass on.
fn accounts(names: &Names, lists: &BTreeSet<Grants>) -> Sql {
    let mut sql = Sql::new("-- Read under fixed rules, which the procedures keep.\nSET NAMES utf8mb4 COLLATE utf8mb4_bin;\nSET SESSION sql_mode = ")
        .literal(MODE)
        .text(";\n-- Passwords are checked by this plugin: the server learns a public key only.\nINSTALL PLUGIN IF NOT EXISTS ed25519 SONAME 'auth_ed25519';\nCREATE DATABASE IF NOT EXISTS ")
        .ident(&names.procedures)
        .text(" CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;\n-- The account whose rights the procedures have. Nobody can log in to it.\nCREATE USER IF NOT EXISTS ")
        .account(&names.definer)
        .text(" ACCOUNT LOCK;\nGRANT CREATE USER, CONNECTION ADMIN, PROCESS ON *.* TO ")
        .account(&names.definer)
        .text(";\nGRANT SELECT (`Host`, `User`) ON `mysql`.`global_priv` TO ")
        .account(&names.definer)
        .text(";\nGRANT SELECT (`Db`, `User`) ON `mysql`.`db` TO ")
        .account(&names.definer)
        .text(";\n-- What leases may do. The definer passes it on.\n");
    let grants: BTreeSet<_> = lists.iter().flat_map(Grants::iter).collect();
    for grant in grants {
        sql = sql
            .then(&grant.statement())
            .text(" TO ")
            .account(&names.definer)
            .text(" WITH GRANT OPTION;\n");
    }
    sql = sql
        .text("-- The broker. No password fits until you set one: SET PASSWORD FOR ")
        .account(&names.broker)
        .text(" = PASSWORD('...');\nCREATE USER IF NOT EXISTS ")
        .account(&names.broker)
        .text(" IDENTIFIED VIA mysql_native_password USING 'invalid'");
    sql.text(if names.encrypted {
        " REQUIRE SSL;\n"
    } else {
        ";\n"
    })
}

fn definition(names: &Names, procedure: &Procedure) -> Sql {
    Sql::new("CREATE OR REPLACE DEFINER = ")
        .account(&names.definer)
        .text(" PROCEDURE ")
        .path(&names.procedures, &procedure.name)
        .text("(")
        .text(procedure.parameters)
        .text(")\nSQL SECURITY DEFINER\n")
        .then(&procedure.body)
}

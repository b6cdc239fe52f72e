//! What the DBA runs once, and again when the catalog's grants change, so that the broker can work with no rights of its own.

use std::collections::BTreeSet;

use serde_json::Value;

use super::procedures::{Procedure, TABLES, common_procedures, create_procedure};
use super::scope::{Grants, Scope, filled};
use super::sql::{Account, Ident, MODE, Sql};
use super::verifier::Plugin;
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
    /// What checks leases' passwords.
    pub plugin: Plugin,
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
            plugin: target.authentication.into(),
        })
    }

    /// All procedures for `lists` of grants.
    ///
    /// # Errors
    /// Never: their names are plain.
    pub fn procedures_for(&self, lists: &BTreeSet<Grants>) -> Result<Vec<Procedure>, String> {
        let mut procedures = Vec::from(common_procedures(&self.procedures)?);
        for grants in lists {
            procedures.push(create_procedure(grants, self.plugin, self.encrypted)?);
        }
        Ok(procedures)
    }
}

/// The statements that prepare `target` for what `scopes` of the catalog ask for. For the client `mariadb`, as an
/// administrator. They may be run again: they say what they change, and name what is not needed any more.
///
/// # Errors
/// When a name cannot be one in MariaDB, or a scope is wrong.
pub fn preparation_sql(target: &MariadbTarget, scopes: &[Value]) -> Result<String, String> {
    let names = Names::of(target)?;
    let lists: BTreeSet<_> = scopes
        .iter()
        .map(|scope| Scope::read(&filled(scope), &names.procedures).map(|scope| scope.grants))
        .collect::<Result<_, _>>()?;
    let procedures = names.procedures_for(&lists)?;
    let mut sql = rules(&names)
        .then(&changes(&names, &procedures))
        .then(&accounts(&names, &lists))
        .then(&tables(&names)?)
        .text("DELIMITER $$\n");
    for procedure in &procedures {
        sql = sql.then(&definition(&names, procedure)).text("$$\n");
    }
    sql = sql.text("DELIMITER ;\n-- The broker may call these and do nothing else.\n");
    for procedure in &procedures {
        sql = sql
            .text("GRANT EXECUTE ON PROCEDURE ")
            .path(&names.procedures, &procedure.name)
            .text(" TO ")
            .account(&names.definer);
        if procedure.for_broker {
            sql = sql.text(", ").account(&names.broker);
        }
        sql = sql.text(";\n");
    }
    Ok(sql
        .then(&leftovers(&names, &procedures, &lists))
        .to_string())
}

fn rules(names: &Names) -> Sql {
    let sql = Sql::new("-- Read under fixed rules, which the procedures keep.\nSET NAMES utf8mb4 COLLATE utf8mb4_bin;\nSET SESSION sql_mode = ")
        .literal(MODE)
        .text(";\n");
    match names.plugin {
        Plugin::Native => sql,
        Plugin::Ed25519 => sql.text("-- Passwords are checked by this plugin.\nINSTALL PLUGIN IF NOT EXISTS ed25519 SONAME 'auth_ed25519';\n"),
    }
}

/// Says which procedures are made or changed.
fn changes(names: &Names, procedures: &[Procedure]) -> Sql {
    let mut sql = Sql::new(
        "SELECT CONCAT(IF(routine_name IS NULL, 'adds procedure ', 'changes procedure '), name) AS countersign FROM (",
    );
    for (index, procedure) in procedures.iter().enumerate() {
        sql = sql
            .text(if index == 0 { "" } else { " UNION ALL " })
            .text("\n    SELECT ")
            .literal(procedure.name.as_str())
            .text(" AS name, ")
            .literal(&procedure.digest())
            .text(" AS digest");
    }
    sql.text("\n) AS wanted LEFT JOIN information_schema.routines ON routine_name = name AND routine_schema = ")
        .literal(names.procedures.as_str())
        .text("\n    WHERE NOT SHA2(routine_definition, 256) <=> digest;\n")
}

/// The two accounts and what the definer may pass on.
fn accounts(names: &Names, lists: &BTreeSet<Grants>) -> Sql {
    let mut sql = Sql::new("CREATE DATABASE IF NOT EXISTS ")
        .ident(&names.procedures)
        .text(" CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;\n-- The account whose rights the procedures have. Nobody can log in to it.\nCREATE USER IF NOT EXISTS ")
        .account(&names.definer)
        .text(" IDENTIFIED VIA mysql_native_password USING 'invalid' ACCOUNT LOCK;\nGRANT CREATE USER, CONNECTION ADMIN, PROCESS ON *.* TO ")
        .account(&names.definer)
        .text(";\nGRANT SELECT (`Host`, `User`) ON `mysql`.`global_priv` TO ")
        .account(&names.definer)
        .text(";\nGRANT SELECT (`Db`, `User`) ON `mysql`.`db` TO ")
        .account(&names.definer)
        .text(";\nGRANT SELECT ON `performance_schema`.`threads` TO ")
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

/// This server's identity, drawn once, and the records of accounts.
fn tables(names: &Names) -> Result<Sql, String> {
    let mut sql = Sql::new("-- Which server this is, and a record for each account.\n");
    for table in TABLES {
        let name = Ident::new(table.name)?;
        sql = sql
            .text("CREATE TABLE IF NOT EXISTS ")
            .path(&names.procedures, &name)
            .text(" ")
            .text(table.definition)
            .text(";\nGRANT SELECT, INSERT, UPDATE, DELETE ON ")
            .path(&names.procedures, &name)
            .text(" TO ")
            .account(&names.definer)
            .text(";\n");
    }
    Ok(sql
        .text("INSERT IGNORE INTO ")
        .path(&names.procedures, &Ident::new("identity")?)
        .text(" (id, uuid) VALUES (1, UUID()), (2, 'whose turn it is');\n"))
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

/// Names what this catalog does not need. Another broker may: nothing is taken away unasked.
fn leftovers(names: &Names, procedures: &[Procedure], lists: &BTreeSet<Grants>) -> Sql {
    let texts = |sql: Sql, texts: &mut dyn Iterator<Item = String>| {
        texts.enumerate().fold(sql, |sql, (index, text)| {
            sql.text(if index == 0 { "" } else { ", " }).literal(&text)
        })
    };
    let mut routines = procedures.iter().map(|one| one.name.as_str().to_owned());
    let sql = Sql::new("SELECT CONCAT('not needed by this catalog: DROP PROCEDURE `', routine_schema, '`.`', routine_name, '`') AS countersign\n    FROM information_schema.routines WHERE routine_schema = ")
        .literal(names.procedures.as_str())
        .text(" AND routine_name NOT IN (");
    let granted: BTreeSet<String> = lists
        .iter()
        .flat_map(Grants::iter)
        .map(|grant| format!("{}.{}", grant.database.as_str(), grant.table.as_str()))
        .collect();
    let own = TABLES.map(|table| format!("{}.{}", names.procedures.as_str(), table.name));
    let servers = [
        "mysql.global_priv",
        "mysql.db",
        "performance_schema.threads",
    ];
    let mut places = granted
        .into_iter()
        .chain(own)
        .chain(servers.map(String::from));
    let sql = texts(sql, &mut routines)
        .text(");\nSELECT CONCAT('not needed by this catalog: REVOKE ALL ON `', Db, '`.`', Table_name, '` FROM ")
        .account_in_text(&names.definer)
        .text("; REVOKE GRANT OPTION ON `', Db, '`.`', Table_name, '` FROM ")
        .account_in_text(&names.definer)
        .text("') AS countersign\n    FROM mysql.tables_priv WHERE User = ")
        .literal(names.definer.user())
        .text(" AND CONCAT(Db, '.', Table_name) NOT IN (");
    texts(sql, &mut places).text(");\n")
}

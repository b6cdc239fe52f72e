//! Rehearsals in MariaDB: what the DBA forgot or changed is said with what mends it (abuse cases 107, 110).

use std::path::Path;
use std::process::Output;

use countersign::issuers::Issuer;
use serde_json::{Value, json};
use tokio::process::Command;

use super::mariadb_shop::{MariadbShop, admin};

async fn problems(shop: &MariadbShop) -> Vec<String> {
    let found = shop.issuer.rehearse(&[shop.scope()]).await.unwrap();
    found.problems
}

#[tokio::test]
async fn case_107_and_110_what_the_dba_forgot_is_said_with_its_remedy() {
    let shop = MariadbShop::open().await;
    let (procedures, user, tables) = (&shop.target.procedures, &shop.target.user, &shop.shop);
    let definer = format!("'{procedures}_definer'@'localhost'");
    let again = "countersign target init-sql shop";
    for (spoil, said) in [
        (
            format!("DROP PROCEDURE {procedures}.lease_end"),
            "`lease_end` is missing",
        ),
        (
            format!("REVOKE EXECUTE ON PROCEDURE {procedures}.lease_prepared FROM '{user}'@'%'"),
            "procedures are not there",
        ),
        (
            format!(
                "CREATE OR REPLACE DEFINER = {definer} PROCEDURE {procedures}.lease_list() SQL SECURITY DEFINER SELECT 1"
            ),
            "`lease_list` is not the one this version makes",
        ),
        (
            format!("ALTER PROCEDURE {procedures}.lease_look SQL SECURITY INVOKER"),
            "`lease_look` runs with the wrong account's rights",
        ),
    ] {
        admin(&spoil).await;
        let found = problems(&shop).await;
        let problem = found.iter().find(|problem| problem.contains(said));
        let problem = problem.unwrap_or_else(|| panic!("{spoil}: {found:?}"));
        assert!(problem.contains(again), "{problem}");
        shop.prepare(&[shop.scope()]).await;
        assert_eq!(problems(&shop).await, Vec::<String>::new());
    }
    for (spoil, said, mend) in [
        (
            format!("ALTER USER {definer} ACCOUNT UNLOCK"),
            format!("ALTER USER {definer} ACCOUNT LOCK"),
            format!("ALTER USER {definer} ACCOUNT LOCK"),
        ),
        (
            format!("GRANT SELECT ON {tables}.salaries TO '{user}'@'%'"),
            "has more than its procedures".into(),
            format!("REVOKE SELECT ON {tables}.salaries FROM '{user}'@'%'"),
        ),
        (
            format!("GRANT CREATE USER ON *.* TO '{user}'@'%'"),
            "GRANT CREATE USER ON *.*".into(),
            format!("REVOKE CREATE USER ON *.* FROM '{user}'@'%'"),
        ),
        (
            format!("REVOKE CONNECTION ADMIN ON *.* FROM {definer}"),
            "procedures' account lacks".into(),
            format!("GRANT CONNECTION ADMIN ON *.* TO {definer}"),
        ),
        (
            format!("REVOKE DELETE ON {tables}.notes FROM {definer}"),
            "a probe account could not be made".into(),
            format!("GRANT DELETE ON {tables}.notes TO {definer} WITH GRANT OPTION"),
        ),
    ] {
        admin(&spoil).await;
        let found = problems(&shop).await;
        assert!(
            found.iter().any(|problem| problem.contains(&said)),
            "{spoil}: {found:?}"
        );
        assert!(!found.iter().any(|problem| problem.contains("IDENTIFIED")));
        admin(&mend).await;
        assert_eq!(problems(&shop).await, Vec::<String>::new(), "{mend}");
    }
    shop.close().await;
}

#[tokio::test]
async fn a_changed_catalog_is_noticed_in_both_directions() {
    let shop = MariadbShop::open().await;
    let salaries = format!("{}.salaries", shop.shop);
    let other = json!({"grants": [{"privileges": ["select"], "table": salaries}]});
    let both = [shop.scope(), other.clone()];
    let found = shop.issuer.rehearse(&both).await.unwrap();
    assert!(
        found
            .problems
            .iter()
            .any(|problem| problem.contains("is missing")),
        "{found:?}"
    );
    shop.prepare(&both).await;
    let found = shop.issuer.rehearse(&both).await.unwrap();
    assert_eq!(found.problems, Vec::<String>::new());
    let found = shop.issuer.rehearse(&[shop.scope()]).await.unwrap();
    assert_eq!(found.problems, Vec::<String>::new());
    for warning in [
        "the broker may call `lease_create_",
        "the procedures' account has more",
    ] {
        assert!(
            found.warnings.iter().any(|said| said.contains(warning)),
            "{found:?}"
        );
    }
    shop.close().await;
}

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

async fn countersign(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.args(arguments).current_dir(dir).env_clear();
    command.output().await.unwrap()
}

/// A set-up whose catalog asks for `scope` at `shop`'s server.
fn set_up(dir: &Path, shop: &MariadbShop, scope: &Value) {
    let target = &shop.target;
    write(
        dir,
        "countersign.toml",
        &format!(
            "[server]\npublic_url = 'http://127.0.0.1:7480'\nstate_dir = 'state'\n\
             [targets.shop]\nkind = 'mariadb'\nhost = '{}'\nport = {}\ndatabase = '{}'\nprocedures = '{}'\n\
             user = '{}'\npassword_file = 'password'\ntls = {{ mode = 'disable' }}\n",
            target.host, target.port, target.database, target.procedures, target.user
        ),
    );
    write(dir, "password", &shop.password);
    let catalog = json!({"actions": {"notes.read": {
        "title": "Read notes", "description": "Reads the notes.", "target": "shop",
        "ttl": {"default": "5m", "longest": "10m"}, "scope": scope, "review": {"groups": {"dba": 1}},
    }}});
    write(
        dir,
        "catalog/shop.toml",
        &toml::to_string(&catalog).unwrap(),
    );
    write(
        dir,
        "catalog/agents.toml",
        "[agents.reader]\nowner = 'dev:ana'\n[agents.reader.proof]\nkind = 'api_key_sha256'\n\
         hash = 'cc51297d7268df09b9bf2f661caebfc543435e99d3b4b2184d04423da304abcf'\n",
    );
    write(
        dir,
        "policies/shop.cedar",
        "@id(\"reader-asks\")\npermit (principal == Agent::\"reader\", action == Action::\"request:notes.read\", resource);\n\
         @id(\"reviewers\")\npermit (principal, action in Action::\"review\", resource) when { principal in resource.reviewer_groups };\n",
    );
}

#[tokio::test]
async fn what_init_sql_prints_makes_doctor_content() {
    let shop = MariadbShop::open().await;
    let dir = tempfile::tempdir().unwrap();
    let salaries = format!("{}.salaries", shop.shop);
    let scope =
        json!({"grants": [{"privileges": ["select"], "table": salaries, "columns": ["id"]}]});
    set_up(dir.path(), &shop, &scope);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(dir.path().join("password"), private).unwrap();
    }
    let before = countersign(dir.path(), &["doctor"]).await;
    assert_eq!(before.status.code(), Some(2), "{before:?}");
    let advice = String::from_utf8(before.stdout).unwrap();
    assert!(
        advice.contains("countersign target init-sql shop"),
        "{advice}"
    );

    let printed = countersign(dir.path(), &["target", "init-sql", "shop"]).await;
    assert_eq!(printed.status.code(), Some(0), "{printed:?}");
    admin(&String::from_utf8(printed.stdout).unwrap()).await;
    let after = countersign(dir.path(), &["doctor"]).await;
    assert_eq!(after.status.code(), Some(0), "{after:?}");
    let said = String::from_utf8(after.stdout).unwrap();
    assert!(said.contains("the rehearsal passed"), "{said}");
    shop.close().await;
}

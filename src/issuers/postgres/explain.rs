//! A scope in words, for those who approve it.

use serde_json::Value;

use super::scope::{Scope, Surroundings};
use super::sql::Ident;
use crate::domain::{Explanation, Seconds};

/// The scope in words, what `exact` says is sent for it, and how it ends.
pub fn explain(
    around: &Surroundings,
    scope: &Value,
    ttl: Seconds,
    exact: impl FnOnce(&Scope) -> String,
) -> Explanation {
    match around.read(&around.filled(scope)) {
        Ok(scope) => Explanation {
            words: words(&scope),
            exact: exact(&scope),
            ending: ending(&scope, ttl),
            outlives: outlives(&scope),
        },
        Err(why) => Explanation {
            words: vec![format!("nothing: {why}")],
            exact: String::new(),
            ending: Vec::new(),
            outlives: Vec::new(),
        },
    }
}

fn seconds(count: i64) -> Seconds {
    Seconds(u64::try_from(count).unwrap_or(0))
}

fn words(scope: &Scope) -> Vec<String> {
    let database = scope.database.as_str();
    let acts = |role: &Ident| {
        format!(
            "acts with the rights of role {} in database {database}",
            role.as_str()
        )
    };
    let mut words: Vec<_> = scope.roles.iter().map(acts).collect();
    if let Some(owner) = &scope.acting {
        words.push(format!(
            "acts as {0} in database {database}: it can change and drop everything {0} owns, and what it makes belongs to {0}",
            owner.as_str()
        ));
    }
    for (key, value) in &scope.rows {
        words.push(format!("only rows where {key} = {value}"));
    }
    if !scope.rows.is_empty() {
        let unbound = &scope.unbound;
        words.push(if unbound.is_empty() {
            "every table it can read is held to those rows by a policy; that is checked again when the credential is made".into()
        } else {
            format!(
                "every table it can read is held to those rows by a policy, except {}, read whole",
                unbound.join(", ")
            )
        });
    }
    words.push(format!(
        "at most {} connection{} at a time",
        scope.connection_limit,
        if scope.connection_limit == 1 { "" } else { "s" }
    ));
    words.push(format!(
        "unless it asks for longer: statements stop after {}, a transaction in which nothing happens after {}, an idle connection after {}",
        seconds(scope.statement_timeout_seconds),
        seconds(scope.idle_in_transaction_seconds),
        seconds(scope.idle_session_seconds)
    ));
    words
}

fn ending(scope: &Scope, ttl: Seconds) -> Vec<String> {
    let mut ending = vec![
        format!("after {ttl}, or earlier when finished or revoked: login is cut, open sessions are killed, its prepared transactions are rolled back, what it made under its own name is dropped, the role is dropped"),
        "new logins fail 60 s after the end even if the broker is gone; sessions already open need the broker".into(),
        "proven by looking again at the same server: no role (so no login), no session, no prepared transaction".into(),
    ];
    if let Some(owner) = &scope.acting {
        ending.push(format!(
            "what {} has afterwards is compared with what it had before, and each difference is recorded; new or changed SECURITY DEFINER routines are dropped or lose that right",
            owner.as_str()
        ));
    }
    ending
}

/// What may still be there when the lease is over.
fn outlives(scope: &Scope) -> Vec<String> {
    let Some(owner) = &scope.acting else {
        return Vec::new();
    };
    let owner = owner.as_str();
    vec![
        format!(
            "everything it makes or changes as {owner} stays: tables, data, policies, triggers, privileges and default privileges for others; the differences are in the record of the lease's end"
        ),
        format!(
            "a trigger or function it leaves runs later with the rights of whoever fires or calls it, so look at what was recorded before {owner}'s tables are written to by someone with more rights"
        ),
        format!(
            "a transaction it prepares as {owner} can only be rolled back by {owner} or a superuser; the lease is not called ended before that"
        ),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn explained(scope: &Value) -> Explanation {
        let around = Surroundings {
            database: "shop".into(),
            broker: "countersign_broker".into(),
            procedures: "countersign".into(),
        };
        explain(&around, scope, Seconds(600), |_| "exact".into())
    }

    #[test]
    fn finding_t22_every_limit_is_in_the_words() {
        let scope = json!({
            "roles": ["orders_ro"], "connection_limit": 7, "statement_timeout_seconds": 120,
            "idle_in_transaction_seconds": 1800, "idle_session_seconds": 240
        });
        let words = explained(&scope).words.join("\n");
        for said in ["at most 7 connections", "2m", "30m", "4m"] {
            assert!(words.contains(said), "{said}: {words}");
        }
    }

    #[test]
    fn finding_t07_what_an_owner_leaves_is_said_before() {
        assert_eq!(
            explained(&json!({"roles": ["orders_ro"]})).outlives,
            Vec::<String>::new()
        );
        let owner = explained(&json!({"as": "shop_owner"}));
        assert_eq!(owner.outlives.len(), 3);
        assert!(owner.outlives[0].contains("stays"), "{:?}", owner.outlives);
        assert!(owner.words[0].contains("acts as shop_owner"));
    }

    #[test]
    fn finding_t10_what_is_read_whole_is_said() {
        let scope =
            json!({"roles": ["a"], "rows": {"country": "{c}"}, "unbound": ["sales.countries"]});
        let words = explained(&scope).words.join("\n");
        assert!(
            words.contains("except sales.countries, read whole"),
            "{words}"
        );
    }

    #[test]
    fn a_scope_that_cannot_stand_is_nothing() {
        assert!(explained(&json!({"roles": []})).words[0].starts_with("nothing: "));
    }
}

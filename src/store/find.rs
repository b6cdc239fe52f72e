//! The text of a search: only what restricts is written, so that each search can use an index.

use super::rows::to_sql;
use super::{FIND_LIMIT, Query};
use crate::domain::{LeaseId, RequestId, Time};

/// A search that restricts nothing, before its order and limit.
pub(super) const FIND: &str = "SELECT seq, bytes, leaf, sig, kind, time, request, lease, agent, action, actor, outcome, key FROM entries";

/// A value for a placeholder.
pub(super) enum Value<'a> {
    /// For a TEXT column.
    Text(&'a str),
    /// For the column of an id.
    Id(u128),
    /// For a BIGINT column.
    Number(i64),
    /// For a BYTEA or BLOB column.
    Bytes(&'a [u8]),
}

/// The text and values of a [`Query`]. A member that does not restrict leaves no trace in the text, so
/// that the database can use the index of the others.
pub(super) fn find_text(query: &Query) -> (String, Vec<Value<'_>>) {
    let mut values = Vec::new();
    let mut text = FIND.to_owned();
    let texts = [
        ("kind", query.kind.as_deref()),
        ("agent", query.agent.as_deref()),
        ("action", query.action.as_deref()),
        ("actor", query.actor.as_deref()),
        ("outcome", query.outcome.as_deref()),
    ];
    let ids = [
        ("request", query.request.as_ref().map(RequestId::number)),
        ("lease", query.lease.as_ref().map(LeaseId::number)),
    ];
    let numbers = [
        ("time >=", query.since.map(Time::millis)),
        ("time <", query.until.map(Time::millis)),
        ("seq <", query.before.map(to_sql)),
    ];
    let mut restrict = |column: &str, value| {
        let word = if values.is_empty() { "WHERE" } else { "AND" };
        values.push(value);
        text.push_str(&format!(" {word} {column} ${}", values.len()));
    };
    for (column, value) in texts {
        if let Some(value) = value {
            restrict(&format!("{column} ="), Value::Text(value));
        }
    }
    for (column, value) in ids {
        if let Some(value) = value {
            restrict(&format!("{column} ="), Value::Id(value));
        }
    }
    for (column, value) in numbers {
        if let Some(value) = value {
            restrict(column, Value::Number(value));
        }
    }
    if let Some(key) = &query.key {
        restrict("key =", Value::Bytes(&key.0));
    }
    let limit = i64::try_from(query.limit.min(FIND_LIMIT)).unwrap_or(0);
    values.push(Value::Number(limit));
    text.push_str(&format!(" ORDER BY seq DESC LIMIT ${}", values.len()));
    (text, values)
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqliteConnection;
    use sqlx::{AssertSqlSafe, Connection, Executor};

    use super::*;
    use crate::domain::Digest;

    /// The plan of each search by one member, on SQLite with the real schema.
    #[tokio::test]
    async fn every_member_of_a_query_has_an_index() {
        let mut sqlite = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let schema = include_str!("../../migrations/sqlite/0001_ledger.sql");
        sqlite.execute(schema).await.unwrap();
        let word = || Some("x".to_owned());
        let at = Time::from_millis(1);
        let q = || Query {
            limit: 10,
            ..Query::default()
        };
        #[rustfmt::skip]
        let cases = [
            ("entries_by_kind", Query { kind: word(), ..q() }),
            ("entries_by_request", Query { request: Some(RequestId::draw(at, 1)), ..q() }),
            ("entries_by_lease", Query { lease: Some(LeaseId::draw(at, 1)), ..q() }),
            ("entries_by_agent", Query { agent: word(), ..q() }),
            ("entries_by_action", Query { action: word(), ..q() }),
            ("entries_by_actor", Query { actor: word(), ..q() }),
            ("entries_by_outcome", Query { outcome: word(), ..q() }),
            ("entries_by_key", Query { key: Some(Digest::of(b"k")), since: Some(at), ..q() }),
            ("entries_by_time", Query { since: Some(at), until: Some(at), ..q() }),
            ("PRIMARY KEY", Query { before: Some(5), ..q() }),
        ];
        for (index, query) in cases {
            let (text, _) = find_text(&query);
            let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}"));
            let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(explain)
                .fetch_all(&mut sqlite)
                .await
                .unwrap();
            let (_, _, _, step) = &plan[0];
            assert!(step.contains("SEARCH") && step.contains(index), "{step}");
            let sorts = plan.len() > 1;
            assert_eq!(sorts, index == "entries_by_time", "{plan:?}");
        }
    }
}

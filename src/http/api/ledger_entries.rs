//! `GET /v1/ledger/entries`: the ledger as it stands, for the operator to verify and keep.

use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::headers::Query;
use crate::http::{Api, Problem};

/// One entry.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"seq": 0, "entry": "{\"actor\":{\"kind\":\"broker\"},…}", "leaf": "5f1c…", "sig": null}))]
pub struct EntryView {
    /// Its index, from 0.
    seq: u64,
    /// Its canonical JSON, exactly the bytes that are hashed into the tree.
    entry: String,
    /// Its leaf hash (RFC 6962), in hexadecimal.
    leaf: String,
    /// Key id and signature over the checkpoint up to and including it, in base64. Only the last entry that was
    /// written at once has one; null otherwise.
    sig: Option<String>,
}

/// Entries in order.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"data": [{"seq": 0, "entry": "{\"actor\":{\"kind\":\"broker\"},…}", "leaf": "5f1c…", "sig": null}], "next": 1}))]
pub struct EntriesView {
    /// The entries.
    data: Vec<EntryView>,
    /// Give it as `from` for the next ones; null at the end of the ledger.
    next: Option<u64>,
}

/// Read the ledger
///
/// Entries from an index on, oldest first.
#[utoipa::path(
    get, path = "/v1/ledger/entries", operation_id = "ledger_entries", tag = "ledger",
    params(
        ("from" = Option<u64>, Query, description = "Index of the first; 0 when absent.", example = 0),
        ("limit" = Option<u16>, Query, description = "At most so many, 1 to 200; 50 when absent.", example = 50)
    ),
    responses((status = 200, description = "The entries.", body = EntriesView))
)]
pub async fn list(State(api): State<Api>, parts: Parts) -> Result<Json<EntriesView>, Problem> {
    let query = Query::of(&parts, &["from", "limit"])?;
    let limit = query.limit()?;
    let from = query.text("from").unwrap_or("0").parse::<u64>();
    let from = from.map_err(|_| Query::wrong("from", "give the index of an entry"))?;
    let entries = api.broker.entries(from, limit).await?;
    let next = (entries.len() == limit).then(|| from.saturating_add(limit as u64));
    let data = entries.into_iter().map(|stored| EntryView {
        seq: stored.seq,
        entry: String::from_utf8_lossy(&stored.bytes).into_owned(),
        leaf: stored.leaf.to_string(),
        sig: stored.signature,
    });
    Ok(Json(EntriesView {
        data: data.collect(),
        next,
    }))
}

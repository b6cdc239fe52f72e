//! `GET /v1/agents`: every agent ever enrolled.

use axum::Json;
use axum::extract::State;

use crate::http::Api;
use crate::http::view::{AgentView, Page};

/// List agents
///
/// Disabled ones too: a name is never given again.
#[utoipa::path(
    get, path = "/v1/agents", operation_id = "list_agents", tag = "agents",
    responses((status = 200, description = "All of them, by name.", body = Page<AgentView>))
)]
pub async fn list(State(api): State<Api>) -> Json<Page<AgentView>> {
    let mut agents = api.broker.agents();
    agents.sort_by(|(left, _), (right, _)| left.name.cmp(&right.name));
    let data = agents
        .iter()
        .map(|(agent, disabled)| AgentView::of(agent, *disabled));
    Json(Page {
        data: data.collect(),
        next_cursor: None,
    })
}

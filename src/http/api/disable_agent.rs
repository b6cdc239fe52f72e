//! `POST /v1/agents/{name}/disable`: an agent is no longer served.

use axum::Json;
use axum::extract::State;

use crate::domain::AgentName;
use crate::http::body::NoBody;
use crate::http::headers::Id;
use crate::http::view::AgentView;
use crate::http::{Api, Problem};

/// Disable an agent
///
/// It may no longer ask, and every credential it holds is ended. For good: its name is never given again.
#[utoipa::path(
    post, path = "/v1/agents/{name}/disable", operation_id = "disable_agent", tag = "agents",
    params(("name" = String, Path, description = "The agent.", example = "billing-bot")),
    responses((status = 200, description = "The agent, disabled.", body = AgentView))
)]
pub async fn disable(
    State(api): State<Api>,
    Id(name): Id<AgentName>,
    NoBody: NoBody,
) -> Result<Json<AgentView>, Problem> {
    api.broker.disable_agent(&name).await?;
    let agents = api.broker.agents();
    let found = agents.iter().find(|(agent, _)| agent.name == name);
    let view = found.map(|(agent, disabled)| AgentView::of(agent, *disabled));
    view.map(Json).ok_or_else(Problem::not_found)
}

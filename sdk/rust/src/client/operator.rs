//! The operator's calls.

use serde_json::{Value, json};

use super::{Call, Client, to_json};
use crate::error::Error;
use crate::model::{
    AgentView, ApartView, EnrolledView, GuardShutView, LeaseView, NewAgent, TargetView,
};

impl Client {
    /// Gives up a lease whose end cannot be proven. For the operator.
    pub async fn abandon_lease(&self, id: &str, reason: &str) -> Result<LeaseView, Error> {
        let path = ["v1", "leases", id, "abandon"];
        let body = json!({ "reason": reason });
        self.call(Call::post("give the lease up", &path, body))
            .await
    }

    /// The kill switch of a role group: denies every session of the guard's roles that was issued until now, and ends
    /// their leases. For the operator.
    pub async fn shut_guard(&self, name: &str) -> Result<GuardShutView, Error> {
        let path = ["v1", "guards", name, "shut"];
        self.call(Call::post("shut the guard", &path, json!({})))
            .await
    }

    /// Which server each target stands for. For the operator.
    pub async fn targets(&self) -> Result<Vec<TargetView>, Error> {
        self.all_pages("list targets", &["v1", "targets"]).await
    }

    /// The operator's word that a target moved as planned.
    pub async fn move_target(
        &self,
        name: &str,
        from: &str,
        to: &str,
        reason: Option<&str>,
    ) -> Result<TargetView, Error> {
        let body = match reason {
            Some(reason) => json!({ "from": from, "to": to, "reason": reason }),
            None => json!({ "from": from, "to": to }),
        };
        let path = ["v1", "targets", name, "move"];
        self.call(Call::post("move the target", &path, body)).await
    }

    /// The operator's word that the broker's wall clock is right; `now` is what the caller's own clock shows (RFC 3339).
    pub async fn accept_clock(&self, now: &str, reason: Option<&str>) -> Result<ApartView, Error> {
        let body = match reason {
            Some(reason) => json!({ "now": now, "reason": reason }),
            None => json!({ "now": now }),
        };
        let path = ["v1", "clock", "accept"];
        self.call(Call::post("accept the clock", &path, body)).await
    }

    /// Agents, all pages. For the operator.
    pub async fn agents(&self) -> Result<Vec<AgentView>, Error> {
        self.all_pages("list agents", &["v1", "agents"]).await
    }

    /// Enrols an agent. For the operator.
    pub async fn add_agent(&self, agent: &NewAgent) -> Result<EnrolledView, Error> {
        self.call(Call::post(
            "add the agent",
            &["v1", "agents"],
            to_json(agent),
        ))
        .await
    }

    /// Stops serving an agent and ends what it holds. For the operator.
    pub async fn disable_agent(&self, name: &str) -> Result<Value, Error> {
        let path = ["v1", "agents", name, "disable"];
        self.call(Call::post("disable the agent", &path, json!({})))
            .await
    }
}

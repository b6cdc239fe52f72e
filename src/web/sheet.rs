//! All that is known of one request, gathered for its page.

use std::collections::BTreeMap;

use super::auth::WebSession;
use super::desk::Desk;
use crate::broker::BrokerError;
use crate::domain::event::BlobRef;
use crate::domain::{
    Action, Entry, Explanation, GroupName, Refusal, Request, RequestId, RequestState, Time,
};

/// Words somebody wrote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Words {
    /// As they were written.
    Kept(String),
    /// They were erased on request.
    Erased,
}

/// One request and what this person may do about it.
pub(super) struct Sheet {
    pub(super) now: Time,
    pub(super) request: Request,
    /// Its action, if the catalog still says exactly what the reviewers are asked about.
    pub(super) action: Option<Action>,
    pub(super) explanation: Explanation,
    pub(super) context: Option<Words>,
    /// Comments of the reviews, in their order.
    pub(super) comments: Vec<Option<Words>>,
    pub(super) missing: BTreeMap<GroupName, u32>,
    pub(super) timeline: Vec<Entry>,
    pub(super) expires: Option<Time>,
    /// What reviewing it now would say.
    pub(super) may_review: Result<(), Box<Refusal>>,
    pub(super) may_revoke: bool,
}

impl Sheet {
    /// Gathers everything; `None` when there is no such request.
    pub(super) async fn gather(
        desk: &dyn Desk,
        session: &WebSession,
        id: &RequestId,
    ) -> Result<Option<Self>, BrokerError> {
        let Some(request) = desk.request(id).await? else {
            return Ok(None);
        };
        let context = words(desk, request.submission.context.as_ref()).await?;
        let mut comments = Vec::new();
        for review in &request.reviews {
            comments.push(words(desk, review.comment.as_ref()).await?);
        }
        Ok(Some(Self {
            now: desk.now(),
            action: sealed_action(desk, &request),
            explanation: desk.explain(&request),
            context,
            comments,
            missing: desk.missing(&request),
            timeline: desk.timeline(id).await?,
            expires: desk.expires(&request).await?,
            may_review: desk.may_review(&session.reviewer, &request),
            may_revoke: matches!(request.state, RequestState::Live { .. })
                && desk.may_revoke(&session.reviewer, &request),
            request,
        }))
    }

    /// Changes whenever the page would say something new.
    pub(super) fn version(&self) -> String {
        let state = self.request.state.word();
        format!("{state}-{}", self.timeline.len())
    }
}

/// The action of a request, only if its definition is still the sealed one.
pub(super) fn sealed_action(desk: &dyn Desk, request: &Request) -> Option<Action> {
    let sealed = request.sealed();
    desk.action(&sealed.action)
        .filter(|action| action.definition() == sealed.definition)
}

async fn words(desk: &dyn Desk, blob: Option<&BlobRef>) -> Result<Option<Words>, BrokerError> {
    match blob {
        None => Ok(None),
        Some(blob) => Ok(Some(
            desk.text(blob).await?.map_or(Words::Erased, Words::Kept),
        )),
    }
}

/// Approvals still owed and asked for: `(given, wanted)`.
pub(super) fn quorum(
    action: Option<&Action>,
    missing: &BTreeMap<GroupName, u32>,
    request: &Request,
) -> Option<(u32, u32)> {
    let wanted: u32 = action?.review.groups.values().sum();
    let owed: u32 = missing.values().sum();
    (wanted > 0 && request.verdict.is_some()).then(|| (wanted.saturating_sub(owed), wanted))
}

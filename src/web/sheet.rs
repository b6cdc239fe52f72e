//! All that is known of one request, gathered for its page.

use std::collections::BTreeMap;

use super::auth::WebSession;
use super::desk::Desk;
use crate::broker::BrokerError;
use crate::domain::event::BlobRef;
use crate::domain::request::{ReviewDecision, VerdictAnswer};
use crate::domain::{
    Action, Entry, Explanation, GroupName, Refusal, Request, RequestId, RequestState, Time, quorum,
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
    pub(super) tally: Option<Tally>,
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
        let action = sealed_action(desk, &request);
        Ok(Some(Self {
            now: desk.now(),
            tally: tally(action.as_ref(), &request),
            action,
            explanation: desk.explain(&request),
            context,
            comments,
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

/// The people a request needs, as far as the catalog still says so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Tally {
    /// Places filled.
    pub(super) given: u32,
    /// Places in all.
    pub(super) wanted: u32,
    /// Places each group must still fill.
    pub(super) missing: BTreeMap<GroupName, u32>,
}

/// Counts the approvals of a request that people decide.
pub(super) fn tally(action: Option<&Action>, request: &Request) -> Option<Tally> {
    let verdict = request.verdict.as_ref()?;
    let groups = &action?.review.groups;
    let wanted: u32 = groups.values().sum();
    if verdict.answer != VerdictAnswer::Review || wanted == 0 {
        return None;
    }
    let approvers: Vec<_> = request
        .reviews
        .iter()
        .filter(|review| review.decision == ReviewDecision::Approve)
        .map(|review| &review.reviewer)
        .collect();
    let missing = quorum::missing(groups, &approvers);
    Some(Tally {
        given: wanted.saturating_sub(missing.values().sum()),
        wanted,
        missing,
    })
}

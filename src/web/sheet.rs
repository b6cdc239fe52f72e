//! All that is known of one request, gathered for its page.

use std::collections::BTreeMap;

use super::auth::WebSession;
use crate::broker::{Broker, BrokerError};
use crate::domain::event::BlobRef;
use crate::domain::request::VerdictAnswer;
use crate::domain::{
    Action, Entry, Explanation, GroupName, LeaseState, Refusal, Request, RequestId, RequestState,
    Time,
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
    /// Since when the credential is cut off, and when it runs out.
    pub(super) cut_off: Option<(Time, Time)>,
    /// What reviewing it now would say.
    pub(super) may_review: Result<(), Box<Refusal>>,
    /// Whether it can be denied now, also where it cannot be approved.
    pub(super) may_deny: bool,
    pub(super) may_revoke: bool,
}

impl Sheet {
    /// Gathers everything; `None` when there is no such request.
    pub(super) async fn gather(
        broker: &Broker,
        session: &WebSession,
        id: &RequestId,
    ) -> Result<Option<Self>, BrokerError> {
        let Some(request) = broker.request(id).await? else {
            return Ok(None);
        };
        let context = words(broker, request.submission.context.as_ref()).await?;
        let mut comments = Vec::new();
        for review in &request.reviews {
            comments.push(words(broker, review.comment.as_ref()).await?);
        }
        let action = sealed_action(broker, &request);
        Ok(Some(Self {
            now: broker.now(),
            tally: tally(broker, &request),
            action,
            explanation: broker.explain(&request),
            context,
            comments,
            timeline: broker.timeline(id).await?,
            expires: ends_at(broker, &request),
            cut_off: cut_off(broker, &request),
            may_review: broker.may_review(&session.reviewer, &request),
            may_deny: broker.may_deny(&session.reviewer, &request),
            may_revoke: matches!(request.state, RequestState::Live { .. })
                && broker.may_revoke(&session.reviewer, &request),
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
pub(super) fn sealed_action(broker: &Broker, request: &Request) -> Option<Action> {
    let sealed = request.sealed();
    broker
        .policy()
        .action(&sealed.action)
        .filter(|action| action.definition() == sealed.definition)
        .cloned()
}

/// When the credential in force must end, if it is live.
pub(super) fn ends_at(broker: &Broker, request: &Request) -> Option<Time> {
    let lease = broker.lease(request.lease()?)?;
    (lease.state == LeaseState::Live).then_some(lease.expires)
}

/// Since when the credential in force is cut off, and when it runs out.
fn cut_off(broker: &Broker, request: &Request) -> Option<(Time, Time)> {
    let lease = broker.lease(request.lease()?)?;
    Some((lease.cut_off_at()?, lease.expires))
}

async fn words(broker: &Broker, blob: Option<&BlobRef>) -> Result<Option<Words>, BrokerError> {
    match blob {
        None => Ok(None),
        Some(blob) => Ok(Some(
            broker.text(blob).await?.map_or(Words::Erased, Words::Kept),
        )),
    }
}

/// The people a request needs.
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
pub(super) fn tally(broker: &Broker, request: &Request) -> Option<Tally> {
    let groups = &request.submission.reviewers;
    let wanted: u32 = groups.values().sum();
    if request.verdict.answer != VerdictAnswer::Review || wanted == 0 {
        return None;
    }
    let missing = broker.missing(request);
    Some(Tally {
        given: wanted.saturating_sub(missing.values().sum()),
        wanted,
        missing,
    })
}

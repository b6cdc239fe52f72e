//! Exit codes, and failures that carry one. The numbers are part of the contract with scripts; never reuse one.

use countersign_client::{Error, Mistake, Outcome, RequestView, State};
use serde_json::{Value, json};

/// How the program ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// Done.
    Ok,
    /// Something else went wrong.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
    /// The broker does not know who is asking, or does not let them.
    Unauthenticated,
    /// A person said no.
    Denied,
    /// Policy says no.
    Refused,
    /// Nobody has decided yet.
    Pending,
    /// Its time is over, or it was taken away.
    Ended,
    /// The broker or the way to it is down.
    Unavailable,
    /// It is in a state that does not allow this.
    Conflict,
    /// `exec`: the command was not started.
    NotStarted,
    /// `exec`: the command cannot be executed.
    NotExecutable,
    /// `exec`: there is no such command.
    NotFound,
    /// `exec`: the command's own code, or 128 and the signal that ended it.
    Child(u8),
}

impl Exit {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unauthenticated => 3,
            Exit::Denied => 4,
            Exit::Refused => 5,
            Exit::Pending => 6,
            Exit::Ended => 7,
            Exit::Unavailable => 8,
            Exit::Conflict => 9,
            Exit::NotStarted => 125,
            Exit::NotExecutable => 126,
            Exit::NotFound => 127,
            Exit::Child(code) => code,
        }
    }

    /// The stable word for it, as in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Exit::Ok => "ok",
            Exit::Failed => "failed",
            Exit::Usage => "usage",
            Exit::Unauthenticated => "unauthenticated",
            Exit::Denied => "denied",
            Exit::Refused => "denied_by_policy",
            Exit::Pending => "pending",
            Exit::Ended => "expired_or_revoked",
            Exit::Unavailable => "unavailable",
            Exit::Conflict => "conflict",
            Exit::NotStarted => "not_started",
            Exit::NotExecutable => "not_executable",
            Exit::NotFound => "command_not_found",
            Exit::Child(_) => "child",
        }
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    /// How the program ends.
    pub(crate) exit: Exit,
    /// The stable word for what happened: the broker's, or ours.
    pub(crate) code: String,
    /// What happened.
    pub(crate) what: String,
    /// What to do next.
    pub(crate) next: Option<Box<str>>,
    /// Mistakes, one by one.
    pub(crate) mistakes: Vec<Mistake>,
    /// The broker's name for the call in its logs.
    pub(crate) call_id: Option<Box<str>>,
    /// The request it is about.
    pub(crate) request: Option<Box<RequestView>>,
}

impl Failure {
    /// A failure with its exit, word, text and hint.
    pub(crate) fn new(
        exit: Exit,
        code: &str,
        what: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self {
            exit,
            code: code.into(),
            what: what.into(),
            next: Some(next.into().into()),
            mistakes: Vec::new(),
            call_id: None,
            request: None,
        }
    }

    /// The command line is wrong.
    pub(crate) fn usage(code: &str, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(Exit::Usage, code, what, next)
    }

    /// The same failure before `exec` started its command: the numbers below 125 belong to the command.
    pub(crate) fn before_start(mut self) -> Self {
        if !matches!(
            self.exit,
            Exit::NotExecutable | Exit::NotFound | Exit::Child(_)
        ) {
            self.exit = Exit::NotStarted;
        }
        self
    }

    /// As JSON.
    pub(crate) fn to_json(&self) -> Value {
        let mut error = json!({
            "exit_code": self.exit.code(), "exit_name": self.exit.name(), "code": self.code, "detail": self.what,
            "next": self.next,
        });
        if let Some(members) = error.as_object_mut() {
            if !self.mistakes.is_empty() {
                members.insert("errors".into(), json!(self.mistakes));
            }
            if let Some(id) = &self.call_id {
                members.insert("request_id".into(), json!(id));
            }
        }
        match &self.request {
            Some(request) => json!({"error": error, "request": request}),
            None => json!({"error": error}),
        }
    }

    /// What the state of a request means for somebody who wants its credential: nothing wrong, or why not.
    pub(crate) fn of_request(request: &RequestView) -> Option<Self> {
        let (exit, code, what, next) = match (&request.state, &request.outcome) {
            (State::Pending, _) => (
                Exit::Pending,
                "pending",
                "nobody has decided yet".to_owned(),
                format!(
                    "wait with `countersign wait {0}`, then `countersign exec {0} -- CMD`",
                    request.id
                ),
            ),
            (State::Closed, Some(outcome)) => closed(outcome, request)?,
            _ => return None,
        };
        Some(Self {
            request: Some(Box::new(request.clone())),
            ..Self::new(exit, code, what, next)
        })
    }
}

fn closed(
    outcome: &Outcome,
    request: &RequestView,
) -> Option<(Exit, &'static str, String, String)> {
    let again = || "ask again if it is still needed".to_owned();
    Some(match outcome {
        Outcome::Completed => return None,
        Outcome::Refused => refused(request),
        Outcome::Denied => denied(request),
        Outcome::Lapsed => (
            Exit::Ended,
            "lapsed",
            "nobody decided, or nobody collected, in time".into(),
            again(),
        ),
        Outcome::Withdrawn => (
            Exit::Ended,
            "withdrawn",
            "it was taken back".into(),
            again(),
        ),
        Outcome::Frozen => (
            Exit::Ended,
            "frozen",
            "a freeze stopped it".into(),
            "ask the security team whether the freeze still stands".into(),
        ),
        Outcome::Stale => (
            Exit::Ended,
            "stale",
            "something it rested on changed between approval and mint".into(),
            again(),
        ),
        Outcome::Failed => (
            Exit::Unavailable,
            "failed",
            "the target did not mint the credential; nothing is left there".into(),
            "try again later; the broker's log names the cause".into(),
        ),
        Outcome::Revoked => (
            Exit::Ended,
            "revoked",
            "its access was ended early".into(),
            "ask who revoked it before asking again".into(),
        ),
        Outcome::Expired => (Exit::Ended, "expired", "its time ran out".into(), again()),
        Outcome::Abandoned => (
            Exit::Ended,
            "abandoned",
            "the operator gave it up: nobody has proven its credential gone".into(),
            again(),
        ),
        Outcome::Other(word) => (
            Exit::Failed,
            "closed",
            format!("it closed as {word}"),
            "upgrade countersign to learn this word".into(),
        ),
    })
}

fn refused(request: &RequestView) -> (Exit, &'static str, String, String) {
    let policies = request
        .verdict
        .as_ref()
        .map(|verdict| verdict.policies.join(", "))
        .unwrap_or_default();
    let by = if policies.is_empty() {
        "no policy permits it".into()
    } else {
        format!("decided by {policies}")
    };
    (
        Exit::Refused,
        "policy_denied",
        format!("policy does not let this agent do it: {by}"),
        "choose another action (`countersign actions`), or have the policy changed".into(),
    )
}

fn denied(request: &RequestView) -> (Exit, &'static str, String, String) {
    let who = request
        .reviews
        .iter()
        .find(|review| review.decision == "deny")
        .and_then(|review| review.reviewer.as_ref())
        .map_or_else(|| "a reviewer".to_owned(), |person| person.subject.clone());
    let next = "do not ask for the same again; read the reason with the reviewer".into();
    (Exit::Denied, "denied", format!("{who} denied it"), next)
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Problem(problem) => {
                let exit = match (problem.status, problem.code.as_str()) {
                    (_, "policy_denied") => Exit::Refused,
                    (_, "approval_required") => Exit::Pending,
                    (_, "invalid_client" | "invalid_grant") | (401 | 403, _) => {
                        Exit::Unauthenticated
                    }
                    (410, _) => Exit::Ended,
                    (409 | 412, _) => Exit::Conflict,
                    (400 | 422, _) => Exit::Usage,
                    (429 | 500..=599, _) => Exit::Unavailable,
                    _ => Exit::Failed,
                };
                let what = if problem.detail.is_empty() {
                    problem.title
                } else {
                    problem.detail
                };
                Failure {
                    exit,
                    code: problem.code,
                    what,
                    next: problem.next.map(Into::into),
                    mistakes: problem.errors,
                    call_id: problem.request_id.map(Into::into),
                    request: None,
                }
            }
            Error::Address(_) => Failure::usage(
                "address",
                error.to_string(),
                "set COUNTERSIGN_ADDR, or --addr, to the broker's https address",
            ),
            Error::Credentials(_) => Failure::new(
                Exit::Unauthenticated,
                "credentials",
                error.to_string(),
                "point COUNTERSIGN_TOKEN_FILE or COUNTERSIGN_KEY_FILE at a file this user can read",
            ),
            Error::Network { .. } => Failure::new(
                Exit::Unavailable,
                "unreachable",
                chain(&error),
                "check COUNTERSIGN_ADDR and that the broker runs (`countersign doctor`)",
            ),
            Error::Unexpected { .. } => Failure::new(
                Exit::Unavailable,
                "unexpected_answer",
                error.to_string(),
                "check COUNTERSIGN_ADDR; a proxy may answer in the broker's place",
            ),
        }
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::new(
            Exit::Failed,
            "output",
            format!("write the output: {error}"),
            "check where the output goes",
        )
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure {
            next: None,
            ..Failure::new(Exit::Failed, "failed", format!("{error:#}"), "")
        }
    }
}

//! What can go wrong with a call, and what the broker says about it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker's address cannot be used.
    #[error("use the broker address: {0}")]
    Address(String),
    /// The caller's own proof (key file, token file) cannot be used.
    #[error("prove who is asking: {0}")]
    Credentials(String),
    /// The broker could not be reached, or the answer got lost.
    #[error("{operation}: the broker cannot be reached")]
    Network {
        /// What was being done.
        operation: &'static str,
        /// Whether the call certainly never left this machine.
        never_sent: bool,
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// The broker said no, and why.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// The answer is not one a broker gives.
    #[error("{operation}: {what}")]
    Unexpected {
        /// What was being done.
        operation: &'static str,
        /// What is odd about the answer.
        what: String,
    },
}

/// A problem document (RFC 9457) with Countersign's members.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The stable word for it, such as `approval_required`.
    pub code: String,
    /// A short summary for people.
    pub title: String,
    /// What happened this time.
    pub detail: String,
    /// What to do next, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The broker's name for this call in its logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// Mistakes in the request, one by one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Mistake>,
    /// Seconds after which to try again, if the broker said so.
    #[serde(skip)]
    pub retry_after: Option<u64>,
}

/// One mistake in a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mistake {
    /// Where in the body, as a JSON pointer.
    pub pointer: String,
    /// The stable word for it.
    pub code: String,
    /// What is wrong and what would be right.
    pub detail: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = if self.detail.is_empty() {
            &self.title
        } else {
            &self.detail
        };
        write!(f, "{what} ({}, status {})", self.code, self.status)
    }
}

impl Problem {
    /// Reads the body of a failed answer; what is not a problem document becomes `http_STATUS`.
    pub(crate) fn read(status: u16, retry_after: Option<u64>, body: &[u8]) -> Self {
        let members: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| members.get(name).and_then(Value::as_str).map(str::to_owned);
        // Each member is read for itself, so that one of an unexpected shape does not hide the others.
        let code = text("code")
            .or_else(|| text("error"))
            .unwrap_or_else(|| format!("http_{status}"));
        Self {
            status,
            code,
            title: text("title")
                .unwrap_or_else(|| format!("the broker answered with status {status}")),
            detail: text("detail")
                .or_else(|| text("error_description"))
                .unwrap_or_default(),
            next: text("next"),
            request_id: text("request_id"),
            retryable: members
                .get("retryable")
                .and_then(Value::as_bool)
                .unwrap_or(false),
            errors: members
                .get("errors")
                .and_then(|errors| Vec::<Mistake>::deserialize(errors).ok())
                .unwrap_or_default(),
            retry_after,
        }
    }
}

impl Error {
    /// The problem document behind it, if the broker sent one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Error::Problem(problem) => Some(problem),
            _ => None,
        }
    }

    /// Whether the broker, or the way to it, is down for now.
    pub fn is_outage(&self) -> bool {
        match self {
            Error::Network { .. } => true,
            Error::Problem(problem) => matches!(problem.status, 429 | 502..=504),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_read_whatever_else_is_in_it() {
        let body = br#"{"status":409,"code":"approval_required","detail":"wait","next":"poll","retryable":true,
            "errors":[{"pointer":"/a","detail":"b","new":1}],"later":{"x":[]},"title":7}"#;
        let problem = Problem::read(409, Some(3), body);
        assert_eq!(problem.code, "approval_required");
        assert_eq!(problem.next.as_deref(), Some("poll"));
        assert_eq!(problem.errors.first().unwrap().pointer, "/a");
        assert_eq!(problem.retry_after, Some(3));
        assert!(problem.retryable);
    }

    #[test]
    fn an_answer_that_is_no_problem_document_is_named_by_its_status() {
        let problem = Problem::read(502, None, b"<html>bad gateway</html>");
        assert_eq!(problem.code, "http_502");
        assert!(Error::Problem(Box::new(problem)).is_outage());
    }

    #[test]
    fn token_errors_are_oauth_errors() {
        let body = br#"{"error":"invalid_client","error_description":"unknown agent"}"#;
        let problem = Problem::read(401, None, body);
        assert_eq!(
            problem.to_string(),
            "unknown agent (invalid_client, status 401)"
        );
    }
}

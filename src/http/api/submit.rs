//! `POST /v1/requests`: an agent asks for an action.

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::broker::{BrokerError, NewRequest};
use crate::domain::command::RefusalCode;
use crate::domain::{ActionName, Person, RequestState, Seconds};
use crate::http::auth::CallingAgent;
use crate::http::body::Json;
use crate::http::fields::{Fields, FromFields};
use crate::http::headers::{IdempotencyKey, Prefer};
use crate::http::problem::Mistake;
use crate::http::view::{PersonView, RequestView};
use crate::http::{Api, Problem};

/// Longest reason or context entry, in characters.
const TEXT_MAX: usize = 2000;
/// Longest reason, in bytes.
const REASON_BYTES_MAX: usize = 8 * 1024;
/// Most context entries.
const ENTRIES_MAX: usize = 16;
/// All of the agent's own words together, in bytes.
const CONTEXT_BYTES_MAX: usize = 16 * 1024;
/// Longest parameter object, in bytes of JSON: an entry of the ledger must hold it twice.
const PARAMETERS_BYTES_MAX: usize = 8 * 1024;

/// What an agent asks for.
#[derive(Debug, ToSchema)]
#[schema(example = json!({
    "action": "orders.export", "parameters": {"country": "de"}, "ttl_seconds": 900,
    "reason": "monthly tax report", "context": {"ticket": "FIN-231"}
}))]
pub struct Ask {
    /// The action.
    #[schema(value_type = String)]
    action: ActionName,
    /// Its parameters: all that the action declares, and no other.
    #[schema(value_type = Object, required = false)]
    parameters: Map<String, Value>,
    /// How long the credential shall live, if not the action's default.
    #[schema(value_type = Option<u64>)]
    ttl_seconds: Option<Seconds>,
    /// Why. Untrusted text: reviewers see it fenced and labelled.
    #[schema(max_length = 2000)]
    reason: Option<String>,
    /// More of it: ticket, prompt, model, trace id. At most 16 texts of at most 2,000 characters, 16 KiB in all.
    #[schema(value_type = Object, required = false)]
    context: Map<String, Value>,
    /// The person the agent acts for. They can then not review it.
    #[schema(value_type = Option<PersonView>)]
    on_behalf_of: Option<OnBehalfOf>,
}

#[derive(Debug)]
struct OnBehalfOf(Person);

impl FromFields for OnBehalfOf {
    const NAMES: &'static [&'static str] = &["issuer", "subject"];

    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let issuer = fields.required_text("issuer", 512);
        let subject = fields.required_text("subject", 255);
        Some(Self(Person {
            issuer: issuer?,
            subject: subject?,
        }))
    }
}

impl FromFields for Ask {
    const NAMES: &'static [&'static str] = &[
        "action",
        "parameters",
        "ttl_seconds",
        "reason",
        "context",
        "on_behalf_of",
    ];

    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let action = fields.required("action");
        let parameters = fields.object("parameters").unwrap_or_default();
        if size(&parameters) > PARAMETERS_BYTES_MAX {
            let detail = format!("has at most {PARAMETERS_BYTES_MAX} bytes of JSON");
            fields.wrong("parameters", "invalid_value", detail);
        }
        let ttl = fields.whole("ttl_seconds", 1, i64::from(u32::MAX));
        let reason = fields.text("reason", TEXT_MAX);
        if reason
            .as_ref()
            .is_some_and(|text| text.len() > REASON_BYTES_MAX)
        {
            let detail = format!("has at most {REASON_BYTES_MAX} bytes; shorten it");
            fields.wrong("reason", "invalid_value", detail);
        }
        let context = fields.texts("context", ENTRIES_MAX, TEXT_MAX);
        if size(&context) + reason.as_ref().map_or(0, String::len) > CONTEXT_BYTES_MAX {
            let detail =
                format!("has, with the reason, at most {CONTEXT_BYTES_MAX} bytes; shorten it");
            fields.wrong("context", "invalid_value", detail);
        }
        if context.contains_key("reason") {
            fields.wrong("context", "invalid_value", "give the reason as `reason`");
        }
        let on_behalf_of = fields.nested("on_behalf_of");
        Some(Self {
            action: action?,
            parameters,
            ttl_seconds: ttl.and_then(|ttl| u64::try_from(ttl).ok()).map(Seconds),
            reason,
            context,
            on_behalf_of,
        })
    }
}

fn size(members: &Map<String, Value>) -> usize {
    serde_json::to_vec(members).map_or(usize::MAX, |bytes| bytes.len())
}

/// Ask for an action
///
/// Policy answers at once. What it calls routine is approved (201); what people must see is pending (202), and
/// `review_url` is where they see it. With `Prefer: wait=N` the answer waits up to N seconds (at most 50) for
/// them. Give an `Idempotency-Key`: the same key with the same body gives the same request for 24 hours.
#[utoipa::path(
    post, path = "/v1/requests", operation_id = "submit_request", tag = "requests",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "A fresh UUID; the same when you retry.", example = "8e03978e-40d5-43e8-bc93-6894a57f9324"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: wait up to N seconds, at most 50.", example = "wait=30")
    ),
    request_body = Ask,
    responses(
        (status = 201, description = "Decided.", body = RequestView,
            headers(("Location" = String, description = "The request."))),
        (status = 202, description = "Pending: people decide.", body = RequestView,
            headers(("Location" = String, description = "The request."), ("Retry-After" = u64, description = "When to look again, in seconds.")))
    )
)]
pub async fn submit(
    State(api): State<Api>,
    CallingAgent(agent): CallingAgent,
    prefer: Prefer,
    IdempotencyKey(key): IdempotencyKey,
    Json {
        value: ask,
        fingerprint,
    }: Json<Ask>,
) -> Result<Response, Problem> {
    let mut context = ask.context;
    if let Some(reason) = ask.reason {
        context.insert("reason".into(), reason.into());
    }
    let new = NewRequest {
        on_behalf_of: ask.on_behalf_of.map(|OnBehalfOf(person)| person),
        action: ask.action.clone(),
        parameters: ask.parameters.clone(),
        ttl: ask.ttl_seconds,
        context: (!context.is_empty()).then_some(Value::Object(context)),
        idempotency_key: key,
        fingerprint,
    };
    let (request, replayed) = api
        .broker
        .submit(&agent.name, new)
        .await
        .map_err(|error| explain(&api, error, &ask.action, &ask.parameters))?;
    let request = super::wait(&api, request, &["pending"], prefer).await?;
    let mut response = super::shown(&api, &request, prefer);
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/requests/{}", request.id())) {
        headers.insert(header::LOCATION, location);
    }
    if replayed {
        let name = HeaderName::from_static("idempotency-replayed");
        headers.insert(name, HeaderValue::from_static("true"));
    }
    let pending = request.state == RequestState::Pending;
    if pending {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    *response.status_mut() = if pending {
        StatusCode::ACCEPTED
    } else {
        StatusCode::CREATED
    };
    Ok(response)
}

/// A refusal with the places of what does not fit.
fn explain(
    api: &Api,
    error: BrokerError,
    action: &ActionName,
    parameters: &Map<String, Value>,
) -> Problem {
    let code = match &error {
        BrokerError::Refused(refusal) => refusal.code,
        BrokerError::Unavailable { .. } | BrokerError::InDoubt => return error.into(),
    };
    let problem = Problem::from(error);
    let detail = problem.detail().to_owned();
    let at = |pointer: String, detail: String| Mistake {
        pointer,
        code: code.word().into(),
        detail,
    };
    let mistakes = match code {
        RefusalCode::UnknownAction => vec![at("/action".into(), detail)],
        RefusalCode::InvalidTtl => vec![at("/ttl_seconds".into(), detail)],
        RefusalCode::InvalidParameters => {
            let policy = api.broker.policy();
            let found = policy
                .action(action)
                .map(|action| action.check_parameters(parameters));
            let found = found.and_then(Result::err).unwrap_or_default().into_iter();
            let place = |name: &str| format!("/parameters/{}", crate::http::body::escape(name));
            found
                .map(|mistake| at(place(&mistake.name), mistake.problem))
                .collect()
        }
        _ => Vec::new(),
    };
    problem.with_errors(mistakes)
}

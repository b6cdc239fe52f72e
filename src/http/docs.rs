//! The OpenAPI 3.1 document, from the same handlers as the router, completed from the route table: who may
//! call, and every problem code.

use std::collections::BTreeMap;

use axum::Router;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, ResponseBuilder,
};
use utoipa_axum::router::OpenApiRouter;

use super::Api;
use super::access::{Kind, ROUTES, Route};
use super::problem::{Document, Mistake, PROBLEM_JSON};

/// Codes of every route that is not public.
const GUARDED: &[(u16, &str)] = &[
    (401, "unauthenticated"),
    (403, "forbidden"),
    (429, "rate_limited"),
    (503, "not_ready"),
    (503, "ledger_in_doubt"),
];

/// The router and its finished document.
pub fn split(routes: OpenApiRouter<Api>) -> (Router<Api>, OpenApi) {
    let (router, mut document) = routes.split_for_parts();
    let head = head();
    document.info = head.info;
    document.components = match (document.components, head.components) {
        (Some(mut own), Some(more)) => {
            own.security_schemes.extend(more.security_schemes);
            own.schemas.extend(more.schemas);
            Some(own)
        }
        (own, more) => own.or(more),
    };
    for route in ROUTES {
        let operation = document
            .paths
            .paths
            .get_mut(route.path)
            .and_then(|item| operation(item, route.method));
        if let Some(operation) = operation {
            complete(operation, route);
        }
    }
    (router, document)
}

/// The finished document.
pub fn document() -> OpenApi {
    split(super::api::routes()).1
}

fn head() -> OpenApi {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "An API key `csk_…`, an access token `cst_…`, or the operator token `cso_…`.",
        ))
        .build();
    let session = ApiKey::Cookie(ApiKeyValue::with_description(
        "__Host-countersign",
        "A signed-in person's session. A POST also needs X-CSRF-Token and a same-origin browser.",
    ));
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Countersign")
                .version("1")
                .description(Some(
                    "Agents ask for named actions, people countersign, credentials are minted briefly and \
                     provably ended. Every refusal is a problem document (RFC 9457) with a stable `code`. \
                     Clients ignore response members and words they do not know.",
                ))
                .build(),
        )
        .components(Some(
            ComponentsBuilder::new()
                .schema_from::<Document>()
                .schema_from::<Mistake>()
                .security_scheme("bearer", SecurityScheme::Http(bearer))
                .security_scheme("session", SecurityScheme::ApiKey(session))
                .build(),
        ))
        .build()
}

fn operation<'a>(item: &'a mut PathItem, method: &str) -> Option<&'a mut Operation> {
    match method {
        "GET" => item.get.as_mut(),
        "POST" => item.post.as_mut(),
        _ => None,
    }
}

fn complete(operation: &mut Operation, route: &Route) {
    let guarded = if route.kinds.is_empty() {
        &[][..]
    } else {
        GUARDED
    };
    let mut codes: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for (status, code) in route
        .codes
        .iter()
        .chain(guarded)
        .chain(&[(500, "internal")])
    {
        codes.entry(*status).or_default().push(code);
    }
    for (status, codes) in codes {
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("Problem")))
            .build();
        let response = ResponseBuilder::new()
            .description(format!("`code` is one of: {}", codes.join(", ")))
            .content(PROBLEM_JSON, content)
            .build();
        let responses = &mut operation.responses.responses;
        responses
            .entry(status.to_string())
            .or_insert(response.into());
    }
    let scheme = |name: &str| SecurityRequirement::new(name, Vec::<String>::new());
    let mut security = Vec::new();
    if route.kinds.iter().any(|kind| *kind != Kind::Person) {
        security.push(scheme("bearer"));
    }
    if route.kinds.contains(&Kind::Person) {
        security.push(scheme("session"));
    }
    operation.security = Some(security);
}

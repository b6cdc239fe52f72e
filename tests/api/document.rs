//! The OpenAPI document: generated from the routes, committed, and complete.

use std::collections::BTreeSet;

use countersign::http::access::ROUTES;
use serde_json::Value;

fn document() -> Value {
    serde_json::to_value(countersign::http::docs::document()).unwrap()
}

#[test]
fn the_committed_document_is_the_generated_one() {
    #[expect(clippy::disallowed_methods, reason = "UPDATE=1 rewrites the document")]
    let update = std::env::var("UPDATE").is_ok();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let generated = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    if update {
        std::fs::write(&path, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        generated == committed,
        "docs/openapi.json is stale: run this test with UPDATE=1"
    );
}

/// Whether a media type or the schema it refers to shows an example.
fn has_example(document: &Value, media: &Value) -> bool {
    let name = media["schema"]["$ref"]
        .as_str()
        .and_then(|name| name.rsplit('/').next());
    let schema = name.map(|name| &document["components"]["schemas"][name]);
    let item = schema.map(|schema| &schema["properties"]["data"]["items"]);
    let shown = |value: &Value| value.get("example").is_some() || value.get("examples").is_some();
    shown(media) || schema.is_some_and(shown) || item.is_some_and(shown)
}

#[test]
fn every_operation_is_described_with_examples_and_every_code() {
    let document = document();
    let mut ids = BTreeSet::new();
    for route in ROUTES {
        let name = format!("{} {}", route.method, route.path);
        let operation = &document["paths"][route.path][route.method.to_lowercase()];
        assert!(
            ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
            "{name}"
        );
        assert!(
            operation["summary"].is_string() && operation["description"].is_string(),
            "{name}"
        );
        if let Some(body) = operation["requestBody"]["content"].as_object() {
            assert!(
                body.values().all(|media| has_example(&document, media)),
                "{name}: request"
            );
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            for media in response["content"]
                .as_object()
                .into_iter()
                .flat_map(serde_json::Map::values)
            {
                assert!(has_example(&document, media), "{name}: {status}");
            }
        }
        for (status, code) in route.codes {
            let description = operation["responses"][status.to_string()]["description"].as_str();
            assert!(
                description.unwrap_or_default().contains(code),
                "{name}: {status} {code}"
            );
        }
        let guarded = !route.kinds.is_empty();
        assert_eq!(
            !operation["security"].as_array().unwrap().is_empty(),
            guarded,
            "{name}"
        );
    }
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    fn walk(value: &Value, document: &Value) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(to)) = members.get("$ref") {
                    let pointer = to.strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{to}");
                }
                members.values().for_each(|inner| walk(inner, document));
            }
            Value::Array(items) => items.iter().for_each(|inner| walk(inner, document)),
            _ => {}
        }
    }
    let document = document();
    walk(&document, &document);
}

//! The three files the pages use. Their names carry the hash of their content, so browsers may keep them for ever.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::{IntoResponse, Response};
use http::header;

use super::problem::Problem;
use crate::domain::Digest;

struct Asset {
    name: String,
    kind: &'static str,
    bytes: &'static str,
}

impl Asset {
    fn new(stem: &str, extension: &str, kind: &'static str, bytes: &'static str) -> Self {
        let hash = Digest::of(bytes.as_bytes()).short();
        Self {
            name: format!("{stem}-{hash}.{extension}"),
            kind,
            bytes,
        }
    }

    fn path(&self) -> String {
        format!("/assets/{}", self.name)
    }
}

static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    let css = include_str!("assets/app.css");
    Asset::new("app", "css", "text/css; charset=utf-8", css)
});
static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    let js = include_str!("assets/app.js");
    Asset::new("app", "js", "text/javascript; charset=utf-8", js)
});
static ICON: LazyLock<Asset> = LazyLock::new(|| {
    let svg = include_str!("assets/icon.svg");
    Asset::new("icon", "svg", "image/svg+xml", svg)
});

/// Path of the style sheet.
pub(super) fn style() -> String {
    STYLE.path()
}

/// Path of the script.
pub(super) fn script() -> String {
    SCRIPT.path()
}

/// Path of the icon.
pub(super) fn icon() -> String {
    ICON.path()
}

/// Serves a file by its exact hashed name.
pub(super) async fn serve(file: Result<Path<String>, PathRejection>) -> Response {
    let wanted = file.map(|Path(name)| name).unwrap_or_default();
    let all: [&Asset; 3] = [&STYLE, &SCRIPT, &ICON];
    match all.into_iter().find(|asset| asset.name == wanted) {
        Some(asset) => (
            [
                (header::CONTENT_TYPE, asset.kind),
                (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
            ],
            asset.bytes,
        )
            .into_response(),
        None => Problem::not_found().into_response(),
    }
}

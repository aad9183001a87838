//! The style sheet, the script and the icon. They are named with a digest, so that browsers keep them for good.

use crate::api::{Code, Problem, request::Name};
use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

/// One file.
pub(super) struct Asset {
    /// Its path, with the first part of its digest.
    pub(super) path: String,
    kind: &'static str,
    text: &'static str,
}

impl Asset {
    fn new(name: &str, kind: &'static str, text: &'static str) -> Self {
        let digest = hex::encode(&Sha256::digest(text)[..6]);
        let (stem, ending) = name.split_once('.').unwrap_or((name, ""));
        Self { path: format!("/assets/{stem}-{digest}.{ending}"), kind, text }
    }
}

/// The style sheet.
pub(super) static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("dashboard.css", "text/css; charset=utf-8", include_str!("dashboard.css")));
/// The script.
pub(super) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("dashboard.js", "text/javascript; charset=utf-8", include_str!("dashboard.js"))
});
/// The icon.
pub(super) static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon.svg", "image/svg+xml", include_str!("icon.svg")));

/// `GET /assets/{file}`
pub(super) async fn serve(Name(file): Name) -> Result<Response, Problem> {
    let path = format!("/assets/{file}");
    let found = [&STYLE, &SCRIPT, &ICON].into_iter().find(|asset| asset.path == path);
    let Some(asset) = found else {
        return Err(Problem::new(Code::UnknownPath, "There is no such file; reload the page."));
    };
    let headers =
        [(header::CONTENT_TYPE, asset.kind), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
    Ok((headers, asset.text).into_response())
}

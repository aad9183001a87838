//! `/plugins`: what this host can run, with the errors of what it cannot; upload and removal.

use super::{
    Service,
    answer::Json,
    error::{Code, Problem},
    request::{self, Name, Params, reply, shorten},
};
use crate::directory::{PluginStatus, Upload};
use axum::{
    body::Body,
    extract::State as Shared,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use utoipa::{IntoParams, ToSchema};
use waymark_store::NewPlugin;

/// Time to send a plugin; compiling comes on top.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// Longest signature that is looked at, characters.
const SIGNATURE_CHARACTERS_MAX: usize = 128;

/// A plugin as `GET /plugins` shows it. The document of the API only; the directory writes it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes what the directory writes")]
pub(super) struct Plugin {
    /// Job type; of a file that was refused, its name without the ending.
    name: String,
    /// The file in the plugin directory.
    file: String,
    /// `loaded`, `failed`, `retired` or `quarantined`.
    state: String,
    /// SHA-256 of the file.
    digest: Option<String>,
    /// The version that the plugin says.
    version: Option<String>,
    /// What the plugin says of itself.
    description: Option<String>,
    /// JSON Schema of the input.
    input_schema: Option<serde_json::Value>,
    /// JSON Schema of the result.
    result_schema: Option<serde_json::Value>,
    /// What it imports beyond the contract.
    imports: Vec<String>,
    /// Which of that are capabilities, and whether they are granted.
    capabilities: Vec<PluginCapability>,
    /// Length of the file, bytes.
    bytes: u64,
    /// When this host loaded it.
    #[schema(format = DateTime)]
    loaded_at: Option<String>,
    /// Why it, or the file that was to replace it, is not in service.
    error: Option<PluginError>,
    /// Versions that this host holds, for jobs that began with them.
    versions: Vec<PluginVersion>,
}

/// A capability that a plugin imports.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes what the directory writes")]
pub(super) struct PluginCapability {
    /// Name of the import.
    import: String,
    /// `granted`, or `optional, not granted`: the plugin can do without, and its calls fail.
    state: String,
    /// The line of configuration that would grant it, where it is not granted.
    grant: Option<String>,
}

/// Why a plugin is not in service.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes what the directory writes")]
pub(super) struct PluginError {
    /// Stable code.
    code: String,
    /// What is wrong and what to do.
    message: String,
}

/// A version of a plugin.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes what the directory writes")]
pub(super) struct PluginVersion {
    /// SHA-256 of the file.
    digest: String,
    /// The version that the plugin says.
    version: String,
    /// When this host loaded it.
    #[schema(format = DateTime)]
    loaded_at: String,
    /// New jobs start with this one.
    active: bool,
    /// An operator went back from it: its jobs move to the active version or pause. Left out where it is false.
    #[schema(required = false)]
    withdrawn: bool,
    /// What became of the jobs of the version before it. Left out where there was none.
    #[schema(required = false)]
    swap: Option<Swap>,
}

/// How a version took over from the one before it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes what the directory writes")]
#[schema(as = PluginSwap)]
pub(super) struct Swap {
    /// SHA-256 of the version before.
    from: String,
    /// When copies of checkpoints were tried.
    #[schema(format = DateTime)]
    at: String,
    /// How long that took, milliseconds.
    took_ms: u64,
    /// Live jobs first, then recorded checkpoints; at most 40.
    trials: Vec<Trial>,
}

/// What becomes of one job.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only describes what the directory writes")]
#[schema(as = PluginTrial)]
pub(super) struct Trial {
    /// The job's id, or the recording's folder and the file of the checkpoint.
    of: String,
    /// `migrate`, `stay` or `refuse`.
    verdict: String,
    /// Why.
    why: String,
}

/// The plugins of this host, and the job types that only others have.
#[derive(Serialize, ToSchema)]
pub(super) struct Plugins<'a> {
    /// By name.
    #[schema(value_type = Vec<Plugin>)]
    plugins: Vec<PluginStatus>,
    /// Types that some host announced and this one does not have, each with its descriptor.
    elsewhere: Vec<Elsewhere<'a>>,
}

/// A job type that this host does not have.
#[derive(Serialize, ToSchema)]
pub(super) struct Elsewhere<'a> {
    /// Job type.
    name: &'a str,
    /// What its plugin says of itself.
    #[schema(value_type = Object)]
    descriptor: Json<'a>,
}

/// Lists the plugins of this host, refused files included.
#[utoipa::path(
    get, path = "/api/v1/plugins", tag = "plugins", operation_id = "list_plugins",
    responses((status = 200, description = "The plugins.", body = Plugins)),
)]
pub(super) async fn list(Shared(service): Shared<Arc<Service>>) -> Result<Response, Problem> {
    let plugins = service.directory.list();
    let types = service.store.types().await?;
    let elsewhere = types
        .iter()
        .filter(|(name, _)| !plugins.iter().any(|plugin| plugin.name == *name))
        .map(|(name, descriptor)| Elsewhere { name, descriptor: Json(descriptor) })
        .collect();
    Ok(reply(StatusCode::OK, &Plugins { plugins, elsewhere }))
}

/// Shows a plugin.
#[utoipa::path(
    get, path = "/api/v1/plugins/{type}", tag = "plugins", operation_id = "show_plugin",
    params(("type" = String, Path, description = "Job type.")),
    responses(
        (status = 200, description = "The plugin.", body = Plugin),
        (status = 404, description = "unknown-plugin"),
    ),
)]
pub(super) async fn show(
    Shared(service): Shared<Arc<Service>>,
    Name(name): Name,
) -> Result<Response, Problem> {
    let plugin = service.directory.get(&name).ok_or_else(|| unknown(&name))?;
    Ok(reply(StatusCode::OK, &plugin))
}

/// A plugin: a WebAssembly component.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "only describes what is sent")]
struct PluginFile(Vec<u8>);

/// How a plugin is brought.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct How {
    /// It may replace a newer version. Default false.
    #[serde(default)]
    force: bool,
}

/// Puts a plugin into this host's directory, and answers when it is in service; the other hosts take it within seconds.
/// A refused one leaves the version before it in service, and goes nowhere.
#[utoipa::path(
    put, path = "/api/v1/plugins/{type}", tag = "plugins", operation_id = "put_plugin",
    params(
        ("type" = String, Path, description = "Job type; must be the name that the plugin says."),
        How,
        ("Waymark-Signature" = Option<String>, Header, description = "Detached signature: Ed25519 over the body, in Base64."),
    ),
    request_body(content = inline(PluginFile), content_type = "application/wasm"),
    responses(
        (status = 201, description = "A new type is in service.", body = Plugin),
        (status = 200, description = "A new version of a known type is in service.", body = Plugin),
        (status = 400, description = "invalid-header"),
        (status = 422, description = "plugin-refused"),
    ),
)]
pub(super) async fn put(
    Shared(service): Shared<Arc<Service>>,
    Name(name): Name,
    Params(How { force }): Params<How>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let signature = signature(&headers)?;
    let wasm = request::body(body, service.settings.upload_bytes_max, UPLOAD_TIMEOUT).await?;
    let known = service.directory.get(&name).is_some();
    let upload = Upload { name: &name, bytes: &wasm, signature, forced: force };
    let plugin = service.directory.upload(upload).await?;
    tracing::info!(plugin = name, digest = plugin.digest, "plugin uploaded");
    if let (Some(digest), Some(version)) = (&plugin.digest, &plugin.version) {
        let new = NewPlugin { name: &name, digest, file: &wasm, version, forced: force, signature };
        service.sharing.share(new).await?;
    }
    Ok(reply(if known { StatusCode::OK } else { StatusCode::CREATED }, &plugin))
}

/// Removes a plugin from this host's directory, and from those of all hosts if it was uploaded: the type retires.
/// Running jobs end or move.
#[utoipa::path(
    delete, path = "/api/v1/plugins/{type}", tag = "plugins", operation_id = "delete_plugin",
    params(("type" = String, Path, description = "Job type.")),
    responses(
        (status = 204, description = "It is retired."),
        (status = 404, description = "unknown-plugin"),
    ),
)]
pub(super) async fn delete(
    Shared(service): Shared<Arc<Service>>,
    Name(name): Name,
) -> Result<Response, Problem> {
    let removed = service.directory.remove(&name).await.map_err(|error| Problem::internal(&error.message))?;
    let withdrawn = service.sharing.withdraw(&name).await?;
    if !removed && !withdrawn {
        return Err(unknown(&name));
    }
    tracing::info!(plugin = name, "plugin removed");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The detached signature that came along.
fn signature(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get("waymark-signature") else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| {
        text.len() <= SIGNATURE_CHARACTERS_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
    });
    match text {
        Some(text) => Ok(Some(text)),
        None => {
            Err(Problem::new(Code::InvalidHeader, "Waymark-Signature: a signature in Base64 is expected."))
        }
    }
}

/// Makes the version before the active one active again on this host. Jobs of the version that it goes back from move
/// with their next commit where the other reads their checkpoints, and pause with an error where it does not.
#[utoipa::path(
    post, path = "/api/v1/plugins/{type}/rollback", tag = "plugins", operation_id = "roll_back_plugin",
    params(("type" = String, Path, description = "Job type.")),
    responses(
        (status = 200, description = "The version before is active.", body = Plugin),
        (status = 404, description = "unknown-plugin"),
        (status = 422, description = "plugin-refused"),
    ),
)]
pub(crate) async fn roll_back(
    Shared(service): Shared<Arc<Service>>,
    Name(name): Name,
) -> Result<Response, Problem> {
    service.directory.get(&name).ok_or_else(|| unknown(&name))?;
    let plugin = service.directory.go_back(&name).await?;
    Ok(reply(StatusCode::OK, &plugin))
}

fn unknown(name: &str) -> Problem {
    Problem::new(Code::UnknownPlugin, format!("This host has no plugin {:?}.", shorten(name)))
}

//! Where `plugin install` takes a plugin from: a file, an address, or a registry of containers; and how `plugin push`
//! writes to the last.

use crate::{api::auth::is_loopback, signature};
use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Args;
use oci_client::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol, Config, ImageLayer},
    secrets::RegistryAuth,
};
use reqwest::StatusCode;
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, path::Path, time::Duration};
use waymark_sandbox::bounded;

/// Longest file that is fetched, as long as the longest that a host reads.
const FILE_BYTES_MAX: usize = 256 << 20;
/// Longest signature that is fetched.
const SIGNATURE_BYTES_MAX: usize = 4096;
/// Longest time to reach a server.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest silence while something is fetched.
const SILENCE: Duration = Duration::from_secs(30);

/// Types of a layer that holds a component: of the CNCF's guide for artifacts of WebAssembly, and of tools before it.
const LAYER_TYPES: [&str; 2] = ["application/wasm", "application/vnd.wasm.content.layer.v1+wasm"];
const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
/// Annotation of the layer that holds the signature of its bytes.
const SIGNATURE: &str = "dev.waymark.signature";

/// Who asks a registry.
#[derive(Args, Clone, Debug)]
pub struct Registry {
    /// User of the registry, where it asks for one.
    #[arg(long, env = "WAYMARK_REGISTRY_USER", value_name = "NAME", requires = "registry_password")]
    registry_user: Option<String>,
    /// Password or token of that user.
    #[arg(long, env = "WAYMARK_REGISTRY_PASSWORD", hide_env_values = true, value_name = "PASSWORD")]
    registry_password: Option<String>,
}

/// A plugin that was fetched.
#[derive(Debug)]
pub(super) struct Fetched {
    /// What its file is called, without the ending; the job type unless it is named otherwise.
    pub(super) stem: Option<String>,
    pub(super) bytes: Vec<u8>,
    pub(super) signature: Option<String>,
}

/// Fetches a plugin. `digest` is that of its file, `sha256:` and 64 hexadecimal digits.
///
/// # Errors
/// It is not there, too long, or another than the digest says; or an address comes without a digest.
pub(super) async fn fetch(from: &str, digest: Option<&str>, registry: &Registry) -> anyhow::Result<Fetched> {
    let wanted = digest.map(digits).transpose()?;
    let fetched = if let Some(reference) = from.strip_prefix("oci://") {
        pull(reference, registry).await?
    } else if from.starts_with("http://") || from.starts_with("https://") {
        ensure!(
            wanted.is_some(),
            "what an address serves may change: say which file is meant with --digest sha256:… (`sha256sum FILE`)"
        );
        download(from).await?
    } else {
        read(Path::new(from))?
    };
    let found = hex::encode(Sha256::digest(&fetched.bytes));
    if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
        bail!("{from} has the digest sha256:{found}, not sha256:{wanted}: it is another file than was meant");
    }
    Ok(fetched)
}

fn digits(text: &str) -> anyhow::Result<String> {
    let hex = text.strip_prefix("sha256:").map(str::to_ascii_lowercase);
    hex.filter(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .with_context(|| format!("{text:?} is no digest: sha256: and 64 hexadecimal digits are expected"))
}

fn read(path: &Path) -> anyhow::Result<Fetched> {
    let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let signature = signature::read_beside(path).context("the signature beside it cannot be read")?;
    Ok(Fetched { stem: stem(path), bytes, signature })
}

fn stem(path: &Path) -> Option<String> {
    path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned)
}

async fn download(from: &str) -> anyhow::Result<Fetched> {
    let url = reqwest::Url::parse(from).with_context(|| format!("{from:?} is no address"))?;
    let http = reqwest::Client::builder().connect_timeout(CONNECT).read_timeout(SILENCE).build()?;
    let bytes = body(&http, url.clone(), FILE_BYTES_MAX)
        .await?
        .with_context(|| format!("{from} is not there (404)"))?;
    let mut beside = url.clone();
    beside.set_path(&format!("{}.sig", url.path()));
    // Its own check comes from the host, which has the keys.
    let signature = body(&http, beside, SIGNATURE_BYTES_MAX).await?;
    let signature =
        signature.and_then(|text| String::from_utf8(text).ok()).map(|text| text.trim().to_owned());
    Ok(Fetched { stem: stem(Path::new(url.path())), bytes, signature })
}

/// What an address serves; `None` where there is nothing.
async fn body(
    http: &reqwest::Client,
    url: reqwest::Url,
    bytes_max: usize,
) -> anyhow::Result<Option<Vec<u8>>> {
    let text = url.to_string();
    let response = http.get(url).send().await.with_context(|| format!("{text} cannot be reached"))?;
    if response.status() == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    ensure!(response.status().is_success(), "{text} answered {}", response.status());
    let bytes = bounded::whole(response.bytes_stream(), bytes_max).await;
    let bytes = bytes.with_context(|| format!("{text} broke off"))?;
    bytes.with_context(|| format!("{text} is longer than {bytes_max} bytes")).map(Some)
}

/// A client of the registry that a reference names. One on this machine is asked without TLS.
fn client(reference: &Reference) -> anyhow::Result<Client> {
    let registry = reference.resolve_registry();
    let protocol = if is_loopback(registry) {
        ClientProtocol::HttpsExcept(vec![registry.to_owned()])
    } else {
        ClientProtocol::Https
    };
    let config = ClientConfig {
        protocol,
        connect_timeout: Some(CONNECT),
        read_timeout: Some(SILENCE),
        ..ClientConfig::default()
    };
    Client::try_from(config).context("the registry's client cannot be made")
}

fn authentication(registry: &Registry) -> RegistryAuth {
    match (&registry.registry_user, &registry.registry_password) {
        (Some(user), Some(password)) => RegistryAuth::Basic(user.clone(), password.clone()),
        _ => RegistryAuth::Anonymous,
    }
}

fn reference(text: &str) -> anyhow::Result<Reference> {
    text.parse().with_context(|| {
        format!("oci://{text} is no place in a registry: oci://HOST/NAME:TAG or oci://HOST/NAME@sha256:… is expected")
    })
}

async fn pull(text: &str, registry: &Registry) -> anyhow::Result<Fetched> {
    let reference = reference(text)?;
    let client = client(&reference)?;
    let said = |error| anyhow!("oci://{text} cannot be had: {error}");
    // Where the reference names a digest, the client compares it.
    let (manifest, _) =
        client.pull_image_manifest(&reference, &authentication(registry)).await.map_err(said)?;
    let layers: Vec<_> =
        manifest.layers.iter().filter(|layer| LAYER_TYPES.contains(&layer.media_type.as_str())).collect();
    let [layer] = layers[..] else {
        bail!(
            "oci://{text} holds {} components: a plugin is one layer of type {}",
            layers.len(),
            LAYER_TYPES[0]
        );
    };
    let stream = client.pull_blob_stream(&reference, layer).await.map_err(said)?.stream;
    let bytes = bounded::whole(stream, FILE_BYTES_MAX).await;
    let bytes = bytes.with_context(|| format!("oci://{text} broke off"))?;
    let bytes = bytes.with_context(|| format!("oci://{text} is longer than {FILE_BYTES_MAX} bytes"))?;
    let found = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
    ensure!(found == layer.digest, "oci://{text}: the registry served {found} for {}", layer.digest);
    let signature = layer.annotations.as_ref().and_then(|annotations| annotations.get(SIGNATURE)).cloned();
    let stem = reference.repository().rsplit('/').next().map(str::to_owned);
    Ok(Fetched { stem, bytes, signature })
}

/// Writes a file to a registry, with the signature beside it. Answers the manifest's address.
///
/// # Errors
/// The file cannot be read, or the registry refuses it.
pub(super) async fn push(file: &Path, to: &str, registry: &Registry) -> anyhow::Result<String> {
    let text =
        to.strip_prefix("oci://").with_context(|| format!("{to:?}: oci://HOST/NAME:TAG is expected"))?;
    let reference = reference(text)?;
    let Fetched { bytes, signature, .. } = read(file)?;
    let annotations = signature.map(|signature| BTreeMap::from([(SIGNATURE.to_owned(), signature)]));
    let layer = ImageLayer::new(bytes, LAYER_TYPES[0].to_owned(), annotations);
    let config =
        serde_json::json!({"architecture": "wasm", "os": "wasip2", "layerDigests": [layer.sha256_digest()]});
    let config = Config::new(serde_json::to_vec(&config)?, CONFIG_TYPE.to_owned(), None);
    let client = client(&reference)?;
    let pushed = client.push(&reference, &[layer], config, &authentication(registry), None).await;
    Ok(pushed.map_err(|error| anyhow!("{to} cannot be written: {error}"))?.manifest_url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_needs_a_digest_and_a_digest_is_compared() {
        let registry = Registry { registry_user: None, registry_password: None };
        let complaint =
            fetch("https://example.invalid/x.wasm", None, &registry).await.unwrap_err().to_string();
        assert!(complaint.contains("--digest sha256:"), "{complaint}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.wasm");
        std::fs::write(&file, "x").unwrap();
        let file = file.to_str().unwrap();
        let right = format!("sha256:{}", hex::encode(Sha256::digest("x")));
        assert_eq!(fetch(file, Some(&right), &registry).await.unwrap().stem.as_deref(), Some("x"));
        let wrong = format!("sha256:{}", "0".repeat(64));
        assert!(fetch(file, Some(&wrong), &registry).await.unwrap_err().to_string().contains("another file"));
        for text in ["", "sha256:", "sha256:xyz", "md5:00", &"0".repeat(64)] {
            assert!(
                fetch(file, Some(text), &registry).await.unwrap_err().to_string().contains("no digest"),
                "{text}"
            );
        }
    }
}

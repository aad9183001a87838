//! How a plugin comes to the hosts: uploaded once, fetched from an address or a registry, signed, never silently older.

use crate::support::not_run;
use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::Duration,
};
use tempfile::TempDir;
use waymark_tests::{
    World, binary,
    client::Client,
    endpoint::{Endpoint, Reply},
    eventually, guest,
    registry::Registry,
};

/// Time for something that hosts do by themselves.
const SOON: Duration = Duration::from_secs(20);

/// The plugin `shared` in this version; `label` makes it another file.
fn version(version: &str, label: &str) -> Vec<u8> {
    let mut plugin = guest::text("shared", &[]);
    let at = plugin.windows(5).position(|bytes| bytes == b"1.0.0").expect("its version");
    plugin[at..at + 5].copy_from_slice(version.as_bytes());
    guest::relabelled(&plugin, label)
}

fn upload(host: &Client, bytes: &[u8]) -> Value {
    let headers = [("content-type", "application/wasm")];
    let answer = host.request("PUT", "/api/v1/plugins/shared", &headers, bytes);
    assert!([200, 201].contains(&answer.status), "{}", answer.body);
    answer.body
}

/// Waits until the host has this version of the plugin in service.
#[track_caller]
fn has(host: &Client, digest: &Value) {
    let what = |plugin: &Value| plugin["digest"] == *digest && plugin["state"] == "loaded";
    let _ = host.plugin("shared", "this version", SOON, what);
}

/// For commands that ask no host.
const NOBODY: &str = "http://127.0.0.1:1";

/// Runs `waymark plugin …` against a host.
fn plugin(url: &str, folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("plugin").args(arguments).current_dir(folder).env("WAYMARK_URL", url);
    command.output().expect("it starts")
}

#[track_caller]
fn said(host: &str, folder: &Path, arguments: &[&str]) -> String {
    let output = plugin(host, folder, arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[track_caller]
fn refused(host: &str, folder: &Path, arguments: &[&str]) -> String {
    let output = plugin(host, folder, arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).expect("UTF-8")
}

#[test]
fn what_is_uploaded_to_one_host_comes_to_all_and_goes_from_all() {
    let world = World::new("");
    let (mut first, mut second) = (world.empty_host(), world.empty_host());
    first.start();
    second.start();
    let one = upload(&first, &version("1.0.0", "a"))["digest"].clone();
    has(&second, &one);
    let id = second.submit(&json!({"type": "shared", "input": {}}));
    let _ = second.ended(&id);
    let mut late = world.empty_host();
    late.start();
    has(&late, &one);

    // What somebody puts into a directory is that host's own, until the next upload.
    let own = version("1.0.0", "own");
    guest::put(&late.plugins, "shared.wasm", &own);
    eventually("its own file is in service", SOON, || {
        (late.get("/api/v1/plugins/shared").expect(200)["digest"] != one).then_some(())
    });
    let two = upload(&second, &version("1.1.0", "b"))["digest"].clone();
    has(&first, &two);
    has(&late, &two);
    // It starts again and has it still, from its own directory.
    late.kill();
    late.start();
    has(&late, &two);

    drop(late.request("DELETE", "/api/v1/plugins/shared", &[], b"").expect(204));
    for host in [&first, &second] {
        let _ = host.plugin("shared", "retired", SOON, |plugin| plugin["state"] == "retired");
        assert!(!host.plugins.join("shared.wasm").exists());
    }
    let three = upload(&first, &version("1.1.0", "c"))["digest"].clone();
    has(&second, &three);
}

#[test]
fn an_older_version_is_refused_and_audited_unless_it_is_forced() {
    let world = World::new("");
    let (mut first, mut second) = (world.empty_host(), world.empty_host());
    first.start();
    second.start();
    let new = upload(&first, &version("1.2.0", ""))["digest"].clone();
    has(&second, &new);
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("shared.wasm"), version("1.1.9", "")).expect("a file");
    let complaint = refused(&first.url, folder.path(), &["install", "shared.wasm"]);
    assert!(complaint.contains("older than version 1.2.0") && complaint.contains("--force"), "{complaint}");
    assert_eq!(first.get("/api/v1/plugins/shared").expect(200)["digest"], new, "it stays");
    let audit = first.get("/api/v1/audit?about=/api/v1/plugins/shared").expect(200);
    assert_eq!(audit["entries"][0]["code"], "plugin-refused", "{audit}");
    assert_eq!(audit["entries"][0]["method"], "PUT");
    let words = said(&first.url, folder.path(), &["install", "shared.wasm", "--force"]);
    assert!(words.contains("shared 1.1.9 is in service"), "{words}");
    let _ = second.plugin("shared", "the older version", SOON, |plugin| plugin["version"] == "1.1.9");
}

#[test]
fn a_host_with_trusted_keys_takes_what_they_signed_and_nothing_else() {
    let folder = TempDir::new().expect("a folder");
    let work = folder.path();
    let made = said(NOBODY, work, &["keygen", "key.pem"]);
    let key = made.split('"').nth(1).expect("the public key").to_owned();
    assert!(
        refused(NOBODY, work, &["keygen", "key.pem"]).contains("cannot be written"),
        "no key is written over"
    );
    let _ = said(NOBODY, work, &["keygen", "other.pem"]);
    fs::write(work.join("shared.wasm"), version("1.0.0", "")).expect("a file");

    let world = World::new(&format!("[plugins_policy]\ntrusted_keys = [{key:?}]\n"));
    let (mut first, mut second) = (world.empty_host(), world.empty_host());
    first.start();
    second.start();
    assert!(refused(&first.url, work, &["install", "shared.wasm"]).contains("takes signed plugins only"));
    let _ = said(&first.url, work, &["sign", "shared.wasm", "--key", "other.pem"]);
    assert!(refused(&first.url, work, &["install", "shared.wasm"]).contains("not one of a trusted key"));
    let _ = said(&first.url, work, &["sign", "shared.wasm", "--key", "key.pem"]);
    let _ = said(&first.url, work, &["install", "shared.wasm"]);
    let digest = first.get("/api/v1/plugins/shared").expect(200)["digest"].clone();
    has(&second, &digest);

    // The same holds for a file that somebody puts into the directory, and for a signature that comes later.
    let other = version("1.0.1", "other");
    guest::put(&second.plugins, "shared.wasm", &other);
    let _ = second.plugin("shared", "refused", SOON, |plugin| plugin["error"]["code"] == "bad-signature");
    assert_eq!(
        second.get("/api/v1/plugins/shared").expect(200)["digest"],
        digest,
        "the version before stays"
    );
    fs::write(work.join("shared.wasm"), &other).expect("a file");
    let _ = said(&first.url, work, &["sign", "shared.wasm", "--key", "key.pem"]);
    fs::copy(work.join("shared.wasm.sig"), second.plugins.join("shared.wasm.sig")).expect("a copy");
    let _ = second.plugin("shared", "in service", SOON, |plugin| plugin["version"] == "1.0.1");
    let audit = first.get("/api/v1/audit?about=/api/v1/plugins/shared").expect(200);
    let codes: Vec<_> =
        audit["entries"].as_array().expect("entries").iter().map(|entry| &entry["code"]).collect();
    assert_eq!(codes.iter().filter(|code| **code == "plugin-refused").count(), 2, "{audit}");
}

#[test]
fn an_address_is_taken_by_its_digest() {
    let file = version("1.0.0", "");
    let served = file.clone();
    let server = Endpoint::start(move |asked| {
        if asked.line == "GET /files/shared.wasm" {
            Reply::new(200, served.clone())
        } else {
            Reply::new(404, "")
        }
    });
    let world = World::new("");
    let mut host = world.empty_host();
    host.start();
    let folder = TempDir::new().expect("a folder");
    let address = format!("http://{}/files/shared.wasm", server.address);
    assert!(refused(&host.url, folder.path(), &["install", &address]).contains("--digest sha256:"));
    let wrong = format!("sha256:{}", "0".repeat(64));
    let complaint = refused(&host.url, folder.path(), &["install", &address, "--digest", &wrong]);
    let right = complaint.split_whitespace().find(|word| word.starts_with("sha256:")).expect("what it is");
    let right = right.trim_end_matches(',').to_owned();
    assert_eq!(host.get("/api/v1/plugins").expect(200)["plugins"], json!([]), "nothing was installed");
    let words = said(&host.url, folder.path(), &["install", &address, "--digest", &right]);
    assert!(words.contains("shared 1.0.0 is in service"), "{words}");
    let missing = format!("http://{}/absent.wasm", server.address);
    assert!(
        refused(&host.url, folder.path(), &["install", &missing, "--digest", &right])
            .contains("not there (404)")
    );
}

#[test]
fn a_registry_keeps_a_plugin_with_its_signature() {
    let Some(registry) = Registry::start() else {
        return not_run("plugins in a registry: docker-registry is not installed");
    };
    let folder = TempDir::new().expect("a folder");
    let work = folder.path();
    let made = said(NOBODY, work, &["keygen", "key.pem"]);
    let key = made.split('"').nth(1).expect("the public key").to_owned();
    fs::write(work.join("shared.wasm"), version("1.0.0", "")).expect("a file");
    let _ = said(NOBODY, work, &["sign", "shared.wasm", "--key", "key.pem"]);
    let place = format!("oci://{}/team/shared:1.0.0", registry.address);
    let pushed: Value =
        serde_json::from_str(&said(NOBODY, work, &["push", "shared.wasm", &place, "--json"])).expect("JSON");

    let world = World::new(&format!("[plugins_policy]\ntrusted_keys = [{key:?}]\n"));
    let mut host = world.empty_host();
    host.start();
    let words = said(&host.url, work, &["install", &place]);
    assert!(words.contains("shared 1.0.0 is in service"), "{words}");
    // By the digest of the manifest, which the registry names.
    let digest =
        pushed["manifest"].as_str().and_then(|url| url.rsplit('/').next()).expect("a digest").to_owned();
    assert!(digest.starts_with("sha256:"), "{pushed}");
    let pinned = format!("oci://{}/team/shared@{digest}", registry.address);
    let _ = said(&host.url, work, &["install", &pinned]);
    let absent = format!("oci://{}/team/shared:2.0.0", registry.address);
    assert!(refused(&host.url, work, &["install", &absent]).contains("cannot be had"));
    assert!(refused(&host.url, work, &["install", "oci://"]).contains("oci://HOST/NAME:TAG"));

    // Without its signature the same file is refused.
    fs::remove_file(work.join("shared.wasm.sig")).expect("it goes");
    let bare = format!("oci://{}/team/shared:bare", registry.address);
    let _ = said(&host.url, work, &["push", "shared.wasm", &bare]);
    assert!(refused(&host.url, work, &["install", &bare]).contains("takes signed plugins only"));
}

//! `waymark plugin keygen` and `waymark plugin sign`: keys and detached signatures, without a host.

use crate::{
    cli::{client::pretty, table::say},
    signature::{self, Key},
};
use anyhow::Context as _;
use clap::Args;
use std::{
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// A file to sign.
#[derive(Args, Debug)]
pub struct Sign {
    /// The .wasm file.
    file: PathBuf,
    /// Private key, as `plugin keygen` or `openssl genpkey -algorithm ed25519` writes it.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

/// Writes a new private key, which only this user can read, and says the public one.
///
/// # Errors
/// The file exists, or cannot be written.
pub(super) fn keygen(file: &Path, json: bool) -> anyhow::Result<()> {
    let (key, text) = Key::generate()?;
    let place = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let written = place.and_then(|mut place| place.write_all(text.as_bytes()));
    written.with_context(|| format!("{} cannot be written", file.display()))?;
    if json {
        say!("{}", pretty(&serde_json::json!({"file": file, "public_key": key.public()})));
        return Ok(());
    }
    say!(
        "{} is a private key: keep it. Hosts that are to trust it are told its public half:",
        file.display()
    );
    say!("");
    say!("  [plugins_policy]");
    say!("  trusted_keys = [\"{}\"]", key.public());
    Ok(())
}

/// Writes the signature beside the file.
///
/// # Errors
/// The file or the key cannot be read, or the signature not be written.
pub(super) fn sign(sign: &Sign, json: bool) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(&sign.key);
    let key = Key::read(&text.with_context(|| format!("{} cannot be read", sign.key.display()))?)?;
    let file =
        std::fs::read(&sign.file).with_context(|| format!("{} cannot be read", sign.file.display()))?;
    let place = signature::beside(&sign.file);
    let text = format!("{}\n", key.sign(&file));
    std::fs::write(&place, text).with_context(|| format!("{} cannot be written", place.display()))?;
    if json {
        say!("{}", pretty(&serde_json::json!({"signature": place, "public_key": key.public()})));
    } else {
        say!("{} is signed: {}", sign.file.display(), place.display());
    }
    Ok(())
}

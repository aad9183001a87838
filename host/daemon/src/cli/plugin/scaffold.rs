//! `waymark plugin new`: a project that is a whole job type, small enough to be read at once.

use super::language::Language;
use crate::cli::{client::pretty, table::say};
use anyhow::{Context as _, ensure};
use clap::Args;
use std::{
    fs,
    path::{Path, PathBuf},
};

const NAME_BYTES_MAX: usize = 64;
/// Job types whose crates must be called otherwise: cargo or the compiler refuses these names, or a dependency has
/// them.
const TAKEN: [&str; 10] =
    ["alloc", "core", "proc_macro", "schemars", "serde", "std", "test", "waymark-sdk", "waymark_sdk", "_"];

/// A new job type.
#[derive(Args, Debug)]
pub struct New {
    /// Job type, and folder to make: 1 to 64 of a-z, 0-9, '_' and '-'.
    name: String,
    /// Language to write it in.
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    lang: Language,
    /// Folder of the SDK for Rust [default: the SDK in the repository of this version of waymark]. Projects in other
    /// languages hold their own copy.
    #[arg(long, value_name = "PATH")]
    sdk: Option<PathBuf>,
}

/// Writes the project.
///
/// # Errors
/// The name is no job type, the folder exists, or it cannot be written.
pub(super) fn run(new: &New, json: bool) -> anyhow::Result<()> {
    let (name, language) = (new.name.as_str(), new.lang);
    let legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    ensure!(
        (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(legal),
        "{name:?} is no job type: it is named with 1 to 64 of a-z, 0-9, '_' and '-'"
    );
    let rust = language == Language::Rust;
    ensure!(
        rust || new.sdk.is_none(),
        "--sdk is for Rust: a project in another language holds its own copy of the SDK"
    );
    let sdk = dependency(new.sdk.as_deref())?;
    let package = if rust { package(name) } else { name.to_owned() };
    let folder = Path::new(name);
    // Fails where anything of that name exists.
    fs::create_dir(folder).with_context(|| format!("the folder {name} cannot be made"))?;
    for (file, bytes) in language.files() {
        let path = folder.join(file);
        let write = || -> std::io::Result<()> {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            match std::str::from_utf8(bytes) {
                // Only in what is the author's own is there anything to fill in.
                Ok(text) if !file.starts_with("sdk/") && !file.starts_with("waymark/") => {
                    let text = text.replace("{package}", &package).replace("{sdk}", &sdk);
                    fs::write(&path, text.replace("{name}", name))
                }
                _ => fs::write(&path, bytes),
            }
        };
        write().with_context(|| format!("{name}/{file} cannot be written"))?;
    }
    let wasm = format!("target/{package}.wasm");
    if json {
        let wasm = format!("{name}/{wasm}");
        say!("{}", pretty(&serde_json::json!({"folder": name, "package": package, "wasm": wasm})));
        return Ok(());
    }
    say!("{name} is made: {} is the job type, input.json an input to try. Next:", language.source());
    say!("");
    say!("  cd {name}");
    if rust {
        say!("  cargo test");
    }
    say!("  waymark plugin build");
    if let Some(tests) = language.tests().filter(|_| !rust) {
        say!("  {tests}");
    }
    say!("  waymark plugin check {wasm} --input @input.json");
    say!("  waymark plugin run {wasm} --input @input.json");
    say!("");
    say!("To put it into service: waymark plugin install {wasm}{}", install_as(name, &package));
    Ok(())
}

/// `install` takes the file's name for the job type.
fn install_as(name: &str, package: &str) -> String {
    if name == package { String::new() } else { format!(" --name={name}") }
}

/// A name that cargo takes. It wants a letter first, and no word that means something else already.
fn package(name: &str) -> String {
    let plain = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_');
    if plain && !TAKEN.contains(&name) && !is_keyword(name) { name.to_owned() } else { format!("job-{name}") }
}

fn is_keyword(name: &str) -> bool {
    const KEYWORDS: &str = "abstract as async await become box break const continue crate do dyn else enum extern \
        false final fn for gen if impl in let loop macro match mod move mut override priv pub ref return self static \
        struct super trait true try type typeof unsafe unsized use virtual where while yield";
    KEYWORDS.split_whitespace().any(|keyword| keyword == name)
}

/// Where the SDK comes from, as cargo writes it.
fn dependency(folder: Option<&Path>) -> anyhow::Result<String> {
    let Some(folder) = folder else {
        return Ok(format!("git = {:?}", env!("CARGO_PKG_REPOSITORY")));
    };
    ensure!(folder.join("Cargo.toml").is_file(), "{} is not the folder of the SDK", folder.display());
    let folder = fs::canonicalize(folder)?;
    let path = folder.to_str().context("the path of the SDK is not UTF-8")?;
    Ok(format!("path = {}", toml::Value::from(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_called_like_its_job_type_unless_cargo_refuses_that() {
        for (name, called) in [
            ("word_count", "word_count"),
            ("a-b", "a-b"),
            ("2d", "job-2d"),
            ("fn", "job-fn"),
            ("-a", "job--a"),
        ] {
            assert_eq!(package(name), called);
        }
    }

    #[test]
    fn without_a_folder_the_sdk_comes_from_the_repository() {
        assert_eq!(dependency(None).unwrap(), "git = \"https://github.com/waymark-rs/waymark\"");
        assert!(dependency(Some(Path::new("/nowhere"))).is_err());
    }
}

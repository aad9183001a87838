//! `waymark completions` and `waymark man`: made from the command line's own description.

use super::table::say;
use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;
use std::{fs, path::Path};

/// Writes the completions for a shell to standard output.
pub fn completions(mut command: Command, shell: Shell) {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "waymark", &mut text);
    say!("{}", String::from_utf8_lossy(&text).trim_end());
}

/// Writes a man page for the program and each of its commands into a directory, which is made if need be.
///
/// # Errors
/// A file cannot be written.
pub fn man(command: Command, directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("{}: cannot be made", directory.display()))?;
    clap_mangen::generate_to(command, directory)
        .with_context(|| format!("man pages cannot be written to {}", directory.display()))
}

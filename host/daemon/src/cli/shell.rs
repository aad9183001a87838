//! `waymark completions` and `waymark man`: made from the command line's own description.

use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;
use std::{fs, io::Write as _, path::Path};

/// Writes the completions for a shell to standard output.
///
/// # Errors
/// Nobody reads them.
pub fn completions(mut command: Command, shell: Shell) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "waymark", &mut text);
    std::io::stdout().write_all(&text).context("the completions cannot be written")
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

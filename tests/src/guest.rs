//! Where plugins come from.

use crate::target;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A plugin that `cargo xtask guests` built.
///
/// # Panics
/// It was not built.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    let path = target().join(format!("guests/{name}.wasm"));
    assert!(path.is_file(), "{} is not there: cargo xtask guests", path.display());
    path
}

/// Puts a built plugin into a plugin directory.
///
/// # Panics
/// It was not built, or the directory cannot be written to.
pub fn copy(name: &str, directory: &Path) {
    put(directory, &format!("{name}.wasm"), &fs::read(path(name)).expect("the plugin is read"));
}

/// Puts a file into a plugin directory, whole or not at all, as an operator should.
///
/// # Panics
/// The directory cannot be written to.
pub fn put(directory: &Path, file: &str, bytes: &[u8]) {
    let beside = directory.join(format!(".{file}.part"));
    fs::write(&beside, bytes).expect("the plugin is written");
    fs::rename(&beside, directory.join(file)).expect("the plugin is put in place");
}

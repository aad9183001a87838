//! Where plugins come from: built by cargo, or a few lines of text.

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

/// A job type of this name in a few lines of WebAssembly text. Each pair replaces the part of that name in
/// `guests-wat/guest.wat`.
///
/// # Panics
/// The text is not well-formed, or the guest `noop`, whose world it takes, was not built.
#[must_use]
pub fn text(name: &str, parts: &[(&str, &str)]) -> Vec<u8> {
    assert!(name.len() <= 64, "a job type has at most 64 characters");
    let length = format!("\\{:02x}", name.len());
    let mut text = include_str!("../guests-wat/guest.wat").replace("NAME", name).replace("LENGTH", &length);
    for (part, body) in parts {
        let begin = format!(";;@{part}\n");
        let from = text.find(&begin).unwrap_or_else(|| panic!("no part {part}")) + begin.len();
        let to = from + text[from..].find(";;@end").expect("an end");
        text.replace_range(from..to, &format!("{body}\n"));
    }
    let mut module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"));
    module.extend(world());
    module
}

/// The sections of a core module that say which world it implements; every guest carries the same.
fn world() -> Vec<u8> {
    const HEADER_BYTES: usize = 8;
    let module = fs::read(path("noop")).expect("the plugin is read");
    let (mut world, mut at) = (Vec::new(), HEADER_BYTES);
    while at < module.len() {
        let (length, length_bytes) = number(&module[at + 1..]);
        let body = at + 1 + length_bytes;
        let (_, name_at) = number(&module[body..]);
        if module[at] == 0 && module[body + name_at..].starts_with(b"component-type") {
            world.extend_from_slice(&module[at..body + length]);
        }
        at = body + length;
    }
    assert!(!world.is_empty(), "the guest noop carries no world");
    world
}

/// An unsigned LEB128 number, and how many bytes it has.
fn number(bytes: &[u8]) -> (usize, usize) {
    let length = bytes.iter().take_while(|byte| *byte & 0x80 != 0).count() + 1;
    let number = bytes[..length].iter().rev().fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7f));
    (number, length)
}

/// The guest `counter` as another version: of 100 jobs `errors` fail, steps take `times` as long, and the state has the
/// shape of this number; the built one is 0, 1, 1.
///
/// # Panics
/// It was not built, or a number has more than two digits.
#[must_use]
pub fn counter(errors: u8, times: u8, shape: u8) -> Vec<u8> {
    const MARK: &[u8] = b"VARIANT:00:01:01";
    assert!(errors < 100 && times < 100 && shape < 100, "two digits each");
    let mut plugin = fs::read(path("counter")).expect("the plugin is read");
    let places: Vec<_> =
        (0..=plugin.len() - MARK.len()).filter(|at| plugin[*at..].starts_with(MARK)).collect();
    let [at] = places[..] else { panic!("the mark is there {} times", places.len()) };
    let mark = format!("VARIANT:{errors:02}:{times:02}:{shape:02}");
    plugin[at..at + MARK.len()].copy_from_slice(mark.as_bytes());
    plugin
}

/// The same plugin as another version: it does the same and has another digest.
///
/// # Panics
/// The label is longer than 64 bytes.
#[must_use]
pub fn relabelled(plugin: &[u8], label: &str) -> Vec<u8> {
    const NAME: &[u8] = b"label";
    assert!(label.len() <= 64, "a label has at most 64 bytes");
    // A custom section is number 0; both lengths fit into one byte.
    let lengths = [NAME.len() + 1 + label.len(), NAME.len()].map(|length| length as u8);
    [plugin, &[0, lengths[0], lengths[1]], NAME, label.as_bytes()].concat()
}

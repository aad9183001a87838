//! The table of features names tests that exist.

use std::{
    fs,
    path::{Path, PathBuf},
};
use waymark_tests::root;

/// All Rust files below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_test_that_the_table_of_features_names_exists() {
    let mut files = Vec::new();
    for folder in ["host", "plugins", "sdk", "tests", "xtask"] {
        sources(&root().join(folder), &mut files);
    }
    let table = fs::read_to_string(root().join("docs/features.md")).expect("the table");
    let (mut named, mut file) = (0, String::new());
    // `path/file.rs::test`; `::test` alone is in the same file.
    for word in table.split([' ', ',', '|', '\n', '`']) {
        let Some((before, test)) =
            word.split_once("::").filter(|(at, _)| at.is_empty() || at.ends_with(".rs"))
        else {
            continue;
        };
        if !before.is_empty() {
            file = before.to_owned();
        }
        let wanted = format!("fn {}(", test.rsplit("::").next().unwrap_or(test));
        let mut candidates = files.iter().filter(|path| path.ends_with(&file));
        let exists = candidates.any(|path| fs::read_to_string(path).expect("a file").contains(&wanted));
        assert!(exists, "docs/features.md names {file}::{test}, which is not there");
        named += 1;
    }
    assert!(named > 10, "the table names tests as file.rs::test");
}

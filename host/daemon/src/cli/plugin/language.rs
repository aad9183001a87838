//! The languages that a job type can be written in: what a new project holds, and how an existing one is recognised.
//!
//! What an author needs of the SDK for Python, JavaScript or C is copied into the project, so that it builds without a
//! registry that has it, and goes on building when `waymark` is replaced. Rust has its own way to name a crate.

use clap::ValueEnum;
use std::path::Path;

/// A language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    /// A crate, compiled with cargo.
    Rust,
    /// A module, made a component with componentize-py.
    Python,
    /// A module in JavaScript or TypeScript, made a component with componentize-js.
    Js,
    /// Compiled with the Clang of a package from PyPI.
    C,
}

/// A file of a project, by its path there. `{name}` in it stands for the job type.
pub(super) type File = (&'static str, &'static [u8]);

macro_rules! template {
    ($at:literal) => {
        include_bytes!(concat!("template/", $at))
    };
}

macro_rules! repository {
    ($at:literal) => {
        include_bytes!(concat!("../../../../../", $at))
    };
}

const INPUT: File = ("input.json", template!("input.json"));

/// What the tool chains of Python and C are installed from.
pub(super) const REQUIREMENTS: &str = "requirements.txt";

const RUST: &[File] = &[
    ("Cargo.toml", template!("rust/Cargo.toml")),
    ("src/lib.rs", template!("rust/lib.rs")),
    INPUT,
    (".gitignore", b"/target\n"),
];

const PYTHON: &[File] = &[
    ("job.py", template!("python/job.py")),
    ("test_job.py", template!("python/test_job.py")),
    (REQUIREMENTS, template!("python/requirements.txt")),
    INPUT,
    (".gitignore", b"/target\n__pycache__\n"),
    ("waymark/__init__.py", repository!("sdk/python/src/waymark/__init__.py")),
    ("waymark/_capability.py", repository!("sdk/python/src/waymark/_capability.py")),
    ("waymark/_context.py", repository!("sdk/python/src/waymark/_context.py")),
    ("waymark/_guest.py", repository!("sdk/python/src/waymark/_guest.py")),
    ("waymark/_items.py", repository!("sdk/python/src/waymark/_items.py")),
    ("waymark/_job.py", repository!("sdk/python/src/waymark/_job.py")),
    ("waymark/_shape.py", repository!("sdk/python/src/waymark/_shape.py")),
    ("waymark/_step.py", repository!("sdk/python/src/waymark/_step.py")),
    ("waymark/build.py", repository!("sdk/python/src/waymark/build.py")),
    ("waymark/config.py", repository!("sdk/python/src/waymark/config.py")),
    ("waymark/http.py", repository!("sdk/python/src/waymark/http.py")),
    ("waymark/kv.py", repository!("sdk/python/src/waymark/kv.py")),
    ("waymark/llm.py", repository!("sdk/python/src/waymark/llm.py")),
    ("waymark/py.typed", repository!("sdk/python/src/waymark/py.typed")),
    ("waymark/sql.py", repository!("sdk/python/src/waymark/sql.py")),
    ("waymark/testing.py", repository!("sdk/python/src/waymark/testing.py")),
];

const JS: &[File] = &[
    ("job.js", template!("js/job.js")),
    ("job.test.js", template!("js/job.test.js")),
    ("package.json", template!("js/package.json")),
    INPUT,
    (".gitignore", b"/target\nnode_modules\n"),
    ("sdk/package.json", template!("js/sdk.json")),
    ("sdk/build.js", repository!("sdk/js/src/job/build.js")),
    ("sdk/capability.d.ts", repository!("sdk/js/src/job/capability.d.ts")),
    ("sdk/capability.js", repository!("sdk/js/src/job/capability.js")),
    ("sdk/config.d.ts", repository!("sdk/js/src/job/config.d.ts")),
    ("sdk/config.js", repository!("sdk/js/src/job/config.js")),
    ("sdk/http.d.ts", repository!("sdk/js/src/job/http.d.ts")),
    ("sdk/http.js", repository!("sdk/js/src/job/http.js")),
    ("sdk/index.d.ts", repository!("sdk/js/src/job/index.d.ts")),
    ("sdk/index.js", repository!("sdk/js/src/job/index.js")),
    ("sdk/kv.d.ts", repository!("sdk/js/src/job/kv.d.ts")),
    ("sdk/kv.js", repository!("sdk/js/src/job/kv.js")),
    ("sdk/llm.d.ts", repository!("sdk/js/src/job/llm.d.ts")),
    ("sdk/llm.js", repository!("sdk/js/src/job/llm.js")),
    ("sdk/sql.d.ts", repository!("sdk/js/src/job/sql.d.ts")),
    ("sdk/sql.js", repository!("sdk/js/src/job/sql.js")),
    ("sdk/testing.d.ts", repository!("sdk/js/src/job/testing.d.ts")),
    ("sdk/testing.js", repository!("sdk/js/src/job/testing.js")),
];

const C: &[File] = &[
    ("job.c", template!("c/job.c")),
    (REQUIREMENTS, template!("c/requirements.txt")),
    INPUT,
    (".gitignore", b"/target\n"),
    ("sdk/task.c", repository!("sdk/c/task.c")),
    ("sdk/task.h", repository!("sdk/c/task.h")),
    ("sdk/task_component_type.o", repository!("sdk/c/task_component_type.o")),
];

/// The contract and the capabilities, as tool chains read them.
pub(super) const WIT: &[File] = &[
    ("task.wit", repository!("wit/task.wit")),
    ("deps/config/store.wit", repository!("wit/deps/config/store.wit")),
    ("deps/config/world.wit", repository!("wit/deps/config/world.wit")),
    ("deps/http/http.wit", repository!("wit/deps/http/http.wit")),
    ("deps/io/io.wit", repository!("wit/deps/io/io.wit")),
    ("deps/keyvalue/atomic.wit", repository!("wit/deps/keyvalue/atomic.wit")),
    ("deps/keyvalue/batch.wit", repository!("wit/deps/keyvalue/batch.wit")),
    ("deps/keyvalue/store.wit", repository!("wit/deps/keyvalue/store.wit")),
    ("deps/keyvalue/world.wit", repository!("wit/deps/keyvalue/world.wit")),
    ("deps/llm/llm.wit", repository!("wit/deps/llm/llm.wit")),
    ("deps/sql/sql.wit", repository!("wit/deps/sql/sql.wit")),
];

impl Language {
    /// What a new project holds.
    pub(super) fn files(self) -> &'static [File] {
        match self {
            Self::Rust => RUST,
            Self::Python => PYTHON,
            Self::Js => JS,
            Self::C => C,
        }
    }

    /// The file that an author changes.
    pub(super) fn source(self) -> &'static str {
        match self {
            Self::Rust => "src/lib.rs",
            Self::Python => "job.py",
            Self::Js => "job.js",
            Self::C => "job.c",
        }
    }

    /// How the tests of a new project are run, where it has some of its own. They come after the first build, which
    /// sets up the tool chain.
    pub(super) fn tests(self) -> Option<&'static str> {
        match self {
            Self::Rust => Some("cargo test"),
            Self::Python => Some("target/venv/bin/python -m pytest"),
            Self::Js => Some("npm test"),
            Self::C => None,
        }
    }

    /// The language of a project; `None` where a folder holds none.
    pub(super) fn of(folder: &Path) -> Option<Self> {
        let has = |file: &str| folder.join(file).is_file();
        if has("Cargo.toml") {
            Some(Self::Rust)
        } else if has("package.json") {
            Some(Self::Js)
        } else if has("job.py") {
            Some(Self::Python)
        } else if has("job.c") {
            Some(Self::C)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_project_is_recognised_as_what_it_is() {
        for language in Language::value_variants() {
            let folder = tempfile::tempdir().unwrap();
            for (path, bytes) in language.files() {
                let path = folder.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, bytes).unwrap();
            }
            assert_eq!(Language::of(folder.path()), Some(*language));
            assert!(folder.path().join(language.source()).is_file());
        }
        assert_eq!(Language::of(tempfile::tempdir().unwrap().path()), None);
    }
}

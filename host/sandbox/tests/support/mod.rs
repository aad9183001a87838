//! Guests in WebAssembly text, and an engine to run them in.

#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use tempfile::TempDir;
use waymark_sandbox::{
    Engine, EngineOptions, Fault, FileGrant, Grants, Instance, JobContext, Limits, LoadError, LogLine,
    Plugin, compile_file,
};
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, UnresolvedPackageGroup};

/// A core module that carries the world of `wit/`. Each pair replaces the part of that name in `guest.wat`.
pub(crate) fn guest(parts: &[(&str, &str)]) -> Vec<u8> {
    guest_importing(parts, &[])
}

/// The same with more imports in its world than every plugin has; `support/wasi` says which there are.
pub(crate) fn guest_importing(parts: &[(&str, &str)], imports: &[&str]) -> Vec<u8> {
    let mut text = include_str!("guest.wat").to_owned();
    for (part, body) in parts {
        let begin = format!(";;@{part}\n");
        let from = text.find(&begin).unwrap_or_else(|| panic!("no part {part}")) + begin.len();
        let to = from + text[from..].find(";;@end").expect("an end");
        text.replace_range(from..to, &format!("{body}\n"));
    }
    let mut module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"));
    let mut resolve = Resolve::default();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    resolve.push_dir(here.join("../../wit")).expect("wit/");
    let interfaces = include_str!("interfaces.wit");
    let group = UnresolvedPackageGroup::parse("interfaces.wit", interfaces).expect("interfaces.wit");
    resolve.push_group(group).expect("interfaces.wit");
    let imports: String = imports.iter().map(|import| format!("import {import};\n")).collect();
    let world = format!("package test:guest;\nworld guest {{ include waymark:task/task@0.1.0;\n{imports}}}");
    let group = UnresolvedPackageGroup::parse("guest.wit", &world).expect("a world");
    let package = resolve.push_group(group).expect("a world");
    let world = resolve.select_world(&[package], Some("guest")).expect("the world");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("the world's section");
    module
}

/// An engine, a cache, and a place for files.
pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) directory: TempDir,
}

pub(crate) const BUDGET_BYTES: u64 = 512 << 20;

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(&EngineOptions { memory_budget_bytes: BUDGET_BYTES, instances_max: 8, pooling: true })
    }

    pub(crate) fn with(options: &EngineOptions) -> Self {
        Self {
            engine: Engine::new(options).expect("an engine"),
            directory: TempDir::new().expect("a directory"),
        }
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    pub(crate) fn file(&self, bytes: &[u8]) -> PathBuf {
        let path = self.directory.path().join("plugin.wasm");
        std::fs::write(&path, bytes).expect("a file");
        path
    }

    pub(crate) fn compile(&self, bytes: &[u8]) -> Result<String, LoadError> {
        compile_file(&self.engine, &self.file(bytes), &self.cache()).map(|compiled| compiled.digest)
    }

    pub(crate) fn plugin(&self, parts: &[(&str, &str)], limits: Limits) -> Plugin {
        self.granted(parts, limits, Vec::new())
    }

    pub(crate) fn granted(&self, parts: &[(&str, &str)], limits: Limits, files: Vec<FileGrant>) -> Plugin {
        let digest = self.compile(&guest(parts)).expect("the guest compiles");
        self.engine
            .load(&self.cache(), &digest, limits, Grants { files, ..Grants::default() })
            .expect("the guest loads")
    }
}

/// Limits for tests that wait for them.
pub(crate) fn limits() -> Limits {
    Limits { memory_bytes: 16 << 20, step_hard_ms: Some(300), ..Limits::default() }
}

pub(crate) fn context() -> JobContext {
    logged().0
}

/// The context of a job, and its lines.
pub(crate) fn logged() -> (JobContext, Arc<Mutex<Vec<LogLine>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = lines.clone();
    let context = JobContext {
        job_id: "job-1".into(),
        correlation_id: "all".into(),
        run: 2,
        committed_steps: 4,
        logs: Box::new(move |line| sink.lock().expect("lines").push(line)),
        child_id: Box::new(|step, index| format!("child-{step}-{index}")),
        ..JobContext::default()
    };
    (context, lines)
}

/// A job at its beginning.
pub(crate) async fn begin(plugin: &Plugin) -> Result<Instance, Fault> {
    plugin.start(context(), "{}").await
}

/// The code of a fault that is the guest's.
pub(crate) fn kind(fault: &Fault) -> &'static str {
    match fault {
        Fault::Trap { kind, .. } => kind,
        other => panic!("not a trap: {other:?}"),
    }
}

/// Memory of this process that is in use, bytes.
pub(crate) fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: u64 = statm.split(' ').nth(1).expect("resident").parse().expect("a number");
    pages * 4096
}

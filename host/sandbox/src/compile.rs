//! From a `.wasm` file to checked, compiled code in the cache.
//!
//! The cache is `<cache>/<engine hash>/<digest>.cwasm` with a manifest `<digest>.json` beside it, which is written
//! last and holds the digest of the code: whoever loads it can tell whole from half and ours from foreign. The
//! directory belongs to this user alone, for whoever can write there can run machine code.

use crate::{
    Descriptor, Engine, Fault, JobContext, Limits, LoadError,
    bindings::TaskPre,
    engine::{Backend, hex},
    instance::Instance,
    meter::{Budget, Meter},
    plugin::check_known,
    state::State,
    turns::{Gate, Turns},
    wasi::Wasi,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};
use wasmtime::{
    Precompiled,
    component::{Component, types::ComponentItem},
};

/// What is known of a compiled plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compiled {
    /// SHA-256 of the `.wasm` file, hexadecimal.
    pub digest: String,
    /// What the plugin says of itself.
    pub descriptor: Descriptor,
    /// Names of its imports.
    pub imports: Vec<String>,
    /// Length of the `.wasm` file.
    pub bytes: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Manifest {
    #[serde(flatten)]
    pub(crate) compiled: Compiled,
    /// SHA-256 of the compiled code.
    pub(crate) sha256: String,
}

/// Longest file that is read at all. An interpreter in WebAssembly has 10 to 40 MiB.
pub const WASM_BYTES_MAX: u64 = 256 << 20;
/// Longest manifest: schemas are the guest's.
const MANIFEST_BYTES_MAX: u64 = 16 << 20;
/// Memory that `describe` may use. An interpreter needs all of itself.
const DESCRIBE_MEMORY_BYTES: u64 = 512 << 20;
/// Time that `describe` may take, milliseconds.
const DESCRIBE_MS: u64 = 10_000;
/// Longest descriptor.
const DESCRIPTOR_BYTES_MAX: u64 = 2 << 20;
/// What a plugin exports.
const LIFECYCLE: &str = "waymark:task/lifecycle@0.1.";

const MAGIC: &[u8] = b"\0asm";
/// Version and layer of a core module; a component has others.
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";

impl Manifest {
    pub(crate) fn read(directory: &Path, digest: &str) -> Result<Option<Self>, LoadError> {
        let path = directory.join(format!("{digest}.json"));
        let text = match read_capped(&path, MANIFEST_BYTES_MAX) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LoadError::host("compiled code", error)),
        };
        let damaged = |error| LoadError::new("cache-damaged", format!("{}: {error}", path.display()));
        serde_json::from_slice(&text).map(Some).map_err(damaged)
    }
}

/// 64 hexadecimal digits, in lower case.
pub(crate) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn read_capped(path: &Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Checks and compiles a file, and asks the plugin to describe itself.
///
/// Runs the file's code and a compiler over it: call it through [`crate::compile_in_child`], which sets limits of
/// memory and time that this function alone does not have. Blocks.
///
/// # Errors
/// Every code of [`LoadError`] but those of loading.
pub fn compile_file(engine: &Engine, wasm: &Path, cache: &Path) -> Result<Compiled, LoadError> {
    compile(engine, wasm, cache, || {})
}

/// `compiled` is called between compiling, which runs none of the guest's code, and `describe`, which does.
pub(crate) fn compile(
    engine: &Engine,
    wasm: &Path,
    cache: &Path,
    compiled: impl FnOnce(),
) -> Result<Compiled, LoadError> {
    let bytes = read_capped(wasm, WASM_BYTES_MAX).map_err(|error| LoadError::host("the file", error))?;
    if bytes.len() as u64 > WASM_BYTES_MAX {
        return Err(LoadError::new("too-large", format!("the file is longer than {WASM_BYTES_MAX} bytes")));
    }
    let digest = hex(&Sha256::digest(&bytes));
    let directory = cache.join(&engine.inner.hash);
    if let Some(known) = known(&directory, &digest) {
        return Ok(known);
    }
    let component = component(&bytes)?;
    let backend = &engine.inner.on_demand;
    let component = Component::from_binary(&backend.engine, &component).map_err(|error| invalid(&error))?;
    let code =
        component.serialize().map_err(|error| LoadError::host("compiled code", format!("{error:#}")))?;
    compiled();
    let imports: Vec<_> =
        component.component_type().imports(&backend.engine).map(|(name, _)| name.to_owned()).collect();
    let descriptor = describe(backend, &component, &imports)?;
    let bytes = bytes.len() as u64;
    let manifest = Manifest {
        compiled: Compiled { digest, descriptor, imports, bytes },
        sha256: hex(&Sha256::digest(&code)),
    };
    store(&directory, &manifest, &code)
        .map_err(|error| LoadError::host("the cache of compiled plugins", error))?;
    Ok(manifest.compiled)
}

/// The same file was compiled before, and the code is whole.
fn known(directory: &Path, digest: &str) -> Option<Compiled> {
    let manifest = Manifest::read(directory, digest).ok()??;
    let code = fs::read(directory.join(format!("{digest}.cwasm"))).ok()?;
    (hex(&Sha256::digest(&code)) == manifest.sha256).then_some(manifest.compiled)
}

fn store(directory: &Path, manifest: &Manifest, code: &[u8]) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let write = |name: &str, bytes: &[u8]| {
        // Two processes may compile the same file at once: each writes its own, and either is right.
        let draft = directory.join(format!(".{name}.{}", std::process::id()));
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, directory.join(name))
    };
    let digest = &manifest.compiled.digest;
    write(&format!("{digest}.cwasm"), code)?;
    write(&format!("{digest}.json"), &serde_json::to_vec(manifest)?)
}

/// The bytes of a component: the file's own, or a core module wrapped.
fn component(bytes: &[u8]) -> Result<Vec<u8>, LoadError> {
    match wasmtime::Engine::detect_precompiled(bytes) {
        Some(Precompiled::Component | Precompiled::Module) => {
            let message = "compiled code (.cwasm) is never accepted: bring the .wasm file it was made from";
            return Err(LoadError::new("precompiled", message));
        }
        None if !bytes.starts_with(&MAGIC[..bytes.len().min(MAGIC.len())]) => {
            return Err(LoadError::new("not-wasm", "the file does not begin like WebAssembly"));
        }
        None if is_truncated(bytes) => {
            return Err(LoadError::new("truncated", "the file ends in the middle of a section"));
        }
        None => {}
    }
    if !bytes.starts_with(CORE_MODULE) {
        return Ok(bytes.to_vec());
    }
    let wrapped = wit_component::ComponentEncoder::default()
        .validate(true)
        .module(bytes)
        .and_then(|encoder| encoder.encode());
    wrapped.map_err(|error| {
        let text = format!("{error:#}");
        if text.contains("wasi_snapshot_preview1") {
            let message = "a core module for WASI 0.1: build it for wasm32-wasip2 or wasm32-unknown-unknown";
            return LoadError::new("no-world", message);
        }
        let code = if has_world(bytes) { "invalid-wasm" } else { "no-world" };
        LoadError::new(
            code,
            format!("a core module that does not implement the world waymark:task/task: {text}"),
        )
    })
}

/// A core module carries its world in a custom section whose name begins so.
fn has_world(bytes: &[u8]) -> bool {
    const NAME: &[u8] = b"component-type";
    bytes.windows(NAME.len()).any(|window| window == NAME)
}

/// A section says that it is longer than what is left of the file. What else is wrong, the parser finds.
fn is_truncated(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(CORE_MODULE.len()..);
    while let Some([_section, after @ ..]) = rest {
        let Some((length, after)) = length(after) else { return after.len() < LENGTH_BYTES_MAX };
        if length > after.len() {
            return true;
        }
        rest = after.get(length..);
    }
    bytes.len() < CORE_MODULE.len()
}

/// Longest encoding of a section's length.
const LENGTH_BYTES_MAX: usize = 5;

/// An unsigned LEB128 number of at most 32 bits, and what follows it.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let last = bytes.iter().take(LENGTH_BYTES_MAX).position(|byte| byte & 0x80 == 0)?;
    let number = bytes[..=last].iter().rev().fold(0_u64, |sum, byte| sum << 7 | u64::from(byte & 0x7f));
    Some((usize::try_from(number).ok()?, &bytes[last + 1..]))
}

/// Names of what the component in `bytes` imports, or the core module that carries its world. Compiles nothing.
///
/// # Errors
/// As for a file that is no component.
pub fn imports(bytes: &[u8]) -> Result<Vec<String>, LoadError> {
    let component = component(bytes)?;
    let decoded = wit_component::decode(&component)
        .map_err(|error| LoadError::new("invalid-wasm", format!("{error:#}")))?;
    let wit_component::DecodedWasm::Component(resolve, world) = decoded else {
        return Err(LoadError::new("no-world", "this is a package of interfaces, not a component"));
    };
    let world = &resolve.worlds[world];
    Ok(world.imports.keys().map(|key| resolve.name_world_key(key)).collect())
}

fn invalid(error: &wasmtime::Error) -> LoadError {
    let text = format!("{error:#}");
    if error.is::<std::io::Error>() {
        return LoadError::new("compile-limit", format!("compiling needs more memory than allowed: {text}"));
    }
    LoadError::new("invalid-wasm", text)
}

fn describe(backend: &Backend, component: &Component, imports: &[String]) -> Result<Descriptor, LoadError> {
    let exports = component.component_type();
    let exports = exports.exports(&backend.engine);
    let lifecycle = exports
        .filter(|(_, export)| matches!(export.ty, ComponentItem::ComponentInstance(_)))
        .any(|(name, _)| name.starts_with(LIFECYCLE));
    if !lifecycle {
        let message = "the component does not export waymark:task/lifecycle@0.1.0: it is no job type";
        return Err(LoadError::new("no-world", message));
    }
    // What is granted follows from the name of the job type, which is not known before `describe`: until then every
    // capability is there and does nothing.
    check_known(imports)?;
    let linked = backend.linker.instantiate_pre(component).and_then(TaskPre::new);
    let pre = linked.map_err(|error| {
        LoadError::new(
            "no-world",
            format!("the component does not match the world waymark:task/task: {error:#}"),
        )
    })?;
    let limits = Limits {
        memory_bytes: DESCRIBE_MEMORY_BYTES,
        result_bytes_max: DESCRIPTOR_BYTES_MAX,
        step_hard_ms: Some(DESCRIBE_MS),
        ..Limits::default()
    };
    let meter = Meter::new(Arc::new(Budget::new(DESCRIBE_MEMORY_BYTES)), DESCRIBE_MEMORY_BYTES);
    let mut state = State::new(JobContext::default(), Arc::new(limits), meter, Turns::new(Gate::new(1)));
    if imports.iter().any(|import| import.starts_with("wasi:")) {
        let wasi = Wasi::new(&crate::Grants::default(), None, None, &state.logger, false)
            .map_err(|error| LoadError::host("WASI", format!("{error:#}")))?;
        state.wasi = Some(Box::new(wasi));
    }
    // On a thread of its own, for the caller's may belong to a runtime already.
    let described = std::thread::scope(|scope| {
        let call = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let runtime = runtime.map_err(|error| Fault::Host(error.to_string()))?;
            runtime.block_on(async {
                let mut instance = Instance::open(&pre, state).await?;
                instance.describe().await
            })
        };
        scope.spawn(call).join()
    });
    let described = described.map_err(|_| LoadError::host("describe", "the host panicked"))?;
    match described {
        Ok(raw) => Descriptor::check(raw),
        Err(fault) => {
            let trace = match &fault {
                Fault::Trap { trace: Some(trace), .. } => format!("\n{trace}"),
                _ => String::new(),
            };
            Err(LoadError::new("describe-failed", format!("describe did not return: {fault}{trace}")))
        }
    }
}

//! Compiling in a process of its own, so that a file which makes the compiler eat all memory or time, or even
//! crash, costs nothing but itself.

use crate::{Compiled, Engine, EngineOptions, LoadError, compile::compile};
use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};
use serde::{Deserialize, Serialize};
use std::{
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{ExitCode, ExitStatus, Stdio},
    time::Duration,
};
use tokio::{io::AsyncReadExt, process::Command};

/// Address space that compiling may take beyond what the process has at its start, in bytes.
const COMPILE_BYTES: u64 = 2 << 30;
/// The same for `describe`: every memory of a guest reserves 4 GiB and guards without using them; what it uses is
/// metered.
const DESCRIBE_BYTES: u64 = 32 << 30;
/// Processor time, seconds, over all threads. An interpreter of 18 MiB takes 13.
const CPU_SECONDS: u64 = 120;
/// Longest file it may write, bytes.
const FILE_BYTES: u64 = 2 << 30;
/// Wall-clock time. More than the processor time: the child stands back for others.
const WALL: Duration = Duration::from_secs(300);
/// The child stands back for everybody else.
const NICENESS: i32 = 10;
/// Threads of the compiler.
const COMPILER_THREADS_MAX: usize = 4;
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
const COMPLAINT_BYTES_MAX: u64 = 4 << 10;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Compiled(Compiled),
    Refused { code: String, message: String },
}

/// What the child does: the whole of `waymark compile-plugin <wasm> <cache>`. Limits the process it runs in, and
/// prints one line of JSON.
#[must_use]
pub fn compile_main(wasm: &Path, cache: &Path) -> ExitCode {
    let answer = match compile_limited(wasm, cache) {
        Ok(compiled) => Answer::Compiled(compiled),
        Err(error) => Answer::Refused { code: error.code().into(), message: error.to_string() },
    };
    let refused = matches!(answer, Answer::Refused { .. });
    match serde_json::to_string(&answer) {
        Ok(line) => println!("{line}"),
        Err(_) => return ExitCode::FAILURE,
    }
    if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn compile_limited(wasm: &Path, cache: &Path) -> Result<Compiled, LoadError> {
    let options = EngineOptions { memory_budget_bytes: 1 << 30, instances_max: 1, pooling: false };
    let engine = Engine::new(&options).map_err(|error| LoadError::host("Wasmtime", error))?;
    let unlimited = |error| LoadError::host("the limits of the compiler's process", error);
    let now = address_space_bytes();
    let describe_bytes = now.map(|now| now + DESCRIBE_BYTES);
    limit(Resource::As, now.map(|now| now + COMPILE_BYTES), describe_bytes).map_err(unlimited)?;
    limit(Resource::Cpu, Some(CPU_SECONDS), Some(CPU_SECONDS)).map_err(unlimited)?;
    limit(Resource::Fsize, Some(FILE_BYTES), Some(FILE_BYTES)).map_err(unlimited)?;
    limit(Resource::Core, Some(0), Some(0)).map_err(unlimited)?;
    // It compiles all the same if it may not stand back.
    let _ = nice(NICENESS);
    // The raised limit is within the hard one; if it fails, `describe` may fail, which says so.
    compile(&engine, wasm, cache, || {
        let _ = limit(Resource::As, describe_bytes, describe_bytes);
    })
}

/// Never more than the process may have already.
fn limit(resource: Resource, current: Option<u64>, maximum: Option<u64>) -> Result<(), rustix::io::Errno> {
    let ceiling = getrlimit(resource).maximum;
    let within = |wanted: Option<u64>| match (wanted, ceiling) {
        (Some(wanted), Some(ceiling)) => Some(wanted.min(ceiling)),
        (wanted, ceiling) => wanted.or(ceiling),
    };
    setrlimit(resource, Rlimit { current: within(current), maximum: within(maximum) })
}

/// Of this process. `None` where the system does not tell: then only time is limited.
fn address_space_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').next()?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}

/// Compiles a file in a child process `<exe> compile-plugin <wasm> <cache>`, which must call [`compile_main`].
///
/// Cancel-safe: the child dies with the call.
///
/// # Errors
/// Every code of [`LoadError`] but those of loading; `compile-limit` if the child ran out of memory or time.
pub async fn compile_in_child(exe: &Path, wasm: &Path, cache: &Path) -> Result<Compiled, LoadError> {
    let threads =
        std::thread::available_parallelism().map_or(1, |threads| threads.get().min(COMPILER_THREADS_MAX));
    let mut child = Command::new(exe)
        .arg("compile-plugin")
        .arg(wasm)
        .arg(cache)
        .env_clear()
        .env("RAYON_NUM_THREADS", threads.to_string())
        // Each arena of glibc reserves 64 MiB of the address space that is limited.
        .env("MALLOC_ARENA_MAX", "2")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| LoadError::host("the compiler's process", error))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let done = tokio::time::timeout(WALL, async {
        let (answer, complaint) =
            tokio::join!(read(stdout, ANSWER_BYTES_MAX), read(stderr, COMPLAINT_BYTES_MAX));
        (child.wait().await, answer, complaint)
    });
    let Ok((status, answer, complaint)) = done.await else {
        let message = format!("compiling took longer than {} s", WALL.as_secs());
        return Err(LoadError::new("compile-limit", message));
    };
    let status = status.map_err(|error| LoadError::host("the compiler's process", error))?;
    match serde_json::from_slice(&answer) {
        Ok(Answer::Compiled(compiled)) => Ok(compiled),
        Ok(Answer::Refused { code, message }) => Err(LoadError::from_parts(&code, message)),
        Err(_) => Err(died(status, &String::from_utf8_lossy(&complaint))),
    }
}

/// Everything up to a bound; the rest is read and forgotten, so that the writer does not wait.
async fn read(from: Option<impl tokio::io::AsyncRead + Unpin>, bytes_max: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        // What was read before an error is all there is.
        let _ = (&mut from).take(bytes_max).read_to_end(&mut bytes).await;
        let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    }
    bytes
}

fn died(status: ExitStatus, complaint: &str) -> LoadError {
    let complaint = complaint.trim().lines().next().unwrap_or_default();
    match status.signal() {
        Some(signal) => {
            let message =
                format!("the compiler's process ran out of memory or time (signal {signal}): {complaint}");
            LoadError::new("compile-limit", message)
        }
        None => LoadError::host("the compiler's process gave no answer", format!("{status}: {complaint}")),
    }
}

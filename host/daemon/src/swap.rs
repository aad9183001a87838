//! Before a new version of a plugin takes traffic: can it go on with what the one before it began?
//!
//! `restore` and a `checkpoint` after it are tried on copies of the checkpoints of live jobs of the type, the newest
//! first, and of recorded ones (`recorded/<type>/…` in the plugin directory, as `waymark plugin run --record` writes
//! them), in a process of its own, without effects and within ten seconds in all. The report says what becomes of each
//! job; it is kept with the version. It promises nothing about jobs that it did not look at: `restore` is tried again
//! on each job's own checkpoint before the job moves.

use crate::{
    config::{Config, OnNewVersion},
    directory,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    io::Write as _,
    path::Path,
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::Command,
};
use waymark_sandbox as sandbox;
use waymark_store::Store;

/// Live jobs that are tried.
const JOBS_MAX: usize = 20;
/// Recorded checkpoints that are tried.
const RECORDED_MAX: usize = 20;
/// Bytes of all states that are tried.
const BYTES_MAX: usize = 64 << 20;
/// Time for all of them.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Longest time to read the checkpoints of live jobs.
const READ_MAX: Duration = Duration::from_secs(5);
/// Folder of recordings in the plugin directory.
const RECORDED: &str = "recorded";

/// What becomes of one job, or would become of one like it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The job's id, or the recording's folder and the file of the checkpoint.
    pub of: String,
    /// `migrate`: the new version reads it, and the job moves with its next commit. `stay`: the job ends under its own
    /// version. `refuse`: the new version cannot read it, so the job ends under its own version, whatever is
    /// configured.
    pub verdict: String,
    /// Why.
    pub why: String,
}

/// How a version took over from the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// SHA-256 of the version before.
    pub from: String,
    /// When it was tried.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// How long it took, milliseconds.
    pub took_ms: u64,
    /// What was tried, live jobs first; at most 40.
    pub trials: Vec<Trial>,
}

/// What the child is told.
#[derive(Serialize, Deserialize)]
struct Assignment {
    config: Config,
    job_type: String,
    digest: String,
    checkpoints: Vec<Copied>,
}

/// A checkpoint to be tried.
#[derive(Serialize, Deserialize)]
struct Copied {
    of: String,
    mime_type: String,
    state_version: u32,
    /// Base64.
    state: String,
}

/// What the child says of each, in a line of its own.
#[derive(Serialize, Deserialize)]
struct Tried {
    of: String,
    /// Why not; `None`: it reads it.
    error: Option<String>,
}

/// Tries a compiled version that is to follow the version `from`.
pub(crate) async fn report(
    config: &Config,
    executable: &Path,
    store: &Store,
    job_type: &str,
    digest: &str,
    from: &str,
) -> Swap {
    let (began, at) = (Instant::now(), OffsetDateTime::now_utc());
    let mut checkpoints = live(store, job_type).await;
    checkpoints.extend(recorded(&config.plugins_dir.join(RECORDED).join(job_type)));
    let names: Vec<_> = checkpoints.iter().map(|one| one.of.clone()).collect();
    let mut tried = HashMap::new();
    if !checkpoints.is_empty() {
        let assignment = Assignment {
            config: config.clone(),
            job_type: job_type.to_owned(),
            digest: digest.to_owned(),
            checkpoints,
        };
        if let Err(error) = try_out(executable, &assignment, &mut tried).await {
            tracing::warn!(plugin = job_type, digest, %error, "checkpoints could not be tried");
        }
    }
    let moves = config.policy(job_type).on_new_version == OnNewVersion::Migrate;
    let trials = names.into_iter().map(|of| verdict(of, &mut tried, moves)).collect();
    Swap { from: from.to_owned(), at, took_ms: began.elapsed().as_millis() as u64, trials }
}

fn verdict(of: String, tried: &mut HashMap<String, Option<String>>, moves: bool) -> Trial {
    let (verdict, why) = match tried.remove(&of) {
        None => ("stay", "it was not tried within 10 s".to_owned()),
        Some(Some(error)) => ("refuse", format!("the new version cannot read its checkpoint: {error}")),
        Some(None) if moves => ("migrate", "the new version reads its checkpoint".to_owned()),
        Some(None) => (
            "stay",
            "the new version reads its checkpoint, but on_new_version = \"finish\" lets it end".to_owned(),
        ),
    };
    Trial { of, verdict: verdict.to_owned(), why }
}

/// Copies of the checkpoints of live jobs.
async fn live(store: &Store, job_type: &str) -> Vec<Copied> {
    let found = match tokio::time::timeout(READ_MAX, store.live_checkpoints(job_type, JOBS_MAX)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::warn!(plugin = job_type, %error, "the checkpoints of live jobs cannot be read");
            return Vec::new();
        }
        Err(_) => {
            tracing::warn!(plugin = job_type, "the checkpoints of live jobs were not read in time");
            return Vec::new();
        }
    };
    let mut left = BYTES_MAX;
    let mut copied = Vec::new();
    for (id, checkpoint) in found {
        let Some(rest) = left.checked_sub(checkpoint.state.len()) else { continue };
        left = rest;
        copied.push(Copied {
            of: id.to_string(),
            mime_type: checkpoint.mime_type,
            state_version: checkpoint.state_version,
            state: BASE64.encode(&checkpoint.state),
        });
    }
    copied
}

/// What of a recording is needed here.
#[derive(Deserialize)]
struct Recording {
    checkpoints: Vec<Place>,
}

#[derive(Deserialize)]
struct Place {
    mime_type: String,
    state_version: u32,
    file: String,
}

/// Recorded checkpoints, by name. A folder that is no recording is said in the log and left out.
fn recorded(folder: &Path) -> Vec<Copied> {
    let mut folders: Vec<_> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    folders.sort();
    let (mut copied, mut left) = (Vec::new(), BYTES_MAX);
    for folder in folders {
        let text = std::fs::read(folder.join("recording.json"));
        let Some(recording) = text.ok().and_then(|text| serde_json::from_slice::<Recording>(&text).ok())
        else {
            tracing::warn!(folder = %folder.display(), "this is no recording");
            continue;
        };
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for Place { mime_type, state_version, file } in recording.checkpoints {
            // Nothing outside of the folder is read.
            let plain = !file.contains(['/', '\\']) && file != "..";
            let Some(state) =
                Some(&file).filter(|_| plain).and_then(|file| std::fs::read(folder.join(file)).ok())
            else {
                continue;
            };
            let Some(rest) = left.checked_sub(state.len()).filter(|_| copied.len() < RECORDED_MAX) else {
                return copied;
            };
            left = rest;
            copied.push(Copied {
                of: format!("{name}/{file}"),
                mime_type,
                state_version,
                state: BASE64.encode(state),
            });
        }
    }
    copied
}

/// Runs the child; what it said before its time was over is kept.
async fn try_out(
    executable: &Path,
    assignment: &Assignment,
    tried: &mut HashMap<String, Option<String>>,
) -> anyhow::Result<()> {
    let mut child = Command::new(executable)
        .arg("try-restore")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        anyhow::bail!("the child has no streams");
    };
    let text = serde_json::to_vec(assignment)?;
    let talk = async {
        let write = async {
            input.write_all(&text).await?;
            input.shutdown().await?;
            drop(input);
            anyhow::Ok(())
        };
        let read = async {
            let mut lines = BufReader::new(output).lines();
            while let Some(line) = lines.next_line().await? {
                let Tried { of, error } = serde_json::from_str(&line)?;
                tried.insert(of, error);
            }
            anyhow::Ok(())
        };
        let (written, read) = tokio::join!(write, read);
        written.and(read)
    };
    match tokio::time::timeout(TIME_MAX, talk).await {
        Ok(done) => done,
        Err(_) => {
            child.start_kill()?;
            Ok(())
        }
    }
}

/// What the child does: the whole of `waymark try-restore`.
#[must_use]
pub fn main() -> ExitCode {
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(serve()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

async fn serve() -> anyhow::Result<()> {
    let Assignment { config, job_type, digest, checkpoints } =
        serde_json::from_reader(std::io::stdin().lock())?;
    let options = sandbox::EngineOptions { memory_budget_bytes: 1 << 30, instances_max: 1, pooling: false };
    let offer = sandbox::Offer { scratch: Some(config.scratch_dir()), ..sandbox::Offer::default() };
    let engine = sandbox::Engine::offering(&options, &offer)?;
    let grants = config.policy(&job_type).grants;
    let limits = directory::limits(&config, &job_type);
    let plugin = engine.load(&config.cache_dir(), &digest, limits, grants)?;
    let mut output = std::io::stdout().lock();
    for Copied { of, mime_type, state_version, state } in checkpoints {
        let snapshot = sandbox::Snapshot { mime_type, state_version, state: BASE64.decode(state)? };
        let tried = async {
            let mut instance = plugin.restore(nobody(), snapshot).await?;
            instance.checkpoint().await
        };
        let error = tried.await.err().map(|fault| crate::worker::classify(fault).0.message);
        writeln!(output, "{}", serde_json::to_string(&Tried { of, error })?)?;
        output.flush()?;
    }
    Ok(())
}

/// A job that has no effects and says nothing.
fn nobody() -> sandbox::JobContext {
    sandbox::JobContext { shadow: true, ..sandbox::JobContext::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_says_what_becomes_of_the_job() {
        let mut tried =
            HashMap::from([("good".to_owned(), None), ("bad".to_owned(), Some("no such state".to_owned()))]);
        let verdicts = ["good", "bad", "late"].map(|of| verdict(of.to_owned(), &mut tried, true).verdict);
        assert_eq!(verdicts, ["migrate", "refuse", "stay"]);
        let mut tried = HashMap::from([("good".to_owned(), None)]);
        assert_eq!(verdict("good".to_owned(), &mut tried, false).verdict, "stay");
    }

    #[test]
    fn recordings_are_found_and_stay_within_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        let one = folder.path().join("one");
        std::fs::create_dir_all(&one).unwrap();
        std::fs::write(folder.path().join("secret"), b"s").unwrap();
        std::fs::write(one.join("step-1.bin"), b"state").unwrap();
        let place = |file: &str| serde_json::json!({"step": 1, "outputs": 0, "mime_type": "a/b", "state_version": 1, "file": file});
        let text = serde_json::json!({"type": "t", "checkpoints": [place("../secret"), place("step-1.bin")]});
        std::fs::write(one.join("recording.json"), text.to_string()).unwrap();
        let found = recorded(folder.path());
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].of.as_str(), found[0].state.as_str()), ("one/step-1.bin", "c3RhdGU="));
        assert!(recorded(&folder.path().join("nothing")).is_empty());
    }
}

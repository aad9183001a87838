//! `waymark plugin replay`: a job of a host, run again on this machine.

use super::{
    check,
    run::{About, Begin, Options, execute},
};
use crate::cli::{
    Client,
    client::{Refusal, segment},
};
use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::path::PathBuf;
use waymark_sandbox::Snapshot;

/// A job to run again.
#[derive(Args, Debug)]
pub struct Replay {
    /// The job's id.
    id: String,
    /// The .wasm file: the version that ran it, or one that is to do better.
    file: PathBuf,
    /// Begin after this step, whose checkpoint is kept [default: the last one that is; without any, the beginning].
    #[arg(long, value_name = "STEP", conflicts_with = "from_input")]
    from: Option<u64>,
    /// Begin with the input.
    #[arg(long)]
    from_input: bool,
    #[command(flatten)]
    options: Options,
}

/// Of the host's job, what a guest is told.
#[derive(Deserialize)]
struct Job {
    #[serde(rename = "type")]
    job_type: String,
    input: Box<RawValue>,
    metadata: Option<Box<RawValue>>,
    correlation_id: Option<String>,
    attempt: u32,
    run: u32,
}

#[derive(Deserialize)]
struct Saved {
    step: u64,
    plugin_version: String,
    checkpoint_data: Place,
}

#[derive(Deserialize)]
struct Place {
    mime_type: String,
    state_version: u32,
    encoding: String,
    state: Box<RawValue>,
}

impl Place {
    fn snapshot(self) -> anyhow::Result<Snapshot> {
        let Self { mime_type, state_version, encoding, state } = self;
        let state = if encoding == "base64" {
            BASE64.decode(serde_json::from_str::<String>(state.get())?)?
        } else {
            state.get().as_bytes().to_vec()
        };
        Ok(Snapshot { mime_type, state_version, state })
    }
}

/// Downloads input and checkpoint and runs the job.
///
/// # Errors
/// The host does not have them, the file is refused or is of another type, or the job did not succeed.
pub(super) async fn run(client: &Client, replay: &Replay) -> anyhow::Result<()> {
    let path = format!("/api/v1/jobs/{}", segment(&replay.id));
    let job: Job = client.get(&path, &[]).await?;
    let saved = if replay.from_input { None } else { newest(client, &path, replay.from).await? };
    let accepted = check::accept(&replay.file, &replay.options.granting.read()?, client.json).await?;
    let descriptor = &accepted.compiled.descriptor;
    ensure!(
        descriptor.name == job.job_type,
        "the job is of type {}, and {} is {}",
        job.job_type,
        replay.file.display(),
        descriptor.name
    );
    let begin = match saved {
        Some(saved) => {
            eprintln!(
                "from the checkpoint of step {}, written by version {}, in version {}",
                saved.step, saved.plugin_version, descriptor.version
            );
            Begin::Checkpoint(saved.step, saved.checkpoint_data.snapshot().context("the checkpoint")?)
        }
        None => {
            eprintln!("from the input, in version {}", descriptor.version);
            Begin::Input(job.input.get().to_owned())
        }
    };
    let about = About {
        job_id: replay.id.clone(),
        correlation_id: job.correlation_id.unwrap_or_default(),
        attempt: job.attempt.max(1),
        run: job.run.max(1),
        metadata: job.metadata.map_or_else(|| "{}".to_owned(), |metadata| metadata.get().to_owned()),
    };
    execute(&replay.options, &accepted, about, begin, None, client.json).await
}

/// The checkpoint of a step, or the newest. `None` where the job has none and none was asked for.
async fn newest(client: &Client, path: &str, from: Option<u64>) -> anyhow::Result<Option<Saved>> {
    let query: Vec<_> = from.map(|step| ("step", step.to_string())).into_iter().collect();
    match client.get(&format!("{path}/checkpoint"), &query).await {
        Ok(saved) => Ok(Some(saved)),
        Err(error) => {
            let code = error.downcast_ref::<Refusal>().map(|refusal| refusal.code.as_str());
            if from.is_none() && code == Some("no-checkpoint") { Ok(None) } else { Err(error) }
        }
    }
}

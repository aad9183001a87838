//! What `plugin run --record` leaves in a folder, and `plugin check --recorded` goes on from: `recording.json` and one
//! file for the state of each checkpoint.

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use waymark_sandbox::{Descriptor, Snapshot};

const INDEX: &str = "recording.json";

/// One job from its input to its result.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recording {
    #[serde(rename = "type")]
    pub(super) job_type: String,
    /// Of the plugin.
    pub(super) version: String,
    pub(super) input: Box<RawValue>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) signals: BTreeMap<String, Box<RawValue>>,
    pub(super) result: Box<RawValue>,
    /// Output records.
    pub(super) output: Vec<Box<RawValue>>,
    checkpoints: Vec<Place>,
}

/// A checkpoint.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Place {
    /// Steps done.
    step: u64,
    /// Output records until then.
    outputs: usize,
    mime_type: String,
    state_version: u32,
    /// File with the state.
    file: String,
}

impl Recording {
    /// Reads a folder.
    ///
    /// # Errors
    /// It is no recording.
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(INDEX);
        let text = fs::read(&path).with_context(|| {
            format!(
                "{} cannot be read: `waymark plugin run FILE --input … --record DIR` with the earlier version makes one",
                path.display()
            )
        })?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no recording", path.display()))
    }

    /// Its checkpoints: steps done, output records until then, and what `restore` gets.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn checkpoints(&self, folder: &Path) -> anyhow::Result<Vec<(u64, usize, Snapshot)>> {
        let read = |place: &Place| {
            let path = folder.join(&place.file);
            let state = fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
            let (mime_type, state_version) = (place.mime_type.clone(), place.state_version);
            Ok((place.step, place.outputs, Snapshot { mime_type, state_version, state }))
        };
        self.checkpoints.iter().map(read).collect()
    }
}

/// Takes down a job while it runs.
#[derive(Debug)]
pub(super) struct Recorder {
    folder: PathBuf,
    input: String,
    result: Option<String>,
    outputs: Vec<String>,
    checkpoints: Vec<(u64, usize, Snapshot)>,
}

impl Recorder {
    /// # Errors
    /// The folder exists.
    pub(super) fn new(folder: &Path, input: &str) -> anyhow::Result<Self> {
        ensure!(!folder.exists(), "{} exists: a recording is a folder of its own", folder.display());
        let (folder, input) = (folder.to_owned(), input.to_owned());
        Ok(Self { folder, input, result: None, outputs: Vec::new(), checkpoints: Vec::new() })
    }

    pub(super) fn emitted(&mut self, outputs: &[String]) {
        self.outputs.extend_from_slice(outputs);
    }

    pub(super) fn step(&mut self, step: u64, snapshot: &Snapshot) {
        self.checkpoints.push((step, self.outputs.len(), snapshot.clone()));
    }

    pub(super) fn ended(&mut self, result: &str) {
        self.result = Some(result.to_owned());
    }

    /// Writes the folder.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn keep(self, descriptor: &Descriptor, signals: &[(String, String)]) -> anyhow::Result<()> {
        let raw = |text: &String| RawValue::from_string(text.clone());
        let write = |name: &str, bytes: &[u8]| {
            let path = self.folder.join(name);
            fs::write(&path, bytes).with_context(|| format!("{} cannot be written", path.display()))
        };
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("the folder {} cannot be made", self.folder.display()))?;
        let mut checkpoints = Vec::new();
        for (step, outputs, Snapshot { mime_type, state_version, state }) in &self.checkpoints {
            let ending = if mime_type.contains("json") { "json" } else { "bin" };
            let file = format!("step-{step:06}.{ending}");
            write(&file, state)?;
            let (mime_type, state_version) = (mime_type.clone(), *state_version);
            checkpoints.push(Place { step: *step, outputs: *outputs, mime_type, state_version, file });
        }
        let recording = Recording {
            job_type: descriptor.name.clone(),
            version: descriptor.version.clone(),
            input: raw(&self.input)?,
            signals: signals
                .iter()
                .map(|(name, payload)| Ok((name.clone(), raw(payload)?)))
                .collect::<Result<_, serde_json::Error>>()?,
            result: raw(&self.result.clone().unwrap_or_else(|| "null".to_owned()))?,
            output: self.outputs.iter().map(raw).collect::<Result<_, _>>()?,
            checkpoints,
        };
        write(INDEX, &serde_json::to_vec(&recording)?)?;
        eprintln!("recorded {} checkpoints in {}", self.checkpoints.len(), self.folder.display());
        Ok(())
    }
}

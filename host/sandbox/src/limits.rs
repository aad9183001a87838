//! Every bound that a guest meets, and what an operator may grant beyond the contract.

use crate::{http, keyvalue, llm, scratch, services::Setting, sql};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Limits of one job. All sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sum over all memories and tables of a job. Default 256 MiB.
    pub memory_bytes: u64,
    /// Longest input. Default 1 MiB.
    pub input_bytes_max: u64,
    /// Longest result. Default 1 MiB.
    pub result_bytes_max: u64,
    /// Longest state in a checkpoint. Default 16 MiB.
    pub checkpoint_bytes_max: u64,
    /// Longest single output record, and longest input of a child job. Default 1 MiB.
    pub output_item_bytes_max: u64,
    /// Output records and children buffered between two commits, in all. Stops a step that emits for ever.
    /// Default 16 MiB.
    pub effects_bytes_max: u64,
    /// Children spawned between two commits. Default 10,000.
    pub children_max: u32,
    /// Longest log line, message and fields together; longer ones are cut. Default 8 KiB.
    pub log_line_bytes_max: usize,
    /// Log lines of one instance in one second; what is beyond is dropped and counted. Default 200.
    pub log_lines_per_second: u32,
    /// Longest call into the guest, milliseconds; `None` waits for ever. Default 60,000.
    pub step_hard_ms: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            input_bytes_max: 1 << 20,
            result_bytes_max: 1 << 20,
            checkpoint_bytes_max: 16 << 20,
            output_item_bytes_max: 1 << 20,
            effects_bytes_max: 16 << 20,
            children_max: 10_000,
            log_line_bytes_max: 8 << 10,
            log_lines_per_second: 200,
            step_hard_ms: Some(60_000),
        }
    }
}

/// What fits beside the payload in one call: names, messages, media types.
const CALL_SLACK_BYTES: u64 = 64 << 10;

impl Limits {
    /// Bytes that one call from the guest to the host, or one answer of the guest, may make the host allocate.
    /// Slightly more than the largest legal value, so that the host can say which limit was passed.
    pub(crate) fn hostcall_bytes(&self) -> usize {
        let largest = self.result_bytes_max.max(self.output_item_bytes_max).max(CALL_SLACK_BYTES);
        clamp(largest.saturating_add(CALL_SLACK_BYTES))
    }

    /// The same for `checkpoint`.
    pub(crate) fn checkpoint_call_bytes(&self) -> usize {
        clamp(self.checkpoint_bytes_max.saturating_add(CALL_SLACK_BYTES))
    }
}

fn clamp(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// What an operator grants a job type beyond the contract, under `[plugins.<type>.grants]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// Directories, read-only, with everything below them. Default: none.
    pub files: Vec<FileGrant>,
    /// Files that an instance may write below [`scratch::GUEST_PATH`], until it ends. Default: none.
    pub scratch: Option<scratch::Grant>,
    /// Outbound HTTP. Default: none, which refuses plugins that import `wasi:http`.
    pub http: Option<http::config::Grant>,
    /// Values that are remembered beyond a job. Default: none, which refuses plugins that import `wasi:keyvalue`.
    pub keyvalue: Option<keyvalue::Grant>,
    /// What the job type is told, by key. Default: nothing, which refuses plugins that import `wasi:config`.
    pub config: BTreeMap<String, Setting>,
    /// Language models. Default: none, which refuses plugins that import `waymark:llm`.
    pub llm: Option<llm::config::Grant>,
    /// Databases, by the name of their connection. Default: none, which refuses plugins that import `waymark:sql`.
    pub sql: BTreeMap<String, sql::config::Grant>,
}

impl Grants {
    /// Is the scratch directory within its bounds, and not where directories are that may be read?
    ///
    /// # Errors
    /// It is not; the message begins with the key.
    pub fn check_scratch(&self) -> Result<(), String> {
        let Some(grant) = &self.scratch else { return Ok(()) };
        grant.check().map_err(|why| format!("scratch.{why}"))?;
        if self.files.iter().any(|files| Path::new(&files.guest).starts_with(scratch::GUEST_PATH)) {
            return Err(format!("files: {} is where the scratch directory is", scratch::GUEST_PATH));
        }
        Ok(())
    }
}

/// One directory that jobs may read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileGrant {
    /// Path under which the guest sees it, such as `/data`. Default `/`.
    #[serde(default = "root")]
    pub guest: String,
    /// Directory on the host.
    pub host: PathBuf,
}

fn root() -> String {
    "/".into()
}

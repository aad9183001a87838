//! One JSON text a line: orders on a worker's standard input, reports on its standard output.
//! The end of standard input means that the control process is gone: the worker drains.

use crate::{config::Config, directory::Load};
use prometheus::proto::MetricFamily;
use protobuf::Message as _;
use serde::{Deserialize, Serialize};

/// The first line that a worker reads.
#[derive(Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// All settings, resolved by the control process.
    pub config: Config,
    /// The store.
    pub redis_url: String,
    /// Name of this worker; each start of a process adds its own ending.
    pub name: String,
    /// It claims nothing until it is told to.
    pub paused: bool,
    /// Jobs that may run at once, to begin with.
    pub slots: u32,
}

/// Every later line that a worker reads.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The versions to hold, all of them.
    Plugins(Vec<Load>),
    /// Claim nothing (true), or claim again.
    Pause(bool),
    /// So many jobs may run at once from now on.
    Slots(u32),
    /// Finish the current steps, commit, release, end.
    Drain,
}

/// What a worker writes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// Registered under this id.
    Ready {
        /// The id under which the store knows this process.
        worker: String,
    },
    /// Every second.
    Figures {
        /// [`pack`]ed metric families.
        families: Vec<String>,
        /// Jobs that may run at once.
        slots: u32,
        /// Jobs claimed now.
        used: u32,
        /// Milliseconds since the store last answered a claim.
        claimed_ms_ago: u64,
        /// How long a job stays at present, microseconds; 0: none has ended yet.
        stay_us: u64,
    },
    /// A guest trapped or broke a limit.
    Trap {
        /// Job type.
        name: String,
        /// Digest of the plugin.
        digest: String,
        /// Stable code.
        kind: String,
    },
    /// The first job that ended well after a trap.
    Recovered {
        /// Job type.
        name: String,
        /// Digest of the plugin.
        digest: String,
    },
}

/// Metric families as hexadecimal protocol buffers.
///
/// # Errors
/// A family cannot be encoded.
pub fn pack(families: &[MetricFamily]) -> anyhow::Result<Vec<String>> {
    families.iter().map(|family| Ok(hex::encode(family.write_to_bytes()?))).collect()
}

/// The reverse of [`pack`].
///
/// # Errors
/// The text is not what [`pack`] writes.
pub fn unpack(families: &[String]) -> anyhow::Result<Vec<MetricFamily>> {
    families.iter().map(|text| Ok(MetricFamily::parse_from_bytes(&hex::decode(text)?)?)).collect()
}

//! What a failure means: the error to show, and whether another attempt makes sense.

use waymark_job::{Failure, JobError};
use waymark_sandbox::Fault;

/// It says nothing against the plugin.
pub(super) fn is_said_by_guest(kind: &str) -> bool {
    matches!(kind, "transient" | "retry-after" | "permanent" | "invalid-input" | "hard-limit" | "host-error")
}

/// The error to show, when the guest said to come back, and whether another attempt makes sense.
pub(crate) fn classify(fault: Fault) -> (JobError, Option<u64>, bool) {
    let error = |kind: &str, message| JobError { kind: kind.to_owned(), message, trace: None };
    match fault {
        Fault::Failure(Failure::Transient(message)) => (error("transient", message), None, true),
        Fault::Failure(Failure::RetryAfter(ms, message)) => (error("retry-after", message), Some(ms), true),
        Fault::Failure(Failure::Permanent(message)) => (error("permanent", message), None, false),
        Fault::Failure(Failure::InvalidInput(message)) => (error("invalid-input", message), None, false),
        // A trap may come of what the guest met outside; a limit will be met again.
        Fault::Trap { kind, message, trace } => {
            (JobError { kind: kind.to_owned(), message, trace }, None, kind == "guest-trap")
        }
        Fault::Busy => (error("host-error", "the host had no memory to spare".into()), None, true),
        Fault::Host(message) => (error("host-error", message), None, true),
    }
}

//! What people are not shown of jobs: fields of inputs, and their values wherever else a job says them.
//!
//! The rules are [`waymark_job::redact`]'s. What a job says for people only (log lines, errors, progress) is kept with the
//! values hidden. What others work with (input, result, output records, checkpoints) is kept as it is and hidden when it is
//! shown.

use waymark_job::{
    Progress,
    record::JobError,
    redact::{Mask, Rules},
};
use waymark_store::View;

/// Hides what the rules hide of a job; answers the mask for the rest of what it says. Hiding twice changes nothing.
pub(crate) fn hide(rules: &Rules, view: &mut View) -> Mask {
    let mask = rules.mask(&view.spec.job_type, &view.spec.input);
    let Some(input) = mask.input() else { return mask };
    view.spec.input = input.to_owned();
    for text in view.spec.metadata.iter_mut().chain(&mut view.result) {
        *text = mask.json(text).into_owned();
    }
    let record = &mut view.record;
    record.error.iter_mut().for_each(|error| hide_error(&mask, error));
    for failure in &mut record.failures {
        failure.message = mask.text(&failure.message).into_owned();
    }
    record.progress.iter_mut().for_each(|progress| hide_progress(&mask, progress));
    mask
}

/// Hides values in an error.
pub(crate) fn hide_error(mask: &Mask, error: &mut JobError) {
    if mask.is_empty() {
        return;
    }
    error.message = mask.text(&error.message).into_owned();
    if let Some(trace) = &mut error.trace {
        *trace = mask.text(trace).into_owned();
    }
}

/// Hides values in what a job says of its progress.
pub(crate) fn hide_progress(mask: &Mask, progress: &mut Progress) {
    if let Some(message) = progress.message.as_mut().filter(|_| !mask.is_empty()) {
        *message = mask.text(message).into_owned();
    }
}

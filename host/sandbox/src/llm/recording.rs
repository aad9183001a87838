//! Recorded answers: one file for each request, named by its content, so that tests need neither model nor network.

use super::{question::Question, wire::Reply};
use serde::{Deserialize, Serialize};
use std::{io::ErrorKind, path::Path};

#[derive(Serialize, Deserialize)]
struct Recording {
    /// For readers: the name of the file says which request it is.
    request: Question,
    reply: Reply,
}

/// The recorded answer, if there is one.
///
/// # Errors
/// The file cannot be read.
pub(super) fn read(directory: &Path, question: &Question) -> Result<Option<Reply>, String> {
    let file = directory.join(format!("{}.json", question.key()));
    let shown = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let text = match std::fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(shown(&error)),
    };
    let recording: Recording = serde_json::from_slice(&text).map_err(|error| shown(&error))?;
    Ok(Some(recording.reply))
}

/// Records an answer.
///
/// # Errors
/// The file cannot be written.
pub(super) fn write(directory: &Path, question: &Question, reply: &Reply) -> Result<(), String> {
    let key = question.key();
    let recording = Recording { request: question.clone(), reply: reply.clone() };
    let write = || {
        std::fs::create_dir_all(directory)?;
        // Several may record the same: each writes its own, and either is right.
        let draft = directory.join(format!(".{key}.{}", std::process::id()));
        std::fs::write(&draft, serde_json::to_vec_pretty(&recording)?)?;
        std::fs::rename(&draft, directory.join(format!("{key}.json")))
    };
    write().map_err(|error| format!("{}: {error}", directory.display()))
}

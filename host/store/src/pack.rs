//! How records travel: MessagePack maps that the scripts can read, large bodies compressed.

use crate::{Checkpoint, Error, work::NewCheckpoint};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use waymark_job::{Fingerprint, JobError, JobId, Progress, Record, Spec, State, Webhook};

/// Values above this size are compressed, bytes.
const COMPRESS_ABOVE: usize = 1 << 10;
/// Longest state that is read back, bytes; stops a forged length.
const STATE_BYTES_MAX: usize = 1 << 30;
/// What a compressed value begins with (RFC 8878), and no JSON text.
const COMPRESSED: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Digits of the header's length in front of a stored checkpoint.
const LENGTH_DIGITS: usize = 6;

pub(crate) fn spec(spec: &Spec) -> Result<Vec<u8>, Error> {
    rmp_serde::to_vec_named(spec).map_err(|error| Error::corrupt("a job", error))
}

pub(crate) fn read_spec(id: &JobId, bytes: &[u8]) -> Result<Spec, Error> {
    rmp_serde::from_slice(bytes).map_err(|error| Error::corrupt(format!("job {id}"), error))
}

pub(crate) fn record(record: &Record) -> Result<Vec<u8>, Error> {
    rmp_serde::to_vec_named(record).map_err(|error| Error::corrupt("a record", error))
}

pub(crate) fn read_record(bytes: &[u8]) -> Result<Record, Error> {
    rmp_serde::from_slice(bytes).map_err(|error| Error::corrupt("a record", error))
}

/// A result or an output record, as it is stored: compressed where that makes it shorter.
pub(crate) fn value(text: &str) -> Result<Cow<'_, [u8]>, Error> {
    if text.len() > COMPRESS_ABOVE {
        let short =
            zstd::bulk::compress(text.as_bytes(), 1).map_err(|error| Error::corrupt("a value", error))?;
        if short.len() < text.len() {
            return Ok(short.into());
        }
    }
    Ok(text.as_bytes().into())
}

/// The text of a stored value.
pub(crate) fn read_value(stored: &[u8]) -> Result<String, Error> {
    if stored.starts_with(&COMPRESSED) {
        let text = zstd::decode_all(stored).map_err(|error| Error::corrupt("a value", error))?;
        return Ok(String::from_utf8_lossy(&text).into_owned());
    }
    Ok(String::from_utf8_lossy(stored).into_owned())
}

/// Who is told of an end, as the scripts read it.
#[derive(Serialize)]
struct Announcement<'a> {
    #[serde(rename = "r")]
    run: u32,
    #[serde(rename = "w")]
    webhooks: &'a [Webhook],
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    celery: Option<&'a str>,
}

pub(crate) fn announcement(run: u32, spec: &Spec) -> Result<Vec<u8>, Error> {
    rmp_serde::to_vec_named(&Announcement { run, webhooks: &spec.webhooks, celery: spec.celery.as_deref() })
        .map_err(|error| Error::corrupt("webhooks", error))
}

/// A failed attempt, as the scripts fold it with others.
#[derive(Serialize)]
struct Failure<'a> {
    #[serde(rename = "f")]
    fingerprint: &'a str,
    #[serde(rename = "k")]
    kind: &'a str,
    #[serde(rename = "m")]
    message: &'a str,
    #[serde(rename = "n")]
    pattern: &'a str,
    #[serde(rename = "tr")]
    frames: String,
    #[serde(rename = "v", skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
}

pub(crate) fn failure(job_type: &str, error: &JobError, version: Option<&str>) -> Result<Vec<u8>, Error> {
    let fingerprint = Fingerprint::of(job_type, error);
    let failure = Failure {
        fingerprint: &fingerprint.id,
        kind: &error.kind,
        message: &error.message,
        pattern: &fingerprint.pattern,
        frames: fingerprint.frames.join("\n"),
        version,
    };
    rmp_serde::to_vec_named(&failure).map_err(|error| Error::corrupt("a failure", error))
}

/// Letter and record; nothing stored means that the job was never more than queued.
pub(crate) fn read_state(id: &JobId, bytes: Option<&[u8]>) -> Result<(State, Record), Error> {
    let Some((letter, packed)) = bytes.and_then(<[u8]>::split_first) else {
        return Ok((State::Queued, Record::default()));
    };
    let state = state(char::from(*letter))?;
    let record = rmp_serde::from_slice(packed)
        .map_err(|error| Error::corrupt(format!("record of job {id}"), error))?;
    Ok((state, record))
}

pub(crate) fn state(letter: char) -> Result<State, Error> {
    State::from_letter(letter).ok_or_else(|| Error::corrupt("a state", format!("letter {letter:?}")))
}

/// A job that changed, as the scripts tell it: `id:letter`.
pub(crate) fn change(text: &str) -> Option<(JobId, State)> {
    let (id, letter) = text.split_once(':')?;
    Some((JobId::parse(id).ok()?, State::from_letter(letter.chars().next()?)?))
}

#[derive(Serialize, Deserialize)]
struct Header {
    run: u32,
    step: u64,
    outputs: u64,
    children: u64,
    mime_type: String,
    state_version: u32,
    plugin_version: String,
    plugin_digest: String,
    digest: String,
    bytes: u64,
    created_ms: u64,
    compressed: bool,
    progress: Option<Progress>,
}

pub(crate) fn checkpoint(new: &NewCheckpoint, record: &Record) -> Result<Vec<u8>, Error> {
    let compressed = new.state.len() > COMPRESS_ABOVE;
    let header = Header {
        run: record.run,
        step: record.step,
        outputs: record.outputs,
        children: record.children.len() as u64,
        mime_type: new.mime_type.clone(),
        state_version: new.state_version,
        plugin_version: new.plugin_version.clone(),
        plugin_digest: new.plugin_digest.clone(),
        digest: hex::encode(Sha256::digest(&new.state)),
        bytes: new.state.len() as u64,
        created_ms: record.committed_ms.unwrap_or(0),
        compressed,
        progress: record.progress.clone(),
    };
    let header =
        rmp_serde::to_vec_named(&header).map_err(|error| Error::corrupt("a checkpoint's header", error))?;
    let mut bytes = format!("{:0width$}", header.len(), width = LENGTH_DIGITS).into_bytes();
    bytes.extend_from_slice(&header);
    if compressed {
        // Level 1: a checkpoint is read rarely and written often.
        let state =
            zstd::bulk::compress(&new.state, 1).map_err(|error| Error::corrupt("a checkpoint", error))?;
        bytes.extend_from_slice(&state);
    } else {
        bytes.extend_from_slice(&new.state);
    }
    Ok(bytes)
}

pub(crate) fn read_checkpoint(
    id: &JobId,
    bytes: &[u8],
    expires_ms: Option<u64>,
) -> Result<Checkpoint, Error> {
    let corrupt = |why: &str| Error::corrupt(format!("checkpoint of job {id}"), why);
    let length = bytes
        .get(..LENGTH_DIGITS)
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<usize>().ok())
        .ok_or_else(|| corrupt("no header"))?;
    let packed = bytes.get(LENGTH_DIGITS..LENGTH_DIGITS + length).ok_or_else(|| corrupt("short header"))?;
    let body = bytes.get(LENGTH_DIGITS + length..).unwrap_or_default();
    let header: Header = rmp_serde::from_slice(packed).map_err(|error| corrupt(&error.to_string()))?;
    let state = if header.compressed {
        let size = usize::try_from(header.bytes).unwrap_or(usize::MAX).min(STATE_BYTES_MAX);
        zstd::bulk::decompress(body, size).map_err(|error| corrupt(&error.to_string()))?
    } else {
        body.to_vec()
    };
    if hex::encode(Sha256::digest(&state)) != header.digest {
        return Err(corrupt("its digest does not match"));
    }
    Ok(Checkpoint {
        run: header.run,
        step: header.step,
        outputs: header.outputs,
        mime_type: header.mime_type,
        state_version: header.state_version,
        state,
        plugin_version: header.plugin_version,
        plugin_digest: header.plugin_digest,
        digest: header.digest,
        bytes: header.bytes,
        created_ms: header.created_ms,
        expires_ms,
        progress: header.progress,
    })
}

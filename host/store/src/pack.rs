//! How records travel: MessagePack maps that the scripts can read, large bodies compressed.

use crate::{
    Checkpoint, Error, objects,
    seal::{Keyring, Kind},
    work::NewCheckpoint,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use waymark_job::{Fingerprint, JobError, JobId, Progress, Record, Spec, State, Trace, Webhook};

/// Values above this size are compressed, bytes.
const COMPRESS_ABOVE: usize = 1 << 10;
/// Longest state that is read back, bytes; stops a forged length.
const STATE_BYTES_MAX: usize = 1 << 30;
/// What a compressed value begins with (RFC 8878), and no JSON text.
const COMPRESSED: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Digits of the header's length in front of a stored checkpoint.
const LENGTH_DIGITS: usize = 6;

/// Whose the input is. A job with a unique key may get that of another job with the same key.
pub(crate) fn owner_of_input(id: &JobId, spec: &Spec) -> String {
    match &spec.unique_key {
        Some(key) => format!("{}/{key}", spec.job_type),
        None => id.to_string(),
    }
}

pub(crate) fn spec(id: &JobId, spec: &Spec, keyring: &Keyring) -> Result<Vec<u8>, Error> {
    let mut spec = Cow::Borrowed(spec);
    if keyring.seals() {
        let owner = owner_of_input(id, &spec);
        let own = spec.to_mut();
        own.input = keyring.seal_text(&owner, Kind::Input, &own.input)?.into_owned();
        if let Some(metadata) = &mut own.metadata {
            *metadata = keyring.seal_text(&owner, Kind::Metadata, metadata)?.into_owned();
        }
    }
    sealed_spec(&spec)
}

/// As it is.
pub(crate) fn sealed_spec(spec: &Spec) -> Result<Vec<u8>, Error> {
    rmp_serde::to_vec_named(spec).map_err(|error| Error::corrupt("a job", error))
}

/// With its input and metadata, unless their key is missing.
pub(crate) fn read_spec(id: &JobId, bytes: &[u8], keyring: &Keyring) -> Result<Spec, Error> {
    let mut spec = read_sealed_spec(id, bytes)?;
    let owner = owner_of_input(id, &spec);
    spec.input = keyring.open_text(&owner, Kind::Input, spec.input)?;
    if let Some(metadata) = spec.metadata.take() {
        spec.metadata = Some(keyring.open_text(&owner, Kind::Metadata, metadata)?);
    }
    Ok(spec)
}

pub(crate) fn read_sealed_spec(id: &JobId, bytes: &[u8]) -> Result<Spec, Error> {
    rmp_serde::from_slice(bytes).map_err(|error| Error::corrupt(format!("job {id}"), error))
}

pub(crate) fn record(record: &Record) -> Result<Vec<u8>, Error> {
    rmp_serde::to_vec_named(record).map_err(|error| Error::corrupt("a record", error))
}

pub(crate) fn read_record(bytes: &[u8]) -> Result<Record, Error> {
    rmp_serde::from_slice(bytes).map_err(|error| Error::corrupt("a record", error))
}

/// Shorter, where compression makes it so.
pub(crate) fn compressed(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    if bytes.len() > COMPRESS_ABOVE {
        let short = zstd::bulk::compress(bytes, 1).map_err(|error| Error::corrupt("a value", error))?;
        if short.len() < bytes.len() {
            return Ok(short.into());
        }
    }
    Ok(bytes.into())
}

/// The text of what [`compressed`] made.
pub(crate) fn text(bytes: &[u8]) -> Result<String, Error> {
    if bytes.starts_with(&COMPRESSED) {
        let text = zstd::decode_all(bytes).map_err(|error| Error::corrupt("a value", error))?;
        return Ok(String::from_utf8_lossy(&text).into_owned());
    }
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// A result or an output record, as it is stored: compressed, then sealed. A reference to an object stays as it is.
pub(crate) fn value<'a>(
    id: &JobId,
    kind: Kind,
    text: &'a str,
    keyring: &Keyring,
) -> Result<Cow<'a, [u8]>, Error> {
    if !keyring.seals() || objects::is_reference(text.as_bytes()) {
        return compressed(text.as_bytes());
    }
    let short = compressed(text.as_bytes())?;
    Ok(keyring.seal(id.as_str(), kind, &short)?.into_owned().into())
}

/// The text of a stored value.
pub(crate) fn read_value(id: &JobId, kind: Kind, stored: &[u8], keyring: &Keyring) -> Result<String, Error> {
    text(&keyring.open(id.as_str(), kind, stored)?)
}

/// Who is told of an end, as the scripts read it.
#[derive(Serialize)]
struct Announcement<'a> {
    #[serde(rename = "r")]
    run: u32,
    #[serde(rename = "w")]
    webhooks: &'a [Webhook],
    #[serde(rename = "tr", skip_serializing_if = "Option::is_none")]
    trace: Option<&'a Trace>,
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    celery: Option<&'a str>,
}

pub(crate) fn announcement(run: u32, spec: &Spec, trace: Option<&Trace>) -> Result<Vec<u8>, Error> {
    let (webhooks, celery) = (&spec.webhooks, spec.celery.as_deref());
    rmp_serde::to_vec_named(&Announcement { run, webhooks, trace, celery })
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

/// Token, worker and time (Unix ms) of a claim. What follows a bar, the place that it takes of limits, is for scripts.
pub(crate) fn read_claim(claim: &str) -> Option<(&str, &str, Option<u64>)> {
    let (claim, _) = claim.split_once('|').unwrap_or((claim, ""));
    let (rest, at) = claim.rsplit_once(':')?;
    let mut parts = rest.splitn(3, ':');
    let (token, _step, worker) = (parts.next()?, parts.next()?, parts.next()?);
    Some((token, worker, at.parse().ok()))
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

pub(crate) fn checkpoint(
    id: &JobId,
    new: &NewCheckpoint,
    record: &Record,
    keyring: &Keyring,
) -> Result<Vec<u8>, Error> {
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
        // Whoever guesses a short state could tell by its digest. A seal is proof enough.
        digest: if keyring.seals() { String::new() } else { hex::encode(Sha256::digest(&new.state)) },
        bytes: new.state.len() as u64,
        created_ms: record.committed_ms.unwrap_or(0),
        compressed,
        progress: record.progress.clone(),
    };
    let header =
        rmp_serde::to_vec_named(&header).map_err(|error| Error::corrupt("a checkpoint's header", error))?;
    let mut bytes = format!("{:0width$}", header.len(), width = LENGTH_DIGITS).into_bytes();
    bytes.extend_from_slice(&header);
    let state = if compressed {
        // Level 1: a checkpoint is read rarely and written often.
        zstd::bulk::compress(&new.state, 1).map_err(|error| Error::corrupt("a checkpoint", error))?.into()
    } else {
        Cow::Borrowed(new.state.as_slice())
    };
    bytes.extend_from_slice(&keyring.seal(id.as_str(), Kind::Checkpoint, &state)?);
    Ok(bytes)
}

/// Where the state of a stored checkpoint begins, if that is sealed.
pub(crate) fn sealed_state(bytes: &[u8]) -> Option<usize> {
    let length: usize = std::str::from_utf8(bytes.get(..LENGTH_DIGITS)?).ok()?.parse().ok()?;
    let header: Header = rmp_serde::from_slice(bytes.get(LENGTH_DIGITS..LENGTH_DIGITS + length)?).ok()?;
    header.digest.is_empty().then_some(LENGTH_DIGITS + length)
}

pub(crate) fn read_checkpoint(
    id: &JobId,
    bytes: &[u8],
    expires_ms: Option<u64>,
    keyring: &Keyring,
) -> Result<Checkpoint, Error> {
    let corrupt = |why: &str| Error::corrupt(format!("checkpoint of job {id}"), why);
    let length = bytes
        .get(..LENGTH_DIGITS)
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<usize>().ok())
        .ok_or_else(|| corrupt("no header"))?;
    let packed = bytes.get(LENGTH_DIGITS..LENGTH_DIGITS + length).ok_or_else(|| corrupt("short header"))?;
    let body = bytes.get(LENGTH_DIGITS + length..).unwrap_or_default();
    let mut header: Header = rmp_serde::from_slice(packed).map_err(|error| corrupt(&error.to_string()))?;
    // A plain state may begin with anything: only the digest that is left out says that it is sealed.
    let body = match header.digest.is_empty() {
        true => keyring.open(id.as_str(), Kind::Checkpoint, body)?,
        false => Cow::Borrowed(body),
    };
    let state = if header.compressed {
        let size = usize::try_from(header.bytes).unwrap_or(usize::MAX).min(STATE_BYTES_MAX);
        zstd::bulk::decompress(&body, size).map_err(|error| corrupt(&error.to_string()))?
    } else {
        body.into_owned()
    };
    let digest = hex::encode(Sha256::digest(&state));
    if header.digest.is_empty() {
        header.digest = digest;
    } else if digest != header.digest {
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

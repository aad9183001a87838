//! Celery's messages as kombu writes them to Redis: protocol 2, JSON.
//!
//! Values that are only handed on stay the texts that they came as ([`Raw`]): a Python integer may have any length.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, io::Read as _};

/// A JSON text.
pub(crate) type Raw = Box<RawValue>;

/// Longest body after decompression, bytes. Stops a compressed bomb.
const BODY_BYTES_MAX: u64 = 64 << 20;
/// Longest text of arguments in events and headers, characters, as in Celery.
const REPR_CHARS_MAX: usize = 1_024;
/// Longest name or id of a task.
const NAME_MAX: usize = 512;

/// Why a message cannot become a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// A stable code.
    pub(crate) code: &'static str,
    /// One sentence.
    pub(crate) why: String,
    /// The task, where the message says so much.
    pub(crate) task: Option<(String, String)>,
}

fn refused(code: &'static str, why: impl Into<String>) -> Refused {
    Refused { code, why: why.into(), task: None }
}

#[derive(Deserialize)]
struct Envelope {
    body: String,
    #[serde(rename = "content-type", default)]
    content_type: Option<String>,
    #[serde(default)]
    headers: Option<Map<String, Value>>,
    #[serde(default)]
    properties: Map<String, Value>,
}

/// What follows a task, as the message says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Embed {
    /// Signatures to send with the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) callbacks: Option<Vec<Raw>>,
    /// Signatures to send when it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) errbacks: Option<Vec<Raw>>,
    /// The rest of a chain, the next one last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) chain: Option<Vec<Raw>>,
    /// The body of the chord that it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) chord: Option<Raw>,
}

/// A message.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) args: Vec<Raw>,
    pub(crate) kwargs: BTreeMap<String, Raw>,
    pub(crate) embed: Embed,
    pub(crate) eta: Option<String>,
    pub(crate) expires: Option<String>,
    pub(crate) retries: u64,
    /// Hard and soft, milliseconds.
    pub(crate) limits_ms: (Option<u64>, Option<u64>),
    pub(crate) root: Option<String>,
    pub(crate) parent: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) group_index: Option<i64>,
    pub(crate) ignore_result: bool,
    pub(crate) argsrepr: String,
    pub(crate) kwargsrepr: String,
    pub(crate) priority: u8,
    pub(crate) reply_to: Option<String>,
    /// Headers of the caller's own.
    pub(crate) headers: Map<String, Value>,
}

/// Headers that are Celery's.
const OWN_HEADERS: &[&str] = &[
    "lang",
    "task",
    "id",
    "shadow",
    "eta",
    "expires",
    "group",
    "group_index",
    "retries",
    "timelimit",
    "root_id",
    "parent_id",
    "argsrepr",
    "kwargsrepr",
    "origin",
    "ignore_result",
    "replaced_task_nesting",
    "stamped_headers",
    "stamps",
    "compression",
    "redelivered",
];

fn text(map: &Map<String, Value>, name: &str) -> Option<String> {
    map.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn bounded(bytes: impl std::io::Read) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    bytes.take(BODY_BYTES_MAX + 1).read_to_end(&mut all)?;
    if all.len() as u64 > BODY_BYTES_MAX {
        return Err(std::io::Error::other(format!(
            "it is longer than {BODY_BYTES_MAX} bytes when decompressed"
        )));
    }
    Ok(all)
}

/// Decompresses a body. kombu's `gzip` is zlib; real gzip is read as well.
fn decompress(kind: &str, body: &[u8]) -> Result<Vec<u8>, Refused> {
    let read = match kind {
        "application/x-gzip" | "gzip" | "zlib" if body.starts_with(&[0x1f, 0x8b]) => {
            bounded(flate2::read::GzDecoder::new(body))
        }
        "application/x-gzip" | "gzip" | "zlib" => bounded(flate2::read::ZlibDecoder::new(body)),
        "application/x-bz2" | "bzip2" | "bzip" => bounded(bzip2::read::BzDecoder::new(body)),
        "application/zstd" | "zstd" | "zstandard" => zstd::Decoder::new(body).and_then(bounded),
        other => {
            return Err(refused(
                "compression",
                format!("the compression {other:?} is not read: use zlib, gzip, bzip2 or zstd"),
            ));
        }
    };
    read.map_err(|error| refused("malformed", format!("the body cannot be decompressed: {error}")))
}

fn milliseconds(value: Option<&Value>) -> Option<u64> {
    let seconds = value?.as_f64().filter(|seconds| *seconds > 0.0)?;
    Some((seconds * 1e3).min(u64::MAX as f64) as u64)
}

/// Reads a message.
///
/// # Errors
/// It is broken, of protocol 1, or not JSON; what is known of its task is told.
pub(crate) fn read(bytes: &[u8]) -> Result<Task, Refused> {
    let envelope: Envelope = serde_json::from_slice(bytes)
        .map_err(|error| refused("malformed", format!("this is no message of kombu: {error}")))?;
    let headers = envelope.headers.unwrap_or_default();
    let name = text(&headers, "task").filter(|name| !name.is_empty() && name.len() <= NAME_MAX);
    let id = text(&headers, "id").filter(|id| !id.is_empty() && id.len() <= NAME_MAX);
    let (Some(name), Some(id)) = (name, id) else {
        return Err(refused(
            "protocol-1",
            "it has no task and id among its headers: only protocol 2 is read (task_protocol = 2, the default since \
             Celery 4)",
        ));
    };
    let told = |error: Refused| Refused { task: Some((id.clone(), name.clone())), ..error };
    if envelope.content_type.as_deref() != Some("application/json") {
        let kind = envelope.content_type.unwrap_or_default();
        return Err(told(refused(
            "serializer",
            format!("its content type is {kind:?}: only JSON is read (task_serializer = \"json\")"),
        )));
    }
    let mut body = match text(&envelope.properties, "body_encoding").as_deref() {
        Some("base64") => STANDARD
            .decode(envelope.body.as_bytes())
            .map_err(|error| told(refused("malformed", format!("the body is no base64: {error}"))))?,
        _ => envelope.body.into_bytes(),
    };
    if let Some(kind) = text(&headers, "compression") {
        body = decompress(&kind, &body).map_err(told)?;
    }
    type Body = (Vec<Raw>, BTreeMap<String, Raw>, Option<Embed>);
    let (args, kwargs, embed): Body = serde_json::from_slice(&body).map_err(|error| {
        told(refused("malformed", format!("the body is not [args, kwargs, embed]: {error}")))
    })?;
    let limit = |at: usize| milliseconds(headers.get("timelimit").and_then(|limits| limits.get(at)));
    let number = |map: &Map<String, Value>, name: &str| map.get(name).and_then(Value::as_i64);
    let own: Map<_, _> = headers
        .iter()
        .filter(|(name, value)| !OWN_HEADERS.contains(&name.as_str()) && !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    Ok(Task {
        args,
        kwargs,
        embed: embed.unwrap_or_default(),
        eta: text(&headers, "eta"),
        expires: text(&headers, "expires"),
        retries: headers.get("retries").and_then(Value::as_u64).unwrap_or(0),
        limits_ms: (limit(0), limit(1)),
        root: text(&headers, "root_id"),
        parent: text(&headers, "parent_id"),
        group: text(&headers, "group"),
        group_index: number(&headers, "group_index"),
        ignore_result: headers.get("ignore_result").and_then(Value::as_bool).unwrap_or(false),
        argsrepr: text(&headers, "argsrepr").unwrap_or_default(),
        kwargsrepr: text(&headers, "kwargsrepr").unwrap_or_default(),
        priority: number(&envelope.properties, "priority").map_or(0, |priority| priority.clamp(0, 9) as u8),
        reply_to: text(&envelope.properties, "reply_to"),
        headers: own,
        id,
        name,
    })
}

/// The same message for another queue: only the routing key is another.
pub(crate) fn rerouted(bytes: &[u8], queue: &str) -> Option<String> {
    let mut envelope: Value = serde_json::from_slice(bytes).ok()?;
    let info = envelope.get_mut("properties")?.get_mut("delivery_info")?.as_object_mut()?;
    info.insert("routing_key".into(), queue.into());
    Some(envelope.to_string())
}

/// Time of an ISO 8601 text, Unix milliseconds. Without an offset it is UTC.
pub(crate) fn time_ms(text: &str) -> Option<u64> {
    use time::{OffsetDateTime, PrimitiveDateTime, format_description::well_known::Iso8601};
    let at = OffsetDateTime::parse(text, &Iso8601::DEFAULT)
        .or_else(|_| PrimitiveDateTime::parse(text, &Iso8601::DEFAULT).map(PrimitiveDateTime::assume_utc))
        .ok()?;
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

/// The text that Python writes for a time, `2026-11-24T00:06:41.249976+00:00`.
pub(crate) fn isoformat(at_ms: u64) -> String {
    use time::{OffsetDateTime, macros::format_description};
    let format =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]+00:00");
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000)
        .ok()
        .and_then(|at| at.format(&format).ok())
        .unwrap_or_default()
}

/// An id that follows from a text: whoever asks again gets the same.
pub(crate) fn uuid_of(seed: &str) -> String {
    let digest = Sha256::digest(seed.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// As Python's `repr` shows a JSON value.
pub(crate) fn repr(value: &Value) -> String {
    fn write(value: &Value, out: &mut String) {
        match value {
            Value::Null => out.push_str("None"),
            Value::Bool(true) => out.push_str("True"),
            Value::Bool(false) => out.push_str("False"),
            Value::Number(number) => out.push_str(&number.to_string()),
            Value::String(text) => {
                let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
                out.push(quote);
                for letter in text.chars() {
                    match letter {
                        '\\' => out.push_str("\\\\"),
                        '\n' => out.push_str("\\n"),
                        '\r' => out.push_str("\\r"),
                        '\t' => out.push_str("\\t"),
                        other if other == quote => out.extend(['\\', other]),
                        other => out.push(other),
                    }
                }
                out.push(quote);
            }
            Value::Array(values) => {
                out.push('[');
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        out.push_str(", ");
                    }
                    write(value, out);
                }
                out.push(']');
            }
            Value::Object(values) => {
                out.push('{');
                for (index, (name, value)) in values.iter().enumerate() {
                    if index > 0 {
                        out.push_str(", ");
                    }
                    write(&Value::String(name.clone()), out);
                    out.push_str(": ");
                    write(value, out);
                }
                out.push('}');
            }
        }
    }
    let mut out = String::new();
    write(value, &mut out);
    cut(out)
}

fn cut(text: String) -> String {
    if text.chars().count() <= REPR_CHARS_MAX {
        return text;
    }
    text.chars().take(REPR_CHARS_MAX - 3).chain("...".chars()).collect()
}

/// The same for positional arguments, which are a tuple.
pub(crate) fn repr_args(args: &[Raw]) -> String {
    let values: Vec<_> = args.iter().map(|arg| repr(&to_value(arg))).collect();
    cut(if values.len() == 1 { format!("({},)", values[0]) } else { format!("({})", values.join(", ")) })
}

/// A raw value for those who look inside. What cannot be a [`Value`], such as a number beyond all bounds, is null.
pub(crate) fn to_value(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or(Value::Null)
}

/// A value as a text.
pub(crate) fn raw(value: &impl Serialize) -> Raw {
    serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// All that a message says when it is written.
pub(crate) struct Outgoing<'a> {
    pub(crate) id: &'a str,
    pub(crate) task: &'a str,
    pub(crate) queue: &'a str,
    pub(crate) args: Vec<Raw>,
    pub(crate) kwargs: &'a BTreeMap<String, Raw>,
    pub(crate) embed: Embed,
    pub(crate) root: &'a str,
    pub(crate) parent: Option<&'a str>,
    pub(crate) group: Option<(String, Option<i64>)>,
    pub(crate) eta: Option<String>,
    pub(crate) expires: Option<String>,
    pub(crate) limits: (Value, Value),
    pub(crate) ignore_result: bool,
    pub(crate) priority: u8,
    pub(crate) reply_to: Option<String>,
    pub(crate) origin: &'a str,
    pub(crate) headers: Map<String, Value>,
}

/// The text of a message for a queue.
pub(crate) fn write(message: Outgoing<'_>) -> String {
    // Workers of Celery expect every key.
    #[derive(Serialize)]
    struct Whole<'a> {
        callbacks: &'a Option<Vec<Raw>>,
        errbacks: &'a Option<Vec<Raw>>,
        chain: &'a Option<Vec<Raw>>,
        chord: &'a Option<Raw>,
    }
    let Embed { callbacks, errbacks, chain, chord } = &message.embed;
    let embed = Whole { callbacks, errbacks, chain, chord };
    let kwargsrepr = repr(&Value::Object(
        message.kwargs.iter().map(|(name, value)| (name.clone(), to_value(value))).collect(),
    ));
    let argsrepr = repr_args(&message.args);
    // Raw texts stay as they are.
    let body = raw(&(&message.args, message.kwargs, embed));
    let (group, group_index) = message.group.map_or((None, None), |(id, index)| (Some(id), index));
    let mut headers = message.headers;
    let own = serde_json::json!({
        "lang": "py", "task": message.task, "id": message.id, "shadow": null, "eta": message.eta,
        "expires": message.expires, "group": group, "group_index": group_index, "retries": 0,
        "timelimit": [message.limits.0, message.limits.1], "root_id": message.root, "parent_id": message.parent,
        "argsrepr": argsrepr, "kwargsrepr": kwargsrepr, "origin": message.origin,
        "ignore_result": message.ignore_result, "replaced_task_nesting": 0, "stamped_headers": null, "stamps": {},
    });
    if let Value::Object(own) = own {
        headers.extend(own);
    }
    envelope(
        body.get(),
        &Value::Object(headers),
        serde_json::json!({
            "correlation_id": message.id, "reply_to": message.reply_to, "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": message.queue}, "priority": message.priority,
            "body_encoding": "base64", "delivery_tag": uuid_of(&format!("tag {} {}", message.id, message.queue)),
        }),
    )
}

/// An envelope around a JSON body.
pub(crate) fn envelope(body: &str, headers: &Value, properties: Value) -> String {
    serde_json::json!({
        "body": STANDARD.encode(body), "content-encoding": "utf-8", "content-type": "application/json",
        "headers": headers, "properties": properties,
    })
    .to_string()
}

/// The JSON body of an envelope that is no task, such as one of remote control.
pub(crate) fn body_of(bytes: &[u8]) -> Option<(Value, Map<String, Value>)> {
    let envelope: Envelope = serde_json::from_slice(bytes).ok()?;
    let body = STANDARD.decode(envelope.body.as_bytes()).unwrap_or_else(|_| envelope.body.into_bytes());
    Some((serde_json::from_slice(&body).ok()?, envelope.headers.unwrap_or_default()))
}

/// The lists of a queue in the order in which they are served, each with the priorities that stand there.
pub(crate) fn lists(prefix: &str, queue: &str) -> [String; 4] {
    [0, 3, 6, 9].map(|step| list(prefix, queue, step))
}

/// The list of a priority.
pub(crate) fn list(prefix: &str, queue: &str, priority: u8) -> String {
    match priority {
        0..=2 => format!("{prefix}{queue}"),
        other => format!("{prefix}{queue}\u{6}\u{16}{}", other.min(9) / 3 * 3),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write as _;

    /// Envelopes of the capture, by their task ids.
    pub(crate) fn captured(id: &str) -> Vec<u8> {
        let text = include_str!("testdata/wire.txt");
        for line in text.lines().filter(|line| line.contains("'LPUSH'")) {
            let Some(at) = line.find("{\"body\"") else { continue };
            let mut envelope: Value = serde_json::from_str(&line[at..]).unwrap();
            if envelope["headers"]["id"] == id {
                // The capture shows bodies decoded.
                let body = envelope["body"].take().to_string();
                envelope["body"] = STANDARD.encode(body).into();
                return envelope.to_string().into_bytes();
            }
        }
        panic!("no message {id} in the capture");
    }

    fn changed(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut envelope: Value =
            serde_json::from_slice(&captured("11111111-1111-1111-1111-111111111111")).unwrap();
        change(&mut envelope);
        envelope.to_string().into_bytes()
    }

    #[test]
    fn a_captured_message_is_read() {
        let task = read(&captured("11111111-1111-1111-1111-111111111111")).unwrap();
        assert_eq!(task.name, "proj.add");
        let args: Vec<_> = task.args.iter().map(|arg| arg.get()).collect();
        assert_eq!((args, task.kwargs.len()), (vec!["2", "3"], 0));
        assert_eq!(task.root.as_deref(), Some("11111111-1111-1111-1111-111111111111"));
        assert_eq!(task.reply_to.as_deref(), Some("28724c15-e927-3c4b-85e7-d14cc6d55c19"));
        assert!(!task.ignore_result && task.headers.is_empty() && task.embed.chain.is_none());
    }

    #[test]
    fn times_limits_and_the_callers_headers_are_read() {
        let task = read(&captured("eta-1")).unwrap();
        assert_eq!(time_ms(&task.eta.unwrap()), Some(1_795_478_749_954));
        assert_eq!(time_ms(&task.expires.unwrap()), Some(1_795_478_806_954));
        assert_eq!(task.limits_ms, (Some(30_000), Some(20_000)));
        assert_eq!(task.headers["x-corr"], "abc");
        assert_eq!(isoformat(1_795_478_749_954), "2026-11-24T00:05:49.954000+00:00");
        assert_eq!(time_ms("2026-11-24T00:05:49.5"), time_ms("2026-11-24T01:05:49.500+01:00"));
        assert_eq!(time_ms("tomorrow"), None);
    }

    #[test]
    fn every_compression_of_the_contract_is_read_and_others_are_named() {
        let plain = br#"[[1, 123456789012345678901234567890], {}, null]"#;
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        zlib.write_all(plain).unwrap();
        let mut bzip = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
        bzip.write_all(plain).unwrap();
        for (kind, body) in [
            ("application/x-gzip", zlib.finish().unwrap()),
            ("application/x-bz2", bzip.finish().unwrap()),
            ("application/zstd", zstd::encode_all(&plain[..], 1).unwrap()),
        ] {
            let message = changed(|envelope| {
                envelope["headers"]["compression"] = kind.into();
                envelope["body"] = STANDARD.encode(body).into();
            });
            // A number of any length stays what it is.
            assert_eq!(read(&message).unwrap().args[1].get(), "123456789012345678901234567890", "{kind}");
        }
        let other = changed(|envelope| envelope["headers"]["compression"] = "application/x-brotli".into());
        let error = read(&other).unwrap_err();
        assert_eq!(error.code, "compression");
        assert_eq!(error.task.unwrap().1, "proj.add");
        let broken = changed(|envelope| envelope["headers"]["compression"] = "application/zstd".into());
        assert_eq!(read(&broken).unwrap_err().code, "malformed");
    }

    #[test]
    fn what_is_no_json_of_protocol_2_is_refused_with_a_reason() {
        assert_eq!(read(b"\xff").unwrap_err().code, "malformed");
        let pickle = changed(|envelope| envelope["content-type"] = "application/x-python-serialize".into());
        let error = read(&pickle).unwrap_err();
        assert!(error.code == "serializer" && error.why.contains("task_serializer"), "{error:?}");
        let first = changed(|envelope| envelope["headers"] = serde_json::json!({}));
        assert_eq!(read(&first).unwrap_err().code, "protocol-1");
        let body = changed(|envelope| envelope["body"] = STANDARD.encode("{}").into());
        assert_eq!(read(&body).unwrap_err().code, "malformed");
        let infinite = changed(|envelope| envelope["body"] = STANDARD.encode("[[NaN], {}, {}]").into());
        assert_eq!(read(&infinite).unwrap_err().code, "malformed");
    }

    #[test]
    fn what_is_written_reads_as_it_was() {
        let kwargs = BTreeMap::from([("x".to_owned(), raw(&serde_json::json!({"a": null})))]);
        let text = write(Outgoing {
            id: "i",
            task: "t",
            queue: "q",
            args: vec![raw(&1), raw(&"it's")],
            kwargs: &kwargs,
            embed: Embed { chain: Some(vec![raw(&"next")]), ..Embed::default() },
            root: "r",
            parent: Some("p"),
            group: Some(("g".into(), Some(3))),
            eta: None,
            expires: None,
            limits: (Value::Null, Value::Null),
            ignore_result: false,
            priority: 4,
            reply_to: None,
            origin: "waymark@h",
            headers: Map::new(),
        });
        let task = read(text.as_bytes()).unwrap();
        assert_eq!((task.group.as_deref(), task.group_index, task.priority), (Some("g"), Some(3), 4));
        assert_eq!(task.argsrepr, "(1, \"it's\")");
        assert_eq!(task.kwargsrepr, "{'x': {'a': None}}");
        assert_eq!(task.embed.chain.unwrap()[0].get(), "\"next\"");
        let moved: Value = serde_json::from_str(&rerouted(text.as_bytes(), "other").unwrap()).unwrap();
        assert_eq!(moved["properties"]["delivery_info"]["routing_key"], "other");
    }

    #[test]
    fn priorities_have_four_lists() {
        assert_eq!(lists("p", "q"), ["pq", "pq\u{6}\u{16}3", "pq\u{6}\u{16}6", "pq\u{6}\u{16}9"]);
        let of = |priority| list("", "q", priority);
        assert_eq!((of(2), of(5), of(8), of(9)), (of(0), of(3), of(6), "q\u{6}\u{16}9".to_owned()));
    }
}

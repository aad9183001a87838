//! What a guest says to people: log lines, and what it writes to standard output and error.
//!
//! A guest can say as much as it likes as fast as it likes; lines are cut, and above the rate they are dropped
//! and counted. The count is itself a line, so that nobody takes the gap for silence.

use crate::bindings::waymark::task::job;
use serde::Serialize;
use serde_json::value::RawValue;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How serious a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl From<job::Level> for Level {
    fn from(level: job::Level) -> Self {
        match level {
            job::Level::Trace => Self::Trace,
            job::Level::Debug => Self::Debug,
            job::Level::Info => Self::Info,
            job::Level::Warn => Self::Warn,
            job::Level::Error => Self::Error,
        }
    }
}

/// One line.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// When it was said, Unix milliseconds by this machine's clock.
    pub at_ms: u64,
    /// How serious.
    pub level: Level,
    /// Text for people, cut at the limit.
    pub message: String,
    /// A JSON object, if the guest gave one that is not empty and fits.
    pub fields: Option<String>,
}

impl LogLine {
    /// `{"at", "level", "message", "fields"?}` in one line of JSON; `at` in Unix milliseconds.
    #[must_use]
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Line<'a> {
            at: u64,
            level: Level,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            fields: Option<&'a RawValue>,
        }
        let fields = self.fields.as_deref().and_then(|fields| serde_json::from_str(fields).ok());
        let line = Line { at: self.at_ms, level: self.level, message: &self.message, fields };
        // Text, a number and JSON that was checked: serialising them cannot fail.
        serde_json::to_string(&line).unwrap_or_default()
    }
}

/// Takes the lines of one job. Called on the thread that runs the guest: it must not block.
pub type LogSink = Box<dyn Fn(LogLine) + Send + Sync>;

/// Which of its two voices a guest used.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    Output,
    Error,
}

pub(crate) struct Logger {
    sink: LogSink,
    line_bytes_max: usize,
    lines_per_second: u32,
    state: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    window: Option<Instant>,
    said: u32,
    dropped: u64,
    output: Vec<u8>,
    error: Vec<u8>,
}

const WINDOW: Duration = Duration::from_secs(1);
/// Ends a line that was cut.
const CUT: &str = "…";

impl Logger {
    pub(crate) fn new(sink: LogSink, line_bytes_max: usize, lines_per_second: u32) -> Self {
        Self { sink, line_bytes_max, lines_per_second, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn say(&self, level: Level, message: String, fields: String) {
        self.admit(&mut self.lock(), level, message, fields);
    }

    /// Bytes written to standard output or error: every full line is a log line.
    pub(crate) fn write(&self, stream: Stream, bytes: &[u8]) {
        let mut lines = self.lock();
        for (index, piece) in bytes.split(|&byte| byte == b'\n').enumerate() {
            if index > 0 {
                self.end_line(&mut lines, stream);
            }
            let line = lines.partial(stream);
            // One byte more than fits tells a cut line from a full one.
            let room = (self.line_bytes_max + 1).saturating_sub(line.len());
            line.extend_from_slice(&piece[..piece.len().min(room)]);
        }
    }

    fn end_line(&self, lines: &mut Lines, stream: Stream) {
        let line = std::mem::take(lines.partial(stream));
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if !text.is_empty() {
            let level = match stream {
                Stream::Output => Level::Info,
                Stream::Error => Level::Warn,
            };
            self.admit(lines, level, text.to_owned(), String::new());
        }
    }

    /// Sends half lines, and the count of dropped ones. Called when the guest returned.
    pub(crate) fn flush(&self, last: bool) {
        let mut lines = self.lock();
        self.end_line(&mut lines, Stream::Output);
        self.end_line(&mut lines, Stream::Error);
        if lines.dropped > 0 && (last || lines.window.is_none_or(|since| since.elapsed() >= WINDOW)) {
            self.confess(&mut lines);
        }
    }

    fn admit(&self, lines: &mut Lines, level: Level, message: String, fields: String) {
        let now = Instant::now();
        if lines.window.is_none_or(|since| now.duration_since(since) >= WINDOW) {
            lines.window = Some(now);
            lines.said = 0;
            self.confess(lines);
        }
        if lines.said >= self.lines_per_second {
            lines.dropped += 1;
            return;
        }
        lines.said += 1;
        let (message, fields) = self.cut(message, fields);
        (self.sink)(LogLine { at_ms: now_ms(), level, message, fields });
    }

    fn confess(&self, lines: &mut Lines) {
        let dropped = std::mem::take(&mut lines.dropped);
        if dropped > 0 {
            (self.sink)(LogLine {
                at_ms: now_ms(),
                level: Level::Warn,
                message: format!(
                    "{dropped} log lines were dropped: more than {} in a second",
                    self.lines_per_second
                ),
                fields: Some(format!("{{\"dropped\":{dropped}}}")),
            });
        }
    }

    fn cut(&self, mut message: String, mut fields: String) -> (String, Option<String>) {
        if json_bytes(&message) > self.line_bytes_max {
            let mut room = self.line_bytes_max.saturating_sub(CUT.len());
            let fits = message.bytes().take_while(|byte| {
                let fits = escaped_bytes(*byte) <= room;
                room = room.saturating_sub(escaped_bytes(*byte));
                fits
            });
            let fits = fits.count();
            message.truncate(message.floor_char_boundary(fits));
            message.push_str(CUT);
        }
        if fields.is_empty() || fields == "{}" || fields == "null" {
            return (message, None);
        }
        if json_bytes(&message) + fields.len() > self.line_bytes_max {
            return (message, Some(format!("{{\"fields_dropped_bytes\":{}}}", fields.len())));
        }
        if !is_object(&fields) {
            fields = serde_json::json!({ "text": fields }).to_string();
        }
        (message, Some(crate::state::one_line(fields)))
    }
}

/// Length of a text as JSON: that is how a line is kept. Without this a line of control characters would take six
/// times its limit.
fn json_bytes(text: &str) -> usize {
    text.bytes().map(escaped_bytes).sum()
}

fn escaped_bytes(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..=0x1f => 6,
        _ => 1,
    }
}

fn is_object(fields: &str) -> bool {
    fields.trim_start().starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(fields).is_ok()
}

impl Lines {
    fn partial(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Output => &mut self.output,
            Stream::Error => &mut self.error,
        }
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        self.flush(true);
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn logger(bytes: usize, rate: u32) -> (Logger, Arc<Mutex<Vec<LogLine>>>) {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        (Logger::new(Box::new(move |line| sink.lock().unwrap().push(line)), bytes, rate), lines)
    }

    #[test]
    fn a_flood_is_dropped_and_counted() {
        let (logger, lines) = logger(100, 3);
        for number in 0..50 {
            logger.say(Level::Info, format!("line {number}"), String::new());
        }
        drop(logger);
        let lines = lines.lock().unwrap();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[3].fields.as_deref(), Some("{\"dropped\":47}"));
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let (logger, lines) = logger(10, 100);
        logger.say(Level::Info, "ääääääääää".into(), "{\"a\":\"0123456789\"}".into());
        let lines = lines.lock().unwrap();
        assert_eq!(lines[0].message, "äää…");
        assert_eq!(lines[0].fields.as_deref(), Some("{\"fields_dropped_bytes\":18}"));
    }

    #[test]
    fn control_characters_count_as_they_are_kept() {
        let (logger, lines) = logger(20, 100);
        logger.say(Level::Info, "\u{0}".repeat(100), String::new());
        assert_eq!(lines.lock().unwrap()[0].message, "\u{0}\u{0}…");
    }

    #[test]
    fn standard_output_becomes_lines() {
        let (logger, lines) = logger(20, 100);
        logger.write(Stream::Output, b"one\ntw");
        logger.write(Stream::Output, b"o\n\nthr");
        logger.write(Stream::Error, b"oh");
        logger.write(Stream::Output, &[b'x'; 100]);
        logger.flush(false);
        let lines = lines.lock().unwrap();
        let said: Vec<_> = lines.iter().map(|line| (line.level, line.message.as_str())).collect();
        let cut = "thrxxxxxxxxxxxxxx…";
        assert_eq!(
            said,
            [(Level::Info, "one"), (Level::Info, "two"), (Level::Info, cut), (Level::Warn, "oh")]
        );
    }

    #[test]
    fn fields_that_are_no_object_are_kept_as_text() {
        let (logger, lines) = logger(100, 100);
        logger.say(Level::Error, "a".into(), "{\"b\":\n1}".into());
        logger.say(Level::Error, "a".into(), "{b".into());
        let lines = lines.lock().unwrap();
        assert!(lines[0].to_json().ends_with("\"level\":\"error\",\"message\":\"a\",\"fields\":{\"b\": 1}}"));
        assert_eq!(lines[1].fields.as_deref(), Some("{\"text\":\"{b\"}"));
    }
}

//! Numbers, sizes, spans and times, as people read them.

use crate::api::answer::Timestamp;
use maud::{Markup, html};

/// With a comma between groups of three digits.
pub(super) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three digits at most before the unit, such as `1.4 k`, for axes and tiles.
pub(super) fn short(value: f64) -> String {
    let (scaled, unit) = match value {
        value if value >= 1e9 => (value / 1e9, " G"),
        value if value >= 1e6 => (value / 1e6, " M"),
        value if value >= 1e4 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let digits = usize::from(scaled < 100.0 && scaled.fract().abs() > 0.05);
    format!("{scaled:.digits$}{unit}")
}

/// Bytes in binary units.
pub(super) fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut scaled, mut unit) = (value as f64, 0);
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{value} B") } else { format!("{scaled:.1} {}", UNITS[unit]) }
}

/// A span in its two largest units, such as `3 m 20 s`.
pub(super) fn span(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0 => format!("{ms} ms"),
        1..=9 if ms % 1_000 >= 50 => format!("{:.1} s", ms as f64 / 1_000.0),
        1..=9 => format!("{seconds} s"),
        10..=59 => format!("{seconds} s"),
        60..=3_599 => pair(seconds / 60, "m", seconds % 60, "s"),
        3_600..=86_399 => pair(seconds / 3_600, "h", seconds % 3_600 / 60, "m"),
        _ => pair(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

fn pair(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large} {large_unit}")
    } else {
        format!("{large} {large_unit} {small} {small_unit}")
    }
}

/// A span in its largest unit, for narrow columns.
pub(super) fn coarse(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..=59 => format!("{seconds} s"),
        60..=3_599 => format!("{} m", seconds / 60),
        3_600..=86_399 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `2026-11-24 22:31:05`, UTC.
pub(super) fn clock(at_ms: u64) -> String {
    let text = Timestamp(at_ms).to_string();
    text[..19].replace('T', " ")
}

/// A time as it is on the clock; milliseconds on hovering.
pub(super) fn time(at_ms: u64) -> Markup {
    let exact = Timestamp(at_ms).to_string();
    html! { time datetime=(exact) title=(exact) { (clock(at_ms)) } }
}

/// How long ago, or in how long; the clock on hovering.
pub(super) fn ago(now_ms: u64, at_ms: u64) -> Markup {
    let text = if at_ms > now_ms {
        format!("in {}", coarse(at_ms - now_ms + 500))
    } else {
        format!("{} ago", coarse(now_ms - at_ms))
    };
    html! { time datetime=(Timestamp(at_ms)) title=(format!("{} UTC", clock(at_ms))) { (text) } }
}

/// JSON on many lines; other text as it is. Longer text than `most` bytes is cut.
pub(super) fn pretty(text: &str, most: usize) -> (String, bool) {
    let whole = match serde_json::from_str::<&serde_json::value::RawValue>(text) {
        Ok(value) => indent(value.get()),
        Err(_) => text.to_owned(),
    };
    if whole.len() <= most {
        return (whole, false);
    }
    let end = whole.floor_char_boundary(most);
    (whole[..end].to_owned(), true)
}

/// Breaks well-formed JSON into lines without reading its values: numbers and the order of fields stay as they are.
fn indent(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let mut rest = text.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(letter) = rest.next() {
        if quoted {
            out.push(letter);
            quoted = escaped || letter != '"';
            escaped = !escaped && letter == '\\';
            continue;
        }
        match letter {
            '"' => {
                quoted = true;
                out.push(letter);
            }
            '{' | '[' => {
                while rest.next_if(char::is_ascii_whitespace).is_some() {}
                out.push(letter);
                if let Some(close) = rest.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(letter);
            }
            ',' => {
                out.push(letter);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            letter if letter.is_ascii_whitespace() => {}
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_spans_are_short_and_exact() {
        assert_eq!(
            ["0", "999", "1,000", "1,234,567"],
            [0, 999, 1_000, 1_234_567].map(number).each_ref().map(String::as_str)
        );
        assert_eq!(short(0.0), "0");
        assert_eq!(short(1.25), "1.2");
        assert_eq!(short(1_234_567.0), "1.2 M");
        assert_eq!(bytes(1_536), "1.5 KiB");
        assert_eq!(span(0), "0 ms");
        assert_eq!(span(61_000), "1 m 1 s");
        assert_eq!(span(7_200_000), "2 h");
        assert_eq!(clock(1_790_000_000_123), "2026-09-21 14:13:20");
    }

    #[test]
    fn json_is_broken_into_lines_and_its_values_stay() {
        let text = r#"{"a":[],"n":1.10,"s":"x,\"{}\\","o":{"b":[1,2]}}"#;
        let lines = "{\n  \"a\": [],\n  \"n\": 1.10,\n  \"s\": \"x,\\\"{}\\\\\",\n  \"o\": {\n    \"b\": [\n      1,\n      2\n    ]\n  }\n}";
        assert_eq!(pretty(text, 1_000), (lines.to_owned(), false));
        assert_eq!(pretty("no json", 4), ("no j".to_owned(), true));
    }
}

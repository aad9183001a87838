//! Where in a distributed trace something stands (W3C Trace Context, <https://www.w3.org/TR/trace-context/>), and which
//! steps of a long job get spans of their own.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest `tracestate` that is handed on, characters: what every implementation must hand on at least.
const STATE_CHARS_MAX: usize = 512;
/// Steps of a run that each get a span; of later ones every tenth, hundredth and so on.
const STEPS_ALL: u64 = 100;

/// A place in a trace: what `traceparent` and `tracestate` say. As text, in records of jobs, it is the former, and the
/// latter behind a blank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Trace {
    /// The whole trace; never zero.
    pub trace_id: u128,
    /// The span; never zero.
    pub span_id: u64,
    /// Somebody records the trace.
    pub sampled: bool,
    /// What others want to be handed on; empty: nothing.
    pub state: String,
}

impl Trace {
    /// Reads the two headers. A `traceparent` that is malformed is none; a `tracestate` that is too long or holds
    /// anything but printable ASCII is left out.
    #[must_use]
    pub fn read(parent: &str, state: &str) -> Option<Self> {
        let lower =
            |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let mut parts = parent.split('-');
        let mut next = |length: usize| parts.next().filter(|text| text.len() == length).filter(lower);
        let (version, trace, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        // Later versions may say more, behind a dash.
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let (trace_id, span_id) =
            (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
        if trace_id == 0 || span_id == 0 {
            return None;
        }
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        let fits = state.len() <= STATE_CHARS_MAX && state.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let state = if fits { state.trim().to_owned() } else { String::new() };
        Some(Self { trace_id, span_id, sampled, state })
    }

    /// What `traceparent` says.
    #[must_use]
    pub fn parent(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn with_span(&self, span_id: u64) -> Self {
        Self { span_id, ..self.clone() }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parent())?;
        if self.state.is_empty() { Ok(()) } else { write!(f, " {}", self.state) }
    }
}

impl From<Trace> for String {
    fn from(trace: Trace) -> Self {
        trace.to_string()
    }
}

impl TryFrom<String> for Trace {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (parent, state) = text.split_once(' ').unwrap_or((&text, ""));
        Self::read(parent, state).ok_or("not a place in a trace")
    }
}

/// Does the step with this number, from 1, get a span? Each of the first 100 does, then those whose number is two digits
/// and zeros: of a million steps 460.
#[must_use]
pub fn is_step_traced(number: u64) -> bool {
    let mut number = number;
    while number > STEPS_ALL {
        if !number.is_multiple_of(10) {
            return false;
        }
        number /= 10;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_place_in_a_trace_survives_its_text() {
        let trace = Trace::read(PARENT, "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7").unwrap();
        assert!(trace.sampled);
        assert_eq!(trace.parent(), PARENT);
        assert_eq!(Trace::try_from(trace.to_string()), Ok(trace.clone()));
        let bare = Trace { state: String::new(), sampled: false, ..trace };
        assert_eq!(bare.to_string(), PARENT.replace("-01", "-00"));
        assert_eq!(Trace::try_from(bare.to_string()), Ok(bare));
    }

    #[test]
    fn what_is_malformed_is_no_trace() {
        for parent in [
            "",
            "00",
            &PARENT[..54],
            &PARENT.to_uppercase(),
            &PARENT.replace("4bf9", "4bg9"),
            &format!("{PARENT}-more"),
            &PARENT.replacen("00-", "ff-", 1),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Trace::read(parent, ""), None, "{parent}");
        }
        let later = PARENT.replacen("00-", "01-", 1);
        assert!(Trace::read(&format!("{later}-more"), "").is_some());
        assert!(Trace::read(PARENT, &"x".repeat(513)).unwrap().state.is_empty());
        assert!(Trace::read(PARENT, "a=\u{7f}").unwrap().state.is_empty());
    }

    #[test]
    fn of_a_million_steps_few_are_traced() {
        assert!((1..=100).all(is_step_traced));
        assert!(
            !is_step_traced(101) && is_step_traced(110) && is_step_traced(1_000) && !is_step_traced(1_010)
        );
        assert_eq!((1..=1_000_000).filter(|number| is_step_traced(*number)).count(), 460);
    }
}

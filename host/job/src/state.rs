//! The states of a job, and which control fits which state.

use serde::{Deserialize, Serialize};

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not before a time: delayed, backing off, or asleep.
    Scheduled,
    /// In a line.
    Queued,
    /// Claimed by a host.
    Running,
    /// For children or a signal.
    Waiting,
    /// Stopped by an operator, with its last checkpoint.
    Paused,
    /// Ended with a result.
    Succeeded,
    /// Ended with an error.
    Failed,
    /// Ended by an operator.
    Cancelled,
}

impl State {
    /// All states, in the order of a job's life.
    pub const ALL: [Self; 8] = [
        Self::Scheduled,
        Self::Queued,
        Self::Running,
        Self::Waiting,
        Self::Paused,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The lower-case name used in every interface.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The letter that stands for the state in stored records.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Scheduled => 's',
            Self::Queued => 'q',
            Self::Running => 'r',
            Self::Waiting => 'w',
            Self::Paused => 'p',
            Self::Succeeded => 'S',
            Self::Failed => 'F',
            Self::Cancelled => 'C',
        }
    }

    /// The state of a stored letter.
    #[must_use]
    pub fn from_letter(letter: char) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.letter() == letter)
    }

    /// The state of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Nothing happens to the job any more unless it is restarted.
    #[must_use]
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// May a job go from this state to `next`?
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        use State::{Cancelled, Failed, Paused, Queued, Running, Scheduled, Succeeded, Waiting};
        match self {
            Scheduled | Waiting => matches!(next, Queued | Paused | Cancelled),
            Queued => matches!(next, Running | Paused | Cancelled),
            Running => {
                matches!(next, Succeeded | Failed | Queued | Scheduled | Waiting | Paused | Cancelled)
            }
            Paused => matches!(next, Queued | Scheduled | Waiting | Cancelled),
            Succeeded | Failed | Cancelled => matches!(next, Queued),
        }
    }
}

/// What an operator can ask of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Control {
    /// Stop at the end of the step and keep the place.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Begin again, from the start or from a kept checkpoint.
    Restart,
    /// Go on after a failure, from the last checkpoint.
    Retry,
    /// End now.
    Cancel,
}

impl Control {
    /// The lower-case name used in every interface.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Restart => "restart",
            Self::Retry => "retry",
            Self::Cancel => "cancel",
        }
    }

    /// The state that the control leads to from `state`; `None` where it does not fit.
    ///
    /// A control whose goal is reached already leads to the same state: controls are idempotent.
    /// A running job that is asked to pause goes on to the end of its step first. A paused one that slept or waited
    /// does so again, until what it was parked for has come.
    #[must_use]
    pub const fn outcome(self, state: State) -> Option<State> {
        match (self, state) {
            (Self::Pause, State::Paused) => Some(State::Paused),
            (Self::Pause, state) if !state.is_ended() => Some(State::Paused),
            (Self::Resume, State::Paused) => Some(State::Queued),
            (Self::Resume, state) if !state.is_ended() => Some(state),
            (Self::Restart, State::Paused | State::Succeeded | State::Failed | State::Cancelled) => {
                Some(State::Queued)
            }
            (Self::Retry, State::Failed) => Some(State::Queued),
            (Self::Cancel, State::Cancelled) => Some(State::Cancelled),
            (Self::Cancel, state) if !state.is_ended() => Some(State::Cancelled),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_control_outcome_is_a_legal_transition() {
        for state in State::ALL {
            for control in
                [Control::Pause, Control::Resume, Control::Restart, Control::Retry, Control::Cancel]
            {
                if let Some(next) = control.outcome(state) {
                    assert!(next == state || state.may_become(next), "{control:?} on {state:?}");
                }
            }
        }
    }

    #[test]
    fn letters_and_names_are_distinct() {
        for state in State::ALL {
            assert_eq!(State::from_letter(state.letter()), Some(state));
            assert_eq!(State::from_name(state.name()), Some(state));
        }
    }

    #[test]
    fn an_ended_job_only_restarts() {
        for state in State::ALL.into_iter().filter(|state| state.is_ended()) {
            for next in State::ALL {
                assert_eq!(state.may_become(next), next == State::Queued);
            }
        }
    }
}

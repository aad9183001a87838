//! One job in one fresh instance.
//!
//! Calls never overlap and none is cancel-safe: an instance whose call was dropped, trapped or ran out of time is
//! dead and answers every further call with [`Fault::Host`]. Dropping an instance ends everything it had.

use crate::{
    bindings::{Task, TaskPre, waymark::task::types},
    descriptor::is_name,
    fault::{Fault, Stop},
    limits::Limits,
    state::{Effects, State, checked_json, progress},
    turns::Turns,
};
use std::{
    future::Future,
    pin::pin,
    time::{Duration, Instant},
};
use wasmtime::{Store, UpdateDeadline};
use waymark_job::{Failure, Progress};

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// More work remains.
    Progressed(Progress),
    /// The job is done; its result, JSON in one line.
    Completed(String),
    /// Park the job for this many milliseconds.
    Sleep(u64),
    /// Park the job until its children have ended.
    AwaitChildren,
    /// Park the job until a signal arrives.
    AwaitSignal {
        /// 1 to 64 of a-z, 0-9, '_' and '-'.
        name: String,
        /// Go on without it after this many milliseconds.
        timeout_ms: Option<u64>,
    },
}

/// All that a fresh instance needs to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Media type of the state.
    pub mime_type: String,
    /// Version of the state's shape, chosen by the plugin.
    pub state_version: u32,
    /// The state, at most [`Limits::checkpoint_bytes_max`].
    pub state: Vec<u8>,
}

/// One job in one instance.
pub struct Instance {
    store: Store<State>,
    task: Task,
    alive: bool,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.store.data();
        f.debug_struct("Instance").field("job_id", &state.context.job_id).field("alive", &self.alive).finish()
    }
}

/// Time beyond the deadline after which a call that hangs in the host is given up: the guest itself is interrupted
/// at the deadline, and then says where it was.
const GRACE: Duration = Duration::from_millis(50);
const MIME_TYPE_BYTES_MAX: usize = 128;
const FAILURE_MESSAGE_BYTES_MAX: usize = 8 << 10;

impl Instance {
    /// Instantiates. The guest's own initialisation counts as a call.
    pub(crate) async fn open(pre: &TaskPre<State>, state: State) -> Result<Self, Fault> {
        let limit_ms = state.limits.step_hard_ms;
        let fuel = state.limits.hostcall_bytes();
        let mut store = Store::new(pre.engine(), state);
        store.limiter(|state| &mut state.meter);
        store.set_hostcall_fuel(fuel);
        store.epoch_deadline_callback(|context| {
            let state = context.data();
            let over = |deadline: Instant| deadline + state.turns.waited() <= Instant::now();
            if state.deadline.is_some_and(over) {
                return Err(Stop::Timeout(state.limits.step_hard_ms.unwrap_or_default()).into());
            }
            Ok(UpdateDeadline::YieldCustom(1, state.turns.next()))
        });
        let turns = store.data().turns.clone();
        arm(&mut store, limit_ms);
        let opened = guarded(limit_ms, &turns, pre.instantiate_async(&mut store)).await?;
        match opened {
            Ok(task) => Ok(Self { store, task, alive: true }),
            Err(error) => Err(Fault::of_call(&error, store.data())),
        }
    }

    /// What the plugin says of itself.
    pub(crate) async fn describe(&mut self) -> Result<types::Descriptor, Fault> {
        let (limit_ms, turns) = self.enter()?;
        let called =
            guarded(limit_ms, &turns, self.task.waymark_task_lifecycle().call_describe(&mut self.store))
                .await;
        self.leave(called)
    }

    pub(crate) async fn start(&mut self, input: &str) -> Result<(), Fault> {
        let limit = self.limits().input_bytes_max;
        if input.len() as u64 > limit {
            return Err(Stop::oversized("the input", input.len() as u64, limit, "api.input_bytes_max").into());
        }
        let input = input.to_owned();
        let (limit_ms, turns) = self.enter()?;
        let called =
            guarded(limit_ms, &turns, self.task.waymark_task_lifecycle().call_start(&mut self.store, &input))
                .await;
        self.leave(called)?.map_err(failure)
    }

    pub(crate) async fn restore(&mut self, snapshot: Snapshot) -> Result<(), Fault> {
        let Snapshot { mime_type, state_version, state } = snapshot;
        let snapshot = types::Snapshot { mime_type, state_version, state };
        let (limit_ms, turns) = self.enter()?;
        let called = guarded(
            limit_ms,
            &turns,
            self.task.waymark_task_lifecycle().call_restore(&mut self.store, &snapshot),
        )
        .await;
        self.leave(called)?.map_err(failure)
    }

    /// A bounded piece of work. Not cancel-safe.
    ///
    /// # Errors
    /// What the guest failed with, or how it broke a rule.
    pub async fn step(&mut self) -> Result<Outcome, Fault> {
        let (limit_ms, turns) = self.enter()?;
        let called =
            guarded(limit_ms, &turns, self.task.waymark_task_lifecycle().call_step(&mut self.store)).await;
        let outcome = self.leave(called)?.map_err(failure)?;
        let state = self.store.data_mut();
        state.enter_step(state.step + 1);
        let outcome = match outcome {
            types::Outcome::Progressed(made) => Outcome::Progressed(progress(made)),
            types::Outcome::Completed(result) => Outcome::Completed(checked_json(
                "the result",
                result,
                state.limits.result_bytes_max,
                "result_bytes_max",
            )?),
            types::Outcome::Sleep(ms) => Outcome::Sleep(ms),
            types::Outcome::AwaitChildren => Outcome::AwaitChildren,
            types::Outcome::AwaitSignal(wait) if is_name(&wait.name) => {
                Outcome::AwaitSignal { name: wait.name, timeout_ms: wait.timeout_ms }
            }
            types::Outcome::AwaitSignal(_) => {
                let message = "the name of the awaited signal is not 1 to 64 of a-z, 0-9, '_' and '-'";
                return Err(Stop::BadValue(message.into()).into());
            }
        };
        Ok(outcome)
    }

    /// Everything needed to go on. To be called between steps only. Not cancel-safe.
    ///
    /// # Errors
    /// What the guest failed with, or how it broke a rule.
    pub async fn checkpoint(&mut self) -> Result<Snapshot, Fault> {
        let (limit_ms, turns) = self.enter()?;
        let fuel = self.limits().checkpoint_call_bytes();
        self.store.set_hostcall_fuel(fuel);
        let called =
            guarded(limit_ms, &turns, self.task.waymark_task_lifecycle().call_checkpoint(&mut self.store))
                .await;
        let fuel = self.limits().hostcall_bytes();
        self.store.set_hostcall_fuel(fuel);
        let types::Snapshot { mime_type, state_version, state } = self.leave(called)?.map_err(failure)?;
        let limit = self.limits().checkpoint_bytes_max;
        if state.len() as u64 > limit {
            let bytes = state.len() as u64;
            return Err(Stop::oversized("the checkpoint", bytes, limit, "checkpoint_bytes_max").into());
        }
        if mime_type.len() > MIME_TYPE_BYTES_MAX || !mime_type.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Stop::BadValue("the checkpoint's media type is not one".into()).into());
        }
        Ok(Snapshot { mime_type, state_version, state })
    }

    /// What was buffered since the last time.
    pub fn take_effects(&mut self) -> Effects {
        self.store.data_mut().take_effects()
    }

    /// Bytes that are buffered.
    #[must_use]
    pub fn effects_bytes(&self) -> u64 {
        self.store.data().effects_bytes()
    }

    /// `step` steps of this run are done: the next is number `step + 1`. An instance counts by itself; this is for a
    /// caller that counts otherwise.
    pub fn committed(&mut self, step: u64) {
        self.store.data_mut().enter_step(step.saturating_add(1));
    }

    /// Memory of the guest, tables and buffered effects included.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.store.data().meter.used()
    }

    fn limits(&self) -> &Limits {
        &self.store.data().limits
    }

    fn enter(&mut self) -> Result<(Option<u64>, Turns), Fault> {
        if !std::mem::replace(&mut self.alive, false) {
            return Err(Fault::Host("the instance is dead: an earlier call trapped or was given up".into()));
        }
        let limit_ms = self.limits().step_hard_ms;
        arm(&mut self.store, limit_ms);
        Ok((limit_ms, self.store.data().turns.clone()))
    }

    fn leave<T>(&mut self, called: Result<wasmtime::Result<T>, Fault>) -> Result<T, Fault> {
        self.store.data().logger.flush(false);
        match called? {
            Ok(value) => {
                self.alive = true;
                Ok(value)
            }
            Err(error) => Err(Fault::of_call(&error, self.store.data())),
        }
    }
}

fn arm(store: &mut Store<State>, limit_ms: Option<u64>) {
    store.set_epoch_deadline(1);
    let state = store.data_mut();
    state.meter.refused = false;
    state.turns.begin();
    state.deadline = limit_ms.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
}

/// Waits for a call. A guest that computes is interrupted by the engine; this is for one that waits in the host.
async fn guarded<T>(
    limit_ms: Option<u64>,
    turns: &Turns,
    call: impl Future<Output = wasmtime::Result<T>>,
) -> Result<wasmtime::Result<T>, Fault> {
    let Some(limit_ms) = limit_ms else { return Ok(call.await) };
    let limit = Duration::from_millis(limit_ms) + GRACE;
    let began = Instant::now();
    let mut call = pin!(call);
    let mut waited = Duration::ZERO;
    loop {
        let left = (limit + waited).saturating_sub(began.elapsed());
        match tokio::time::timeout(left, &mut call).await {
            Ok(called) => return Ok(called),
            Err(_) if turns.waited() > waited => waited = turns.waited(),
            Err(_) => return Err(Stop::Timeout(limit_ms).into()),
        }
    }
}

fn failure(failure: types::Failure) -> Fault {
    let short = |mut message: String| {
        message.truncate(message.floor_char_boundary(FAILURE_MESSAGE_BYTES_MAX));
        message
    };
    Fault::Failure(match failure {
        types::Failure::Transient(message) => Failure::Transient(short(message)),
        types::Failure::RetryAfter((ms, message)) => Failure::RetryAfter(ms, short(message)),
        types::Failure::Permanent(message) => Failure::Permanent(short(message)),
        types::Failure::InvalidInput(message) => Failure::InvalidInput(short(message)),
    })
}

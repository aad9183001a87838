//! Jobs that workers of Celery run: a task is sent for each attempt, and looked after until it has ended.
//!
//! Between two looks the job sleeps, so it holds no slot; the end of its task wakes it where somebody hears of that
//! (`celery/ends.rs`). That its task was sent stands in the job's record, which is written by the script that sends it:
//! whoever takes the job next, after a crash too, looks after the same task.

use super::{Effects, Instance, Job, Next, Stop, advance};
use crate::{
    celery::{
        self,
        outgoing::{self, Attempt, Told},
    },
    redaction::hide_progress,
    worker::native,
};
use std::{sync::Arc, time::Duration};
use waymark_job::{Control, Failure, SentTask};
use waymark_sandbox::Fault;
use waymark_store::{CeleryBroker, CelerySent, NewCheckpoint};

/// A task is looked at again after a quarter of the time that it has taken, within these bounds: so an end that nobody heard
/// of is seen late by a quarter of its time at most, and a long one costs few looks.
const LOOK_PART: u64 = 4;
const LOOK_MIN_MS: u64 = 100;
const LOOK_MAX_MS: u64 = 10_000;
/// How long it is noted which job a task runs for: while the job sleeps, and some time to spare.
const NOTE_MS: u64 = 3 * LOOK_MAX_MS;

impl Job<'_> {
    /// Is a task under way in place of this attempt?
    pub(super) fn is_sent(&self) -> bool {
        let own = outgoing::task_id(&self.id, self.base.run, self.base.attempt);
        self.base.sent.as_ref().is_some_and(|sent| sent.id == own)
    }

    /// Sends the job's task unless that was done, and looks what became of it.
    pub(super) async fn celery(&mut self) -> Result<(), Stop> {
        // Time outside of a slot counts as well.
        if let Some(sent) = &self.base.sent {
            self.base.ran_ms = self.claim.now_ms().saturating_sub(sent.since_ms);
        }
        let shared = self.shared;
        let policy = Arc::new(shared.config.policy(&self.spec.job_type));
        let result_bytes_max = policy.result_bytes_max;
        self.set_policy(policy);
        let at = celery::broker(&shared.config.celery, &shared.store);
        // Before the task is sent, and before the look: no end falls in between.
        let task = outgoing::task_id(&self.id, self.base.run, self.base.attempt);
        let noted = async { Ok(shared.store.celery_note(&task, &self.id, NOTE_MS).await) };
        if let Err(error) = self.unless_dropped(noted).await? {
            tracing::debug!(job_id = %self.id, %error, "the end of the task is found by looking");
        }
        let sent = match self.base.sent.clone() {
            Some(sent) => sent,
            None => self.send(at).await?,
        };
        let key = shared.config.celery.result_key(&sent.id);
        let text =
            self.unless_dropped(native::patiently(&self.id, || shared.store.celery_result(at, &key))).await?;
        let (end, done_ms) = match outgoing::told(text.as_deref()) {
            Told::Goes(progress) => {
                if let Some(mut progress) = progress {
                    hide_progress(&self.mask, &mut progress);
                    advance(&mut self.base, progress);
                }
                return Err(self.look_again(&sent).await);
            }
            Told::Revoked => return Err(self.cancel().await),
            Told::Succeeded(result, _) if result.len() as u64 > result_bytes_max => {
                let why = format!("the task's result is longer than result_bytes_max = {result_bytes_max}");
                (Err(Fault::Failure(Failure::Permanent(why))), None)
            }
            Told::Succeeded(result, done_ms) => (Ok(result), done_ms),
            Told::Failed(fault, done_ms) => (Err(fault), done_ms),
        };
        // As far as the clocks of both sides agree.
        if let Some(ran_ms) = done_ms.and_then(|done_ms| done_ms.checked_sub(sent.since_ms)) {
            self.base.ran_ms = self.base.ran_ms.min(ran_ms);
        }
        match end {
            Ok(result) => {
                self.base.sent = None;
                self.work(Ended(result)).await
            }
            Err(fault) => Err(Stop::Fault(fault)),
        }
    }

    async fn send(&mut self, at: CeleryBroker) -> Result<Box<SentTask>, Stop> {
        let shared = self.shared;
        let arm = self.route.as_ref().zip(self.base.route.as_ref());
        let target = arm.and_then(|(stored, routed)| stored.route.arm(&routed.arm)?.1.celery.clone());
        let target =
            target.ok_or_else(|| Stop::Fault(Fault::Host("the job is routed to nobody".to_owned())))?;
        let attempt = Attempt {
            job: &self.id,
            spec: &self.spec,
            record: &self.base,
            hard_limit_ms: self.hard_limit_ms(),
            now_ms: self.claim.now_ms(),
        };
        let sending = outgoing::sending(&shared.config.celery, at.broker, &target, &attempt);
        let sending = sending.map_err(|why| {
            let why = format!("the route sends the job to a task of Celery: {why}");
            Stop::Fault(Fault::Failure(Failure::InvalidInput(why)))
        })?;
        let sent = Box::new(sending.sent);
        self.base.sent = Some(sent.clone());
        let (record, token) = (&self.base, &self.claim.token);
        let ask = || shared.store.celery_send(at, &self.id, token, record, &sending.list, &sending.message);
        match self.unless_dropped(native::patiently(&self.id, ask)).await? {
            CelerySent::Lost => Err(Stop::Gone),
            CelerySent::Sent | CelerySent::Before => {
                let line = serde_json::json!({
                    "at": self.claim.now_ms(), "level": "info", "message": "sent to workers of Celery",
                    "fields": {"task_id": sent.id, "task": target.task, "queue": target.queue},
                });
                shared.logs.say(self.id, line.to_string());
                Ok(sent)
            }
        }
    }

    /// The task goes on: so does the job's sleep, unless its time is over.
    async fn look_again(&self, sent: &SentTask) -> Stop {
        let ran_ms = self.claim.now_ms().saturating_sub(sent.since_ms);
        let mut delay_ms = (ran_ms / LOOK_PART).clamp(LOOK_MIN_MS, LOOK_MAX_MS);
        if let Some(limit_ms) = self.hard_limit_ms() {
            if ran_ms >= limit_ms {
                // Nobody need hear it.
                if let Err(error) = self.shared.store.celery_publish(&sent.channel, &sent.revoke).await {
                    tracing::warn!(job_id = %self.id, %error, "a task of Celery is not revoked");
                }
                return Stop::Fault(Fault::Trap {
                    kind: "hard-limit",
                    message: "the task of Celery had not ended within the job's hard limit".into(),
                    trace: None,
                });
            }
            delay_ms = delay_ms.min(limit_ms - ran_ms);
        }
        Stop::Asleep(Duration::from_millis(delay_ms))
    }

    /// Somebody revoked the task at Celery: that is a cancelled job.
    async fn cancel(&self) -> Stop {
        match self.shared.store.control(&self.id, Control::Cancel, None).await {
            Ok(_) => Stop::Gone,
            Err(error) => {
                tracing::warn!(job_id = %self.id, %error, "a job whose task was revoked is cancelled later");
                Stop::Asleep(Duration::from_millis(LOOK_MIN_MS))
            }
        }
    }

    /// Waits, unless the job is taken away; its hard limit is looked at elsewhere, because a task that has ended in time has.
    async fn unless_dropped<T>(&self, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Stop> {
        tokio::select! {
            biased;
            done = call => done.map_err(Stop::Fault),
            () = self.running.dropped() => Err(Stop::Gone),
        }
    }
}

/// A task that has ended well, as the worker's loop sees it.
struct Ended(String);

impl Instance for Ended {
    async fn step(&mut self) -> Result<Next, Fault> {
        Ok(Next::Completed(std::mem::take(&mut self.0)))
    }

    async fn checkpoint(&mut self) -> Result<NewCheckpoint, Fault> {
        Err(Fault::Host("a task of Celery has no checkpoint".to_owned()))
    }

    fn take_effects(&mut self) -> Effects {
        Effects::default()
    }

    fn wants_commit(&self) -> bool {
        true
    }

    fn ended_step(&mut self, _: u64) {}
}

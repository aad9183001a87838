//! Jobs of plugins: which version runs, a fresh instance of it, and what that instance did.

use super::{Effects, Instance, Job, Next, Stop, classify};
use crate::{
    config::OnNewVersion,
    worker::shared::{Version, Wish},
};
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use waymark_job::{Failure, JobId, Spec, Trace, route::Routed};
use waymark_sandbox::{self as sandbox, Fault, Outcome};
use waymark_store::{ChildOutcome, NewCheckpoint, NewJob, Resume, Then};

/// Buffered effects that are committed early, bytes: a longer buffer would be a longer script call.
const EFFECTS_BYTES_MAX: u64 = 1 << 20;
/// How long a job waits for memory of this host before it asks again.
const BUSY_WAIT: Duration = Duration::from_millis(50);

/// An instance of a plugin.
struct Guest {
    instance: sandbox::Instance,
    version: Arc<Version>,
    id: JobId,
    spec: Arc<Spec>,
    trace: Option<Trace>,
}

impl Instance for Guest {
    async fn step(&mut self) -> Result<Next, Fault> {
        Ok(match self.instance.step().await? {
            Outcome::Completed(result) => Next::Completed(result),
            Outcome::Progressed(progress) => Next::Progressed(progress),
            Outcome::Sleep(delay_ms) => Next::Leave(Then::Sleep { delay_ms }),
            Outcome::AwaitChildren => Next::Leave(Then::AwaitChildren),
            Outcome::AwaitSignal { .. } if self.spec.shadow.is_some() => {
                let message = "a shadow job waits for no signal";
                return Err(Fault::Failure(Failure::Permanent(message.to_owned())));
            }
            Outcome::AwaitSignal { name, timeout_ms } => Next::Leave(Then::AwaitSignal { name, timeout_ms }),
        })
    }

    async fn checkpoint(&mut self) -> Result<NewCheckpoint, Fault> {
        let snapshot = self.instance.checkpoint().await?;
        Ok(NewCheckpoint {
            mime_type: snapshot.mime_type,
            state_version: snapshot.state_version,
            state: snapshot.state,
            plugin_version: self.version.plugin.descriptor().version.clone(),
            plugin_digest: self.version.plugin.digest().to_owned(),
        })
    }

    fn take_effects(&mut self) -> Effects {
        let effects = self.instance.take_effects();
        let mut children = Vec::with_capacity(effects.children.len());
        for spawn in effects.children {
            // The identifier came from our own `child_id`.
            let Ok(id) = JobId::parse(&spawn.id) else { continue };
            let spec = Spec {
                job_type: spawn.job_type,
                input: spawn.input,
                priority: self.spec.priority,
                correlation_id: self.spec.correlation_id.clone(),
                parent: Some(self.id),
                trace: self.trace.clone(),
                ..Spec::default()
            };
            children.push(NewJob { id: Some(id), spec, ..NewJob::default() });
        }
        let listed = children.iter().filter_map(|child| child.id).collect();
        Effects { outputs: effects.outputs, progress: effects.progress, children, listed }
    }

    fn wants_commit(&self) -> bool {
        self.instance.effects_bytes() > EFFECTS_BYTES_MAX
    }

    fn ended_step(&mut self, number: u64) {
        self.instance.committed(number);
    }
}

impl Job<'_> {
    /// Runs a job of a plugin. `before`: where it was routed to when it was last committed.
    pub(super) async fn guest(&mut self, before: Option<Box<Routed>>) -> Result<(), Stop> {
        let mut version = self.choose_version()?;
        self.version = Some(version.clone());
        self.set_policy(version.policy.clone());
        let beginning = self.trace.beginning();
        let begun = self.begin(&mut version).await;
        self.trace.ended(beginning, begun.as_ref().err().and_then(Stop::error));
        let instance = begun?;
        self.version = Some(version.clone());
        let digest = version.plugin.digest();
        if self.wanted().is_some_and(|wanted| wanted != digest) {
            // It could not be moved, or need not be.
            self.base.route = before;
        }
        if self.base.digest.as_deref() != Some(digest) {
            self.base.digest = Some(digest.to_owned());
            self.base.version = Some(version.plugin.descriptor().version.clone());
        }
        self.trace.set("waymark.plugin.version", version.plugin.descriptor().version.clone());
        let (id, spec, trace) = (self.id, self.spec.clone(), self.trace.handed_on().cloned());
        self.work(Guest { instance, version, id, spec, trace }).await
    }

    /// The version to run: the one that the run began with, else the active one. A job that failed, or that was
    /// restarted, tries the active one first if that reads its state: the operator may have mended what it failed of.
    fn choose_version(&self) -> Result<Arc<Version>, Stop> {
        let plugins = self.shared.plugins();
        let wanted = self.wanted();
        let active = match wanted {
            Some(digest) => plugins.digest(digest),
            None => plugins.active(&self.spec.job_type),
        };
        let own = self.own_version();
        let begun = own.as_ref().map(|own| own.plugin.digest());
        let wants_active = self.base.attempt > 0
            || self.base.run > 1
            || begun.is_some_and(|begun| self.leaves(begun, active.as_ref()));
        // A host that lacks the version it was sent to passes it on to one that has it.
        let passed_on = || Stop::Release(wanted.map(str::to_owned));
        if wants_active { active.or(own) } else { own.or(active) }.ok_or_else(passed_on)
    }

    /// Shall a job that began under `own` go on under the active version? Where there is a route, that says.
    fn leaves(&self, own: &str, active: Option<&Arc<Version>>) -> bool {
        let Some(active) = active.filter(|_| self.wanted().is_none()) else { return false };
        if active.plugin.digest() == own {
            return false;
        }
        let moves = active.policy.on_new_version == OnNewVersion::Migrate
            && self.base.refused.as_deref() != Some(active.plugin.digest());
        moves || self.shared.plugins().is_withdrawn(own)
    }

    /// Does the running job leave its version with this commit?
    pub(super) fn moves(&self) -> bool {
        let Some(version) = &self.version else { return false };
        let active = self.shared.plugins().active(&self.spec.job_type);
        self.leaves(version.plugin.digest(), active.as_ref())
    }

    /// The version that it was sent to: of a copy, or by the route of its type. `None`: the active one.
    fn wanted(&self) -> Option<&str> {
        if let Some(of) = &self.spec.shadow {
            return Some(&of.digest);
        }
        let routed = self.base.route.as_ref().filter(|routed| routed.kind == "version");
        routed.map(|routed| routed.target.as_str()).filter(|digest| !digest.is_empty())
    }

    /// The version that wrote the job's checkpoint, if there is one and it is here.
    fn own_version(&self) -> Option<Arc<Version>> {
        let digest = self.base.digest.as_deref().filter(|_| self.base.step > 0)?;
        self.shared.plugins().digest(digest)
    }

    /// A fresh instance, at the beginning or at the last checkpoint. Goes on with the job's own version where the
    /// one tried first cannot read its checkpoint.
    async fn begin(&mut self, version: &mut Arc<Version>) -> Result<sandbox::Instance, Stop> {
        let fresh = self.base.step == 0 && self.base.children.is_empty();
        let resume = if fresh { None } else { Some(self.load().await?) };
        let signals = resume.iter().flat_map(|resume| &resume.signals);
        self.arrived_us = signals.map(|signal| (signal.name.clone(), signal.arrived_us)).collect();
        if self.base.step > 0 && resume.as_ref().is_none_or(|resume| resume.checkpoint.is_none()) {
            return Err(Stop::Expired);
        }
        loop {
            let context = self.context(resume.as_ref());
            let checkpoint = resume.as_ref().and_then(|resume| resume.checkpoint.as_ref());
            let begun = match checkpoint {
                None => self.bounded(version.plugin.start(context, &self.spec.input)).await,
                Some(checkpoint) => {
                    let snapshot = sandbox::Snapshot {
                        mime_type: checkpoint.mime_type.clone(),
                        state_version: checkpoint.state_version,
                        state: checkpoint.state.clone(),
                    };
                    let foreign = checkpoint.plugin_digest != version.plugin.digest();
                    let restored = self
                        .bounded(async {
                            let mut instance = version.plugin.restore(context, snapshot).await?;
                            // Another version takes over only if it can also go on from where it is.
                            if foreign {
                                instance.checkpoint().await?;
                            }
                            Ok(instance)
                        })
                        .await;
                    match restored {
                        // Another version than the job's own could not read its checkpoint.
                        Err(Stop::Fault(fault)) if foreign && !matches!(fault, Fault::Busy) => {
                            self.base.refused = Some(version.plugin.digest().to_owned());
                            if self.shared.plugins().is_withdrawn(&checkpoint.plugin_digest) {
                                let why = classify(fault).0.message;
                                return Err(Stop::Parked(format!(
                                    "an operator went back from version {} of the plugin, and version {} cannot read \
                                     the job's checkpoint: {why}. Restart the job from its beginning, or put a version \
                                     into service that reads it and resume the job",
                                    checkpoint.plugin_version,
                                    version.plugin.descriptor().version
                                )));
                            }
                            if let Some(own) = self.own_version() {
                                *version = own;
                                continue;
                            }
                            tracing::warn!(
                                job_id = %self.id,
                                correlation_id = self.spec.correlation_id.as_deref(),
                                needs = checkpoint.plugin_digest,
                                "the active version cannot read the job's checkpoint: it waits for its own version"
                            );
                            return Err(Stop::Release(Some(checkpoint.plugin_digest.clone())));
                        }
                        other => other,
                    }
                }
            };
            match begun {
                Err(Stop::Fault(Fault::Busy)) => {
                    self.may_begin()?;
                    tokio::time::sleep(BUSY_WAIT).await;
                }
                other => return other,
            }
        }
    }

    /// The last commit; waits until the store answers.
    pub(in crate::worker) async fn load(&self) -> Result<Resume, Stop> {
        loop {
            match self.shared.store.load(&self.id, &self.base).await {
                Ok(resume) => return Ok(resume),
                Err(error) => {
                    let correlation_id = self.spec.correlation_id.as_deref();
                    tracing::warn!(job_id = %self.id, correlation_id, %error, "the checkpoint cannot be read yet");
                }
            }
            if self.running.wish() == Wish::Drop {
                return Err(Stop::Gone);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn context(&self, resume: Option<&Resume>) -> sandbox::JobContext {
        let (id, run) = (self.id, self.base.run);
        let at_ms = self.base.committed_ms.unwrap_or_else(|| id.created_ms());
        let (logs, spoke, mask) = (self.shared.logs.clone(), self.spoke.clone(), self.mask.clone());
        let correlation_id = self.spec.correlation_id.clone();
        // The contract: none is told before all have ended.
        let children = resume.map(|resume| resume.children.as_slice()).unwrap_or_default();
        let all_ended = children.iter().all(|(_, outcome)| *outcome != ChildOutcome::Pending);
        let children = if all_ended { children } else { &[] };
        sandbox::JobContext {
            job_id: id.to_string(),
            correlation_id: self.spec.correlation_id.clone().unwrap_or_default(),
            attempt: self.base.attempt + 1,
            run,
            committed_steps: self.base.step,
            soft_limit: self.soft,
            metadata: self.spec.metadata.clone().unwrap_or_else(|| "{}".to_owned()),
            children: children.iter().map(|(id, outcome)| (id.to_string(), outcome.clone().into())).collect(),
            signals: resume
                .iter()
                .flat_map(|resume| &resume.signals)
                .map(|signal| (signal.name.clone(), signal.payload.clone()))
                .collect(),
            shadow: self.spec.shadow.is_some(),
            yield_flag: self.running.yields.clone(),
            logs: Box::new(move |line| {
                spoke.store(true, Relaxed);
                let line = mask.json(&line.to_json()).into_owned();
                let correlation_id = correlation_id.as_deref();
                tracing::trace!(target: "guest", job_id = %id, correlation_id, line, "a job's log line");
                logs.say(id, line);
            }),
            calls: self.trace.calls(),
            child_id: Box::new(move |step, index| JobId::child(&id, run, step, index, at_ms).to_string()),
        }
    }
}

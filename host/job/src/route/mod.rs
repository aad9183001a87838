//! Routes: which version of a job type, or who else, runs its jobs.
//!
//! A [`Route`] names targets with weights in per cent. A job's key (a value of its input or metadata, or its own id) is
//! hashed to one of 10,000 buckets, a hundred for each per cent, and [`Stored::slots`] says which target has which
//! hundred. A change of weights takes hundreds only from targets that shrink, so a key never leaves a target that grows.
//! Flags, which are asked first, send jobs with certain keys to one target whatever the weights are.
//!
//! A [`Canary`] moves weight from a baseline to the target under trial, step by step; [`guard`] says when it is worse,
//! and then it loses all its weight. [`compare`] says whether the result of a shadow job is that of the job beside it.

pub mod compare;
pub mod guard;

use guard::{Counts, Finding, Guards};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

/// Buckets that keys are hashed to.
pub const BUCKETS: u64 = 10_000;
/// Shares of the weights, each of which has a hundredth of the buckets.
pub const SLOTS: usize = 100;
/// Most targets of a route.
const TARGETS_MAX: usize = 16;
/// Most flags of a route, and keys in all of them: a route is read with every change of any, and kept with its history.
const FLAGS_MAX: usize = 100;
const FLAG_VALUES_MAX: usize = 1_000;
/// Most steps of a canary.
const STEPS_MAX: usize = 20;
/// Longest minimum time of a step: 30 days.
const STEP_MS_MAX: u64 = 30 * 86_400_000;
/// A sample grows by half from one look to the next.
const LOOK_GROWTH: f64 = 1.5;

/// What is wrong with a route: a JSON Pointer to the field, and why.
pub type Invalid = (String, String);

/// Where the jobs of a type go, as an operator writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Who runs jobs. Weights add up to 100.
    pub targets: Vec<Target>,
    /// JSON Pointer to what makes jobs stay together, such as `/input/tenant` or `/metadata/user`. Default: the job's
    /// id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<String>,
    /// Which keys go where whatever the weights are; the first that fits holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Flag>,
    /// A target under trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// A target that gets copies of jobs, without effects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
}

/// Somebody who runs jobs: one of `version`, `celery` and `http`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Its name in this route: 1 to 32 of a-z, 0-9, '_' and '-'.
    pub arm: String,
    /// Its share, per cent. Default 0.
    #[serde(default)]
    pub weight: u8,
    /// A version of the plugin: its SHA-256, at least the first 12 digits of that, or the version that it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// SHA-256 of that version. The host fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// A Celery queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub celery: Option<Celery>,
    /// An address that takes the input and answers with the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
}

/// A task of Celery workers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Celery {
    /// The queue.
    pub queue: String,
    /// Name of the task. Default: the one task that `[celery.tasks]` maps to the job type; the host fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// How the job's input is made of the task's arguments, as `celery.tasks.NAME.input`; it is read the other way round.
    /// Default: that of the task's mapping, which the host fills in, else `{"args": […], "kwargs": {…}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
}

/// An endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// `https://` or `http://`.
    pub url: String,
}

/// Sends jobs with certain keys to one target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flag {
    /// JSON Pointer to the key. Default: `sticky` of the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The keys, as text.
    pub values: Vec<String>,
    /// Name of the target.
    pub arm: String,
}

/// A target under trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// Name of the target.
    pub arm: String,
    /// Name of the target that gives its weight. Default: the first other one.
    #[serde(default)]
    pub baseline: Option<String>,
    /// The shares to go through, growing, the last one 100. Default 10, 25, 50 and 100 %, at least 5 minutes each.
    #[serde(default = "default_steps")]
    pub steps: Vec<Step>,
    /// What rolls it back.
    #[serde(default)]
    pub guards: Guards,
    /// Probability that a canary without any fault is rolled back, above 0 to 0.5. Default 0.01.
    #[serde(default = "default_alpha")]
    pub alpha: f64,
}

/// A share of a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Share of the target under trial, per cent, 1 to 100.
    pub percent: u8,
    /// Shortest time in this step, milliseconds.
    #[serde(default = "default_step_ms")]
    pub min_ms: u64,
}

const fn default_step_ms() -> u64 {
    300_000
}

const fn default_alpha() -> f64 {
    0.01
}

fn default_steps() -> Vec<Step> {
    [10, 25, 50, 100].map(|percent| Step { percent, min_ms: default_step_ms() }).to_vec()
}

/// A target that gets copies of jobs. Copies have no effects, and nobody waits for them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shadow {
    /// Name of the target, a version; its weight may be 0.
    pub arm: String,
    /// Share of the jobs that are copied, per cent, above 0 to 100.
    pub percent: f64,
    /// When two results are the same.
    #[serde(default)]
    pub compare: compare::Rule,
}

/// What a job was routed to, kept with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routed {
    /// Name of the target.
    #[serde(rename = "a")]
    pub arm: String,
    /// `version`, `celery` or `http`.
    #[serde(rename = "k")]
    pub kind: String,
    /// SHA-256 of the version, the Celery queue and task, or the address.
    #[serde(rename = "t")]
    pub target: String,
}

/// What a shadow job is a copy of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowOf {
    /// The job.
    #[serde(rename = "j")]
    pub job: crate::JobId,
    /// Its run.
    #[serde(rename = "r")]
    pub run: u32,
    /// SHA-256 of the version that runs the copy.
    #[serde(rename = "d")]
    pub digest: String,
}

/// Where a canary stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It goes on by itself.
    Running,
    /// It stays in its step until somebody promotes it. Guards still roll it back.
    Held,
    /// It has all the weight of its baseline.
    Promoted,
    /// It has none.
    RolledBack,
}

/// How far a canary is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Where it stands.
    pub standing: Standing,
    /// Index of its step.
    pub step: usize,
    /// When that began, Unix milliseconds.
    pub since_ms: u64,
    /// Looks at the counts of this step so far.
    pub looks: u32,
}

/// A route with all that belongs to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// As written, with the weights of now.
    pub route: Route,
    /// Which target has which hundredth of the buckets: 100 indices into the targets.
    pub slots: Vec<u8>,
    /// Grows with every change.
    pub revision: u64,
    /// What is counted began with this revision.
    pub epoch: u64,
    /// When it was last changed, Unix milliseconds.
    pub changed_ms: u64,
    /// How far its canary is.
    #[serde(default)]
    pub progress: Option<Progress>,
    /// What a configuration file said when it was last taken from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_file: Option<String>,
}

/// An entry of a route's history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// Name of the token or user; `waymark` for the host itself.
    pub who: String,
    /// `put`, `delete`, `advance`, `promote`, `hold`, `rollback` or `undo`.
    pub what: String,
    /// Why, with the figures that decided, where there are any.
    #[serde(default)]
    pub why: String,
    /// The route before; `None`: there was none.
    #[serde(default)]
    pub before: Option<Box<Stored>>,
    /// The revision that this change made.
    pub revision: u64,
}

/// What the figures of a canary ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Note that the counts were looked at.
    Looked(Stored),
    /// The next step; why.
    Advance(Stored, String),
    /// No weight any more; why.
    RollBack(Stored, Finding),
}

fn invalid<T>(field: impl Into<String>, why: impl Into<String>) -> Result<T, Invalid> {
    Err((field.into(), why.into()))
}

fn is_arm(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

fn check_pointer(field: &str, pointer: &str) -> Result<(), Invalid> {
    if ["/input", "/metadata"]
        .iter()
        .any(|head| pointer.strip_prefix(head).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    {
        return Ok(());
    }
    invalid(field, "must be a JSON Pointer that begins with /input or /metadata")
}

impl Target {
    /// What a job that goes there is told to have gone to.
    #[must_use]
    pub fn routed(&self) -> Routed {
        let (kind, target) = match self {
            Self { celery: Some(celery), .. } => {
                ("celery", format!("{} {}", celery.queue, celery.task.as_deref().unwrap_or_default()))
            }
            Self { http: Some(http), .. } => ("http", http.url.clone()),
            _ => ("version", self.digest.clone().unwrap_or_default()),
        };
        Routed { arm: self.arm.clone(), kind: kind.to_owned(), target }
    }

    fn check(&self, field: &str) -> Result<(), Invalid> {
        if !is_arm(&self.arm) {
            return invalid(format!("{field}/arm"), "must be 1 to 32 of a-z, 0-9, '_' and '-'");
        }
        let named = usize::from(self.version.is_some())
            + usize::from(self.celery.is_some())
            + usize::from(self.http.is_some());
        if named != 1 {
            return invalid(field, "a target names one of version, celery and http");
        }
        if let Some(http) = &self.http
            && !(http.url.starts_with("https://") || http.url.starts_with("http://"))
        {
            return invalid(format!("{field}/http/url"), "must begin with https:// or http://");
        }
        if let Some(Celery { queue, task, .. }) = &self.celery {
            let fits = |text: &str| (1..=200).contains(&text.len()) && !text.contains(char::is_control);
            if !fits(queue) || !task.as_deref().is_none_or(fits) {
                return invalid(format!("{field}/celery"), "queue and task are 1 to 200 characters");
            }
        }
        Ok(())
    }
}

impl Route {
    /// The target with this name, and its index.
    #[must_use]
    pub fn arm(&self, name: &str) -> Option<(usize, &Target)> {
        self.targets.iter().enumerate().find(|(_, target)| target.arm == name)
    }

    /// The target under trial and the one that gives its weight, by index.
    #[must_use]
    pub fn trial(&self) -> Option<(usize, usize)> {
        let canary = self.canary.as_ref()?;
        let (trial, _) = self.arm(&canary.arm)?;
        let baseline = match &canary.baseline {
            Some(name) => self.arm(name)?.0,
            None => (0..self.targets.len()).find(|index| *index != trial)?,
        };
        (trial != baseline).then_some((trial, baseline))
    }

    /// Checks it, but for what only a host knows: which versions there are.
    ///
    /// # Errors
    /// The first field that is wrong, as a JSON Pointer, and why.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.targets.is_empty() || self.targets.len() > TARGETS_MAX {
            return invalid("/targets", format!("there must be 1 to {TARGETS_MAX}"));
        }
        let mut names = BTreeSet::new();
        for (index, target) in self.targets.iter().enumerate() {
            let field = format!("/targets/{index}");
            target.check(&field)?;
            if !names.insert(&target.arm) {
                return invalid(format!("{field}/arm"), format!("{:?} is there twice", target.arm));
            }
        }
        let known = |field: String, name: &str| match self.arm(name) {
            Some(_) => Ok(()),
            None => invalid(field, format!("there is no target {name:?}")),
        };
        if let Some(pointer) = &self.sticky {
            check_pointer("/sticky", pointer)?;
        }
        if self.flags.len() > FLAGS_MAX {
            return invalid("/flags", format!("at most {FLAGS_MAX}"));
        }
        if self.flags.iter().map(|flag| flag.values.len()).sum::<usize>() > FLAG_VALUES_MAX {
            return invalid("/flags", format!("at most {FLAG_VALUES_MAX} values in all"));
        }
        for (index, flag) in self.flags.iter().enumerate() {
            known(format!("/flags/{index}/arm"), &flag.arm)?;
            match (&flag.key, &self.sticky) {
                (Some(pointer), _) => check_pointer(&format!("/flags/{index}/key"), pointer)?,
                (None, Some(_)) => {}
                (None, None) => {
                    return invalid(format!("/flags/{index}/key"), "is needed where the route has no sticky");
                }
            }
        }
        if let Some(shadow) = &self.shadow {
            known("/shadow/arm".to_owned(), &shadow.arm)?;
            if self.arm(&shadow.arm).is_some_and(|(_, target)| target.version.is_none()) {
                return invalid("/shadow/arm", "must be a version: only the sandbox can run without effects");
            }
            if !(shadow.percent > 0.0 && shadow.percent <= 100.0) {
                return invalid("/shadow/percent", "must be above 0, at most 100");
            }
            shadow.compare.check().map_err(|(field, why)| (format!("/shadow/compare/{field}"), why))?;
        }
        self.check_canary()?;
        let sum: u32 = self.targets.iter().map(|target| u32::from(target.weight)).sum();
        if self.canary.is_none() && sum != 100 {
            return invalid("/targets", format!("the weights add up to {sum}, not 100"));
        }
        Ok(())
    }

    fn check_canary(&self) -> Result<(), Invalid> {
        let Some(canary) = &self.canary else { return Ok(()) };
        let Some((trial, baseline)) = self.trial() else {
            return invalid("/canary", "arm and baseline must name two targets");
        };
        let other =
            |(index, target): (usize, &Target)| target.weight > 0 && index != trial && index != baseline;
        if self.targets.iter().enumerate().any(other) {
            return invalid("/targets", "beside a canary and its baseline no target has weight");
        }
        if canary.steps.is_empty() || canary.steps.len() > STEPS_MAX {
            return invalid("/canary/steps", format!("there must be 1 to {STEPS_MAX}"));
        }
        let mut before = 0;
        for (index, step) in canary.steps.iter().enumerate() {
            if step.percent <= before || step.percent > 100 {
                return invalid(format!("/canary/steps/{index}/percent"), "must grow from 1 to 100");
            }
            if step.min_ms > STEP_MS_MAX {
                return invalid(
                    format!("/canary/steps/{index}/min_ms"),
                    format!("must be at most {STEP_MS_MAX}"),
                );
            }
            before = step.percent;
        }
        if before != 100 {
            return invalid("/canary/steps", "the last step must have 100 per cent");
        }
        if !(canary.alpha > 0.0 && canary.alpha <= 0.5) {
            return invalid("/canary/alpha", "must be above 0, at most 0.5");
        }
        if canary.guards.mismatch.is_some() && self.shadow.is_none() {
            return invalid(
                "/canary/guards/mismatch",
                "needs shadow: results are compared with those of shadow jobs",
            );
        }
        canary.guards.check().map_err(|(field, why)| (format!("/canary/guards/{field}"), why))
    }
}

/// Gives hundredths of the buckets to targets so that each has its weight. `before`: who had them, by the index of
/// now; `None`: nobody. A target whose weight does not shrink keeps all it had.
#[must_use]
fn share_out(before: &[Option<u8>], weights: &[u8]) -> Vec<u8> {
    let mut left: Vec<u8> = weights.to_vec();
    let mut slots: Vec<Option<u8>> = (0..SLOTS)
        .map(|at| {
            let holder = before.get(at).copied().flatten()?;
            let rest = left.get_mut(usize::from(holder)).filter(|rest| **rest > 0)?;
            *rest -= 1;
            Some(holder)
        })
        .collect();
    let mut next = 0;
    for slot in slots.iter_mut().filter(|slot| slot.is_none()) {
        while left.get(next).is_some_and(|rest| *rest == 0) {
            next += 1;
        }
        if let Some(rest) = left.get_mut(next) {
            *rest -= 1;
            *slot = Some(next as u8);
        }
    }
    slots.into_iter().map(Option::unwrap_or_default).collect()
}

/// The bucket of a key, 0 to 9,999: the same on every host. FNV-1a, whose bits are then mixed (SplitMix64), because
/// the last letters of a key reach too few of them.
#[must_use]
pub fn bucket(job_type: &str, key: &str) -> u64 {
    let bytes = job_type.bytes().chain([0]).chain(key.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % BUCKETS
}

/// What is known of a job when its target is chosen. Input and metadata are read at most once.
struct Keys<'a> {
    texts: [&'a str; 2],
    read: [Option<Value>; 2],
}

impl Keys<'_> {
    /// The text at a pointer: of a string its letters, of anything else its JSON.
    fn find(&mut self, pointer: &str) -> Option<String> {
        let (index, rest) = match (pointer.strip_prefix("/input"), pointer.strip_prefix("/metadata")) {
            (Some(rest), _) => (0, rest),
            (None, Some(rest)) => (1, rest),
            (None, None) => return None,
        };
        let text = self.texts[index];
        let value = self.read[index].get_or_insert_with(|| serde_json::from_str(text).unwrap_or(Value::Null));
        match value.pointer(rest)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
}

impl Stored {
    /// A route that begins to hold, after another one of the same type where there is one. `route` was checked.
    #[must_use]
    pub fn begin(route: Route, before: Option<&Self>, now_ms: u64) -> Self {
        // Of a route that was removed and put anew no number comes back.
        let revision = before.map_or(now_ms, |before| before.revision + 1);
        let progress = route.canary.as_ref().map(|_| Progress {
            standing: Standing::Running,
            step: 0,
            since_ms: now_ms,
            looks: 0,
        });
        let mut stored = Self {
            route,
            slots: Vec::new(),
            revision,
            epoch: revision,
            changed_ms: now_ms,
            progress,
            from_file: None,
        };
        stored.weigh(before);
        stored
    }

    /// Gives the canary the weight of its step, and every target its buckets.
    fn weigh(&mut self, before: Option<&Self>) {
        if let (Some((trial, baseline)), Some(progress)) = (self.route.trial(), &self.progress) {
            let step = self.route.canary.as_ref().and_then(|canary| canary.steps.get(progress.step));
            let percent = match progress.standing {
                Standing::RolledBack => 0,
                Standing::Promoted => 100,
                Standing::Running | Standing::Held => step.map_or(0, |step| step.percent.min(100)),
            };
            self.route.targets[trial].weight = percent;
            self.route.targets[baseline].weight = 100 - percent;
        }
        let weights: Vec<_> = self.route.targets.iter().map(|target| target.weight).collect();
        let holders: Vec<Option<u8>> = before.map_or_else(Vec::new, |before| {
            let now = |index: &u8| {
                let arm = &before.route.targets.get(usize::from(*index))?.arm;
                Some(self.route.arm(arm)?.0 as u8)
            };
            before.slots.iter().map(now).collect()
        });
        self.slots = share_out(&holders, &weights);
    }

    /// The same in another standing or step: counts begin anew.
    fn moved(&self, standing: Standing, step: usize, now_ms: u64) -> Self {
        let mut next = self.clone();
        next.revision += 1;
        next.epoch = next.revision;
        next.changed_ms = now_ms;
        next.progress = Some(Progress { standing, step, since_ms: now_ms, looks: 0 });
        next.weigh(Some(self));
        next
    }

    /// The target of a job: an index into the targets, and its bucket.
    #[must_use]
    pub fn choose(&self, job_type: &str, id: &str, input: &str, metadata: Option<&str>) -> usize {
        let mut keys = Keys { texts: [input, metadata.unwrap_or("{}")], read: [None, None] };
        let rolled_back = self.progress.as_ref().is_some_and(|one| one.standing == Standing::RolledBack);
        let trial = self.route.canary.as_ref().filter(|_| rolled_back).map(|canary| &canary.arm);
        for flag in &self.route.flags {
            // Nobody is sent to what was found to be bad.
            if Some(&flag.arm) == trial {
                continue;
            }
            let pointer = flag.key.as_deref().or(self.route.sticky.as_deref()).unwrap_or_default();
            if keys.find(pointer).is_some_and(|key| flag.values.contains(&key))
                && let Some((index, _)) = self.route.arm(&flag.arm)
            {
                return index;
            }
        }
        let key = self.route.sticky.as_deref().and_then(|pointer| keys.find(pointer));
        let bucket = bucket(job_type, key.as_deref().unwrap_or(id));
        usize::from(self.slots.get((bucket / (BUCKETS / SLOTS as u64)) as usize).copied().unwrap_or(0))
    }

    /// Is a copy of this job made?
    #[must_use]
    pub fn shadows(&self, job_type: &str, id: &str) -> Option<(&Shadow, &Target)> {
        let shadow = self.route.shadow.as_ref()?;
        // Salted, so that the sample does not depend on who ran the job.
        let drawn = bucket(job_type, &format!("shadow {id}"));
        let (_, target) = self.route.arm(&shadow.arm)?;
        ((drawn as f64) < shadow.percent / 100.0 * BUCKETS as f64).then_some((shadow, target))
    }

    /// A route as it was `before`, after the one of now: what is counted begins anew.
    #[must_use]
    pub fn again(before: &Self, now: Option<&Self>, now_ms: u64) -> Self {
        let mut next = Self::begin(before.route.clone(), now, now_ms);
        next.from_file.clone_from(&before.from_file);
        if let (Some(progress), Some(was)) = (&mut next.progress, &before.progress) {
            (progress.standing, progress.step) = (was.standing.clone(), was.step);
            next.weigh(now);
        }
        next
    }

    /// The canary's next step, or its last one. `None`: there is no canary, or it has ended.
    #[must_use]
    pub fn promote(&self, full: bool, now_ms: u64) -> Option<Self> {
        let (canary, progress) = (self.route.canary.as_ref()?, self.progress.as_ref()?);
        if matches!(progress.standing, Standing::Promoted | Standing::RolledBack) {
            return None;
        }
        let step =
            if full { canary.steps.len() - 1 } else { (progress.step + 1).min(canary.steps.len() - 1) };
        let last = canary.steps.get(step).is_none_or(|step| step.percent >= 100);
        Some(self.moved(if last { Standing::Promoted } else { Standing::Running }, step, now_ms))
    }

    /// The canary stays where it is. `None`: it does not run.
    #[must_use]
    pub fn hold(&self, now_ms: u64) -> Option<Self> {
        let progress = self.progress.as_ref().filter(|one| one.standing == Standing::Running)?;
        let mut next = self.clone();
        next.revision += 1;
        next.changed_ms = now_ms;
        next.progress = Some(Progress { standing: Standing::Held, ..progress.clone() });
        Some(next)
    }

    /// The canary loses all its weight. `None`: there is no canary, or it has lost it already.
    #[must_use]
    pub fn roll_back(&self, now_ms: u64) -> Option<Self> {
        let progress = self.progress.as_ref().filter(|one| one.standing != Standing::RolledBack)?;
        Some(self.moved(Standing::RolledBack, progress.step, now_ms))
    }

    /// Looks at the counts of the canary's step. `None`: there is nothing to do or to note.
    #[must_use]
    pub fn look(&self, counts: &Counts, now_ms: u64) -> Option<Decision> {
        let (canary, progress) = (self.route.canary.as_ref()?, self.progress.as_ref()?);
        let standing = &progress.standing;
        if !matches!(standing, Standing::Running | Standing::Held) {
            return None;
        }
        let step = canary.steps.get(progress.step)?;
        let (trial, baseline) = self.route.trial()?;
        let none = guard::Arm::default();
        let arm = |index: usize| counts.arms.get(&self.route.targets[index].arm).unwrap_or(&none);
        let (trial, baseline) = (arm(trial), arm(baseline));
        let guards = &canary.guards;
        let enough = trial.attempts.min(baseline.attempts) >= guards.min_samples()
            && counts.compared >= guards.min_pairs();
        let over = *standing == Standing::Running && now_ms >= progress.since_ms.saturating_add(step.min_ms);
        // The first look is due with the least sample of any guard; the size of the arm under trial tells how much is
        // new, and where only shadow jobs are compared, their number.
        let sample = trial.attempts.max(counts.compared);
        let due = self.due_sample(guards, progress.looks);
        let ends = over && enough;
        let mut next = self.clone();
        if !guards.is_empty() && (sample >= due || ends) {
            let p_max = guard::spent(canary.alpha, guards.len(), canary.steps.len(), progress.looks);
            if let Some(finding) = guards.look(trial, baseline, counts, p_max) {
                return Some(Decision::RollBack(self.roll_back(now_ms)?, finding));
            }
            next.revision += 1;
            next.progress = Some(Progress { looks: progress.looks + 1, ..progress.clone() });
            if !ends {
                return Some(Decision::Looked(next));
            }
        }
        if !ends {
            return None;
        }
        let why = format!(
            "no guard found anything in {} attempts beside {} of the baseline ({} and {} of them failed)",
            trial.attempts, baseline.attempts, trial.errors, baseline.errors
        );
        Some(Decision::Advance(self.promote(false, now_ms)?, why))
    }

    fn due_sample(&self, guards: &Guards, looks: u32) -> u64 {
        let least = [
            guards.error_rate.map(|guard| guard.min_samples),
            guards.latency.map(|guard| guard.min_samples),
            guards.mismatch.map(|guard| guard.min_samples),
        ];
        let least = least.into_iter().flatten().min().unwrap_or(1);
        (f64::from(least) * LOOK_GROWTH.powi(i32::try_from(looks).unwrap_or(i32::MAX))).ceil() as u64
    }
}

#[cfg(test)]
mod tests;

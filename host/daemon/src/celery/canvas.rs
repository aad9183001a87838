//! What follows a task: callbacks, the rest of its chain, its chord, its errbacks; groups, chains and chords in any
//! nesting.
//!
//! Pure: a signature goes in, messages and writes come out ([`Out`]). Every id that is not given follows from the one who
//! asks, so that working out the same twice gives the same.
//!
//! The rules are those of Celery's workers, as far as they can be seen from outside:
//!
//! * a plain signature becomes a message; the value in front of its arguments, unless it is immutable;
//! * of a chain the first is sent and carries the rest; what is said of the chain (id, chord, group, links) is said of its
//!   last;
//! * all of a group are sent; a group that something follows is the header of a chord;
//! * of a chord the header is sent, each of it with the body; what follows the chord follows its body;
//! * the last part of a chord sends the body; where a part failed, the body has failed with `ChordError`.

use super::{
    config::Celery,
    message::{self, Embed, Outgoing, Raw, raw},
    outcome::{self, Exception, State},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use std::collections::BTreeMap;
use waymark_store::CeleryOperation as Operation;

/// Deepest nesting of signatures that is followed.
const DEPTH_MAX: u32 = 100;
/// Most messages that one task may send.
const SENT_MAX: usize = 100_000;

/// A call that is not made yet.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Signature {
    pub(crate) task: String,
    #[serde(default)]
    pub(crate) args: Vec<Raw>,
    #[serde(default)]
    pub(crate) kwargs: BTreeMap<String, Raw>,
    #[serde(default)]
    pub(crate) options: BTreeMap<String, Raw>,
    #[serde(default)]
    pub(crate) subtask_type: Option<String>,
    #[serde(default)]
    pub(crate) immutable: bool,
}

impl Signature {
    fn read(text: &RawValue) -> Result<Self, String> {
        serde_json::from_str(text.get()).map_err(|error| format!("a signature cannot be read: {error}"))
    }

    fn option<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Option<T> {
        self.options.get(name).and_then(|value| serde_json::from_str(value.get()).ok())
    }

    fn set(&mut self, name: &str, value: &impl Serialize) {
        self.options.insert(name.to_owned(), raw(value));
    }

    /// A list option, which may be a single signature.
    fn list(&self, name: &str) -> Vec<Raw> {
        match self.options.get(name) {
            None => Vec::new(),
            Some(value) if value.get().starts_with('[') => self.option(name).unwrap_or_default(),
            Some(value) if value.get().starts_with('{') => vec![value.clone()],
            Some(_) => Vec::new(),
        }
    }

    fn extend(&mut self, name: &str, more: &[Raw]) {
        if !more.is_empty() {
            let mut list = self.list(name);
            list.extend(more.iter().cloned());
            self.set(name, &list);
        }
    }

    /// Signatures of an argument, such as `tasks`; those of a group where it is one.
    fn tasks(&self, name: &str) -> Result<Vec<Raw>, String> {
        match self.kwargs.get(name) {
            None => Ok(Vec::new()),
            Some(value) if value.get().starts_with('{') => Self::read(value)?.tasks("tasks"),
            Some(value) => serde_json::from_str(value.get())
                .map_err(|error| format!("{} has no list {name:?}: {error}", self.task)),
        }
    }

    fn is(&self, kind: &str) -> bool {
        self.task.strip_prefix("celery.") == Some(kind) || self.subtask_type.as_deref() == Some(kind)
    }
}

/// What is said of a signature besides what it says itself.
#[derive(Clone, Debug, Default)]
struct Over {
    task_id: Option<String>,
    /// What follows, the next one last.
    chain: Vec<Raw>,
    chord: Option<Raw>,
    group: Option<(String, i64)>,
    link: Vec<Raw>,
    link_error: Vec<Raw>,
}

impl Over {
    /// Writes into a signature where its result goes, and what is linked to it.
    fn place(&self, signature: &mut Signature) {
        if let Some((group, index)) = &self.group {
            signature.set("group_id", group);
            signature.set("group_index", index);
        }
        if let Some(chord) = &self.chord {
            signature.set("chord", chord);
        }
        signature.extend("link", &self.link);
    }
}

/// What must be known of a task when it has ended, kept with its job as JSON.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Context {
    /// Task id.
    #[serde(rename = "i")]
    pub(crate) id: String,
    /// Name of the task.
    #[serde(rename = "t")]
    pub(crate) task: String,
    /// Queue that it came from.
    #[serde(rename = "q", default, skip_serializing_if = "String::is_empty")]
    pub(crate) queue: String,
    /// Root of its tree; absent: itself.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub(crate) root: Option<String>,
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<String>,
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub(crate) group_index: Option<i64>,
    #[serde(rename = "e", default, skip_serializing_if = "Embed::is_empty")]
    pub(crate) embed: Embed,
    /// Its result is not wanted.
    #[serde(rename = "o", default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) ignore_result: bool,
    #[serde(rename = "y", default, skip_serializing_if = "is_zero")]
    pub(crate) retries: u64,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub(crate) reply_to: Option<String>,
    /// Arguments, where results are to show them.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub(crate) arguments: Option<(Vec<Raw>, BTreeMap<String, Raw>)>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Embed {
    fn is_empty(&self) -> bool {
        self.callbacks.is_none() && self.errbacks.is_none() && self.chain.is_none() && self.chord.is_none()
    }
}

impl Context {
    /// Root of its tree.
    pub(crate) fn root(&self) -> &str {
        self.root.as_deref().unwrap_or(&self.id)
    }

    /// A body or an element of a chain, of which only its signature is known.
    fn of(signature: &Signature, id: String, root: &str, parent: Option<&str>) -> Self {
        Self {
            id,
            task: signature.task.clone(),
            root: Some(root.to_owned()),
            parent: parent.map(str::to_owned),
            group: signature.option("group_id"),
            group_index: signature.option("group_index"),
            embed: Embed {
                chord: signature.options.get("chord").filter(|chord| chord.get() != "null").cloned(),
                ..Embed::default()
            },
            ..Self::default()
        }
    }
}

/// What a chord needs when its parts are all there.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Join {
    /// The group.
    pub(crate) group: String,
    /// The body.
    pub(crate) body: Raw,
    /// Root of the tree.
    pub(crate) root: String,
    /// The task that brought the last part.
    pub(crate) parent: String,
}

/// Messages and writes that follow.
pub(crate) struct Out<'a> {
    settings: &'a Celery,
    now_ms: u64,
    /// Where the next ones come from: ids that are made up follow from it.
    root: String,
    parent: Option<String>,
    seed: String,
    made: usize,
    /// What is to be written, in this order.
    pub(crate) operations: Vec<Operation>,
    /// Result tuples of what was sent, JSON texts.
    pub(crate) children: Vec<String>,
}

impl<'a> Out<'a> {
    /// Nothing yet, on behalf of a task.
    pub(crate) fn new(settings: &'a Celery, now_ms: u64, context: &Context) -> Self {
        Self {
            settings,
            now_ms,
            root: context.root().to_owned(),
            parent: Some(context.id.clone()),
            seed: format!("{} {}", context.id, context.retries),
            made: 0,
            operations: Vec::new(),
            children: Vec::new(),
        }
    }

    fn make_id(&mut self) -> String {
        self.made += 1;
        message::uuid_of(&format!("{} {}", self.seed, self.made))
    }

    /// A task succeeded: what it links to, the rest of its chain, its part of a chord, and its result.
    pub(crate) fn succeeded(&mut self, context: &Context, result: &RawValue) -> Result<(), String> {
        let value = vec![result.to_owned()];
        let callbacks = context.embed.callbacks.as_deref().unwrap_or_default();
        for callback in callbacks {
            let child = self.send(callback, &value, Over::default(), 0)?;
            self.children.push(child);
        }
        if let Some((next, rest)) = context.embed.chain.as_deref().and_then(<[_]>::split_last) {
            let over = Over { chain: rest.to_vec(), ..Over::default() };
            let child = self.send(next, &value, over, 0)?;
            self.children.push(child);
        }
        self.result(context, State::Success, result, None);
        self.part(context, State::Success, result);
        Ok(())
    }

    /// A task failed or was revoked: so has everything that waits for it.
    pub(crate) fn failed(
        &mut self,
        context: &Context,
        state: State,
        exception: &Exception,
    ) -> Result<(), String> {
        let encoded = exception.encoded();
        self.result(context, state, &encoded, Some(exception));
        self.part(context, state, &encoded);
        for next in context.embed.chain.iter().flatten().rev() {
            self.never(next, state, exception, 0)?;
        }
        if state == State::Failure {
            self.errbacks(context.embed.errbacks.as_deref().unwrap_or_default(), &context.id)?;
        }
        Ok(())
    }

    /// Errbacks are told the id of the task that failed, as tasks that a worker does not know itself.
    fn errbacks(&mut self, errbacks: &[Raw], id: &str) -> Result<(), String> {
        for errback in errbacks {
            self.send(errback, &[raw(&id)], Over::default(), 0)?;
        }
        Ok(())
    }

    /// A signature that will never be sent has the state of the task that it waited for.
    fn never(
        &mut self,
        text: &RawValue,
        state: State,
        exception: &Exception,
        depth: u32,
    ) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err("signatures are nested too deep".into());
        }
        let signature = Signature::read(text)?;
        let encoded = exception.encoded();
        if let Some(id) = signature.option::<String>("task_id") {
            let (root, parent) = (self.root.clone(), self.parent.clone());
            let context = Context::of(&signature, id, &root, parent.as_deref());
            self.result(&context, state, &encoded, Some(exception));
            self.part(&context, state, &encoded);
        }
        let inner = if signature.is("chain") || signature.is("group") {
            signature.tasks("tasks")?
        } else if signature.is("chord") {
            signature.kwargs.get("body").cloned().into_iter().collect()
        } else {
            Vec::new()
        };
        for text in inner {
            self.never(&text, state, exception, depth + 1)?;
        }
        for text in signature.option::<Vec<Raw>>("chain").unwrap_or_default().iter().rev() {
            self.never(text, state, exception, depth + 1)?;
        }
        Ok(())
    }

    fn result(&mut self, context: &Context, state: State, value: &RawValue, exception: Option<&Exception>) {
        if context.ignore_result {
            return;
        }
        let text =
            outcome::meta(self.settings, context, state, value, exception, &self.children, self.now_ms);
        self.operations.push(Operation::Result {
            key: self.settings.result_key(&context.id),
            text,
            expires_s: self.settings.result_expires_s,
        });
    }

    fn part(&mut self, context: &Context, state: State, value: &RawValue) {
        let (Some(body), Some(group)) = (&context.embed.chord, &context.group) else { return };
        let join = Join {
            group: group.clone(),
            body: body.clone(),
            root: self.root.clone(),
            parent: context.id.clone(),
        };
        self.operations.push(Operation::Part {
            group: self.settings.group_key(group),
            member: raw(&(1, &context.id, state.name(), value)).get().to_owned(),
            index: context.group_index.unwrap_or(1),
            task: context.id.clone(),
            expires_s: self.settings.result_expires_s,
            context: raw(&join).get().to_owned(),
        });
    }

    /// Sends a signature with a value in front of its arguments.
    pub(crate) fn apply(&mut self, signature: &Signature, values: &[Raw]) -> Result<(), String> {
        let child = self.send_one(signature.clone(), values, Over::default(), 0)?;
        self.children.push(child);
        Ok(())
    }

    /// The parts of a chord are all there.
    ///
    /// `parts`: what each has put into the group's sorted set, in its order. `saved`: the tuple of the group where its
    /// header is nested.
    pub(crate) fn join(
        &mut self,
        join: &Join,
        parts: &[String],
        saved: Option<&RawValue>,
    ) -> Result<(), String> {
        type Part = (Value, String, String, Raw);
        let parts: Vec<Part> = parts
            .iter()
            .map(|text| {
                serde_json::from_str(text)
                    .map_err(|error| format!("a part of a chord cannot be read: {error}"))
            })
            .collect::<Result<_, _>>()?;
        let body = Signature::read(&join.body)?;
        if let Some((_, task, state, value)) =
            parts.iter().find(|(_, _, state, _)| state != State::Success.name())
        {
            let exception = outcome::dependency(task, state, value);
            self.never(&join.body, State::Failure, &exception, 0)?;
            let id = body.option::<String>("task_id").unwrap_or_default();
            return self.errbacks(&body.list("link_error"), &id);
        }
        let value = match saved {
            None => raw(&parts.iter().map(|(_, _, _, value)| value).collect::<Vec<_>>()),
            Some(saved) => {
                let by_task: BTreeMap<_, _> =
                    parts.iter().map(|(_, task, _, value)| (task.as_str(), value.as_ref())).collect();
                nested(saved, &by_task)
                    .unwrap_or_else(|| raw(&parts.iter().map(|(_, _, _, value)| value).collect::<Vec<_>>()))
            }
        };
        self.send(&join.body, &[value], Over::default(), 0).map(drop)
    }

    fn send(&mut self, text: &RawValue, values: &[Raw], over: Over, depth: u32) -> Result<String, String> {
        self.send_one(Signature::read(text)?, values, over, depth)
    }

    /// Sends a signature; answers its result tuple, JSON text.
    fn send_one(
        &mut self,
        signature: Signature,
        values: &[Raw],
        over: Over,
        depth: u32,
    ) -> Result<String, String> {
        if depth > DEPTH_MAX {
            return Err("signatures are nested too deep".into());
        }
        if self.operations.len() > SENT_MAX {
            return Err(format!("more than {SENT_MAX} messages follow one task"));
        }
        let own: Vec<Raw> = signature.option("chain").unwrap_or_default();
        let chord = signature.options.get("chord").filter(|chord| chord.get() != "null").cloned();
        let asked = over.task_id.clone();
        let group = signature
            .option::<String>("group_id")
            .map(|id| (id, signature.option::<i64>("group_index").unwrap_or(0)));
        let mut over = Over {
            task_id: over.task_id.or_else(|| signature.option("task_id")),
            chain: over.chain.into_iter().chain(own).collect(),
            chord: over.chord.or(chord),
            group: over.group.or(group),
            link: signature.list("link").into_iter().chain(over.link).collect(),
            link_error: signature.list("link_error").into_iter().chain(over.link_error).collect(),
        };
        let values: Vec<Raw> = if signature.immutable {
            signature.args.clone()
        } else {
            values.iter().chain(&signature.args).cloned().collect()
        };
        if signature.is("chain") {
            let tasks = signature.tasks("tasks")?;
            return self.send_chain(tasks, &values, over, depth);
        }
        if signature.is("group") {
            let tasks = signature.tasks("tasks")?;
            if over.chain.is_empty() {
                return self.send_group(tasks, &values, over, depth);
            }
            let rest = std::mem::take(&mut over.chain);
            let body = chain_of(rest.into_iter().rev().collect());
            let gid = over.task_id.take();
            return self.send_chord(tasks, gid, body, &values, over, depth);
        }
        if signature.is("chord") {
            let header = signature.tasks("header")?;
            let of_header = signature
                .kwargs
                .get("header")
                .filter(|header| header.get().starts_with('{'))
                .and_then(|header| Signature::read(header).ok()?.option("task_id"));
            // The id that a client gives a chord is that of its header; whoever waits for it waits for its body.
            let gid = of_header.or_else(|| signature.option("task_id"));
            over.task_id = asked;
            let body = signature.kwargs.get("body").ok_or("a chord has no body")?;
            let body = Signature::read(body)?;
            return self.send_chord(header, gid, body, &values, over, depth);
        }
        self.send_plain(signature, values, over)
    }

    fn send_chain(
        &mut self,
        tasks: Vec<Raw>,
        values: &[Raw],
        over: Over,
        depth: u32,
    ) -> Result<String, String> {
        let mut tasks = tasks.iter().map(|task| Signature::read(task)).collect::<Result<Vec<_>, _>>()?;
        let Some(mut last) = tasks.pop() else { return Ok("[[null, null], null]".into()) };
        // What is said of the chain is said of its last; a failure concerns all.
        if last.option::<String>("task_id").is_none() {
            let id = over.task_id.clone().unwrap_or_else(|| self.make_id());
            last.set("task_id", &id);
        }
        over.place(&mut last);
        tasks.push(last);
        for task in &mut tasks {
            task.extend("link_error", &over.link_error);
        }
        let mut rest = tasks.split_off(1);
        let Some(first) = tasks.pop() else { return Ok("[[null, null], null]".into()) };
        rest.reverse();
        let chain = over.chain.into_iter().chain(rest.iter().map(raw)).collect();
        self.send_one(first, values, Over { chain, ..Over::default() }, depth + 1)
    }

    fn send_group(
        &mut self,
        tasks: Vec<Raw>,
        values: &[Raw],
        over: Over,
        depth: u32,
    ) -> Result<String, String> {
        let gid = over.task_id.unwrap_or_else(|| self.make_id());
        // A group within the header of a chord has its places in the group of the header.
        let within = over.chord.is_some().then_some(over.group).flatten();
        let (group, mut index) = within.unwrap_or((gid.clone(), 0));
        let mut children = Vec::with_capacity(tasks.len());
        for (number, task) in tasks.iter().enumerate() {
            let own = Over {
                chord: over.chord.clone(),
                group: Some((group.clone(), index)),
                // What is linked to a group is linked to its first.
                link: if number == 0 { over.link.clone() } else { Vec::new() },
                link_error: over.link_error.clone(),
                ..Over::default()
            };
            children.push(self.send(task, values, own, depth + 1)?);
            index += leaves(task, 0)?;
        }
        Ok(format!("[[{}, null], [{}]]", raw(&gid), children.join(", ")))
    }

    fn send_chord(
        &mut self,
        header: Vec<Raw>,
        gid: Option<String>,
        mut body: Signature,
        values: &[Raw],
        over: Over,
        depth: u32,
    ) -> Result<String, String> {
        over.place(&mut body);
        let gid = gid.unwrap_or_else(|| self.make_id());
        let id = over.task_id.or_else(|| body.option("task_id")).unwrap_or_else(|| self.make_id());
        body.set("task_id", &id);
        if !over.chain.is_empty() {
            // What the body carries itself comes first.
            let own: Vec<Raw> = body.option("chain").unwrap_or_default();
            let chain: Vec<Raw> = over.chain.into_iter().chain(own).collect();
            body.set("chain", &chain);
        }
        body.extend("link_error", &over.link_error);
        if header.is_empty() {
            return self.send_one(body, &[raw(&Vec::<Raw>::new())], Over::default(), depth + 1);
        }
        let text = raw(&body);
        let expires_s = self.settings.result_expires_s;
        let key = self.settings.group_key(&gid);
        let at = self.operations.len();
        let (mut children, mut index) = (Vec::with_capacity(header.len()), 0);
        let mut is_nested = false;
        for task in &header {
            let own =
                Over { chord: Some(text.clone()), group: Some((gid.clone(), index)), ..Over::default() };
            is_nested |= Signature::read(task)?.is("group");
            children.push(self.send(task, values, own, depth + 1)?);
            index += leaves(task, 0)?;
        }
        // Before the parts are sent.
        let mut first = vec![Operation::Set { key: format!("{key}.s"), text: index.to_string(), expires_s }];
        if is_nested {
            let tuple = format!("[[{}, null], [{}]]", raw(&gid), children.join(", "));
            first.push(Operation::Set { key, text: format!("{{\"result\": {tuple}}}"), expires_s });
        }
        self.operations.splice(at..at, first);
        Ok(format!("[[{}, null], null]", raw(&id)))
    }

    fn send_plain(&mut self, signature: Signature, args: Vec<Raw>, over: Over) -> Result<String, String> {
        let id = over.task_id.unwrap_or_else(|| self.make_id());
        let queue = signature
            .option::<String>("queue")
            .or_else(|| {
                signature
                    .option::<Value>("queue")
                    .and_then(|queue| Some(queue.get("name")?.as_str()?.to_owned()))
            })
            .or_else(|| signature.option("routing_key"))
            .or_else(|| self.settings.route(&signature.task).map(str::to_owned))
            .unwrap_or_else(|| self.settings.default_queue().to_owned());
        let after = |name: &str| {
            let seconds = signature.option::<f64>(name)?;
            Some(message::isoformat(self.now_ms + (seconds.max(0.0) * 1e3) as u64))
        };
        let eta = signature.option::<String>("eta").or_else(|| after("countdown"));
        let expires = signature.option::<String>("expires").or_else(|| after("expires"));
        let limit = |name: &str| signature.option::<Value>(name).unwrap_or(Value::Null);
        let priority = signature.option::<u8>("priority").unwrap_or(0).min(9);
        let list = |values: Vec<Raw>| (!values.is_empty()).then_some(values);
        let message = message::write(Outgoing {
            id: &id,
            task: &signature.task,
            queue: &queue,
            args,
            kwargs: &signature.kwargs,
            embed: Embed {
                callbacks: list(over.link),
                errbacks: list(over.link_error),
                chain: list(over.chain),
                chord: over.chord,
            },
            root: &self.root,
            parent: self.parent.as_deref(),
            group: over.group.map(|(id, index)| (id, Some(index))),
            eta,
            expires,
            limits: (limit("time_limit"), limit("soft_time_limit")),
            ignore_result: signature.option("ignore_result").unwrap_or(false),
            priority,
            reply_to: signature.option("reply_to"),
            origin: self.settings.node(),
            headers: signature.option::<Map<String, Value>>("headers").unwrap_or_default(),
        });
        let list = message::list(&self.settings.key_prefix, &queue, priority);
        self.operations.push(Operation::Push { list, message });
        Ok(format!("[[{}, null], null]", raw(&id)))
    }
}

/// How many parts a member of a header brings.
fn leaves(text: &RawValue, depth: u32) -> Result<i64, String> {
    if depth > DEPTH_MAX {
        return Err("signatures are nested too deep".into());
    }
    let signature = Signature::read(text)?;
    if signature.is("group") {
        return signature.tasks("tasks")?.iter().map(|task| leaves(task, depth + 1)).sum();
    }
    if signature.is("chain")
        && let Some(last) = signature.tasks("tasks")?.last()
    {
        return leaves(last, depth + 1);
    }
    Ok(1)
}

fn chain_of(tasks: Vec<Raw>) -> Signature {
    Signature {
        task: "celery.chain".into(),
        kwargs: BTreeMap::from([("tasks".to_owned(), raw(&tasks))]),
        subtask_type: Some("chain".into()),
        ..Signature::default()
    }
}

/// Results in the shape of a saved group.
fn nested(tuple: &RawValue, results: &BTreeMap<&str, &RawValue>) -> Option<Raw> {
    let (head, children): (Raw, Option<Vec<Raw>>) = serde_json::from_str(tuple.get()).ok()?;
    match children {
        Some(children) => {
            let all: Option<Vec<_>> = children.iter().map(|child| nested(child, results)).collect();
            Some(raw(&all?))
        }
        None => {
            let (id, _): (String, Value) = serde_json::from_str(head.get()).ok()?;
            results.get(id.as_str()).map(|value| (*value).to_owned())
        }
    }
}

/// What a worker of Celery does by itself, without a task of the application.
pub(crate) enum BuiltIn {
    /// A signature to send; its result is that of the task.
    Send(Signature),
    /// The task's result is known.
    Known(Raw),
    /// Look whether a chord's parts are all there.
    Look(String, Raw),
}

/// Is this the name of a built-in task?
pub(crate) fn is_built_in(name: &str) -> bool {
    name.strip_prefix("celery.").is_some_and(|name| {
        matches!(
            name,
            "group"
                | "chain"
                | "chord"
                | "map"
                | "starmap"
                | "chunks"
                | "accumulate"
                | "chord_unlock"
                | "backend_cleanup"
        )
    })
}

/// What a built-in task asks for.
///
/// # Errors
/// Its arguments do not fit.
pub(crate) fn built_in(name: &str, args: &[Raw], kwargs: &BTreeMap<String, Raw>) -> Result<BuiltIn, String> {
    let get =
        |at: usize, key: &str| kwargs.get(key).or_else(|| args.get(at)).filter(|value| value.get() != "null");
    let need = |at: usize, key: &str| get(at, key).ok_or_else(|| format!("{name} has no argument {key:?}"));
    let partial = |at: usize| -> Vec<Raw> {
        get(at, "partial_args").and_then(|value| serde_json::from_str(value.get()).ok()).unwrap_or_default()
    };
    let items = |at: usize| -> Result<Vec<Raw>, String> {
        serde_json::from_str(need(at, "it")?.get()).map_err(|error| format!("{name}: {error}"))
    };
    let short = name.strip_prefix("celery.").unwrap_or(name);
    let signature = |kwargs: Vec<(&str, Raw)>, args: Vec<Raw>| Signature {
        task: name.to_owned(),
        args,
        kwargs: kwargs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        ..Signature::default()
    };
    // Items side by side, and a list of what came of them.
    let gathered = |header: Vec<Signature>| {
        let body = Signature {
            task: "celery.accumulate".into(),
            kwargs: BTreeMap::from([("index".to_owned(), raw(&0))]),
            ..Signature::default()
        };
        Signature {
            task: "celery.chord".into(),
            kwargs: BTreeMap::from([("header".to_owned(), raw(&header)), ("body".to_owned(), raw(&body))]),
            ..Signature::default()
        }
    };
    let each = |task: &Signature, item: &Raw, star: bool| -> Result<Signature, String> {
        let values: Vec<Raw> = if star {
            serde_json::from_str(item.get())
                .map_err(|error| format!("{name}: an item is no list: {error}"))?
        } else {
            vec![item.clone()]
        };
        let mut one = task.clone();
        one.args.splice(0..0, values);
        one.immutable = true;
        one.options.remove("task_id");
        Ok(one)
    };
    Ok(match short {
        "group" => {
            let mut one = signature(vec![("tasks", need(0, "tasks")?.clone())], partial(3));
            if let Some(id) = get(2, "group_id") {
                one.options.insert("task_id".into(), id.clone());
            }
            BuiltIn::Send(one)
        }
        "chain" => BuiltIn::Send(signature(vec![("tasks", need(0, "tasks")?.clone())], Vec::new())),
        "chord" => BuiltIn::Send(signature(
            vec![("header", need(0, "header")?.clone()), ("body", need(1, "body")?.clone())],
            partial(2),
        )),
        "map" | "starmap" => {
            let task = Signature::read(need(0, "task")?)?;
            let header = items(1)?
                .iter()
                .map(|item| each(&task, item, short == "starmap"))
                .collect::<Result<_, _>>()?;
            BuiltIn::Send(gathered(header))
        }
        "chunks" => {
            let task = need(0, "task")?;
            let size = need(2, "n")?.get().parse::<usize>().ok().filter(|size| *size > 0);
            let size = size.ok_or_else(|| format!("{name}: n must be at least 1"))?;
            let header = items(1)?
                .chunks(size)
                .map(|chunk| Signature {
                    task: "celery.starmap".into(),
                    kwargs: BTreeMap::from([
                        ("task".to_owned(), task.clone()),
                        ("it".to_owned(), raw(&chunk)),
                    ]),
                    immutable: true,
                    ..Signature::default()
                })
                .collect();
            BuiltIn::Send(gathered(header))
        }
        "accumulate" => BuiltIn::Known(match kwargs.get("index").filter(|index| index.get() != "null") {
            None => raw(&args),
            Some(index) => index
                .get()
                .parse::<usize>()
                .ok()
                .and_then(|index| args.get(index))
                .cloned()
                .ok_or_else(|| format!("{name}: there is no argument {index}"))?,
        }),
        "chord_unlock" => {
            let group: String =
                serde_json::from_str(need(0, "group_id")?.get()).map_err(|error| error.to_string())?;
            BuiltIn::Look(group, need(1, "callback")?.clone())
        }
        // Keys expire by themselves.
        _ => BuiltIn::Known(RawValue::NULL.to_owned()),
    })
}

impl Out<'_> {
    /// A built-in task: what it asks for; what follows it follows what it sends.
    pub(crate) fn built_in(&mut self, context: &Context, what: BuiltIn) -> Result<(), String> {
        match what {
            BuiltIn::Known(result) => self.succeeded(context, &result),
            BuiltIn::Look(group, body) => {
                let join =
                    Join { group: group.clone(), body, root: self.root.clone(), parent: context.id.clone() };
                self.operations.push(Operation::Part {
                    group: self.settings.group_key(&group),
                    member: String::new(),
                    index: 0,
                    task: String::new(),
                    expires_s: self.settings.result_expires_s,
                    context: raw(&join).get().to_owned(),
                });
                self.succeeded(context, RawValue::NULL)
            }
            BuiltIn::Send(signature) if signature.is("group") => {
                self.apply(&signature, &[])?;
                let tuple = RawValue::from_string(self.children.concat())
                    .unwrap_or_else(|_| RawValue::NULL.to_owned());
                self.succeeded(context, &tuple)
            }
            BuiltIn::Send(signature) => {
                let embed = context.embed.clone();
                let over = Over {
                    task_id: Some(context.id.clone()),
                    chain: embed.chain.unwrap_or_default(),
                    chord: embed.chord,
                    group: context.group.clone().map(|group| (group, context.group_index.unwrap_or(0))),
                    link: embed.callbacks.unwrap_or_default(),
                    link_error: embed.errbacks.unwrap_or_default(),
                };
                self.send_one(signature, &[], over, 0).map(drop)
            }
        }
    }
}

/// The same without empty lists.
pub(crate) fn trimmed(embed: &Embed) -> Embed {
    let list = |values: &Option<Vec<Raw>>| values.clone().filter(|values| !values.is_empty());
    Embed {
        callbacks: list(&embed.callbacks),
        errbacks: list(&embed.errbacks),
        chain: list(&embed.chain),
        chord: embed.chord.clone().filter(|chord| chord.get() != "null"),
    }
}

/// The same without what would be sent or failed after the task; its chord is still told.
pub(crate) fn without_follow_ups(embed: &Embed) -> Embed {
    Embed { chord: embed.chord.clone(), ..Embed::default() }
}

impl<'a> Out<'a> {
    /// On behalf of a chord, so that two chords of one task make up different ids.
    pub(crate) fn joining(settings: &'a Celery, now_ms: u64, context: &Context, join: &Join) -> Self {
        let mut out = Self::new(settings, now_ms, context);
        out.seed = format!("join {}", join.group);
        out
    }

    /// A state that is not an end.
    pub(crate) fn note(
        &mut self,
        context: &Context,
        state: State,
        value: &RawValue,
        exception: Option<&Exception>,
    ) {
        self.result(context, state, value, exception);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::celery::message::{Task, read};
    use serde_json::json;

    fn sig(task: &str, id: &str, args: Value) -> Value {
        json!({"task": task, "args": args, "kwargs": {}, "options": {"task_id": id}, "subtask_type": null, "immutable": false})
    }

    fn context(embed: Value) -> Context {
        Context {
            id: "one".into(),
            task: "t".into(),
            embed: serde_json::from_value(embed).unwrap(),
            ..Context::default()
        }
    }

    struct Made {
        operations: Vec<Operation>,
    }

    impl Made {
        fn of(work: impl FnOnce(&mut Out<'_>) -> Result<(), String>, context: &Context) -> Self {
            let settings = Celery::default();
            let mut out = Out::new(&settings, 1_000, context);
            work(&mut out).unwrap();
            Self { operations: out.operations }
        }

        fn sent(&self) -> Vec<Task> {
            let messages = self.operations.iter().filter_map(|one| match one {
                Operation::Push { message, .. } => Some(read(message.as_bytes()).unwrap()),
                _ => None,
            });
            messages.collect()
        }

        fn results(&self) -> Vec<(String, Value)> {
            let results = self.operations.iter().filter_map(|one| match one {
                Operation::Result { key, text, .. } => Some((
                    key.trim_start_matches("celery-task-meta-").to_owned(),
                    serde_json::from_str(text).unwrap(),
                )),
                _ => None,
            });
            results.collect()
        }

        fn sizes(&self) -> Vec<(String, String)> {
            let sets = self.operations.iter().filter_map(|one| match one {
                Operation::Set { key, text, .. } => {
                    Some((key.trim_start_matches("celery-taskset-meta-").to_owned(), text.clone()))
                }
                _ => None,
            });
            sets.collect()
        }
    }

    fn args(task: &Task) -> Value {
        serde_json::from_str(raw(&task.args).get()).unwrap()
    }

    #[test]
    fn the_next_of_a_chain_carries_the_rest_and_the_result() {
        let chain = json!({"chain": [sig("last", "3", json!([])), sig("next", "2", json!([10]))]});
        let context = context(chain);
        let made = Made::of(|out| out.succeeded(&context, &raw(&json!(3))), &context);
        let sent = made.sent();
        assert_eq!((sent.len(), sent[0].name.as_str(), sent[0].id.as_str()), (1, "next", "2"));
        assert_eq!(args(&sent[0]), json!([3, 10]));
        assert_eq!((sent[0].root.as_deref(), sent[0].parent.as_deref()), (Some("one"), Some("one")));
        assert_eq!(sent[0].embed.chain.as_ref().map(Vec::len), Some(1));
        let results = made.results();
        assert_eq!(results[0].1["status"], "SUCCESS");
        assert_eq!(results[0].1["children"], json!([[["2", null], null]]));
    }

    #[test]
    fn a_failure_reaches_all_that_waited_and_calls_errbacks() {
        let mut last = sig("last", "3", json!([]));
        last["options"]["chord"] = sig("body", "b", json!([]));
        last["options"]["group_id"] = "g".into();
        last["options"]["group_index"] = 2.into();
        let context = context(
            json!({"chain": [last, sig("next", "2", json!([]))], "errbacks": [sig("told", "e", json!([]))]}),
        );
        let exception = Exception::runtime("x");
        let made = Made::of(|out| out.failed(&context, State::Failure, &exception), &context);
        let ids: Vec<_> = made.results().into_iter().map(|(id, meta)| (id, meta["status"].clone())).collect();
        assert_eq!(
            ids,
            [("one", "FAILURE"), ("2", "FAILURE"), ("3", "FAILURE")]
                .map(|(id, state)| (id.to_owned(), state.into()))
        );
        assert!(made.operations.iter().any(|one| matches!(one, Operation::Part { group, index: 2, task, .. } if group.ends_with("-g") && task == "3")));
        assert_eq!((made.sent()[0].name.as_str(), args(&made.sent()[0])), ("told", json!(["one"])));
        // Whoever is revoked calls nobody.
        let revoked =
            Made::of(|out| out.failed(&context, State::Revoked, &Exception::revoked("revoked")), &context);
        assert!(revoked.sent().is_empty() && revoked.results().len() == 3);
    }

    fn group(id: &str, tasks: Value) -> Value {
        json!({"task": "celery.group", "args": [], "kwargs": {"tasks": tasks}, "options": {"task_id": id}, "subtask_type": "group", "immutable": false})
    }

    #[test]
    fn a_group_that_something_follows_is_the_header_of_a_chord() {
        let header = group("g", json!([sig("a", "1", json!([])), sig("b", "2", json!([]))]));
        let context = context(json!({"chain": [sig("sum", "s", json!([])), header]}));
        let made = Made::of(|out| out.succeeded(&context, &raw(&json!(7))), &context);
        let sent = made.sent();
        assert_eq!(
            sent.iter().map(|task| (task.id.as_str(), task.group_index)).collect::<Vec<_>>(),
            [("1", Some(0)), ("2", Some(1))]
        );
        assert!(sent.iter().all(|task| task.group.as_deref() == Some("g") && args(task) == json!([7])));
        let body: Signature = serde_json::from_str(sent[0].embed.chord.as_ref().unwrap().get()).unwrap();
        assert_eq!(body.task, "celery.chain");
        assert_eq!(made.sizes(), [("g.s".to_owned(), "2".to_owned())]);
        // The size is there before the parts can be.
        assert!(matches!(made.operations[0], Operation::Set { .. }));
    }

    #[test]
    fn members_of_a_header_may_be_chains_groups_and_chords() {
        let chain = |tasks: Value| json!({"task": "celery.chain", "kwargs": {"tasks": tasks}, "options": {}, "subtask_type": "chain"});
        let inner = json!({
            "task": "celery.chord", "options": {"task_id": "ib"}, "subtask_type": "chord",
            "kwargs": {"header": [sig("h", "h1", json!([]))], "body": sig("ibody", "ib", json!([]))},
        });
        let chord = json!({
            "task": "celery.chord", "options": {"task_id": "b"}, "subtask_type": "chord",
            "kwargs": {
                "header": [chain(json!([sig("c1", "1", json!([])), sig("c2", "2", json!([]))])), group("n", json!([sig("x", "3", json!([])), sig("y", "4", json!([]))])), inner],
                "body": sig("body", "b", json!([])),
            },
        });
        let signature: Signature = serde_json::from_value(chord).unwrap();
        let context = context(json!({}));
        let made = Made::of(|out| out.apply(&signature, &[]), &context);
        let sent = made.sent();
        let names: Vec<_> = sent.iter().map(|task| task.name.as_str()).collect();
        assert_eq!(names, ["c1", "x", "y", "h"]);
        // Only the last of the chain is a part; the group's members have places of their own in the header.
        assert!(sent[0].group.is_none() && sent[0].embed.chord.is_none());
        let rest: Signature = serde_json::from_str(sent[0].embed.chain.as_ref().unwrap()[0].get()).unwrap();
        assert!(rest.options.contains_key("chord") && rest.options["group_index"].get() == "0");
        assert_eq!((sent[1].group_index, sent[2].group_index), (Some(1), Some(2)));
        assert_eq!(sent[1].group, sent[2].group);
        // The inner chord's body is the fourth part.
        let body: Signature = serde_json::from_str(sent[3].embed.chord.as_ref().unwrap().get()).unwrap();
        assert_eq!((body.task.as_str(), body.options["group_index"].get()), ("ibody", "3"));
        let sizes = made.sizes();
        let sizes: Vec<_> =
            sizes.iter().filter(|(key, _)| key.ends_with(".s")).map(|(_, size)| size.as_str()).collect();
        assert_eq!(sizes, ["4", "1"]);
    }

    #[test]
    fn the_body_gets_what_the_parts_came_to_in_their_order_and_shape() {
        let join = Join {
            group: "g".into(),
            body: raw(&sig("body", "b", json!([]))),
            root: "r".into(),
            parent: "p".into(),
        };
        let parts =
            [r#"[1, "a", "SUCCESS", 1]"#, r#"[1, "b", "SUCCESS", {"x": 123456789012345678901234567890}]"#];
        let parts = parts.map(str::to_owned);
        let context = context(json!({}));
        let made = Made::of(|out| out.join(&join, &parts, None), &context);
        assert_eq!(raw(&made.sent()[0].args).get(), r#"[[1,{"x": 123456789012345678901234567890}]]"#);
        let saved = raw(&json!([["g", null], [[["a", null], null], [["n", null], [[["b", null], null]]]]]));
        let made = Made::of(|out| out.join(&join, &parts, Some(&saved)), &context);
        assert_eq!(raw(&made.sent()[0].args).get(), r#"[[1,[{"x": 123456789012345678901234567890}]]]"#);
        let failed = [r#"[1, "a", "FAILURE", {"exc_type": "ValueError", "exc_message": ["bad 3"], "exc_module": "builtins"}]"#.to_owned()];
        let made = Made::of(|out| out.join(&join, &failed, None), &context);
        assert!(made.sent().is_empty());
        let (id, meta) = made.results().remove(0);
        assert_eq!((id.as_str(), &meta["result"]["exc_type"]), ("b", &json!("ChordError")));
        assert_eq!(meta["result"]["exc_message"][0], "Dependency a raised ValueError('bad 3')");
    }

    #[test]
    fn working_it_out_twice_makes_the_same_ids() {
        let signature = Signature { task: "t".into(), ..Signature::default() };
        let context = context(json!({}));
        let once = || Made::of(|out| out.apply(&signature, &[]), &context).operations;
        assert_eq!(once(), once());
    }

    #[test]
    fn a_message_of_the_capture_carries_its_chord_and_its_chain() {
        let text = include_str!("testdata/wire.txt");
        let part = crate::celery::message::tests::captured("9074e866-0fef-4053-a08c-bc01854485d9");
        let task = read(&part).unwrap();
        assert_eq!(
            (task.group.as_deref(), task.group_index),
            (Some("46ecd41f-ac94-4ecb-894f-b28a463ebeee"), Some(0))
        );
        let body = Signature::read(task.embed.chord.as_ref().unwrap()).unwrap();
        assert_eq!(body.task, "proj.xsum");
        let key = format!("{}.s", Celery::default().group_key(task.group.as_deref().unwrap()));
        assert!(text.contains(&format!("'SET' '{key}' 2 'EX' 86400")), "{key}");
    }

    #[test]
    fn built_in_tasks_become_what_they_stand_for() {
        let of = |name: &str, args: Value, kwargs: Value| {
            let args: Vec<Raw> = serde_json::from_value(args).unwrap();
            built_in(name, &args, &serde_json::from_value(kwargs).unwrap())
        };
        let known = |what: BuiltIn| match what {
            BuiltIn::Known(value) => value.get().to_owned(),
            _ => panic!("it is not known"),
        };
        assert_eq!(known(of("celery.accumulate", json!([1, 2]), json!({})).unwrap()), "[1,2]");
        assert_eq!(known(of("celery.accumulate", json!([1, 2]), json!({"index": 1})).unwrap()), "2");
        assert_eq!(known(of("celery.backend_cleanup", json!([]), json!({})).unwrap()), "null");
        assert!(of("celery.accumulate", json!([]), json!({"index": 1})).is_err());
        let context = context(json!({"chain": [sig("after", "a", json!([]))]}));
        let map =
            of("celery.map", json!([]), json!({"task": sig("t", "x", json!([9])), "it": [1, 2]})).unwrap();
        let made = Made::of(|out| out.built_in(&context, map), &context);
        let sent = made.sent();
        assert_eq!(sent.iter().map(args).collect::<Vec<_>>(), [json!([1, 9]), json!([2, 9])]);
        let body: Signature = serde_json::from_str(sent[0].embed.chord.as_ref().unwrap().get()).unwrap();
        // Whoever waits for the map waits for what gathers it, and what followed follows that.
        assert_eq!((body.options["task_id"].get(), body.tasks("none").unwrap().len()), ("\"one\"", 0));
        assert!(body.options.contains_key("chain"));
        assert!(of("celery.chunks", json!([sig("t", "x", json!([])), [], 0]), json!({})).is_err());
        assert!(of("celery.group", json!([]), json!({})).is_err());
    }
}

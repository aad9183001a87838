//! Calling scripts by digest.

use crate::{
    Error, Store,
    link::{Link, Repeat},
};
use redis::{FromRedisValue, ToRedisArgs};
use std::{collections::HashSet, time::Duration};

const INCLUDE: &str = include_str!("../lua/include.lua");

/// A script and the digest that the server knows it by.
pub(crate) struct Script {
    source: String,
    digest: String,
}

pub(crate) struct Scripts {
    pub(crate) create: Script,
    pub(crate) claim: Script,
    pub(crate) commit: Script,
    pub(crate) control: Script,
    pub(crate) delete: Script,
    pub(crate) renew: Script,
    pub(crate) retire: Script,
    pub(crate) give_back: Script,
    pub(crate) signal: Script,
    pub(crate) spread_end: Script,
    pub(crate) queue: Script,
    pub(crate) move_jobs: Script,
    pub(crate) replayed: Script,
    pub(crate) append_logs: Script,
    pub(crate) note_logs: Script,
    pub(crate) read_logs: Script,
    pub(crate) read_jobs: Script,
    pub(crate) read_labels: Script,
    pub(crate) forget_errors: Script,
    pub(crate) read_schedules: Script,
    pub(crate) schedule_put: Script,
    pub(crate) schedule_control: Script,
    pub(crate) schedule_fire: Script,
    pub(crate) schedule_owed: Script,
    pub(crate) schedule_settle: Script,
    pub(crate) schedule_ran: Script,
    pub(crate) lead: Script,
    pub(crate) route_put: Script,
    pub(crate) kv: Script,
    pub(crate) plugin_share: Script,
    pub(crate) llm_flight: Script,
    pub(crate) llm_take: Script,
    pub(crate) llm_settle: Script,
    pub(crate) expire_keys: Script,
    pub(crate) reconcile: Script,
    pub(crate) reseal: Script,
    pub(crate) take_waste: Script,
    pub(crate) expire_results: Script,
    pub(crate) celery_peek: Script,
    pub(crate) celery_take: Script,
    pub(crate) celery_settle: Script,
    pub(crate) celery_revoke: Script,
    pub(crate) celery_requeue: Script,
    pub(crate) celery_send: Script,
    pub(crate) celery_wake: Script,
    pub(crate) celery_at: Script,
}

/// Lines without comments, which are for readers of the source; the server keeps the text.
fn lines(source: &str) -> impl Iterator<Item = &str> {
    source.lines().filter(|line| !line.trim_start().starts_with("--") && !line.trim().is_empty())
}

/// Everything in a line of Lua that may be a name, what is in strings and names of fields too.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| !word.is_empty())
}

/// What scripts share. A server runs all of a script's text with each call, so each gets no more of it than it uses:
/// sixty functions that are made and not called cost more than most scripts do.
struct Include<'a> {
    parts: Vec<Part<'a>>,
}

/// A statement that begins in the first column with `local`.
struct Part<'a> {
    names: Vec<&'a str>,
    lines: Vec<&'a str>,
    /// All that it may use.
    words: HashSet<&'a str>,
}

impl<'a> Include<'a> {
    fn new(source: &'a str) -> Self {
        let mut parts: Vec<Part<'a>> = Vec::new();
        for line in lines(source) {
            match (line.strip_prefix("local "), parts.last_mut()) {
                (None, Some(part)) => part.lines.push(line),
                (declared, _) => {
                    let declared = declared.unwrap_or_default();
                    let names = match declared.strip_prefix("function ") {
                        Some(function) => words(function).take(1).collect(),
                        None => words(declared.split('=').next().unwrap_or_default()).collect(),
                    };
                    parts.push(Part { names, lines: vec![line], words: HashSet::new() });
                }
            }
        }
        for part in &mut parts {
            part.words = part.lines.iter().flat_map(|line| words(line)).collect();
        }
        Self { parts }
    }

    /// The lines that a script needs, in their order: a part may use those above it.
    fn used_by(&self, script: &[&'a str]) -> Vec<&'a str> {
        let mut used: HashSet<&str> = script.iter().flat_map(|line| words(line)).collect();
        let mut kept: Vec<&Part<'a>> = Vec::new();
        for part in self.parts.iter().rev() {
            if part.names.iter().any(|name| used.contains(name)) {
                used.extend(&part.words);
                kept.push(part);
            }
        }
        kept.into_iter().rev().flat_map(|part| part.lines.iter().copied()).collect()
    }
}

impl Scripts {
    /// Servers older than 7 do not know the first line.
    pub(crate) fn new(shebang: bool) -> Self {
        let include = Include::new(INCLUDE);
        let script = |source: &str| {
            let (first, rest) = source.split_once('\n').unwrap_or(("", source));
            let head = if shebang { first } else { "" };
            let rest: Vec<_> = lines(rest).collect();
            let mut source = format!("{head}\n");
            for line in include.used_by(&rest).into_iter().chain(rest) {
                source.push_str(line);
                source.push('\n');
            }
            Script { digest: redis::Script::new(&source).get_hash().to_owned(), source }
        };
        Self {
            create: script(include_str!("../lua/create.lua")),
            claim: script(include_str!("../lua/claim.lua")),
            commit: script(include_str!("../lua/commit.lua")),
            control: script(include_str!("../lua/control.lua")),
            delete: script(include_str!("../lua/delete.lua")),
            renew: script(include_str!("../lua/renew.lua")),
            retire: script(include_str!("../lua/retire.lua")),
            give_back: script(include_str!("../lua/give_back.lua")),
            spread_end: script(include_str!("../lua/spread_end.lua")),
            signal: script(include_str!("../lua/signal.lua")),
            queue: script(include_str!("../lua/queue.lua")),
            move_jobs: script(include_str!("../lua/move.lua")),
            replayed: script(include_str!("../lua/replayed.lua")),
            append_logs: script(include_str!("../lua/append_logs.lua")),
            note_logs: script(include_str!("../lua/note_logs.lua")),
            read_logs: script(include_str!("../lua/read_logs.lua")),
            read_jobs: script(include_str!("../lua/read_jobs.lua")),
            read_labels: script(include_str!("../lua/read_labels.lua")),
            forget_errors: script(include_str!("../lua/forget_errors.lua")),
            read_schedules: script(include_str!("../lua/read_schedules.lua")),
            schedule_put: script(include_str!("../lua/schedule_put.lua")),
            schedule_control: script(include_str!("../lua/schedule_control.lua")),
            schedule_fire: script(include_str!("../lua/schedule_fire.lua")),
            schedule_owed: script(include_str!("../lua/schedule_owed.lua")),
            schedule_settle: script(include_str!("../lua/schedule_settle.lua")),
            schedule_ran: script(include_str!("../lua/schedule_ran.lua")),
            lead: script(include_str!("../lua/lead.lua")),
            route_put: script(include_str!("../lua/route_put.lua")),
            kv: script(include_str!("../lua/kv.lua")),
            plugin_share: script(include_str!("../lua/plugin_share.lua")),
            llm_flight: script(include_str!("../lua/llm_flight.lua")),
            llm_take: script(include_str!("../lua/llm_take.lua")),
            llm_settle: script(include_str!("../lua/llm_settle.lua")),
            expire_keys: script(include_str!("../lua/expire_keys.lua")),
            reconcile: script(include_str!("../lua/reconcile.lua")),
            reseal: script(include_str!("../lua/reseal.lua")),
            take_waste: script(include_str!("../lua/take_waste.lua")),
            expire_results: script(include_str!("../lua/expire_results.lua")),
            celery_peek: script(include_str!("../lua/celery_peek.lua")),
            celery_take: script(&with_create(include_str!("../lua/celery_take.lua"))),
            celery_settle: script(include_str!("../lua/celery_settle.lua")),
            celery_revoke: script(include_str!("../lua/celery_revoke.lua")),
            celery_requeue: script(include_str!("../lua/celery_requeue.lua")),
            celery_send: script(include_str!("../lua/celery_send.lua")),
            celery_wake: script(include_str!("../lua/celery_wake.lua")),
            celery_at: script(include_str!("../lua/celery_at.lua")),
        }
    }
}

/// A script that creates jobs as `create.lua` does, which stands in front of it as a function of its arguments.
fn with_create(source: &str) -> String {
    let (first, rest) = source.split_once('\n').unwrap_or(("", source));
    let (_, create) = include_str!("../lua/create.lua").split_once('\n').unwrap_or_default();
    format!("{first}\nlocal function create(ARGV)\n{create}\nend\n{rest}")
}

/// The arguments of one call.
pub(crate) struct Call<'a> {
    store: &'a Store,
    link: &'a Link,
    script: &'a Script,
    command: redis::Cmd,
    head: String,
}

impl Store {
    pub(crate) fn call<'a>(&'a self, script: &'a Script, partition: u16) -> Call<'a> {
        self.call_at(script, self.head(partition))
    }

    /// The same for keys that belong to no partition.
    pub(crate) fn call_at<'a>(&'a self, script: &'a Script, head: String) -> Call<'a> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&script.digest).arg(1).arg(&head);
        Call { store: self, link: &self.inner.link, script, command, head }
    }

    /// The same on another server than the one that has the jobs.
    pub(crate) fn call_on<'a>(&'a self, link: &'a Link, script: &'a Script, partition: u16) -> Call<'a> {
        Call { link, ..self.call(script, partition) }
    }
}

impl<'a> Call<'a> {
    pub(crate) fn store(&self) -> &'a Store {
        self.store
    }

    pub(crate) fn arg(&mut self, value: impl ToRedisArgs) -> &mut Self {
        self.command.arg(value);
        self
    }

    /// Calls by digest, again after a broken connection. For calls that may be repeated.
    pub(crate) async fn run<T: FromRedisValue>(&self) -> Result<T, Error> {
        self.run_as(Repeat::Safe).await
    }

    /// The same for a call that must not happen twice: it is repeated only if it certainly did not happen.
    pub(crate) async fn run_once<T: FromRedisValue>(&self) -> Result<T, Error> {
        self.run_as(Repeat::Never).await
    }

    /// The same for a server that may be away: see [`Link::soon`].
    pub(crate) async fn run_soon<T: FromRedisValue>(&self, within: Duration) -> Result<T, redis::RedisError> {
        match self.link.soon(&self.command, within).await {
            Err(error) if is_unknown(&error) => self.link.soon(&self.with_source(), within).await,
            other => other,
        }
    }

    async fn run_as<T: FromRedisValue>(&self, repeat: Repeat) -> Result<T, Error> {
        match self.link.send(repeat, &self.command).await {
            Err(error) if is_unknown(&error) => Ok(self.link.send(repeat, &self.with_source()).await?),
            other => Ok(other?),
        }
    }

    /// The same call with the script itself.
    fn with_source(&self) -> redis::Cmd {
        let mut load = redis::cmd("EVAL");
        load.arg(&self.script.source).arg(1).arg(&self.head);
        // The first four parts are the command, the digest, the number of keys and the key.
        for argument in self.command.args_iter().skip(4) {
            if let redis::Arg::Simple(bytes) = argument {
                load.arg(bytes);
            }
        }
        load
    }
}

/// A server that restarted or took over does not know the script: it is given it.
fn is_unknown(error: &redis::RedisError) -> bool {
    error.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::NoScript)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_gets_what_it_uses_and_what_that_uses() {
        let include = Include::new(
            "-- says a\nlocal A, B = 1, 2\nlocal function a()\n  return A\nend\nlocal unused = {\n  B,\n}\n\
             local function b()\n  -- not unused\n  return a()\nend\nlocal function c() return b() end\n",
        );
        let script: Vec<_> = lines("return b()\n").collect();
        assert_eq!(
            include.used_by(&script),
            [
                "local A, B = 1, 2",
                "local function a()",
                "  return A",
                "end",
                "local function b()",
                "  return a()",
                "end"
            ]
        );
        assert!(include.used_by(&[]).is_empty());
    }

    #[test]
    fn short_scripts_are_short_texts() {
        let scripts = Scripts::new(true);
        let functions = |script: &Script| script.source.matches("local function").count();
        assert!(scripts.lead.source.starts_with("#!lua"), "{}", scripts.lead.source);
        assert_eq!(functions(&scripts.lead), 1, "{}", scripts.lead.source);
        assert!(functions(&scripts.claim) < functions(&scripts.commit));
    }
}

//! What workflows need besides: their graphs, the ends of their nodes, and controls that reach the children.

use crate::{Error, Store, jobs::parse_id, seal::Kind};
use std::collections::HashMap;
use waymark_job::{Control, JobId};

/// How long a graph is kept before its workflow begins, unless [`Store::keep_graph`] is called, milliseconds.
const GRAPH_TTL_MS: u64 = 86_400_000;
/// Children of one page of a walk.
const PAGE: usize = 200;

/// How a child stands when it is asked for its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeResult {
    /// Its result, JSON text.
    Is(String),
    /// The job was deleted.
    Gone,
}

impl Store {
    /// Keeps the graph of a workflow that is about to be made, for a day.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn put_graph(&self, id: &JobId, graph: &[u8]) -> Result<(), Error> {
        let packed =
            zstd::bulk::compress(graph, 1).map_err(|error| Error::corrupt("a workflow's graph", error))?;
        let packed = self.keyring().seal(id.as_str(), Kind::Graph, &packed)?;
        let mut command = redis::cmd("SET");
        command.arg(self.key(id, &format!("graph:{id}"))).arg(&*packed).arg("PX").arg(GRAPH_TTL_MS);
        self.inner.link.any(&command).await.map_err(Error::from)
    }

    /// From now on the graph is kept as long as its workflow.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn keep_graph(&self, id: &JobId) -> Result<(), Error> {
        let mut command = redis::cmd("PERSIST");
        command.arg(self.key(id, &format!("graph:{id}")));
        let _: u64 = self.inner.link.any(&command).await?;
        Ok(())
    }

    /// The graph of a workflow; `None` if there is none.
    ///
    /// # Errors
    /// The server does not answer, or the graph is longer than `bytes_max`.
    pub async fn graph(&self, id: &JobId, bytes_max: usize) -> Result<Option<Vec<u8>>, Error> {
        let mut command = redis::cmd("GET");
        command.arg(self.key(id, &format!("graph:{id}")));
        let packed: Option<Vec<u8>> = self.inner.link.any(&command).await?;
        let Some(packed) = packed else { return Ok(None) };
        let packed = self.keyring().open(id.as_str(), Kind::Graph, &packed)?;
        zstd::bulk::decompress(&packed, bytes_max)
            .map(Some)
            .map_err(|error| Error::corrupt(format!("graph of workflow {id}"), error))
    }

    /// Ends of a workflow's children from number `from` on, at most `limit`: the letter of the state, and the child.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn ends(&self, id: &JobId, from: u64, limit: u64) -> Result<Vec<(char, JobId)>, Error> {
        let entries = self.slice(self.key(id, &format!("ended:{id}")), from, limit).await?;
        let read = |entry: &Vec<u8>| {
            let (letter, id) =
                entry.split_first().ok_or_else(|| Error::corrupt("the end of a node", "it is empty"))?;
            Ok((char::from(*letter), parse_id(id)?))
        };
        entries.iter().map(read).collect()
    }

    /// Results of jobs of one partition, in the order asked for.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn results(&self, ids: &[JobId]) -> Result<Vec<NodeResult>, Error> {
        let mut all = Vec::with_capacity(ids.len());
        for piece in ids.chunks(PAGE) {
            let fields: Vec<_> = piece.iter().map(JobId::as_str).collect();
            let mut pipeline = redis::pipe();
            for id in piece {
                pipeline.cmd("HEXISTS").arg(self.key(id, "jobs")).arg(id.as_str());
            }
            pipeline.cmd("HMGET").arg(self.key(&piece[0], "res")).arg(&fields);
            let mut answers: Vec<redis::Value> = self.inner.link.pipeline(&pipeline).await?;
            let results = answers.pop().unwrap_or(redis::Value::Nil);
            let results: Vec<Option<Vec<u8>>> =
                redis::from_redis_value(results).map_err(redis::RedisError::from)?;
            for ((there, result), id) in answers.into_iter().zip(results).zip(piece) {
                let there: bool = redis::from_redis_value(there).map_err(redis::RedisError::from)?;
                // A result of `null` is not kept.
                let result = match result {
                    Some(stored) => self.text_of(id, Kind::Result, stored).await?,
                    None => "null".to_owned(),
                };
                all.push(if there { NodeResult::Is(result) } else { NodeResult::Gone });
            }
        }
        Ok(all)
    }

    /// Passes on what was asked of parents to their children that have not ended, theirs too, until nothing is left
    /// to pass on in the partition. Safe to be done by several at once, and to be left unfinished.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn spread(&self, partition: u16) -> Result<(), Error> {
        loop {
            let mut command = redis::cmd("HGETALL");
            command.arg(format!("{}spread", self.head(partition)));
            let wishes: HashMap<String, String> = self.inner.link.any(&command).await?;
            if wishes.is_empty() {
                return Ok(());
            }
            for (parent, verb) in wishes {
                let parent = parse_id(parent.as_bytes())?;
                self.spread_from(&parent, &verb).await?;
                let mut call = self.call(&self.inner.scripts.spread_end, partition);
                let _: u64 = call.arg(parent.as_str()).arg(&verb).run().await?;
            }
        }
    }

    async fn spread_from(&self, parent: &JobId, verb: &str) -> Result<(), Error> {
        let control = match verb {
            "pause" => Control::Pause,
            "resume" => Control::Resume,
            _ => Control::Cancel,
        };
        let mut cursor = 0;
        loop {
            let (next, children) = self.children(parent, cursor).await?;
            let open = children.iter().filter(|(_, known)| known.is_empty() || known == "w");
            for (child, _) in open {
                self.control(child, control, None).await?;
            }
            // Something else was asked meanwhile: that is what holds.
            let mut command = redis::cmd("HGET");
            command.arg(self.key(parent, "spread")).arg(parent.as_str());
            let now: Option<String> = self.inner.link.any(&command).await?;
            if next == 0 || now.as_deref() != Some(verb) {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// A page of the children of a job, each with what its parent knows of its end.
    async fn children(&self, parent: &JobId, cursor: u64) -> Result<(u64, Vec<(JobId, String)>), Error> {
        let mut command = redis::cmd("HSCAN");
        command.arg(self.key(parent, &format!("kids:{parent}"))).arg(cursor).arg("COUNT").arg(PAGE);
        let (next, page): (u64, Vec<(String, String)>) = self.inner.link.any(&command).await?;
        // `n` is the number of those that have not ended.
        let children =
            page.into_iter().filter_map(|(child, known)| Some((JobId::parse(&child).ok()?, known)));
        Ok((next, children.collect()))
    }

    /// Forgets a workflow with all its nodes, a portion of them per call to the server. Left unfinished it can be
    /// asked for again. `false` where there is no such job.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn delete_workflow(&self, id: &JobId) -> Result<bool, Error> {
        self.control(id, Control::Cancel, None).await?;
        let mut cursor = 0;
        loop {
            let (next, children) = self.children(id, cursor).await?;
            for piece in children.chunks(PAGE) {
                let mut call = self.call(&self.inner.scripts.delete, id.partition());
                call.arg(self.control_channel()).arg("");
                for (child, _) in piece {
                    call.arg(child.as_str());
                }
                let _: u64 = call.run().await?;
            }
            if next == 0 {
                return self.delete(id).await;
            }
            cursor = next;
        }
    }
}

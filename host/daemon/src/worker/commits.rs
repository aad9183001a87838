//! Many jobs' commits in few calls: while some calls are under way the next commits gather. Every partition has calls
//! of its own, so that one whose server is away holds up no other.

use super::{
    run::CommitTrace,
    shared::{Running, Shared},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::{Semaphore, mpsc, oneshot};
use waymark_job::State;
use waymark_store::{Commit, CommitAnswer};

/// Calls of a partition under way at once. Two keep the store busy while the answer of one travels.
const CALLS_MAX: usize = 2;
/// Most commits in one call.
const BATCH_MAX: usize = 200;

/// One commit on its way.
pub(super) struct Item {
    pub(super) commit: Commit,
    pub(super) partition: u16,
    pub(super) running: Arc<Running>,
    /// Who waits for the answer; nobody where the job leaves this worker whatever the answer is.
    pub(super) reply: Option<oneshot::Sender<CommitAnswer>>,
    pub(super) trace: CommitTrace,
}

/// Writes the commits of one partition.
pub(super) async fn serve(shared: Arc<Shared>, partition: u16, mut items: mpsc::UnboundedReceiver<Item>) {
    let calls = Arc::new(Semaphore::new(CALLS_MAX));
    let mut batch = Vec::new();
    loop {
        let Ok(call) = calls.clone().acquire_owned().await else { return };
        if items.recv_many(&mut batch, BATCH_MAX).await == 0 {
            return;
        }
        let (shared, items) = (shared.clone(), std::mem::take(&mut batch));
        crate::task::spawn(async move {
            write(&shared, partition, items).await;
            drop(call);
        });
    }
}

async fn write(shared: &Shared, partition: u16, items: Vec<Item>) {
    let (mut commits, rest): (Vec<_>, Vec<_>) =
        items.into_iter().map(|item| (item.commit, (item.running, item.reply, item.trace))).unzip();
    let mut wait = Duration::from_millis(50);
    // Those that leave this worker whatever the answer is make room for jobs of other partitions.
    let leaving = rest.iter().filter(|(_, reply, _)| reply.is_none()).count();
    let mut made_room = false;
    // A repeated commit is answered with ALREADY, a late one with LOST: trying again is always safe.
    let answers = loop {
        match shared.store.commit(partition, &mut commits).await {
            Ok(answers) => break answers,
            Err(error) => {
                tracing::warn!(%error, commits = commits.len(), "committing failed; it is tried again");
                if !made_room {
                    shared.free(leaving);
                    made_room = true;
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(2));
            }
        }
    };
    shared.metrics.commits.inc_by(answers.len() as u64);
    let mut left = Vec::with_capacity(commits.len());
    for ((commit, (running, reply, trace)), answer) in commits.into_iter().zip(rest).zip(answers) {
        match &answer {
            CommitAnswer::Lost => {
                shared.metrics.lost.inc();
                let correlation_id = commit.spec.correlation_id.as_deref();
                tracing::warn!(job_id = %commit.id, correlation_id, "the claim was lost: another worker has the job");
            }
            // Copies are no jobs that anybody counts.
            CommitAnswer::Done(state) if *state != State::Running && commit.spec.shadow.is_none() => {
                let labels = [commit.spec.job_type.as_str(), state.name()];
                shared.metrics.left.with_label_values(&labels).inc();
            }
            CommitAnswer::Done(_) | CommitAnswer::Already => {}
        }
        trace.answered(matches!(answer, CommitAnswer::Lost).then_some("claim-lost"));
        match reply {
            // The job may have been dropped meanwhile; then nobody listens.
            Some(reply) => drop(reply.send(answer)),
            None => left.push((commit.id, running)),
        }
    }
    shared.forget(left.iter().map(|(id, running)| (id, running)));
    if !made_room {
        shared.free(leaving);
    }
}

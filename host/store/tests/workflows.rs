//! What the scripts do for workflows: ends of nodes, controls that reach children, nodes that are kept.

mod support;

use support::{World, job, request, spec};
use waymark_job::{Control, JobId, Spec, State};
use waymark_store::{CommitAnswer, ControlAnswer, NewJob, NodeResult, Resume, Retention, SignalAnswer, Then};

const WORKFLOW: &str = "waymark.workflow";

fn child(parent: &JobId, node: u32) -> NewJob {
    let id = JobId::part(parent, 1, node, 0);
    NewJob { id: Some(id), spec: Spec { parent: Some(*parent), ..spec(support::TYPE) }, ..NewJob::default() }
}

/// A workflow that runs, as its coordinator holds it.
async fn workflow(world: &World) -> support::Held {
    let id = world.create(NewJob { spec: spec(WORKFLOW), ..NewJob::default() }).await;
    let held = coordinator(world).await;
    assert_eq!(held.id, id);
    held
}

async fn coordinator(world: &World) -> support::Held {
    let request = request("w1", &[WORKFLOW], 1);
    support::held(&world.store, world.store.claim(0, &request).await.unwrap(), &request).await.pop().unwrap()
}

/// A workflow that started so many nodes and waits for their ends.
async fn waiting(world: &World, nodes: u32) -> JobId {
    let mut held = workflow(world).await;
    let mut commit = held.step(Then::AwaitChild { seen: 0 });
    commit.children = (0..nodes).map(|node| child(&held.id, node)).collect();
    assert_eq!(world.commit(commit).await, CommitAnswer::Done(State::Waiting));
    held.id
}

#[tokio::test]
async fn a_workflow_wakes_with_every_end_it_has_not_seen() {
    let world = World::new().await;
    let id = waiting(&world, 3).await;
    let nodes = world.claim(3).await;
    assert_eq!(nodes.len(), 3);
    let done = Then::Succeeded { result: "7".into() };
    assert_eq!(world.commit(nodes[0].then(done)).await, CommitAnswer::Done(State::Succeeded));
    assert_eq!(world.state(&id).await, State::Queued);
    assert_eq!(world.store.ends(&id, 0, 10).await.unwrap(), [('S', nodes[0].id)]);
    let mut held = coordinator(&world).await;
    // An end that comes while it works is not slept through.
    assert_eq!(world.commit(nodes[1].then(Then::Failed)).await, CommitAnswer::Done(State::Failed));
    assert_eq!(
        world.commit(held.step(Then::AwaitChild { seen: 1 })).await,
        CommitAnswer::Done(State::Queued)
    );
    let mut held = coordinator(&world).await;
    assert_eq!(
        world.commit(held.step(Then::AwaitChild { seen: 2 })).await,
        CommitAnswer::Done(State::Waiting)
    );
    assert!(world.store.delete(&nodes[2].id).await.unwrap());
    assert_eq!(world.store.ends(&id, 1, 10).await.unwrap(), [('F', nodes[1].id), ('C', nodes[2].id)]);
    let ids: Vec<_> = nodes.iter().map(|node| node.id).collect();
    let results = world.store.results(&ids).await.unwrap();
    assert_eq!(results, [NodeResult::Is("7".into()), NodeResult::Is("null".into()), NodeResult::Gone]);
    world.check_ledger();
}

#[tokio::test]
async fn the_end_of_a_node_that_is_run_again_is_told_once() {
    let world = World::new().await;
    let id = waiting(&world, 1).await;
    let node = world.claim(1).await.pop().unwrap();
    world.commit(node.then(Then::Failed)).await;
    let again = world.store.control(&node.id, Control::Restart, None).await.unwrap();
    assert_eq!(again, ControlAnswer::Done(State::Queued));
    let node = world.claim(1).await.pop().unwrap();
    world.commit(node.then(Then::Failed)).await;
    assert_eq!(world.store.ends(&id, 0, 10).await.unwrap().len(), 1);
    world.check_ledger();
}

#[tokio::test]
async fn what_is_asked_of_a_workflow_reaches_its_nodes() {
    let world = World::new().await;
    let id = waiting(&world, 450).await;
    let states = async || {
        let mut counts = [0; 3];
        for node in 0..450 {
            match world.state(&JobId::part(&id, 1, node, 0)).await {
                State::Queued => counts[0] += 1,
                State::Paused => counts[1] += 1,
                State::Cancelled => counts[2] += 1,
                other => panic!("{other:?}"),
            }
        }
        counts
    };
    for (control, expected) in
        [(Control::Pause, [0, 450, 0]), (Control::Resume, [450, 0, 0]), (Control::Cancel, [0, 0, 450])]
    {
        let answer = world.store.control(&id, control, None).await.unwrap();
        assert!(matches!(answer, ControlAnswer::Done(_)), "{answer:?}");
        world.store.spread(0).await.unwrap();
        assert_eq!(states().await, expected, "{control:?}");
    }
    world.check_ledger();
}

#[tokio::test]
async fn only_a_cancel_reaches_the_children_of_an_ordinary_parent() {
    let world = World::new().await;
    let mut held = world.running().await;
    let mut commit = held.step(Then::AwaitChildren);
    commit.children = vec![child(&held.id, 0)];
    let kid = commit.children[0].id.unwrap();
    world.commit(commit).await;
    world.store.control(&held.id, Control::Pause, None).await.unwrap();
    world.store.spread(0).await.unwrap();
    assert_eq!(world.state(&kid).await, State::Queued);
    world.store.control(&held.id, Control::Cancel, None).await.unwrap();
    world.store.spread(0).await.unwrap();
    assert_eq!(world.state(&kid).await, State::Cancelled);
    world.check_ledger();
}

#[tokio::test]
async fn the_nodes_of_a_workflow_are_kept_as_long_as_it_is() {
    let world = World::new().await;
    let id = waiting(&world, 1).await;
    let node = world.claim(1).await.pop().unwrap();
    world.commit(node.then(Then::Succeeded { result: "1".into() })).await;
    let retention = Retention { succeeded_ms: 9, failed_ms: 9, cancelled_ms: 9, results_ms: Some(5) };
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    world.store.sweep(|_| retention, 1_000).await.unwrap();
    let kept = world.store.get(&node.id).await.unwrap().unwrap();
    assert_eq!((kept.state, kept.result.as_deref()), (State::Succeeded, Some("1")));
    world.store.put_graph(&id, b"{}").await.unwrap();
    world.store.keep_graph(&id).await.unwrap();
    assert_eq!(world.store.graph(&id, 100).await.unwrap().as_deref(), Some(&b"{}"[..]));
    assert!(world.store.delete_workflow(&id).await.unwrap());
    assert!(world.store.get(&node.id).await.unwrap().is_none());
    assert_eq!(world.store.graph(&id, 100).await.unwrap(), None);
    assert!(!world.store.delete_workflow(&id).await.unwrap());
    world.check_ledger();
}

#[tokio::test]
async fn a_signal_is_forgotten_with_the_step_that_took_it() {
    let world = World::new().await;
    let mut held = world.running().await;
    let wait = || Then::AwaitSignal { name: "go".into(), timeout_ms: None };
    world.commit(held.step(wait())).await;
    assert_eq!(world.store.signal(&held.id, "go", "1").await.unwrap(), SignalAnswer::Delivered);
    // An attempt that fails has not taken it.
    let held = world.claim(1).await.pop().unwrap();
    assert_eq!(held.record.heard.as_deref(), Some("go"));
    world.commit(held.then(Then::Release { pin: None })).await;
    let mut held = world.claim(1).await.pop().unwrap();
    let resume = world.store.load(&held.id, &held.record).await.unwrap();
    assert_eq!(payloads(&resume), ["1"]);
    // A second wait for the same name waits for a second signal.
    assert_eq!(world.commit(held.step(wait())).await, CommitAnswer::Done(State::Waiting));
    assert_eq!(world.store.signal(&held.id, "go", "2").await.unwrap(), SignalAnswer::Delivered);
    let held = world.claim(1).await.pop().unwrap();
    let resume = world.store.load(&held.id, &held.record).await.unwrap();
    assert_eq!(payloads(&resume), ["2"]);
    world.check_ledger();
}

fn payloads(resume: &Resume) -> Vec<&str> {
    resume.signals.iter().map(|one| one.payload.as_str()).collect()
}

#[tokio::test]
async fn a_signal_that_comes_while_another_of_its_name_is_taken_is_kept() {
    let world = World::new().await;
    let mut held = world.running().await;
    let wait = || Then::AwaitSignal { name: "go".into(), timeout_ms: None };
    world.commit(held.step(wait())).await;
    let id = held.id;
    world.store.signal(&id, "go", "1").await.unwrap();
    let mut held = world.claim(1).await.pop().unwrap();
    // The step has the first one in hand.
    assert_eq!(world.store.signal(&id, "go", "1").await.unwrap(), SignalAnswer::Stored);
    assert_eq!(world.commit(held.step(wait())).await, CommitAnswer::Done(State::Queued));
    let mut held = world.claim(1).await.pop().unwrap();
    assert_eq!(held.record.heard.as_deref(), Some("go"));
    assert_eq!(world.commit(held.step(wait())).await, CommitAnswer::Done(State::Waiting));
    world.check_ledger();
}

#[tokio::test]
async fn a_job_that_slept_or_waited_when_it_was_paused_does_so_again() {
    let world = World::new().await;
    let hour_ms = 3_600_000;
    let control = async |id: &JobId, control| world.store.control(id, control, None).await.unwrap();
    let now_ms = world.store.now_ms().await.unwrap();

    // Paused while it waits: it does not go on without what it waits for.
    let signal = |timeout_ms| Then::AwaitSignal { name: "go".into(), timeout_ms };
    let mut held = world.running().await;
    let id = held.id;
    world.commit(held.step(signal(None))).await;
    assert_eq!(control(&id, Control::Pause).await, ControlAnswer::Done(State::Paused));
    assert_eq!(control(&id, Control::Resume).await, ControlAnswer::Done(State::Waiting));
    assert_eq!(control(&id, Control::Resume).await, ControlAnswer::Done(State::Waiting), "asked twice");
    world.check_ledger();
    // What comes while it is paused is there when it is resumed.
    control(&id, Control::Pause).await;
    assert_eq!(world.store.signal(&id, "go", "1").await.unwrap(), SignalAnswer::Stored);
    assert_eq!(control(&id, Control::Resume).await, ControlAnswer::Done(State::Queued));
    let mut held = world.claim(1).await.pop().unwrap();
    assert_eq!(held.record.heard.as_deref(), Some("go"));

    // Paused by the commit that would have it wait, and the time it waits runs on.
    control(&id, Control::Pause).await;
    let mut commit = held.step(signal(Some(hour_ms)));
    commit.record.committed_ms = Some(now_ms);
    assert_eq!(world.commit(commit).await, CommitAnswer::Done(State::Paused));
    assert_eq!(control(&id, Control::Resume).await, ControlAnswer::Done(State::Waiting));
    let view = world.store.get(&id).await.unwrap().unwrap();
    assert_eq!(view.record.not_before_ms, Some(now_ms + hour_ms));
    assert_eq!(view.record.signal.as_deref(), Some("go"));
    world.check_ledger();
    world.store.signal(&id, "go", "2").await.unwrap();
    let mut held = world.claim(1).await.pop().unwrap();

    // Asleep.
    let mut commit = held.step(Then::Sleep { delay_ms: hour_ms });
    commit.record.committed_ms = Some(now_ms);
    world.commit(commit).await;
    control(&id, Control::Pause).await;
    assert_eq!(control(&id, Control::Resume).await, ControlAnswer::Done(State::Scheduled));
    control(&id, Control::Cancel).await;
    // Its time came while it was paused.
    let mut held = world.running().await;
    let id = held.id;
    let mut commit = held.step(Then::Sleep { delay_ms: 1 });
    commit.record.committed_ms = Some(now_ms);
    world.commit(commit).await;
    control(&id, Control::Pause).await;
    assert_eq!(control(&id, Control::Resume).await, ControlAnswer::Done(State::Queued));
    let mut held = world.claim(1).await.pop().unwrap();

    // For its children.
    let mut commit = held.step(Then::AwaitChildren);
    let child = NewJob { id: Some(JobId::child(&id, 1, 2, 0, now_ms)), ..job("child") };
    commit.record.children.extend(child.id);
    commit.children = vec![child];
    world.commit(commit).await;
    control(&id, Control::Pause).await;
    assert_eq!(control(&id, Control::Resume).await, ControlAnswer::Done(State::Waiting));
    world.check_ledger();
}

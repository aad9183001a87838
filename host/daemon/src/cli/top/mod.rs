//! `waymark top`: jobs, queues and hosts in a terminal, as they change, with the controls of the other commands.
//!
//! * `model`: what is shown, and what a key does. Knows neither the terminal nor the host.
//! * `view`: draws it.
//!
//! Here the three meet: keys come from a thread that waits for them, answers of the host from tasks, and after each of
//! either the screen is drawn.

mod model;
mod view;

use super::{
    Client,
    client::{Refusal, segment},
};
use anyhow::bail;
use clap::Args;
use model::{Act, Model, Snapshot, Tab};
use ratatui::crossterm::event::{self, Event};
use reqwest::Method;
use serde_json::Value;
use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Jobs that are asked for: more than any screen has lines.
const JOBS: usize = 200;
/// Longest wait for an answer. What is shown is then old, and says so.
const ANSWER: Duration = Duration::from_secs(5);

/// How often it looks.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Time between two looks.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration, value_name = "TIME")]
    every: Duration,
}

/// What came.
enum Came {
    Key(Event),
    Looked(anyhow::Result<Snapshot>),
    Done(String),
    Failed(String),
}

/// Shows it until the user leaves.
///
/// # Errors
/// There is no terminal, or the host does not answer at the beginning.
pub async fn run(client: Client, arguments: Arguments) -> anyhow::Result<()> {
    if client.json || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        bail!("`waymark top` needs a terminal; `waymark job list --json` is for programs");
    }
    let mut model = Model::default();
    // A wrong address is said where it is asked for, and not on a screen of its own.
    model.looked(look(&client, &model.query()).await?);
    let (sender, mut came) = mpsc::unbounded_channel();
    let keys = sender.clone();
    // It waits for keys as long as the program runs, and ends with it.
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if keys.send(Came::Key(event)).is_err() {
                return;
            }
        }
    });
    let mut terminal = ratatui::try_init()?;
    let shown = serve(&mut terminal, &client, &arguments, &mut model, &sender, &mut came).await;
    ratatui::try_restore()?;
    shown
}

async fn serve(
    terminal: &mut ratatui::DefaultTerminal,
    client: &Client,
    arguments: &Arguments,
    model: &mut Model,
    sender: &mpsc::UnboundedSender<Came>,
    came: &mut mpsc::UnboundedReceiver<Came>,
) -> anyhow::Result<()> {
    let every = arguments.every.max(Duration::from_millis(100));
    let mut next = Some(Instant::now() + every);
    loop {
        terminal.draw(|frame| view::draw(frame, model))?;
        let due = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let what = tokio::select! {
            what = came.recv() => what,
            () = due => {
                // One look at a time: a slow host is not asked more often.
                next = None;
                let (client, query, sender) = (client.clone(), model.query(), sender.clone());
                crate::task::spawn(async move { sender.send(Came::Looked(look(&client, &query).await)) });
                continue;
            }
        };
        match what {
            None => return Ok(()),
            Some(Came::Looked(answer)) => {
                match answer {
                    Ok(snapshot) => model.looked(snapshot),
                    Err(error) => model.failed_to_look(&first_line(&error)),
                }
                next = Some(Instant::now() + every);
            }
            Some(Came::Done(said)) => {
                model.say(said);
                next = next.map(|_| Instant::now());
            }
            Some(Came::Failed(said)) => model.complain(said),
            Some(Came::Key(Event::Key(key))) => match model.key(key) {
                Act::Nothing => {}
                Act::Look => next = next.map(|_| Instant::now()),
                Act::Leave => return Ok(()),
                Act::Ask { tab, id, verb } => {
                    let (client, sender) = (client.clone(), sender.clone());
                    crate::task::spawn(async move {
                        let said = match ask(&client, tab, &id, verb).await {
                            Ok(()) => Came::Done(format!("{}: {verb} {id}", tab.one())),
                            Err(error) => Came::Failed(first_line(&error)),
                        };
                        sender.send(said)
                    });
                }
            },
            // The size changed, or something that is not asked for.
            Some(Came::Key(_)) => {}
        }
    }
}

/// The host's own words without the rest.
fn first_line(error: &anyhow::Error) -> String {
    match error.downcast_ref::<Refusal>() {
        Some(refusal) => refusal.detail.clone(),
        None => error.to_string(),
    }
}

async fn look(client: &Client, query: &[(String, String)]) -> anyhow::Result<Snapshot> {
    let limit = ("limit".to_owned(), JOBS.to_string());
    let pairs: Vec<_> =
        query.iter().chain([&limit]).map(|(name, value)| (name.as_str(), value.clone())).collect();
    let looked = async {
        tokio::try_join!(
            client.get::<Value>("/api/v1/counts", &[]),
            client.get::<Value>("/api/v1/jobs", &pairs),
            client.get::<Value>("/api/v1/queues", &[]),
            client.get::<Value>("/api/v1/hosts", &[]),
        )
    };
    match tokio::time::timeout(ANSWER, looked).await {
        Ok(answers) => {
            let (counts, jobs, queues, hosts) = answers?;
            Ok(Snapshot::read(&counts, &jobs, &queues, &hosts))
        }
        Err(_) => bail!("the host has not answered for {} s", ANSWER.as_secs()),
    }
}

async fn ask(client: &Client, tab: Tab, id: &str, verb: &str) -> anyhow::Result<()> {
    let path = format!("/api/v1/{}/{}/{verb}", tab.path(), segment(id));
    let asked = client.send(client.request(Method::POST, &path));
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(answer) => answer.map(drop),
        Err(_) => bail!("the host has not answered: look whether it was done"),
    }
}

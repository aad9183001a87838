//! The client side of the binary: asks a host over HTTP.
//!
//! Answers for people go to standard output as tables and sentences; with `--json` they are the API's own documents.
//! Progress and notes go to standard error, so that output can be piped. A refused request or a failed job is an
//! error, and the program ends with status 1.

pub mod audit;
pub mod client;
pub mod errors;
pub mod host;
pub mod job;
pub mod keys;
pub mod migrate;
pub mod plugin;
pub mod queue;
pub mod route;
pub mod scale;
pub mod schedule;
pub mod shell;
pub mod table;
pub mod top;
pub mod watch;
pub mod workflow;

pub use client::{Client, Remote};
pub use host::HostCommand;

use clap::Subcommand;

/// What a client can ask for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Submit, follow and control jobs.
    Job {
        /// Which host.
        #[command(flatten)]
        remote: Remote,
        /// What to do.
        #[command(subcommand)]
        command: job::JobCommand,
    },
    /// Write, build, try, list and install job types.
    Plugin {
        /// Which host.
        #[command(flatten)]
        remote: Remote,
        /// What to do.
        #[command(subcommand)]
        command: plugin::PluginCommand,
    },
    /// List, pause, resume, purge and limit queues.
    Queue {
        /// Which host.
        #[command(flatten)]
        remote: Remote,
        /// What to do.
        #[command(subcommand)]
        command: queue::QueueCommand,
    },
    /// Show and put routes; promote, hold and roll back canaries.
    Route {
        /// Which host.
        #[command(flatten)]
        remote: Remote,
        /// What to do.
        #[command(subcommand)]
        command: route::RouteCommand,
    },
    /// List, show and forget groups of failures.
    Errors {
        /// Which host.
        #[command(flatten)]
        remote: Remote,
        /// What to do.
        #[command(subcommand)]
        command: errors::ErrorsCommand,
    },
    /// Show what really waits, and the slots and hosts that it needs.
    Scale {
        /// Which host.
        #[command(flatten)]
        remote: Remote,
        /// What to look at.
        #[command(flatten)]
        arguments: scale::Arguments,
    },
    /// Jobs at planned times.
    Schedule {
        /// Which host.
        #[command(flatten)]
        remote: Remote,
        /// What to do.
        #[command(subcommand)]
        command: schedule::ScheduleCommand,
    },
    /// Submit, follow and control graphs of jobs.
    Workflow {
        /// Which host.
        #[command(flatten)]
        remote: Remote,
        /// What to do.
        #[command(subcommand)]
        command: workflow::WorkflowCommand,
    },
    /// Watch and control jobs, queues and hosts in the terminal.
    Top {
        /// Which host.
        #[command(flatten)]
        remote: Remote,
        /// How often it looks.
        #[command(flatten)]
        arguments: top::Arguments,
    },
    /// List who asked for which change, newest first.
    Audit {
        /// Which host.
        #[command(flatten)]
        remote: Remote,
        /// Which entries.
        #[command(flatten)]
        which: audit::Which,
    },
    /// Encrypt what is stored with the newest key.
    Keys {
        /// Which host.
        #[command(flatten)]
        remote: Remote,
        /// What to do.
        #[command(subcommand)]
        command: keys::KeysCommand,
    },
    /// Write down what another task queue would become, and move job types over and back.
    Migrate {
        /// From where.
        #[command(subcommand)]
        command: migrate::MigrateCommand,
    },
    /// Print what `api.users` keeps of a password, which is read from standard input.
    Password,
    /// `waymark host list|drain`: the daemon's own command carries it.
    #[command(skip)]
    Host(HostCommand),
}

impl Command {
    /// The client's part of `waymark host`.
    #[must_use]
    pub fn host(command: HostCommand) -> Self {
        Self::Host(command)
    }
}

/// Asks, and shows the answer.
///
/// # Errors
/// The host cannot be reached, refused the request, or the job that was waited for did not succeed.
pub async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Job { remote, command } => job::run(&Client::new(&remote)?, command).await,
        Command::Plugin { remote, command } => plugin::run(&remote, command).await,
        Command::Queue { remote, command } => queue::run(&Client::new(&remote)?, command).await,
        Command::Route { remote, command } => route::run(&Client::new(&remote)?, command).await,
        Command::Errors { remote, command } => errors::run(&Client::new(&remote)?, command).await,
        Command::Scale { remote, arguments } => scale::run(&Client::new(&remote)?, arguments).await,
        Command::Schedule { remote, command } => schedule::run(&Client::new(&remote)?, command).await,
        Command::Workflow { remote, command } => workflow::run(&Client::new(&remote)?, command).await,
        Command::Top { remote, arguments } => top::run(Client::new(&remote)?, arguments).await,
        Command::Audit { remote, which } => audit::run(&Client::new(&remote)?, which).await,
        Command::Keys { remote, command } => keys::run(&Client::new(&remote)?, command).await,
        Command::Migrate { command } => migrate::run(command).await,
        Command::Password => audit::password(),
        Command::Host(command) => host::run(command).await,
    }
}

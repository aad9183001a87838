//! What the binary does: the host, its worker processes, and the client.
//!
//! It is a module of the library, because whoever polls a future compiles all of it again: in `main.rs` that would be most
//! of the daemon a second time.

use crate::{bench, cli, config, host, swap, telemetry, worker};
use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

/// Runs background jobs as sandboxed WebAssembly components that can be paused, moved, rewound and resumed.
#[derive(Parser)]
#[command(name = "waymark", version, about, propagate_version = true)]
struct Waymark {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a host, or list and drain hosts.
    #[command(args_conflicts_with_subcommands = true)]
    Host(Host),
    #[command(flatten)]
    Client(cli::Command),
    /// Measure a running host: throughput, enqueue rate, latency; one JSON line per figure.
    Bench(bench::Arguments),
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write man pages, one for each command.
    Man {
        /// Directory that they are written to.
        directory: PathBuf,
    },
    #[command(hide = true)]
    Worker,
    #[command(hide = true)]
    TryRestore,
    #[command(hide = true)]
    CompilePlugin { wasm: PathBuf, cache: PathBuf },
}

#[derive(Args)]
struct Host {
    #[command(subcommand)]
    command: Option<cli::HostCommand>,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Args)]
struct Daemon {
    /// Directory that is watched for .wasm files [default: plugins].
    #[arg(long, env = "WAYMARK_PLUGINS", value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// Store; without it a private redis-server is started in the data directory.
    #[arg(long, env = "WAYMARK_REDIS", value_name = "URL")]
    redis: Option<String>,
    /// Address of the API [default: 127.0.0.1:7420].
    #[arg(long, env = "WAYMARK_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Directory of the host's own files [default: waymark-data].
    #[arg(long, env = "WAYMARK_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Worker processes; 0 serves the API only [default: 1].
    #[arg(long, env = "WAYMARK_WORKERS", value_name = "N")]
    workers: Option<u32>,
    /// Queue to serve: a name, or a pattern with *; as often as there are queues [default: all].
    #[arg(long = "queue", value_name = "QUEUE")]
    queues: Vec<String>,
    /// Claim nothing until `waymark host resume`.
    #[arg(long)]
    start_paused: bool,
    /// Configuration file, TOML.
    #[arg(long, env = "WAYMARK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Reads the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    let waymark = Waymark::parse();
    let outcome = match waymark.command {
        Command::CompilePlugin { wasm, cache } => return waymark_sandbox::compile_main(&wasm, &cache),
        Command::TryRestore => return swap::main(),
        Command::Worker => {
            telemetry::start();
            worker::main()
        }
        Command::Host(Host { command: None, daemon }) => {
            telemetry::start();
            run(serve(daemon))
        }
        Command::Host(Host { command: Some(command), .. }) => run(cli::run(cli::Command::host(command))),
        Command::Client(command) => run(cli::run(command)),
        Command::Bench(arguments) => run(bench::run(arguments)),
        Command::Completions { shell } => {
            cli::shell::completions(Waymark::command(), shell);
            Ok(())
        }
        Command::Man { directory } => cli::shell::man(Waymark::command(), &directory),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("waymark: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One thread: a request travels from the socket to the store and back without waking another, which halves the time
/// of a short one. What is heavy, guests and compilers, runs in processes of its own.
fn run(task: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?
        .block_on(task)
}

async fn serve(daemon: Daemon) -> anyhow::Result<()> {
    let flags = config::Flags {
        plugins_dir: daemon.plugins,
        redis_url: daemon.redis,
        listen: daemon.listen,
        data: daemon.data,
        workers: daemon.workers,
        queues: daemon.queues,
        start_paused: daemon.start_paused,
    };
    host::serve(config::Config::load(daemon.config.as_deref(), flags)?).await
}

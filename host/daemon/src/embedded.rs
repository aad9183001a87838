//! The private Redis of a host that was given none.
//!
//! It listens on a socket in the data directory only, and appends every write to a file. It outlives a host that
//! is killed: the next host with the same data directory finds it, and all jobs, where they were.

use anyhow::Context as _;
use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

/// Longest path of a Unix socket on Linux (`sun_path` less its end), bytes.
const SOCKET_PATH_MAX: usize = 107;

/// A private Redis.
pub struct Embedded {
    socket: PathBuf,
    _lock: std::fs::File,
}

impl Embedded {
    /// Finds the server of this data directory, or starts it.
    ///
    /// # Errors
    /// Another host uses the directory, `redis-server` is not installed, or it does not start within 10 s.
    pub async fn start(data: &Path) -> anyhow::Result<Self> {
        let directory = data.join("redis");
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("the data directory {} cannot be made", data.display()))?;
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700))?;
        let directory = directory.canonicalize()?;
        let lock = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join("host.lock"))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            anyhow::anyhow!(
                "another host uses the data directory {}: stop it, choose another --data, or let both use one \
                 Redis with --redis",
                data.display()
            )
        })?;
        let socket = directory.join("redis.sock");
        anyhow::ensure!(
            socket.as_os_str().len() <= SOCKET_PATH_MAX,
            "the path {} is too long for a socket: choose a shorter --data",
            socket.display()
        );
        let embedded = Self { socket, _lock: lock };
        if !embedded.answers().await {
            embedded.spawn(&directory).await?;
        }
        Ok(embedded)
    }

    async fn spawn(&self, directory: &Path) -> anyhow::Result<()> {
        let mut command = std::process::Command::new("redis-server");
        command
            .args(["--port", "0", "--unixsocket"])
            .arg(&self.socket)
            .args([
                "--unixsocketperm",
                "700",
                "--appendonly",
                "yes",
                "--appendfsync",
                "everysec",
                "--save",
                "",
            ])
            .args(["--auto-aof-rewrite-min-size", "256mb", "--maxmemory-policy", "noeviction"])
            .args(["--daemonize", "yes", "--pidfile"])
            .arg(directory.join("redis.pid"))
            .arg("--logfile")
            .arg(directory.join("redis.log"))
            .arg("--dir")
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let status = command.status().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => anyhow::anyhow!(
                "redis-server is not installed: install it (Debian and Ubuntu: apt install redis-server; \
                 Fedora: dnf install valkey; macOS: brew install redis), or name a server with --redis URL"
            ),
            _ => anyhow::Error::from(error).context("redis-server cannot be started"),
        })?;
        anyhow::ensure!(
            status.success(),
            "redis-server ended at once: see {}",
            directory.join("redis.log").display()
        );
        for _ in 0..200 {
            if self.answers().await {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("redis-server does not answer: see {}", directory.join("redis.log").display())
    }

    async fn answers(&self) -> bool {
        tokio::net::UnixStream::connect(&self.socket).await.is_ok()
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket.display())
    }

    /// Asks the server to write everything down and end.
    pub async fn stop(self) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let Ok(mut stream) = tokio::net::UnixStream::connect(&self.socket).await else { return };
        if stream.write_all(b"*1\r\n$8\r\nSHUTDOWN\r\n").await.is_err() {
            return;
        }
        // It closes the connection when it has ended, and answers only where it refuses.
        let mut answer = [0; 256];
        let _ = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut answer)).await;
    }
}

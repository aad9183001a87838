//! A real PostgreSQL server on a free port of this machine, in a folder of its own.

use crate::{PATIENCE, eventually};
use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};
use tempfile::TempDir;

/// A server; stopped when it is dropped.
pub struct Postgres {
    child: Child,
    _folder: TempDir,
    port: u16,
}

/// Who owns the server's files where the tests run as root, which it refuses to serve.
const USER: &str = "postgres";

/// User and group of this name.
fn ids(name: &str) -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Where Debian keeps the server's programs: the newest version.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest =
        versions.map(|entry| entry.path().join("bin")).filter(|bin| bin.join("initdb").is_file()).max();
    newest.unwrap_or_else(|| PathBuf::from("/usr/bin"))
}

impl Postgres {
    /// Starts it, and waits until it answers.
    ///
    /// # Panics
    /// It is not installed (`cargo xtask test` does that), or does not start.
    #[must_use]
    pub fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let data = folder.path().join("data");
        let owner = rustix::process::geteuid().is_root().then(|| ids(USER).expect("the user postgres"));
        if let Some((user, group)) = owner {
            chown(folder.path(), Some(user), Some(group)).expect("the folder is given away");
        }
        let command = |program: &str| {
            let mut command = Command::new(programs().join(program));
            if let Some((user, group)) = owner {
                command.uid(user).gid(group);
            }
            command.current_dir(folder.path()).env_remove("LC_ALL").env("LANG", "C.UTF-8");
            command
        };
        let mut initdb = command("initdb");
        initdb.args(["--auth=trust", "--username=waymark", "--no-sync", "--encoding=UTF8", "-D"]).arg(&data);
        said(&initdb.output().expect("initdb runs"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let child = command("postgres")
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
            .args(["-c", "unix_socket_directories=", "-c", "max_connections=20"])
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).expect("a file"))
            .spawn()
            .expect("postgres runs");
        let server = Self { child, _folder: folder, port };
        eventually("PostgreSQL answers", PATIENCE, || server.psql("SELECT 1").status.success().then_some(()));
        server
    }

    fn psql(&self, statements: &str) -> Output {
        let mut psql = Command::new("psql");
        psql.args([
            "-X",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
            "-U",
            "waymark",
            "-d",
            "postgres",
        ]);
        psql.args(["-p", &self.port.to_string(), "-c", statements]).output().expect("psql runs")
    }

    /// Runs statements and returns what `psql` says.
    ///
    /// # Panics
    /// One of them fails.
    #[must_use]
    pub fn run(&self, statements: &str) -> String {
        said(&self.psql(statements))
    }

    /// Its address, for this user.
    #[must_use]
    pub fn url(&self, user: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/postgres", self.port)
    }
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        // SIGINT is its fast stop. It may be gone already.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let _ = self.child.wait();
    }
}

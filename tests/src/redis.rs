//! A real Redis server on a free loopback port.

use crate::{PATIENCE, eventually};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// A port that was free a moment ago.
///
/// # Panics
/// There is none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// A server. It keeps its data and its port when it is stopped and started again.
pub struct Redis {
    /// Its port on 127.0.0.1.
    pub port: u16,
    folder: TempDir,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Redis {
    /// A server that writes every command to its append-only file before it answers, so that killing it loses
    /// nothing that it acknowledged.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// A server with these arguments besides address, port and folder.
    ///
    /// # Panics
    /// It does not come up.
    #[must_use]
    pub fn with(arguments: &[&str]) -> Self {
        let mut redis = Self {
            port: free_port(),
            folder: TempDir::new().expect("a folder"),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            child: None,
        };
        redis.start_again();
        redis
    }

    /// Its address for hosts.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it where it was stopped, with the data that it kept, and waits until it has read them.
    ///
    /// # Panics
    /// It does not come up.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.launch();
        eventually("redis-server answers", PATIENCE, || {
            (self.try_command(&["PING"]).ok()? == "+PONG").then_some(())
        });
    }

    /// The same without waiting for anything.
    ///
    /// # Panics
    /// It runs, or cannot be started.
    #[track_caller]
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--port", &self.port.to_string()])
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        self.child = Some(child);
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Stops it where it is: it keeps its connections and swallows what comes.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen server go on.
    pub fn wake(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid =
            self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself.
            let _ = kill_process(pid, signal);
        }
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut child) = self.child.take() {
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                // It may have ended by itself.
                let _ = kill_process(pid, signal);
            }
            let _ = child.wait();
        }
    }

    /// Sends a command and returns the first line of the answer, or the text of a bulk answer.
    ///
    /// # Panics
    /// The server does not answer, or answers with an error.
    #[track_caller]
    pub fn command(&self, words: &[&str]) -> String {
        match self.try_command(words) {
            Ok(answer) if !answer.starts_with('-') => answer,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    /// See [`Redis::command`].
    ///
    /// # Errors
    /// The server does not answer.
    pub fn try_command(&self, words: &[&str]) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.write_all(request.as_bytes())?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_owned();
        match line.strip_prefix('$').and_then(|length| length.parse::<usize>().ok()) {
            Some(length) => {
                let mut text = vec![0; length];
                reader.read_exact(&mut text)?;
                Ok(String::from_utf8_lossy(&text).into_owned())
            }
            None => Ok(line),
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

//! `waymark top` in a real terminal.

use serde_json::json;
use std::{
    io::{Read as _, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
};
use waymark_tests::{PATIENCE, World, binary, eventually};

/// A pseudo-terminal of 80 columns and 24 lines, with the program in it. It ends with the test.
struct Terminal {
    process: Child,
    keys: ChildStdin,
    /// What somebody in front of it sees. The program writes only what changed.
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    fn start(url: &str) -> Self {
        let command =
            format!("stty rows 24 cols 80; exec {} top --url {url} --every 200ms", binary().display());
        let mut process = Command::new("script")
            .args(["--quiet", "--return", "--flush", "--command", &command, "/dev/null"])
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script is needed: apt-get install bsdutils");
        let (keys, mut output) =
            (process.stdin.take().expect("keys"), process.stdout.take().expect("a screen"));
        let screen = Arc::new(Mutex::new(vt100::Parser::new(24, 80, 0)));
        let written = screen.clone();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                written.lock().unwrap_or_else(PoisonError::into_inner).process(&bytes[..length]);
            }
        });
        Self { process, keys, screen }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("a key is taken");
        self.keys.flush().expect("a key is taken");
    }

    fn seen(&self) -> String {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen().contents()
    }

    /// Waits until this is on the screen.
    #[track_caller]
    fn shows(&self, text: &str) {
        eventually(&format!("{text:?} is shown"), PATIENCE, || self.seen().contains(text).then_some(()));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the screen\n{}\n---", self.seen());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn jobs_queues_and_hosts_are_seen_and_controlled_in_a_terminal() {
    let world = World::new("");
    let host = world.host(&["counter"]);
    let id = host.submit(&json!({"type": "counter", "input": {"steps": 1_000_000_000_u64, "work_us": 100}}));
    host.reaches(&id, "running");
    let mut terminal = Terminal::start(&host.url);
    terminal.shows(&id);
    terminal.press("\r");
    terminal.shows("plugin_version");
    terminal.press(" c");
    terminal.shows(&format!("cancel job {id}? y/n"));
    terminal.press("n");
    terminal.shows("nothing was done");
    assert_eq!(host.job(&id)["status"], "running", "nothing happens without a yes");
    terminal.press("py");
    assert_eq!(host.reaches(&id, "paused")["status"], "paused");
    terminal.shows("paused");
    terminal.press("ry");
    host.reaches(&id, "running");
    terminal.press("cy");
    host.reaches(&id, "cancelled");
    host.post("/api/v1/queues/slow/pause", &json!({})).expect(202);
    terminal.press("2");
    terminal.shows("slow");
    terminal.press("/slow\r");
    terminal.shows("filter: slow");
    terminal.press("ry");
    eventually("the queue is open", PATIENCE, || {
        let queues = host.get("/api/v1/queues").expect(200)["queues"].clone();
        let paused = |queue: &serde_json::Value| queue["name"] == "slow" && queue["paused"] == true;
        queues.as_array().is_some_and(|queues| !queues.iter().any(paused)).then_some(())
    });
    terminal.press("/\u{7f}\u{7f}\u{7f}\u{7f}\r3");
    terminal.shows("ADDRESS");
    terminal.press("?");
    terminal.shows("drain the host");
    terminal.press("q");
    let status = terminal.process.wait().expect("it ends");
    assert!(status.success(), "{status}");
}

#[test]
fn without_a_terminal_or_a_host_it_says_so() {
    let run = |arguments: &[&str]| {
        let output = Command::new(binary()).arg("top").args(arguments).output().expect("it runs");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(run(&[]).contains("needs a terminal"));
    let terminal = Terminal::start("http://127.0.0.1:9");
    terminal.shows("no host answers");
}

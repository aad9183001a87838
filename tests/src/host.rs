//! A host in a process group of its own.

use crate::{PATIENCE, binary, client::Client, eventually};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::{
    collections::BTreeMap,
    fs,
    ops::Deref,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Lines of its log that a host prints when a test fails.
const LINES_TOLD: usize = 60;
/// Of every machine that the product is built for.
const PAGE_BYTES: u64 = 4096;

/// What hosts of this process compiled: of each plugin, files below a host's data. Compiling takes seconds of a processor; a
/// host that finds them is like one that is started again.
static COMPILED: Mutex<BTreeMap<String, Files>> = Mutex::new(BTreeMap::new());

/// Paths below a folder, and what is in them.
type Files = Vec<(PathBuf, Vec<u8>)>;

/// A host with a plugin directory and data of its own. While it runs it is also its own [`Client`].
pub struct Host {
    /// Its plugin directory.
    pub plugins: PathBuf,
    /// Variables of its environment beside this process's own, from its next start on.
    pub environment: Vec<(String, String)>,
    /// Where it listens from its next start on: by default at a port that is free then.
    pub listen: String,
    folder: TempDir,
    child: Option<Child>,
    client: Option<Client>,
    starts: u32,
}

impl Deref for Host {
    type Target = Client;

    #[track_caller]
    fn deref(&self) -> &Client {
        self.client.as_ref().expect("the host runs")
    }
}

impl Host {
    pub(crate) fn new(folder: TempDir, config: &str, store: &str) -> Self {
        let plugins = folder.path().join("plugins");
        fs::create_dir(&plugins).expect("a folder");
        let top = format!("data = {:?}\nplugins_dir = {plugins:?}\n", folder.path().join("data"));
        // Tables come after plain keys; `config` may begin with such a key.
        let config = format!("{top}{config}\n[redis]\n{store}\n");
        fs::write(folder.path().join("waymark.toml"), config).expect("a file");
        Self {
            plugins,
            environment: Vec::new(),
            listen: "127.0.0.1:0".into(),
            folder,
            child: None,
            client: None,
            starts: 0,
        }
    }

    /// Starts it and waits until it is ready. It may be started again after it was killed or stopped.
    ///
    /// # Panics
    /// It ends, or does not become ready.
    #[track_caller]
    pub fn start(&mut self) {
        self.launch();
        let client = &**self;
        eventually("the host is ready", PATIENCE, || (client.get("/readyz").status == 200).then_some(()));
    }

    /// Starts it and waits until it listens, ready or not.
    ///
    /// # Panics
    /// It ends, or does not listen.
    #[track_caller]
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs");
        self.starts += 1;
        let log = |name: &str| {
            let path = self.folder.path().join(format!("{name}.{}", self.starts));
            (fs::File::create(&path).expect("a file"), path)
        };
        let ((stdout, said), (stderr, _)) = (log("stdout"), log("log"));
        let child = Command::new(binary())
            .arg("host")
            .arg("--config")
            .arg(self.folder.path().join("waymark.toml"))
            .args(["--listen", &self.listen])
            .current_dir(self.folder.path())
            .env_remove("WAYMARK_URL")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .expect("the host starts");
        self.child = Some(child);
        let address = eventually("the host listens", PATIENCE, || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok()).flatten();
            assert!(ended.is_none(), "the host ended: {ended:?}\n{}", self.log());
            let text = fs::read_to_string(&said).ok()?;
            let (_, rest) = text.split_once("listening on ")?;
            rest.split_once('\n').map(|(address, _)| address.to_owned())
        });
        self.client = Some(Client::new(&address));
    }

    /// Waits until these job types are in service.
    ///
    /// # Panics
    /// One is refused or does not come.
    #[track_caller]
    pub fn wait_for_plugins(&self, names: &[&str]) {
        for name in names {
            eventually(&format!("plugin {name} is loaded"), PATIENCE, || {
                let plugin = self.get(&format!("/api/v1/plugins/{name}"));
                (plugin.body["state"] == "loaded").then_some(())
            });
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Gives it what another host of this process compiled of a plugin that `cargo xtask guests` built. It does not run.
    ///
    /// # Panics
    /// Its data cannot be written.
    pub fn warm(&self, plugin: &str) {
        let compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        for (file, bytes) in compiled.get(plugin).into_iter().flatten() {
            let file = self.data().join(file);
            fs::create_dir_all(file.parent().expect("below the data")).expect("a folder");
            fs::write(file, bytes).expect("compiled code is written");
        }
    }

    /// Keeps what it compiled of that plugin for others.
    pub(crate) fn share(&self, plugin: &str) {
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        if compiled.contains_key(plugin) {
            return;
        }
        let digest = self.get(&format!("/api/v1/plugins/{plugin}")).body["digest"].clone();
        let digest = digest.as_str().expect("a digest");
        let data = self.data();
        let engines = fs::read_dir(data.join("cache")).expect("it compiled").flatten();
        let files = engines.filter(|entry| entry.path().is_dir()).flat_map(|entry| {
            ["cwasm", "json"].map(|extension| entry.path().join(format!("{digest}.{extension}")))
        });
        let kept = files.filter_map(|file| {
            let below = file.strip_prefix(&data).expect("below the data").to_owned();
            Some((below, fs::read(file).ok()?))
        });
        compiled.insert(plugin.to_owned(), kept.collect());
    }

    fn pid(&self) -> Pid {
        let child = self.child.as_ref().expect("the host runs");
        i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id")
    }

    /// The processes of its group: the control process first, then workers and compilers.
    #[must_use]
    pub fn processes(&self) -> Vec<i32> {
        let leader = self.pid().as_raw_nonzero().get();
        let mut all = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            // After the name in brackets: state, parent, group.
            let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
            if rest.split(' ').nth(2).and_then(|group| group.parse::<i32>().ok()) == Some(leader) {
                all.push(pid);
            }
        }
        all.sort_by_key(|pid| (*pid != leader, *pid));
        all
    }

    /// Memory in use by all its processes, bytes.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.processes().iter().filter_map(resident).sum()
    }

    /// Its worker processes.
    #[must_use]
    pub fn workers(&self) -> Vec<i32> {
        self.processes().into_iter().filter(|pid| argument(*pid).as_deref() == Some("worker")).collect()
    }

    /// Memory in use by its control and worker processes, bytes. Compilers, which have a limit of their own and end
    /// soon, do not count.
    #[must_use]
    pub fn serving_bytes(&self) -> u64 {
        let processes = self.processes();
        let serving = processes.iter().filter(|pid| argument(**pid).as_deref() != Some("compile-plugin"));
        serving.filter_map(resident).sum()
    }

    /// Kills the control process and all others of the host, as a lost machine would be.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// Kills one of its processes alone.
    ///
    /// # Panics
    /// There is no such process.
    pub fn kill_one(&self, pid: i32) {
        let pid = Pid::from_raw(pid).expect("a process id");
        kill_process(pid, Signal::KILL).expect("the process is there");
    }

    /// Stops all its processes where they are.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets frozen processes go on.
    pub fn wake(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        // A group that has ended needs no signal.
        let _ = kill_process_group(self.pid(), signal);
    }

    /// Asks the host to stop (SIGTERM to the control process) without waiting for it.
    ///
    /// # Panics
    /// It has ended already.
    pub fn ask_to_stop(&self) {
        kill_process(self.pid(), Signal::TERM).expect("the host runs");
    }

    /// Asks the host to stop and waits until it has; returns how and after how long it ended.
    ///
    /// # Panics
    /// It does not stop.
    #[track_caller]
    pub fn stop(&mut self) -> (ExitStatus, Duration) {
        let from = Instant::now();
        self.ask_to_stop();
        let status = eventually("the host stops", PATIENCE, || {
            self.child.as_mut().expect("the host runs").try_wait().expect("the host is our child")
        });
        self.wait();
        (status, from.elapsed())
    }

    fn wait(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
        self.client = None;
    }

    /// What its processes wrote to standard error since the last start.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join(format!("log.{}", self.starts))).unwrap_or_default()
    }
}

/// The first argument of a process.
fn argument(pid: i32) -> Option<String> {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    line.split('\0').nth(1).map(str::to_owned)
}

/// Memory in use by a process, bytes.
fn resident(pid: &i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.wake();
            self.kill();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let told = &lines[lines.len().saturating_sub(LINES_TOLD)..];
            eprintln!(
                "--- end of the log of the host in {}\n{}",
                self.folder.path().display(),
                told.join("\n")
            );
        }
    }
}

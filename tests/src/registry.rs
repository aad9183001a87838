//! A real registry of containers (`docker-registry`) on a free port.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// A registry. It ends with the test.
pub struct Registry {
    /// Where it listens, such as `127.0.0.1:5000`.
    pub address: String,
    child: Child,
    _folder: TempDir,
}

impl Registry {
    /// Starts one; `None` where the program is not installed.
    ///
    /// # Panics
    /// It does not come up.
    #[must_use]
    pub fn start() -> Option<Self> {
        let folder = TempDir::new().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        drop(listener);
        let storage = folder.path().join("storage");
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
            storage.display()
        );
        let file = folder.path().join("config.yml");
        fs::write(&file, config).expect("the configuration is written");
        let mut command = Command::new("docker-registry");
        let child =
            command.arg("serve").arg(file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let registry = Self { address, child, _folder: folder };
        crate::eventually("the registry listens", crate::PATIENCE, || {
            TcpStream::connect(&registry.address).ok()
        });
        Some(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

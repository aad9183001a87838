//! How a job type in Rust becomes a `.wasm` file. `waymark plugin build` and `cargo xtask guests` both ask here.
//!
//! The normal way is the target that `rustup` installs. Where it is not to be had (offline, or a tool chain of a
//! distribution), the standard library is built from the source that Debian packages beside its compiler. This crate
//! installs no packages: it names those that are missing, and has no dependencies.

use std::{
    env, fmt, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What a job type is compiled for.
pub const TARGET: &str = "wasm32-unknown-unknown";
/// Name of the profile: cargo puts what it builds into the folder `TARGET/PROFILE`.
pub const PROFILE: &str = "guest";

/// Small and quick to start. Function names stay in, so that a trap's back-trace can be read.
const SETTINGS: [&str; 7] = [
    "inherits = 'release'",
    "opt-level = 's'",
    "lto = true",
    "codegen-units = 1",
    "debug = false",
    "strip = 'debuginfo'",
    "panic = 'abort'",
];

/// Debian's compiler that has the standard library's source in a package.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];

/// Why nothing can be compiled.
#[derive(Debug)]
pub enum Error {
    /// There is no compiler, or it does not answer.
    Compiler(io::Error),
    /// Neither the target nor the source of its standard library is there. Names Debian packages that bring the
    /// latter.
    Packages(&'static [&'static str]),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compiler(error) => {
                write!(formatter, "rustc cannot be asked ({error}): install Rust, https://rustup.rs")
            }
            Self::Packages(names) => write!(
                formatter,
                "the target {TARGET} is not installed: run `rustup target add {TARGET}`, or, without rustup or a \
                 network, install its source (Debian, Ubuntu: sudo apt install {})",
                names.join(" ")
            ),
        }
    }
}

impl std::error::Error for Error {}

/// A compiler that can compile for [`TARGET`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The ordinary one: it has the target's standard library.
    Installed,
    /// Debian's: builds the standard library first.
    FromSource {
        /// Where the ordinary tool chain keeps a linker for WebAssembly, if it does.
        linker: Option<PathBuf>,
    },
}

impl Toolchain {
    /// Finds a tool chain for the crate in `folder`, whose `rust-toolchain.toml` counts. Asks `rustup` for the target
    /// where it is missing; what happens is said on standard error.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn find(folder: &Path) -> Result<Self, Error> {
        let sysroot = sysroot("rustc", folder).map_err(Error::Compiler)?;
        let installed = || sysroot.join("lib/rustlib").join(TARGET).is_dir();
        if installed() {
            return Ok(Self::Installed);
        }
        eprintln!("+ rustup target add {TARGET}");
        let mut rustup = Command::new("rustup");
        rustup.args(["target", "add", TARGET]).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
        // Without rustup, or without a network, there is the other way.
        let added = rustup.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        if added && installed() {
            return Ok(Self::Installed);
        }
        let source = self::sysroot(DEBIAN_RUSTC, folder)
            .is_ok_and(|debian| debian.join("lib/rustlib/src/rust/library/std/Cargo.toml").is_file());
        if !source {
            return Err(Error::Packages(&DEBIAN_PACKAGES));
        }
        eprintln!("the target {TARGET} cannot be installed: building its standard library from source");
        let linker =
            sysroot.join(format!("lib/rustlib/{}-unknown-linux-gnu/bin/rust-lld", env::consts::ARCH));
        Ok(Self::FromSource { linker: linker.is_file().then_some(linker) })
    }

    /// `cargo build` in `folder` with everything that makes a job type of it. What is built, and where to, is the
    /// caller's to add.
    #[must_use]
    pub fn cargo(&self, folder: &Path) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(folder).args(["build", "--lib", "--target", TARGET, "--profile", PROFILE]);
        for setting in SETTINGS {
            command.arg("--config").arg(format!("profile.{PROFILE}.{setting}"));
        }
        if let Self::FromSource { linker } = self {
            command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
            // Debian's compiler is older than the one that the workspace names for the host. Job types get by with it.
            command.args(["-Z", "build-std=std,panic_abort", "--ignore-rust-version"]);
            if let Some(linker) = linker {
                command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
            }
        }
        command
    }
}

fn sysroot(rustc: &str, folder: &Path) -> io::Result<PathBuf> {
    let output = Command::new(rustc).args(["--print", "sysroot"]).current_dir(folder).output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("rustc --print sysroot: {}", output.status)));
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(command: &Command) -> Vec<String> {
        command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_missing_source_is_named_with_its_packages() {
        let said = Error::Packages(&DEBIAN_PACKAGES).to_string();
        assert!(said.contains("rustc-web rust-web-src") && said.contains("rustup target add"), "{said}");
    }

    #[test]
    fn only_a_tool_chain_without_the_target_builds_the_standard_library() {
        let source = Toolchain::FromSource { linker: Some("/lld".into()) }.cargo(Path::new("."));
        assert!(arguments(&source).contains(&"build-std=std,panic_abort".to_owned()));
        assert!(
            arguments(&source).contains(&"--ignore-rust-version".to_owned()),
            "Debian's compiler is older"
        );
        assert!(
            source.get_envs().any(|(name, value)| name == "RUSTC" && value == Some(DEBIAN_RUSTC.as_ref()))
        );
        let installed = Toolchain::Installed.cargo(Path::new("."));
        assert_eq!(installed.get_envs().count(), 0);
        assert!(!arguments(&installed).contains(&"-Z".to_owned()));
    }
}

//! Files below the directories that the operator granted to this job type (`wasi:filesystem`, read-only).
//!
//! Natively, in tests, files are looked for below the directory in the environment variable
//! `WAYMARK_FILES`, or below the one given to [`root_for_this_thread`].

use std::fmt::{Display, Formatter};

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The path is empty, absolute, or leads upwards.
    Path(String),
    /// No directory is granted, or none holds the file.
    NotFound(String),
    /// The host refused, or reading failed; the host's word for it.
    Io(String, String),
}

impl Display for Error {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => write!(
                formatter,
                "{path:?} is not a path below a granted directory: it must be relative, without `..`"
            ),
            Self::NotFound(path) => {
                write!(formatter, "no directory granted to this job type holds the file {path:?}")
            }
            Self::Io(path, reason) => write!(formatter, "{path:?}: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

/// A file open for reading at any position.
#[derive(Debug)]
pub struct File {
    path: String,
    bytes: u64,
    inner: inner::File,
}

impl File {
    /// Opens a file by its path relative to a granted directory; the first directory that has it wins.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(path: &str) -> Result<Self, Error> {
        let legal = !path.is_empty()
            && !path.contains(['\\', '\0'])
            && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !legal {
            return Err(Error::Path(path.to_owned()));
        }
        let (inner, bytes) = inner::open(path)?;
        Ok(Self { path: path.to_owned(), bytes, inner })
    }

    /// Size in bytes when it was opened.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fills `buffer` from `offset` in bytes on, as far as the file reaches; returns how much was read.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < buffer.len() {
            let got = inner::read(&self.inner, offset + filled as u64, &mut buffer[filled..])
                .map_err(|reason| Error::Io(self.path.clone(), reason))?;
            if got == 0 {
                break;
            }
            filled += got;
        }
        Ok(filled)
    }
}

#[cfg(target_arch = "wasm32")]
mod inner {
    use wasip2::filesystem::preopens::get_directories;
    use wasip2::filesystem::types::{
        Descriptor, DescriptorFlags, DescriptorType, ErrorCode, OpenFlags, PathFlags,
    };

    use super::Error;

    pub(super) type File = Descriptor;

    pub(super) fn open(path: &str) -> Result<(File, u64), Error> {
        let io = |code: ErrorCode| Error::Io(path.to_owned(), code.name().to_owned());
        for (directory, _) in get_directories() {
            let opened =
                directory.open_at(PathFlags::SYMLINK_FOLLOW, path, OpenFlags::empty(), DescriptorFlags::READ);
            match opened {
                Ok(file) => {
                    let stat = file.stat().map_err(io)?;
                    if stat.type_ != DescriptorType::RegularFile {
                        return Err(Error::Io(path.to_owned(), "not a regular file".to_owned()));
                    }
                    return Ok((file, stat.size));
                }
                Err(ErrorCode::NoEntry) => {}
                Err(code) => return Err(io(code)),
            }
        }
        Err(Error::NotFound(path.to_owned()))
    }

    pub(super) fn read(file: &File, offset: u64, buffer: &mut [u8]) -> Result<usize, String> {
        let (bytes, _) = file.read(buffer.len() as u64, offset).map_err(|code| code.name().to_owned())?;
        let got = bytes.len().min(buffer.len());
        buffer[..got].copy_from_slice(&bytes[..got]);
        Ok(got)
    }
}

#[cfg(not(target_arch = "wasm32"))]
pub use inner::root_for_this_thread;

#[cfg(not(target_arch = "wasm32"))]
mod inner {
    use std::cell::RefCell;
    use std::io::{ErrorKind, Read, Seek, SeekFrom};
    use std::path::PathBuf;

    use super::Error;

    pub(super) type File = std::fs::File;

    thread_local! {
        static ROOT: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
    }

    /// From now on this thread's jobs find their files below `directory`. For tests.
    pub fn root_for_this_thread(directory: impl Into<PathBuf>) {
        ROOT.set(Some(directory.into()));
    }

    pub(super) fn open(path: &str) -> Result<(File, u64), Error> {
        let root = ROOT
            .with_borrow(Clone::clone)
            .or_else(|| std::env::var_os("WAYMARK_FILES").map(PathBuf::from))
            .ok_or_else(|| Error::NotFound(path.to_owned()))?;
        let io = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => Error::NotFound(path.to_owned()),
            _ => Error::Io(path.to_owned(), error.to_string()),
        };
        let file = std::fs::File::open(root.join(path)).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(Error::Io(path.to_owned(), "not a regular file".to_owned()));
        }
        Ok((file, metadata.len()))
    }

    pub(super) fn read(mut file: &File, offset: u64, buffer: &mut [u8]) -> Result<usize, String> {
        let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read(buffer));
        read.map_err(|error| error.to_string())
    }
}

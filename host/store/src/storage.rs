//! Where long values lie: files of a directory, objects of S3-compatible storage, or a second Redis.
//!
//! Three verbs, each safe to repeat. What was put is kept before the call returns.

use crate::{Error, apart, link::Link};
use object_store::{
    ClientOptions, ObjectStoreExt as _, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey},
    path::Path,
};
use std::{
    collections::BTreeMap,
    io,
    path::{self, PathBuf},
    str::FromStr as _,
    sync::Arc,
    time::Duration,
};
use tokio::{fs, io::AsyncWriteExt as _};
use waymark_job::JobId;

/// Longest wait for the storage.
const ANSWER_MAX: Duration = Duration::from_secs(10);

pub(crate) enum Storage {
    Directory(PathBuf),
    /// With the first part of every object's path.
    S3(Box<AmazonS3>, Path),
    /// With the first part of every key.
    Redis(Arc<Link>, String),
}

impl Storage {
    /// `file:///directory`, `s3://bucket` or `s3://bucket/prefix`.
    pub(crate) fn open(url: &str, settings: &BTreeMap<String, String>) -> Result<Self, Error> {
        let wrong = |why: String| Error::Setup(format!("object storage {url}: {why}"));
        if let Some(directory) = url.strip_prefix("file://") {
            std::fs::create_dir_all(directory).map_err(|error| wrong(error.to_string()))?;
            return Ok(Self::Directory(directory.into()));
        }
        let Some(rest) = url.strip_prefix("s3://") else {
            return Err(wrong("it must begin with file:// or s3://".to_owned()));
        };
        let retry = RetryConfig { max_retries: 2, retry_timeout: ANSWER_MAX, ..RetryConfig::default() };
        let client = ClientOptions::new().with_timeout(ANSWER_MAX).with_connect_timeout(ANSWER_MAX / 2);
        let mut builder =
            AmazonS3Builder::from_env().with_url(url).with_retry(retry).with_client_options(client);
        for (name, value) in settings {
            let key = AmazonS3ConfigKey::from_str(name)
                .map_err(|_| wrong(format!("there is no setting {name:?}")))?;
            builder = builder.with_config(key, value);
        }
        let bucket = builder.build().map_err(|error| wrong(error.to_string()))?;
        let prefix = rest.split_once('/').map_or("", |(_, prefix)| prefix);
        Ok(Self::S3(Box::new(bucket), Path::from(prefix)))
    }

    /// Keeps a value under a path of plain names. Half a value is never seen.
    pub(crate) async fn put(&self, path: &str, content: Vec<u8>) -> Result<(), Error> {
        match self {
            Self::Directory(root) => Ok(write(&file(root, path)?, &content).await?),
            Self::S3(bucket, prefix) => {
                bucket.put(&object(prefix, path), content.into()).await?;
                Ok(())
            }
            Self::Redis(second, prefix) => {
                let mut command = redis::cmd("SET");
                command.arg(format!("{}object:{path}", head(prefix, path)?)).arg(content);
                let _: String = second.soon(&command, apart::ANSWER_MAX).await.map_err(apart::away)?;
                Ok(())
            }
        }
    }

    /// `None` where nothing is kept under the path.
    pub(crate) async fn get(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        match self {
            Self::Directory(root) => match fs::read(file(root, path)?).await {
                Ok(content) => Ok(Some(content)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error.into()),
            },
            Self::S3(bucket, prefix) => {
                let read = async { bucket.get(&object(prefix, path)).await?.bytes().await };
                match read.await {
                    Ok(content) => Ok(Some(content.into())),
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
            Self::Redis(second, prefix) => {
                let mut command = redis::cmd("GET");
                command.arg(format!("{}object:{path}", head(prefix, path)?));
                second.soon(&command, apart::ANSWER_MAX).await.map_err(apart::away)
            }
        }
    }

    /// Forgets what is kept under the path, if anything is.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), Error> {
        match self {
            Self::Directory(root) => {
                let file = file(root, path)?;
                match fs::remove_file(&file).await {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                    _ => {}
                }
                // The job's folder, with its last file; others of the job keep it.
                if let Some(folder) = file.parent().filter(|folder| *folder != root) {
                    let _ = fs::remove_dir(folder).await;
                }
                Ok(())
            }
            Self::S3(bucket, prefix) => match bucket.delete(&object(prefix, path)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(error.into()),
            },
            Self::Redis(second, prefix) => {
                let head = head(prefix, path)?;
                let mut command = redis::cmd("UNLINK");
                let Some(id) = path.strip_prefix(LOG) else {
                    command.arg(format!("{head}object:{path}"));
                    let _: u64 = second.soon(&command, apart::ANSWER_MAX).await.map_err(apart::away)?;
                    return Ok(());
                };
                command.arg(format!("{head}log:{id}"));
                let counts = ["logbytes", "dropped"].map(|name| {
                    let mut command = redis::cmd("HDEL");
                    command.arg(format!("{head}{name}")).arg(id);
                    command
                });
                for command in [&command].into_iter().chain(&counts) {
                    let _: u64 = second.soon(command, apart::ANSWER_MAX).await.map_err(apart::away)?;
                }
                Ok(())
            }
        }
    }
}

/// What the path of a job's log begins with (`delete.lua`); the job's id follows.
const LOG: &str = "log:";

/// The head of the keys of the job whose object or log this is.
fn head(prefix: &str, path: &str) -> Result<String, Error> {
    let name = path.strip_prefix(LOG).unwrap_or(path).split('/').next().unwrap_or_default();
    let id = JobId::parse(name).map_err(|_| Error::corrupt("an object's path", path))?;
    Ok(format!("{{{prefix}{}}}:", id.partition()))
}

/// A damaged reference must not lead out of the directory.
fn file(root: &path::Path, path: &str) -> Result<PathBuf, Error> {
    let plain = |part: path::Component<'_>| matches!(part, path::Component::Normal(_));
    if path::Path::new(path).components().all(plain) {
        return Ok(root.join(path));
    }
    Err(Error::corrupt("an object's path", path))
}

fn object(prefix: &Path, path: &str) -> Path {
    path.split('/').fold(prefix.clone(), |path, part| path.join(part))
}

/// Under another name first, and on the disk before it has its own.
async fn write(path: &path::Path, content: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("partial");
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).await?;
    }
    let mut file = fs::File::create(&partial).await?;
    file.write_all(content).await?;
    file.sync_all().await?;
    fs::rename(&partial, path).await
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Storage(error.to_string())
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        Self::Storage(error.to_string())
    }
}

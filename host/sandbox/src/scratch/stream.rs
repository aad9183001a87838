//! Streams of scratch files. A write is one task of a blocking thread, which takes its bytes from the quota itself.

use super::quota::Content;
use bytes::Bytes;
use std::{fs::File, io, sync::Arc};
use tokio::task::JoinHandle;
use wasmtime_wasi::p2::{DynInputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult};

/// Bytes that a guest may write at once.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// A stream that writes.
pub(super) struct Writer {
    file: Arc<File>,
    content: Arc<Content>,
    /// Where the next byte goes; none: to the end.
    at: Option<u64>,
    state: State,
}

enum State {
    Ready,
    /// Answers where the last byte ended.
    Writing(JoinHandle<io::Result<u64>>),
    Failed(io::Error),
    Closed,
}

impl Writer {
    pub(super) fn new(file: Arc<File>, content: Arc<Content>, at: Option<u64>) -> Self {
        Self { file, content, at, state: State::Ready }
    }

    /// Whether it takes bytes now. A failure is told once, and is the end.
    fn is_ready(&mut self) -> StreamResult<bool> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => Err(StreamError::Closed),
            State::Failed(error) => Err(StreamError::LastOperationFailed(error.into())),
            state => {
                let ready = matches!(state, State::Ready);
                self.state = state;
                Ok(ready)
            }
        }
    }
}

#[async_trait::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        if let State::Writing(task) = &mut self.state {
            self.state = match task.await {
                Ok(Ok(end)) => {
                    self.at = self.at.map(|_| end);
                    State::Ready
                }
                Ok(Err(error)) => State::Failed(error),
                Err(error) => State::Failed(io::Error::other(error)),
            };
        }
    }
}

#[async_trait::async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if !self.is_ready()? {
            return Err(StreamError::trap("a write that check-write did not permit"));
        }
        let (file, content, at) = (self.file.clone(), self.content.clone(), self.at);
        self.state = State::Writing(tokio::task::spawn_blocking(move || content.write(&file, at, &bytes)));
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.is_ready().map(|_| ())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(if self.is_ready()? { WRITE_BYTES_MAX } else { 0 })
    }

    /// A guest that drops its streams in the middle of writes has not more of them at once than streams.
    async fn cancel(&mut self) {
        self.ready().await;
        self.state = State::Closed;
    }
}

/// A stream that reads. What it reads counts as long as it is there.
pub(super) struct Reader {
    inner: DynInputStream,
    _content: Arc<Content>,
}

impl Reader {
    pub(super) fn new(inner: DynInputStream, content: Arc<Content>) -> Self {
        Self { inner, _content: content }
    }
}

#[async_trait::async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}

#[async_trait::async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.inner.read(size)
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.inner.blocking_read(size).await
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

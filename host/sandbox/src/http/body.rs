//! A body that ends when it is too long or takes too long.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Sleep, sleep_until},
};
use wasmtime_wasi_http::Error;

/// Bounds of one body.
pub(super) struct Bounds {
    /// Bytes of data.
    pub(super) bytes_max: u64,
    /// The error of a longer one.
    pub(super) too_long: fn(Option<u64>) -> Error,
    /// Longest wait for more.
    pub(super) pause_max: Duration,
    /// When all of it must be over.
    pub(super) end: Option<Instant>,
    /// Set when it was too long: what HTTP makes of the error tells nobody why.
    pub(super) tripped: Arc<AtomicBool>,
}

/// A body within bounds; gives its place back when it is dropped.
pub(super) struct Bounded<B> {
    inner: B,
    bounds: Bounds,
    left: u64,
    sleep: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Bounds {
    fn next(&self) -> tokio::time::Instant {
        let next = Instant::now() + self.pause_max;
        self.end.map_or(next, |end| end.min(next)).into()
    }

    pub(super) fn around<B>(self, inner: B, place: Option<OwnedSemaphorePermit>) -> Bounded<B> {
        let sleep = Box::pin(sleep_until(self.next()));
        Bounded { inner, left: self.bytes_max, sleep, bounds: self, _place: place }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Bounded<B>
where
    B::Error: Into<Error>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        let Poll::Ready(frame) = polled else {
            return match self.sleep.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(Some(Err(Error::ConnectionReadTimeout))),
                Poll::Pending => Poll::Pending,
            };
        };
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return Poll::Ready(Some(Err(error.into()))),
        };
        if let Some(data) = frame.data_ref() {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => {
                    self.bounds.tripped.store(true, Relaxed);
                    let error = (self.bounds.too_long)(Some(self.bounds.bytes_max));
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        let next = self.bounds.next();
        self.sleep.as_mut().reset(next);
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

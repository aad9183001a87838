//! Tasks of the runtime, behind a pointer.
//!
//! What the runtime does with a task is compiled anew for each type of future. Behind a pointer it is compiled once for each
//! type of answer, which saves a part of the compiling and costs one allocation per task.

use std::pin::Pin;
use tokio::task::JoinHandle;

/// A future of which only the answer is known.
pub(crate) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The same future behind a pointer.
pub(crate) fn boxed<T>(future: impl Future<Output = T> + Send + 'static) -> Boxed<T> {
    Box::pin(future)
}

/// Starts a task.
pub(crate) fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(boxed(future))
}

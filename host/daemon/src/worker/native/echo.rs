//! `waymark.echo`: its result is its input.
//!
//! It shows that a host lives before there is any plugin, and gathers results of earlier nodes in a workflow.

use super::{Context, Native};
use crate::worker::run::Next;
use waymark_sandbox::Fault;

/// The job type.
pub(super) const NAME: &str = "waymark.echo";

pub(super) struct Echo;

impl Native for Echo {
    fn begin(_: &Context<'_>, _: Option<&[u8]>) -> Result<Self, Fault> {
        Ok(Self)
    }

    async fn step(&mut self, context: &Context<'_>) -> Result<Next, Fault> {
        Ok(Next::Completed(context.spec.input.clone()))
    }

    fn checkpoint(&self) -> Vec<u8> {
        Vec::new()
    }
}

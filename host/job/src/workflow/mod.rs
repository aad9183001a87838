//! Workflows: jobs that need one another. Pure: what to start next follows from the graph and from what has ended.
//!
//! * `graph`: what a caller asks for, checked: names, needs, cycles, bounds.
//! * `short`: chains, groups and chords, written as graphs.
//! * `template`: inputs that are built from earlier results.
//! * `state`: where every node stands, and what follows from that.

mod graph;
mod short;
mod state;
mod template;

pub use graph::{About, Flaw, Graph, ITEMS_MAX, Map, NODES_MAX, Node, OnFailure, Task};
pub use state::{Counts, Phase, Start, State};
pub use template::{Reference, Scope, references, resolve};

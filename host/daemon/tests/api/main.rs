//! The HTTP API against a real Redis: every call, every refusal.

mod access;
mod bad_requests;
mod bulk;
mod changes;
mod follow;
mod harness;
mod limits;
mod limits_of_queues;
mod operators;
mod redaction;
mod replay;
mod scale;
mod stuck;
mod submit;

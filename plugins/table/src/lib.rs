//! How the shipped job types read a table, and what they think of its values.
//!
//! A [`DataSet`] names the table in a job's input; a [`Table`] is that table opened, and [`Table::scan`]
//! reads some of it from a [`Position`], which belongs into the checkpoint. Memory is bounded by one record
//! and one read buffer, whatever the size of the file. [`value`] says what counts as a number or a date,
//! [`condition`] what a filter means.

pub mod condition;
pub mod data_set;
pub mod scan;
pub mod statement;
pub mod value;

pub use condition::{Condition, Filter};
pub use data_set::{Columns, DataSet, Statement};
pub use scan::{Pace, Position, Row, Table};

//! What the job types about regulated reports share: [`attribute`] (what a report asks for), [`words`] (how alike two
//! names are), [`passage`] (is a citation really there), [`value`] (what a person's way to write a date or an amount means).

pub mod attribute;
pub mod passage;
pub mod value;
pub mod words;

pub use attribute::{Attribute, DataType, Mapping};

//! SQL types: [`DataType`] and what PostgreSQL's `pg_type` says of each of them.

mod catalog;
mod data_type;
mod names;

pub use catalog::{TypeCategory, TypeInfo};
pub use data_type::{DataType, NumericMod};

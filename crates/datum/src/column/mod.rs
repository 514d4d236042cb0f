//! Typed columns and batches: what the executor computes on.
//!
//! A column holds values of one SQL type in the tightest representation there is for it: machine integers for
//! everything that is one, concatenated bytes for text, and datums for the rest. Nulls are a bitmap beside the values
//! that costs nothing while there are none. Columns know nothing of expressions; the vectorised operators are in
//! [`kernels`].

mod batch;
mod build;
pub mod kernels;
mod nulls;
mod vector;

pub use batch::Batch;
pub use build::{Column, IntKind};
pub use nulls::Nulls;
pub use vector::{TextVector, Vector};

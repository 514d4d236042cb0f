//! COPY: rows from a stream and to a stream, as text, CSV or in the binary format.
//!
//! Input arrives in pieces that end anywhere. [`CopyIn`] finds whole records, parses them into typed columns and inserts
//! a batch at a time; [`CopyOut`] turns batches into lines or tuples. Neither holds more than one batch.

mod binary;
mod input;
mod output;
mod record;

pub use input::CopyIn;
pub use output::CopyOut;

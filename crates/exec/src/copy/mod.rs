//! COPY: rows from text and to text.
//!
//! Input arrives in pieces that end anywhere. [`CopyIn`] finds whole records, parses them into typed columns and inserts
//! a batch at a time; [`CopyOut`] turns batches into lines. Neither holds more than one batch.

mod input;
mod output;
mod record;

pub use input::CopyIn;
pub use output::CopyOut;

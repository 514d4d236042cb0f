//! Values as the wire has them: PostgreSQL's text format (its type input and output functions with ISO dates) and its
//! binary format (the send and receive functions).
//!
//! Writers append to any [`BufMut`] without intermediate strings for the types that rows are full of. The one thing
//! the formats do not know is names of objects: `regclass` and its kin are numbers here, and whoever has a catalog
//! replaces them.

mod array;
mod binary;
mod datetime_in;
mod datetime_out;
mod input;
mod interval_in;
mod json;
mod number;
mod output;

pub(crate) use array::natural_type;
pub use binary::{parse_binary, write_binary};
pub(crate) use datetime_in::{parse_date, parse_time, parse_timestamp, parse_timestamptz};
pub use input::parse_text;
pub(crate) use input::{decode_escape, decode_hex};
pub(crate) use interval_in::parse_interval;
pub(crate) use json::{check_json, write_json};
pub use number::{write_f32, write_f64, write_i64};
pub use output::{to_text, write_text};

//! Sessions: transaction blocks, prepared statements, retries.

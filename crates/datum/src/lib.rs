//! SQL values and types: casts, arithmetic, text and binary formats, SQLSTATEs.

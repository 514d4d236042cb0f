//! The storage engine seam and its in-memory engine.

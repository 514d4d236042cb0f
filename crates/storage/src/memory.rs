//! The in-memory engine (to be written by its owner).

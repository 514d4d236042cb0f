//! Multi-version reads and writes over a storage reader.

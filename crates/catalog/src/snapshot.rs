//! The catalog at one timestamp.

/// The catalog at one timestamp: immutable and shared.
#[derive(Debug, Default)]
pub struct CatalogSnapshot {
    /// The catalog's version.
    pub version: u64,
}

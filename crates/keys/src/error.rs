//! What can be wrong with encoded bytes.

/// Bytes that are not the key they were taken for. Outside of a bug, it means corruption.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// The key ends within a value.
    #[error("key ends within a value at byte {at}")]
    Truncated {
        /// Where.
        at: usize,
    },
    /// Another kind of value was expected.
    #[error("unexpected tag {tag:#04x} at byte {at} of a key")]
    UnexpectedTag {
        /// Where.
        at: usize,
        /// What is there.
        tag: u8,
    },
    /// A value's bytes are not ones that the encoder writes.
    #[error("malformed value at byte {at} of a key")]
    Malformed {
        /// Where.
        at: usize,
    },
    /// There is more after the last value.
    #[error("key has trailing bytes from {at} on")]
    Trailing {
        /// Where.
        at: usize,
    },
}

//! The vectorised executor.

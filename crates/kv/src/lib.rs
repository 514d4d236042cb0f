//! The gateway: routing, write buffer, two-phase commit driver, snapshot reads.

//! The lock table: shared, exclusive and span locks under wound-wait.

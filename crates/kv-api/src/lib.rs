//! The transactional key-value seam that SQL is written against.

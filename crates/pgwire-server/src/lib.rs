//! The Postgres wire protocol edge.

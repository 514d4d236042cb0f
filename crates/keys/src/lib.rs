//! The keyspace: every key prefix and its ordered encoding.

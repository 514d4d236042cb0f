//! Descriptors of databases, schemas, tables and indexes, and their storage.

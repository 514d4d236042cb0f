//! Criterion benches of the hot paths; see `benches/`. `cargo bench -p meridian-benches` runs them, and
//! `cargo test -p meridian-benches --benches` runs each once, so that they do not rot.

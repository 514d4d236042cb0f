//! Proof that the simulation finds bugs: its tests run the simulation on cores that misbehave on purpose.
//!
//! It is a package of its own because Cargo unifies features over the packages of one build: the feature
//! `planted-bugs` is asked for by this package's tests alone, so no build of the `meridian` binary that names its
//! package contains a planted bug. A build of the whole workspace compiles them in, but nothing outside these tests can
//! select one.

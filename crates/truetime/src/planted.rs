//! Bugs that are compiled in under the feature `planted-bugs` only, so that the simulation can prove that it would
//! find them. Without the feature every question is answered `false` at compile time.

/// One wrong behaviour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(feature = "planted-bugs"), expect(unreachable_pub, reason = "public only under the feature"))]
pub enum Planted {
    /// Epsilon does not grow between polls (breaks I-1).
    NoDrift,
    /// One master is believed, whatever the others say (breaks I-1).
    TrustAnybody,
}

impl crate::ClockConfig {
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn has(&self, bug: Planted) -> bool {
        self.planted == Some(bug)
    }

    #[cfg(not(feature = "planted-bugs"))]
    #[expect(clippy::unused_self, reason = "the question is the same with and without the feature")]
    pub(crate) const fn has(&self, _bug: Planted) -> bool {
        false
    }
}

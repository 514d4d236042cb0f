//! Bugs that are compiled in under the feature `planted-bugs` only, so that the simulation can prove that it would
//! find them. Without the feature every question is answered `false` at compile time.

/// One wrong behaviour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(feature = "planted-bugs"), expect(unreachable_pub, reason = "public only under the feature"))]
pub enum Planted {
    /// Entries apply, and commits are answered, before their timestamp has passed (breaks I-7).
    SkipCommitWait,
    /// Reads do not wait for prepared transactions (breaks I-8).
    ReadBelowPrepared,
    /// Followers serve reads whatever was closed (breaks I-8).
    IgnoreClosed,
    /// Prepared transactions are wounded like others (breaks two-phase commit).
    WoundPrepared,
    /// A commit does not ask whether its locks still stand (breaks two-phase locking).
    ForgetRegistration,
    /// A late decision overrides a recorded abort (breaks I-9).
    LateDecide,
    /// An abort is answered to whoever finds no outcome, and not recorded (breaks I-9).
    AbortUnrecorded,
    /// A new leader does not lock what is prepared (breaks two-phase locking).
    ForgetPrepared,
    /// A closed timestamp is told without the slots that are in flight (breaks I-8).
    CloseInFlight,
    /// A change of members is answered although a quorum of them may not know that it is chosen (breaks availability:
    /// whoever left may be needed still).
    AnswerUnknownChange,
    /// What ends without an entry is answered before what it depends on is applied (breaks I-7 when that is lost).
    AnswerOnOverlay,
    /// What was proposed behind a hole takes effect (a dependant outlives what it depends on).
    CountBehindHoles,
    /// Locking reads see what is applied instead of what was locked before (breaks two-phase locking).
    ReadUnderOverlay,
    /// A leader that is elected again goes on with the overlay that it had.
    KeepOverlay,
    /// A commit whose locks are released does not raise the floor: its dependants may get less (breaks I-5).
    ForgetReleased,
    /// A leader goes on locking keys that a split is about to take from it (breaks two-phase locking).
    LockBesideSplit,
}

impl crate::Config {
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

impl crate::Replica {
    /// [`Planted::KeepOverlay`]: what a leader had is what it has when it is elected again.
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn plant_overlay(&mut self, leader: &mut crate::leader::Leader) {
        leader.overlay = std::mem::take(&mut self.kept_overlay);
    }

    #[cfg(not(feature = "planted-bugs"))]
    #[expect(clippy::unused_self, reason = "the call is the same with and without the feature")]
    pub(crate) const fn plant_overlay(&self, _leader: &mut crate::leader::Leader) {}

    /// A leader is no leader any more.
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn keep_overlay(&mut self, leader: &crate::leader::Leader) {
        if self.config.has(Planted::KeepOverlay) {
            self.kept_overlay = leader.overlay.clone();
        }
    }

    #[cfg(not(feature = "planted-bugs"))]
    pub(crate) fn keep_overlay(&self, _leader: &crate::leader::Leader) {
        assert!(!self.config.has(Planted::KeepOverlay), "no bug is compiled in");
    }
}

//! Bugs that are compiled in under the feature `planted-bugs` only, so that the simulation can prove that it would
//! find them. Without the feature every question is answered `false` at compile time.

/// One wrong behaviour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(feature = "planted-bugs"), expect(unreachable_pub, reason = "public only under the feature"))]
pub enum Planted {
    /// Promises and accepts are answered before they are durable (breaks I-3).
    AnswerBeforeDurable,
    /// The leader counts its own accept before it is durable (breaks I-3).
    CountOwnBeforeDurable,
    /// A voter votes for a second leader while its vote for the first runs (breaks I-4).
    IgnoreLeaseVote,
    /// Phase 1 adopts the value of the lowest ballot (breaks I-2).
    AdoptLowestBallot,
    /// A restarted voter grants lease votes at once (breaks I-4).
    NoAbstention,
    /// A follower takes whatever it holds below the commit index for chosen, whatever its ballot (breaks I-2).
    CommitAnyBallot,
    /// The successor of a hand-over ignores the floor (breaks I-5).
    ForgetFloor,
    /// A leader changes any number of members at once, and a candidate counts the members that it knows before it has
    /// looked into the log (breaks I-2: quorums that do not meet).
    ManyMembersAtOnce,
    /// A witness acknowledges entries that it does not write (breaks I-3).
    WitnessKeepsNothing,
    /// A witness cuts its log like any other member, whatever the voters have (breaks I-9, once a voter is lost).
    WitnessCutsLog,
}

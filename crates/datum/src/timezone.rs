//! The session's time zone.

/// A time zone: UTC, a fixed offset, or one of the IANA database.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TimeZone {
    /// `UTC`, `GMT`, `Z`
    #[default]
    Utc,
    /// Seconds east of Greenwich.
    Fixed(i32),
    /// A named zone with its rules.
    Named(chrono_tz::Tz),
}

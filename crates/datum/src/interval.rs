//! [`Interval`]: months, days and microseconds, which PostgreSQL keeps apart because months and days differ in length.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

/// Microseconds in a day of 24 hours.
pub const US_PER_DAY: i64 = 86_400_000_000;
/// Microseconds in an hour.
pub const US_PER_HOUR: i64 = 3_600_000_000;
/// Microseconds in a minute.
pub const US_PER_MINUTE: i64 = 60_000_000;
/// Microseconds in a second.
pub const US_PER_SECOND: i64 = 1_000_000;
/// What a month counts as where intervals are compared or scaled.
pub const DAYS_PER_MONTH: i64 = 30;

/// A span of time. Compared, as in PostgreSQL, with months of 30 days and days of 24 hours, so that `1 mon` equals
/// `30 days` although they are stored and printed differently.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interval {
    /// Months; years are twelve of them.
    pub months: i32,
    /// Days.
    pub days: i32,
    /// Microseconds, of any magnitude and sign.
    pub us: i64,
}

impl Interval {
    /// An interval of its three parts.
    pub const fn new(months: i32, days: i32, us: i64) -> Self {
        Interval { months, days, us }
    }

    /// The number that the order is by: all parts in microseconds.
    pub fn span(&self) -> i128 {
        let days = i128::from(self.months) * i128::from(DAYS_PER_MONTH) + i128::from(self.days);
        days * i128::from(US_PER_DAY) + i128::from(self.us)
    }
}

impl PartialEq for Interval {
    fn eq(&self, other: &Self) -> bool {
        self.span() == other.span()
    }
}

impl Eq for Interval {}

impl PartialOrd for Interval {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Interval {
    fn cmp(&self, other: &Self) -> Ordering {
        self.span().cmp(&other.span())
    }
}

impl Hash for Interval {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.span().hash(state);
    }
}

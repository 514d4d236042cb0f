//! The proleptic Gregorian calendar and the limits of the date types.
//!
//! Days and microseconds count from 2000-01-01, PostgreSQL's epoch. Years are astronomical here: 0 is 1 BC.

use crate::error::{Result, SqlError};

pub use crate::interval::{US_PER_DAY, US_PER_HOUR, US_PER_MINUTE, US_PER_SECOND};

/// The first day of the calendar: 4714-11-24 BC, as days since 2000-01-01.
pub const MIN_DATE: i32 = -2_451_545;
/// The first day beyond `date`'s range: 5874898-01-01.
pub const END_DATE: i32 = 2_145_031_949;
/// The first timestamp.
pub const MIN_TIMESTAMP: i64 = -211_813_488_000_000_000;
/// The first microsecond beyond a timestamp's range: 294277-01-01.
pub const END_TIMESTAMP: i64 = 9_223_371_331_200_000_000;
/// `-infinity` and `infinity` of dates.
pub const DATE_INFINITIES: (i32, i32) = (i32::MIN, i32::MAX);
/// `-infinity` and `infinity` of timestamps.
pub const TIMESTAMP_INFINITIES: (i64, i64) = (i64::MIN, i64::MAX);

/// Days from 1970-01-01 to 2000-01-01.
pub const fn epoch_days() -> i64 {
    10_957
}

/// A calendar date.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Civil {
    /// The astronomical year.
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
}

/// The date of a day number (Hinnant's `civil_from_days`).
pub fn civil(days: i64) -> Civil {
    let z = days + epoch_days() + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    Civil { year: yoe + era * 400 + i64::from(month <= 2), month, day }
}

/// The day number of a date; months and days may not run over.
pub fn days(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let mp = (month + 9) % 12;
    let doy = (153 * mp + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468 - epoch_days()
}

/// Whether a year has 366 days.
pub fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

/// The length of a month.
pub fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The day of the week: 0 is Sunday.
pub fn weekday(days: i64) -> i64 {
    (days + 6).rem_euclid(7)
}

/// The ISO year and week of a day.
pub fn iso_week(days_: i64) -> (i64, i64) {
    let monday_based = (weekday(days_) + 6) % 7;
    let thursday = days_ - monday_based + 3;
    let year = civil(thursday).year;
    ((year), (thursday - days(year, 1, 1)) / 7 + 1)
}

/// The Monday of an ISO week.
pub fn iso_week_start(year: i64, week: i64) -> i64 {
    let fourth = days(year, 1, 4);
    fourth - (weekday(fourth) + 6) % 7 + (week - 1) * 7
}

/// A day number as a date, or 22008.
pub fn check_date(days: i64) -> Result<i32> {
    if days < i64::from(MIN_DATE) || days >= i64::from(END_DATE) {
        return Err(SqlError::datetime_out_of_range("date"));
    }
    Ok(days as i32)
}

/// A finite timestamp in range, or 22008.
pub fn check_timestamp(us: Option<i64>) -> Result<i64> {
    us.filter(|t| (MIN_TIMESTAMP..END_TIMESTAMP).contains(t))
        .ok_or_else(|| SqlError::datetime_out_of_range("timestamp"))
}

/// Whether a timestamp is one of the infinities.
pub fn is_infinite(us: i64) -> bool {
    us == i64::MIN || us == i64::MAX
}

/// The day and the time of day of a timestamp.
pub fn split(us: i64) -> (i64, i64) {
    (us.div_euclid(US_PER_DAY), us.rem_euclid(US_PER_DAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_are_inverse() {
        for d in (-2_451_545..3_000_000).step_by(97) {
            let c = civil(d);
            assert_eq!(days(c.year, c.month, c.day), d);
        }
        assert_eq!(civil(0), Civil { year: 2000, month: 1, day: 1 });
        assert_eq!(days(-4713, 11, 24), i64::from(MIN_DATE));
        assert_eq!(days(5_874_898, 1, 1), i64::from(END_DATE));
        assert_eq!(days(294_277, 1, 1) * US_PER_DAY, END_TIMESTAMP);
        assert_eq!(days(-4713, 11, 24) * US_PER_DAY, MIN_TIMESTAMP);
        assert_eq!(weekday(0), 6, "the epoch was a Saturday");
        assert_eq!(iso_week(days(2021, 1, 3)), (2020, 53));
    }
}

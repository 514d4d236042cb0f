//! `to_char` of dates, times and intervals.

use crate::calendar::{
    US_PER_HOUR, US_PER_MINUTE, US_PER_SECOND, civil, days, is_infinite, iso_week, iso_week_start, split,
    weekday,
};
use crate::context::EvalContext;
use crate::datum::Datum;
use crate::error::{Result, SqlError};
use crate::func::access::{interval, stamp, text};
use crate::func::picture::{Case, DAYS, Field, MONTHS, Node, ROMAN, parse};
use crate::func::registry::Ty::{Interval, Text, Timestamp, TimestampTz};
use crate::func::registry::{FunctionDef, def};
use crate::interval::Interval as Span;
use crate::state::SqlState;
use crate::timezone::TimeZone;

/// What the patterns show of a value.
struct Shown<'a> {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    us: i64,
    /// The day number; an interval has none.
    date: Option<i64>,
    /// The zone with its offset in seconds.
    zone: Option<(&'a TimeZone, i32)>,
}

fn cased(name: &str, case: Case) -> String {
    match case {
        Case::Upper => name.to_uppercase(),
        Case::Capital => name.to_owned(),
        Case::Lower => name.to_lowercase(),
    }
}

/// A number, padded with zeros to a width unless `fill` drops the padding.
fn number(value: i64, width: usize, fill: bool) -> String {
    if fill {
        return value.to_string();
    }
    // The sign stands before the padding and does not count.
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{:0width$}", value.unsigned_abs())
}

/// A number, padded with zeros to a width in which its sign counts.
fn signed_within(value: i64, width: usize, fill: bool) -> String {
    if fill { value.to_string() } else { format!("{value:0width$}") }
}

/// A name, padded with blanks to the longest of its kind.
fn padded(name: String, width: usize, fill: bool) -> String {
    if fill { name } else { format!("{name:<width$}") }
}

pub(super) fn ordinal_suffix(number: &str, case: Case) -> &'static str {
    let digits = number.as_bytes();
    let last = digits.last().copied().unwrap_or(b'0');
    let teen = digits.len() >= 2 && digits[digits.len() - 2] == b'1';
    match (last, teen, case) {
        (b'1', false, Case::Upper) => "ST",
        (b'2', false, Case::Upper) => "ND",
        (b'3', false, Case::Upper) => "RD",
        (_, _, Case::Upper) => "TH",
        (b'1', false, _) => "st",
        (b'2', false, _) => "nd",
        (b'3', false, _) => "rd",
        _ => "th",
    }
}

impl Shown<'_> {
    fn of_timestamp(us: i64) -> Shown<'static> {
        let (day, time) = split(us);
        let c = civil(day);
        Shown {
            year: c.year,
            month: c.month,
            day: c.day,
            hour: time / US_PER_HOUR,
            minute: time / US_PER_MINUTE % 60,
            second: time / US_PER_SECOND % 60,
            us: time % US_PER_SECOND,
            date: Some(day),
            zone: None,
        }
    }

    fn of_interval(s: Span) -> Shown<'static> {
        Shown {
            year: i64::from(s.months / 12),
            month: i64::from(s.months % 12),
            day: i64::from(s.days),
            hour: s.us / US_PER_HOUR,
            minute: s.us / US_PER_MINUTE % 60,
            second: s.us / US_PER_SECOND % 60,
            us: s.us % US_PER_SECOND,
            date: None,
            zone: None,
        }
    }

    fn need_date(&self) -> Result<i64> {
        self.date.ok_or_else(|| {
            SqlError::new(
                SqlState::INVALID_DATETIME_FORMAT,
                "invalid format specification for an interval value",
            )
            .with_hint("Intervals are not tied to specific calendar dates.")
        })
    }

    fn shown_year(&self) -> i64 {
        if self.date.is_some() && self.year <= 0 { 1 - self.year } else { self.year }
    }

    fn year_digits(&self, year: i64, digits: u32, fill: bool) -> String {
        match digits {
            4 => number(year, 4, fill),
            n => number(year % 10i64.pow(n), n as usize, fill),
        }
    }

    fn time_field(&self, field: Field, fill: bool) -> Option<String> {
        Some(match field {
            Field::Hour12 => {
                let h = if self.hour % 12 == 0 { 12 } else { self.hour % 12 };
                number(h, 2, fill)
            }
            Field::Hour24 => number(self.hour, 2, fill),
            Field::Minute => number(self.minute, 2, fill),
            Field::Second => number(self.second, 2, fill),
            Field::Millisecond => number(self.us / 1000, 3, false),
            Field::Microsecond => number(self.us, 6, false),
            Field::Fraction(n) => number(self.us / 10i64.pow(6 - n), n as usize, false),
            Field::SecondOfDay => (self.hour * 3600 + self.minute * 60 + self.second).to_string(),
            Field::Meridiem(case, points) => {
                let name = match (self.hour % 24 >= 12, points) {
                    (false, false) => "AM",
                    (true, false) => "PM",
                    (false, true) => "A.M.",
                    (true, true) => "P.M.",
                };
                cased(name, case)
            }
            _ => return None,
        })
    }

    fn zone_field(&self, field: Field, fill: bool) -> Result<Option<String>> {
        let zoned =
            matches!(field, Field::ZoneName(_) | Field::ZoneHours | Field::ZoneMinutes | Field::ZoneOffset);
        if !zoned {
            return Ok(None);
        }
        self.need_date()?;
        let offset = self.zone.map_or(0, |(_, o)| o);
        let abs = offset.unsigned_abs();
        let sign = if offset < 0 { '-' } else { '+' };
        Ok(Some(match field {
            Field::ZoneName(case) => match self.zone {
                None => String::new(),
                Some((TimeZone::Utc, _)) => cased("UTC", case),
                Some((zone, _)) => {
                    return Err(SqlError::unsupported(format!(
                        "the abbreviation of time zone {}",
                        zone.name()
                    )));
                }
            },
            Field::ZoneHours => format!("{sign}{:02}", abs / 3600),
            Field::ZoneMinutes => format!("{:02}", abs / 60 % 60),
            Field::ZoneOffset => {
                let (hours, minutes) = (number(i64::from(abs / 3600), 2, fill), abs / 60 % 60);
                if minutes == 0 { format!("{sign}{hours}") } else { format!("{sign}{hours}:{minutes:02}") }
            }
            other => panic!("{other:?} is no field of a zone"),
        }))
    }

    fn date_field(&self, field: Field, fill: bool) -> Result<String> {
        let iso = |day: i64| iso_week(day);
        Ok(match field {
            Field::Year(n) => self.year_digits(self.shown_year(), n, fill),
            Field::YearComma => {
                let y = self.shown_year();
                format!("{},{:03}", y / 1000, y % 1000)
            }
            Field::IsoYear(n) => {
                let y = iso(self.need_date()?).0;
                self.year_digits(if y <= 0 { 1 - y } else { y }, n, fill)
            }
            Field::Era(case, points) => {
                self.need_date()?;
                let name = match (self.year <= 0, points) {
                    (false, false) => "AD",
                    (true, false) => "BC",
                    (false, true) => "A.D.",
                    (true, true) => "B.C.",
                };
                cased(name, case)
            }
            Field::MonthName(case) => {
                self.need_date()?;
                padded(cased(MONTHS[self.month as usize - 1], case), 9, fill)
            }
            Field::MonthShort(case) => {
                self.need_date()?;
                cased(&MONTHS[self.month as usize - 1][..3], case)
            }
            Field::Month => number(self.month, 2, fill),
            Field::RomanMonth(case) => {
                // An interval of no months has none to show.
                if self.month == 0 && self.year == 0 {
                    return Ok(String::new());
                }
                let index = (self.month - 1).rem_euclid(12) as usize;
                padded(cased(ROMAN[index], case), 4, fill)
            }
            Field::DayName(case) => padded(cased(DAYS[weekday(self.need_date()?) as usize], case), 9, fill),
            Field::DayShort(case) => cased(&DAYS[weekday(self.need_date()?) as usize][..3], case),
            Field::DayOfYear => match self.date {
                Some(day) => number(day - days(self.year, 1, 1) + 1, 3, fill),
                None => signed_within(self.year * 360 + self.month * 30 + self.day, 3, fill),
            },
            Field::IsoDayOfYear => {
                let day = self.need_date()?;
                number(day - iso_week_start(iso(day).0, 1) + 1, 3, fill)
            }
            Field::Day => signed_within(self.day, 2, fill),
            Field::DayOfWeek => (weekday(self.need_date()?) + 1).to_string(),
            Field::IsoDayOfWeek => ((weekday(self.need_date()?) + 6) % 7 + 1).to_string(),
            Field::WeekOfMonth => ((self.day - 1) / 7 + 1).to_string(),
            Field::WeekOfYear => {
                let day = self.need_date()?;
                number((day - days(self.year, 1, 1)) / 7 + 1, 2, fill)
            }
            Field::IsoWeek => number(iso(self.need_date()?).1, 2, fill),
            Field::Century => {
                let century = match (self.date, self.year) {
                    (None, y) => y / 100,
                    (Some(_), y) if y > 0 => (y - 1) / 100 + 1,
                    (Some(_), y) => y / 100 - 1,
                };
                number(century, 2, fill)
            }
            Field::Julian => match self.date {
                Some(day) => (day + 2_451_545).to_string(),
                None => (days(self.year, 1, 1) + self.month * 30 + self.day + 2_451_545).to_string(),
            },
            Field::Quarter => {
                if self.month == 0 {
                    String::new()
                } else {
                    ((self.month - 1) / 3 + 1).to_string()
                }
            }
            other => panic!("{other:?} is no field of a date"),
        })
    }

    fn write(&self, template: &str) -> Result<String> {
        let mut out = String::with_capacity(template.len() + 16);
        for node in parse(template) {
            match node {
                Node::Literal(c) => out.push(c),
                Node::Field { field, fill, ordinal } => {
                    let shown = match self.time_field(field, fill) {
                        Some(s) => s,
                        None => match self.zone_field(field, fill)? {
                            Some(s) => s,
                            None => self.date_field(field, fill)?,
                        },
                    };
                    out.push_str(&shown);
                    if let Some(case) = ordinal
                        && shown.ends_with(|c: char| c.is_ascii_digit())
                    {
                        out.push_str(ordinal_suffix(&shown, case));
                    }
                }
            }
        }
        Ok(out)
    }
}

fn of_timestamp(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    let us = stamp(&a[0]);
    if is_infinite(us) || text(&a[1]).is_empty() {
        return Ok(Datum::Null);
    }
    Shown::of_timestamp(us).write(text(&a[1])).map(Datum::from)
}

fn of_instant(ctx: &EvalContext, a: &[Datum]) -> Result<Datum> {
    let us = stamp(&a[0]);
    if is_infinite(us) || text(&a[1]).is_empty() {
        return Ok(Datum::Null);
    }
    let shown = Shown {
        zone: Some((&ctx.time_zone, ctx.time_zone.offset_at(us))),
        ..Shown::of_timestamp(ctx.time_zone.to_local(us))
    };
    shown.write(text(&a[1])).map(Datum::from)
}

fn of_interval(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    if text(&a[1]).is_empty() {
        return Ok(Datum::Null);
    }
    Shown::of_interval(interval(&a[0])).write(text(&a[1])).map(Datum::from)
}

pub(super) const FUNCTIONS: &[FunctionDef] = &[
    def("to_char", &[Timestamp, Text], Text, of_timestamp).stable(),
    def("to_char", &[TimestampTz, Text], Text, of_instant).stable(),
    def("to_char", &[Interval, Text], Text, of_interval).stable(),
];

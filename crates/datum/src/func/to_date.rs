//! `to_date` and `to_timestamp`: dates read by a template.

use crate::calendar::{
    US_PER_DAY, US_PER_HOUR, US_PER_MINUTE, US_PER_SECOND, check_date, check_timestamp, days, days_in_month,
    is_leap, iso_week_start,
};
use crate::context::EvalContext;
use crate::datum::Datum;
use crate::error::{Result, SqlError};
use crate::func::access::text;
use crate::func::picture::{Case, DAYS, Field, MONTHS, Node, ROMAN, parse};
use crate::func::registry::Ty::{Date, Text, TimestampTz};
use crate::func::registry::{FunctionDef, def};
use crate::state::SqlState;

/// What has been read.
#[derive(Default)]
struct Read {
    year: Option<i64>,
    before_christ: bool,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    julian: Option<i64>,
    iso_year: Option<i64>,
    iso_week: Option<i64>,
    iso_day: Option<i64>,
    week: Option<i64>,
    hour: Option<i64>,
    twelve: bool,
    afternoon: Option<bool>,
    minute: i64,
    second: i64,
    us: i64,
    second_of_day: Option<i64>,
    zone_hours: Option<i64>,
    zone_minutes: i64,
}

struct Reader<'a> {
    rest: &'a str,
    read: Read,
}

fn invalid(value: &str, pattern: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_DATETIME_FORMAT, format!("invalid value \"{value}\" for \"{pattern}\""))
}

/// The pattern as the template spells it.
fn spelt(names: [&'static str; 3], case: Case) -> &'static str {
    match case {
        Case::Upper => names[0],
        Case::Capital => names[1],
        Case::Lower => names[2],
    }
}

impl Reader<'_> {
    /// Reads a number of at most `width` digits, or of any length where no digit can follow it by the template.
    fn number(&mut self, width: usize, open: bool, pattern: &str) -> Result<i64> {
        self.rest = self.rest.trim_start();
        let signed = usize::from(self.rest.starts_with(['-', '+']));
        let digits = self.rest[signed..].bytes().take_while(u8::is_ascii_digit).count();
        let len = if open { digits } else { digits.min(width) };
        if len == 0 {
            let found: String = self.rest.chars().take(width).collect();
            return Err(invalid(&found, pattern).with_detail("Value must be an integer."));
        }
        let (taken, rest) = self.rest.split_at(signed + len);
        self.rest = rest;
        taken.parse::<i32>().map(i64::from).map_err(|_| {
            SqlError::new(
                SqlState::DATETIME_FIELD_OVERFLOW,
                format!("value for \"{pattern}\" in source string is out of range"),
            )
        })
    }

    /// Reads one of the names, or of their first three letters where `short`.
    fn name(&mut self, names: &[&str], short: bool, pattern: &str) -> Result<usize> {
        self.rest = self.rest.trim_start();
        let starts = |name: &str| {
            self.rest.len() >= name.len()
                && self.rest.as_bytes()[..name.len()].eq_ignore_ascii_case(name.as_bytes())
        };
        // The longest match counts: VIII before VII before V.
        let found = names
            .iter()
            .enumerate()
            .map(|(i, name)| (i, if short { &name[..3] } else { *name }))
            .filter(|(_, name)| starts(name))
            .max_by_key(|(_, name)| name.len());
        match found {
            Some((i, name)) => {
                self.rest = &self.rest[name.len()..];
                Ok(i)
            }
            None => {
                let word: String = self.rest.chars().take_while(|c| !c.is_whitespace()).collect();
                Err(invalid(&word, pattern)
                    .with_detail("The given value did not match any of the allowed values for this field."))
            }
        }
    }

    fn fraction(&mut self, digits: usize) -> Result<i64> {
        let taken = self.rest.bytes().take_while(u8::is_ascii_digit).count().min(digits);
        let value = self.number(digits, false, "US")?;
        Ok(value * 10i64.pow(6 - taken as u32))
    }

    fn field(&mut self, field: Field, open: bool) -> Result<()> {
        match field {
            Field::Hour12 => (self.read.hour, self.read.twelve) = (Some(self.number(2, open, "HH")?), true),
            Field::Hour24 => self.read.hour = Some(self.number(2, open, "HH24")?),
            Field::Minute => self.read.minute = self.number(2, open, "MI")?,
            Field::Second => self.read.second = self.number(2, open, "SS")?,
            Field::Millisecond => self.read.us = self.fraction(3)?,
            Field::Microsecond => self.read.us = self.fraction(6)?,
            Field::Fraction(n) => self.read.us = self.fraction(n as usize)?,
            Field::SecondOfDay => self.read.second_of_day = Some(self.number(5, open, "SSSS")?),
            Field::Meridiem(_, points) => {
                let names: &[&str] = if points { &["A.M.", "P.M."] } else { &["AM", "PM"] };
                self.read.afternoon = Some(self.name(names, false, "AM")? == 1);
            }
            Field::Era(_, points) => {
                let names: &[&str] = if points { &["A.D.", "B.C."] } else { &["AD", "BC"] };
                self.read.before_christ = self.name(names, false, "AD")? == 1;
            }
            Field::Year(n) => self.read.year = Some(self.year(n, open)?),
            Field::YearComma => {
                let thousands = self.number(3, false, "Y,YYY")?;
                self.rest = self.rest.strip_prefix(',').unwrap_or(self.rest);
                self.read.year = Some(thousands * 1000 + self.number(3, open, "Y,YYY")?);
            }
            Field::IsoYear(n) => self.read.iso_year = Some(self.year(n, open)?),
            Field::MonthName(c) => {
                self.read.month =
                    Some(self.name(&MONTHS, false, spelt(["MONTH", "Month", "month"], c))? as i64 + 1)
            }
            Field::MonthShort(c) => {
                self.read.month = Some(self.name(&MONTHS, true, spelt(["MON", "Mon", "mon"], c))? as i64 + 1)
            }
            Field::RomanMonth(_) => self.read.month = Some(self.name(&ROMAN, false, "RM")? as i64 + 1),
            Field::Month => self.read.month = Some(self.number(2, open, "MM")?),
            Field::DayName(c) => drop(self.name(&DAYS, false, spelt(["DAY", "Day", "day"], c))?),
            Field::DayShort(c) => drop(self.name(&DAYS, true, spelt(["DY", "Dy", "dy"], c))?),
            Field::Day => self.read.day = Some(self.number(2, open, "DD")?),
            Field::DayOfYear => self.read.day_of_year = Some(self.number(3, open, "DDD")?),
            Field::IsoDayOfYear => self.read.day_of_year = Some(self.number(3, open, "IDDD")?),
            Field::DayOfWeek => drop(self.number(1, open, "D")?),
            Field::IsoDayOfWeek => self.read.iso_day = Some(self.number(1, open, "ID")?),
            Field::WeekOfMonth => drop(self.number(1, open, "W")?),
            Field::WeekOfYear => self.read.week = Some(self.number(2, open, "WW")?),
            Field::IsoWeek => self.read.iso_week = Some(self.number(2, open, "IW")?),
            Field::Julian => self.read.julian = Some(self.number(7, true, "J")?),
            Field::Quarter => drop(self.number(1, open, "Q")?),
            Field::ZoneHours => {
                let negative = self.rest.trim_start().starts_with('-');
                let hours = self.number(2, false, "TZH")?;
                self.read.zone_hours = Some(if negative { -hours.abs() } else { hours });
            }
            Field::ZoneMinutes => self.read.zone_minutes = self.number(2, false, "TZM")?,
            Field::Century | Field::ZoneName(_) | Field::ZoneOffset => {
                return Err(SqlError::unsupported("\"CC\", \"TZ\" or \"OF\" in the format of to_date"));
            }
        }
        Ok(())
    }

    /// A year of fewer than four digits is the one nearest to 2020 that ends in them.
    fn year(&mut self, digits: u32, open: bool) -> Result<i64> {
        let before = self.rest.trim_start().len();
        let value = self.number(digits as usize, open, "YYYY")?;
        let used = before - self.rest.len();
        if digits == 4 || used >= 4 {
            return Ok(value);
        }
        Ok(match value {
            v if used > 3 => v,
            v if v < 70 && digits <= 2 => v + 2000,
            v if v < 100 && digits <= 2 => v + 1900,
            v if v < 520 && digits == 3 => v + 2000,
            v if v < 1000 && digits == 3 => v + 1000,
            v => v,
        })
    }

    fn run(mut self, template: &str) -> Result<Read> {
        let nodes = parse(template);
        for (i, node) in nodes.iter().enumerate() {
            match node {
                Node::Field { field, .. } => {
                    let open =
                        !matches!(nodes.get(i + 1), Some(Node::Field { .. } | Node::Literal('0'..='9')));
                    self.field(*field, open)?;
                }
                Node::Literal(c) if c.is_alphanumeric() => {
                    let mut chars = self.rest.chars();
                    if chars.next().is_some() {
                        self.rest = chars.as_str();
                    }
                }
                // A separator stands for any separator.
                Node::Literal(_) => {
                    let trimmed = self.rest.trim_start();
                    let separator = |c: char| c.is_ascii_punctuation() && !matches!(c, '-' | '+');
                    self.rest = match trimmed.chars().next() {
                        Some(c) if separator(c) => &trimmed[c.len_utf8()..],
                        Some('-' | '+')
                            if !matches!(
                                nodes.get(i + 1),
                                Some(Node::Field { field: Field::ZoneHours, .. })
                            ) =>
                        {
                            &trimmed[1..]
                        }
                        _ => trimmed,
                    };
                }
            }
            if self.rest.trim().is_empty() {
                break;
            }
        }
        Ok(self.read)
    }
}

impl Read {
    fn day(&self, input: &str) -> Result<i64> {
        let out_of_range = || SqlError::datetime_field_out_of_range(input);
        if let Some(j) = self.julian {
            return Ok(j - 2_451_545);
        }
        if let Some(y) = self.iso_year {
            let week = self.iso_week.unwrap_or(1);
            if !(1..=53).contains(&week) {
                return Err(out_of_range());
            }
            let offset = self.day_of_year.map_or(self.iso_day.unwrap_or(1) - 1, |d| d - 1);
            return Ok(iso_week_start(y, week) + offset);
        }
        // A source that names no year is of 1 BC, the year 0 of PostgreSQL's parser.
        let year = match self.year {
            None => 0,
            Some(y) if self.before_christ && y > 0 => 1 - y,
            Some(y) if y < 0 => y + 1,
            Some(y) => y,
        };
        if let Some(d) = self.day_of_year {
            if !(1..=365 + i64::from(is_leap(year))).contains(&d) {
                return Err(out_of_range());
            }
            return Ok(days(year, 1, 1) + d - 1);
        }
        if let Some(w) = self.week {
            return Ok(days(year, 1, 1) + (w - 1) * 7);
        }
        let (month, day) = (self.month.unwrap_or(1), self.day.unwrap_or(1));
        if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
            return Err(out_of_range());
        }
        Ok(days(year, month, day))
    }

    fn time(&self, input: &str) -> Result<i64> {
        if let Some(s) = self.second_of_day {
            return Ok(s * US_PER_SECOND + self.us);
        }
        let mut hour = self.hour.unwrap_or(0);
        if self.twelve {
            if !(1..=12).contains(&hour) {
                return Err(SqlError::new(
                    SqlState::INVALID_DATETIME_FORMAT,
                    format!("hour \"{hour}\" is invalid for the 12-hour clock"),
                )
                .with_hint("Use the 24-hour clock, or give an hour between 1 and 12."));
            }
            match self.afternoon {
                Some(true) if hour < 12 => hour += 12,
                Some(false) if hour == 12 => hour = 0,
                _ => {}
            }
        }
        if !(0..24).contains(&hour) || !(0..60).contains(&self.minute) || !(0..60).contains(&self.second) {
            return Err(SqlError::datetime_field_out_of_range(input));
        }
        Ok(hour * US_PER_HOUR + self.minute * US_PER_MINUTE + self.second * US_PER_SECOND + self.us)
    }
}

fn read(input: &str, template: &str) -> Result<Read> {
    Reader { rest: input, read: Read::default() }.run(template)
}

fn to_date(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    let input = text(&a[0]);
    let day = read(input, text(&a[1]))?.day(input)?;
    check_date(day).map(Datum::Date).map_err(|_| {
        SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("date out of range: \"{input}\""))
    })
}

fn to_timestamp(ctx: &EvalContext, a: &[Datum]) -> Result<Datum> {
    let input = text(&a[0]);
    let read = read(input, text(&a[1]))?;
    let local = read.day(input)?.checked_mul(US_PER_DAY).and_then(|d| d.checked_add(read.time(input).ok()?));
    read.time(input)?;
    let us = match (local, read.zone_hours) {
        (Some(l), Some(h)) => {
            let minutes = if h < 0 { -read.zone_minutes } else { read.zone_minutes };
            l.checked_sub(h * US_PER_HOUR + minutes * US_PER_MINUTE)
        }
        (Some(l), None) => Some(ctx.time_zone.to_utc(l)),
        (None, _) => None,
    };
    check_timestamp(us).map(Datum::TimestampTz)
}

pub(super) const FUNCTIONS: &[FunctionDef] = &[
    def("to_date", &[Text, Text], Date, to_date).stable(),
    def("to_timestamp", &[Text, Text], TimestampTz, to_timestamp).stable(),
];

//! `extract`, `date_part` and `date_trunc`.
//!
//! `extract` answers in NUMERIC with the scale that PostgreSQL shows, `date_part` in doubles; both come from one exact
//! computation.

use crate::calendar::{
    US_PER_DAY, US_PER_HOUR, US_PER_MINUTE, US_PER_SECOND, civil, days, is_infinite, iso_week,
    iso_week_start, split, weekday,
};
use crate::context::EvalContext;
use crate::datum::Datum;
use crate::decimal::Decimal;
use crate::error::{Result, SqlError};
use crate::func::access::{date, interval, stamp, text, time};
use crate::func::registry::Ty::{Date, Float8, Interval, Numeric, Text, Time, Timestamp, TimestampTz};
use crate::func::registry::{FunctionDef, def};
use crate::interval::Interval as Span;
use crate::state::SqlState;
use crate::timezone::TimeZone;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Field {
    Microseconds,
    Milliseconds,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    Decade,
    Century,
    Millennium,
    Julian,
    IsoYear,
    Dow,
    IsoDow,
    Doy,
    Epoch,
    Timezone,
    TimezoneHour,
    TimezoneMinute,
}

impl Field {
    fn parse(name: &str, type_name: &str) -> Result<Field> {
        let lower = name.to_ascii_lowercase();
        Ok(match lower.as_str() {
            "microsecond" | "microseconds" | "us" | "usec" | "usecs" | "useconds" | "microsecon" => {
                Field::Microseconds
            }
            "millisecond" | "milliseconds" | "ms" | "msec" | "msecs" | "mseconds" | "millisecon" => {
                Field::Milliseconds
            }
            "second" | "seconds" | "s" | "sec" | "secs" => Field::Second,
            "minute" | "minutes" | "m" | "min" | "mins" => Field::Minute,
            "hour" | "hours" | "h" | "hr" | "hrs" => Field::Hour,
            "day" | "days" | "d" => Field::Day,
            "week" | "weeks" | "w" => Field::Week,
            "month" | "months" | "mon" | "mons" => Field::Month,
            "quarter" | "qtr" => Field::Quarter,
            "year" | "years" | "y" | "yr" | "yrs" => Field::Year,
            "decade" | "decades" | "dec" | "decs" => Field::Decade,
            "century" | "centuries" | "c" | "cent" => Field::Century,
            "millennium" | "millennia" | "mil" | "mils" => Field::Millennium,
            "julian" | "jd" | "j" => Field::Julian,
            "isoyear" => Field::IsoYear,
            "dow" => Field::Dow,
            "isodow" => Field::IsoDow,
            "doy" => Field::Doy,
            "epoch" => Field::Epoch,
            "timezone" => Field::Timezone,
            "timezone_hour" | "timezone_h" => Field::TimezoneHour,
            "timezone_minute" | "timezone_m" => Field::TimezoneMinute,
            _ => {
                return Err(unrecognized(&lower, type_name));
            }
        })
    }
}

fn unrecognized(lower: &str, type_name: &str) -> SqlError {
    SqlError::invalid_parameter(format!("unit \"{lower}\" not recognized for type {type_name}"))
}

fn unsupported(name: &str, type_name: &str) -> SqlError {
    let message = format!("unit \"{}\" not supported for type {type_name}", name.to_ascii_lowercase());
    SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message)
}

fn whole(v: i64) -> Decimal {
    Decimal::from(v)
}

fn micros(v: i64, scale: u32) -> Decimal {
    Decimal::from_parts(i128::from(v), scale)
}

/// 1 for the years 1 to 100, -1 for 1 BC to 100 BC.
fn century(year: i64, length: i64) -> i64 {
    if year > 0 { (year + length - 1) / length } else { -((length - 1 - (year - 1)) / length) }
}

fn shown_year(year: i64) -> i64 {
    // There is no year 0.
    if year > 0 { year } else { year - 1 }
}

const TIMESTAMP: &str = "timestamp without time zone";
const INSTANT: &str = "timestamp with time zone";

/// A field of a local timestamp; `zone` is the offset in seconds of an instant.
fn of_timestamp(name: &str, us: i64, zone: Option<&TimeZone>) -> Result<Option<Decimal>> {
    let type_name = if zone.is_some() { INSTANT } else { TIMESTAMP };
    let field = Field::parse(name, type_name)?;
    if is_infinite(us) {
        return of_infinite(field, us > 0);
    }
    let local = zone.map_or(us, |z| z.to_local(us));
    let (day, time) = split(local);
    if let Some(v) = time_field(field, time) {
        return Ok(Some(v));
    }
    if let Some(v) = date_field(field, day) {
        return Ok(Some(v));
    }
    let offset = zone.map(|z| i64::from(z.offset_at(us)));
    Ok(Some(match (field, offset) {
        (Field::Julian, _) => {
            let fraction = whole(time).div(&whole(US_PER_DAY))?;
            whole(day + 2_451_545).add(&fraction)?
        }
        // An instant counts from the epoch in UTC, a local timestamp as if it were UTC.
        (Field::Epoch, _) => {
            let epoch = i128::from(us) - i128::from(days(1970, 1, 1) * US_PER_DAY);
            Decimal::from_parts(epoch, 6)
        }
        (Field::Timezone, Some(o)) => whole(o),
        (Field::TimezoneHour, Some(o)) => whole(o / 3600),
        (Field::TimezoneMinute, Some(o)) => whole(o / 60 % 60),
        _ => return Err(unsupported(name, type_name)),
    }))
}

/// Fields that grow for ever are infinite, fields that repeat have no value.
fn of_infinite(field: Field, positive: bool) -> Result<Option<Decimal>> {
    Ok(match field {
        Field::Year
        | Field::Decade
        | Field::Century
        | Field::Millennium
        | Field::Julian
        | Field::IsoYear
        | Field::Epoch => Some(if positive { Decimal::INFINITY } else { Decimal::NEGATIVE_INFINITY }),
        _ => None,
    })
}

fn time_field(field: Field, time: i64) -> Option<Decimal> {
    let seconds = time % US_PER_MINUTE;
    Some(match field {
        Field::Microseconds => whole(seconds),
        Field::Milliseconds => micros(seconds, 3),
        Field::Second => micros(seconds, 6),
        Field::Minute => whole(time / US_PER_MINUTE % 60),
        Field::Hour => whole(time / US_PER_HOUR),
        _ => return None,
    })
}

fn date_field(field: Field, day: i64) -> Option<Decimal> {
    let c = civil(day);
    Some(whole(match field {
        Field::Day => c.day,
        Field::Week => iso_week(day).1,
        Field::Month => c.month,
        Field::Quarter => (c.month - 1) / 3 + 1,
        Field::Year => shown_year(c.year),
        Field::Decade => c.year.div_euclid(10),
        Field::Century => century(c.year, 100),
        Field::Millennium => century(c.year, 1000),
        Field::IsoYear => shown_year(iso_week(day).0),
        Field::Dow => weekday(day),
        Field::IsoDow => (weekday(day) + 6) % 7 + 1,
        Field::Doy => day - days(c.year, 1, 1) + 1,
        _ => return None,
    }))
}

fn of_date(name: &str, day: i32) -> Result<Option<Decimal>> {
    let field = Field::parse(name, "date")?;
    if day == i32::MIN || day == i32::MAX {
        let known = matches!(field, Field::Julian | Field::Epoch) || date_field(field, 0).is_some();
        if !known {
            return Err(unsupported(name, "date"));
        }
        return of_infinite(field, day > 0);
    }
    let day = i64::from(day);
    match field {
        Field::Julian => Ok(Some(whole(day + 2_451_545))),
        Field::Epoch => Ok(Some(whole((day - days(1970, 1, 1)) * 86_400))),
        _ => date_field(field, day).map(Some).ok_or_else(|| unsupported(name, "date")),
    }
}

fn of_time(name: &str, time: i64) -> Result<Option<Decimal>> {
    const NAME: &str = "time without time zone";
    let field = Field::parse(name, NAME)?;
    match field {
        Field::Epoch => Ok(Some(micros(time, 6))),
        _ => time_field(field, time).map(Some).ok_or_else(|| unsupported(name, NAME)),
    }
}

fn of_interval(name: &str, s: Span) -> Result<Option<Decimal>> {
    let field = Field::parse(name, "interval")?;
    if let Some(v) = time_field(field, s.us) {
        return Ok(Some(v));
    }
    let (years, months) = (i64::from(s.months / 12), i64::from(s.months % 12));
    Ok(Some(match field {
        Field::Day => whole(i64::from(s.days)),
        Field::Month => whole(months),
        Field::Quarter => whole(months / 3 + 1),
        Field::Year => whole(years),
        Field::Decade => whole(years / 10),
        Field::Century => whole(years / 100),
        Field::Millennium => whole(years / 1000),
        Field::Epoch => {
            // A year counts 365.25 days here, a month 30.
            let quarter_days = i128::from(years) * 1461 + i128::from(months) * 120 + i128::from(s.days) * 4;
            Decimal::from_parts(quarter_days * i128::from(US_PER_DAY / 4) + i128::from(s.us), 6)
        }
        _ => return Err(unsupported(name, "interval")),
    }))
}

/// The epoch of an interval is added up in doubles here, rounding errors included, as `date_part` always did.
fn double_of_interval(name: &str, s: Span) -> Result<Datum> {
    if Field::parse(name, "interval")? != Field::Epoch {
        return double(of_interval(name, s));
    }
    const DAY: f64 = 86_400.0;
    let mut seconds = s.us as f64 / 1e6;
    seconds += 365.25 * DAY * f64::from(s.months / 12);
    seconds += 30.0 * DAY * f64::from(s.months % 12);
    seconds += DAY * f64::from(s.days);
    Ok(Datum::Float8(seconds))
}

fn numeric(v: Result<Option<Decimal>>) -> Result<Datum> {
    Ok(v?.map_or(Datum::Null, Datum::Numeric))
}

fn double(v: Result<Option<Decimal>>) -> Result<Datum> {
    Ok(v?.map_or(Datum::Null, |d| Datum::Float8(d.to_f64())))
}

/// A unit that `date_trunc` might know: the words that only `extract` has are no units.
fn unit(name: &str, type_name: &str) -> Result<Field> {
    let field = Field::parse(name, type_name)?;
    let only_extracted = matches!(
        field,
        Field::Julian | Field::IsoYear | Field::Dow | Field::IsoDow | Field::Doy | Field::Epoch
    );
    if only_extracted {
        return Err(unrecognized(&name.to_ascii_lowercase(), type_name));
    }
    Ok(field)
}

/// The start of the unit that a local timestamp lies in.
fn truncated(name: &str, us: i64, type_name: &str) -> Result<i64> {
    let field = unit(name, type_name)?;
    if is_infinite(us) {
        return Ok(us);
    }
    let (day, time) = split(us);
    let c = civil(day);
    let midnight = |y: i64, m: i64, d: i64| days(y, m, d) * US_PER_DAY;
    let decade_start = |length: i64| {
        if c.year > 0 {
            (c.year - 1) / length * length + 1
        } else {
            -((length - 1 - (c.year - 1)) / length) * length + 1
        }
    };
    Ok(match field {
        Field::Microseconds => us,
        Field::Milliseconds => us - time % 1000,
        Field::Second => us - time % US_PER_SECOND,
        Field::Minute => us - time % US_PER_MINUTE,
        Field::Hour => us - time % US_PER_HOUR,
        Field::Day => day * US_PER_DAY,
        Field::Week => {
            let (year, week) = iso_week(day);
            iso_week_start(year, week) * US_PER_DAY
        }
        Field::Month => midnight(c.year, c.month, 1),
        Field::Quarter => midnight(c.year, (c.month - 1) / 3 * 3 + 1, 1),
        Field::Year => midnight(c.year, 1, 1),
        Field::Decade => midnight(c.year.div_euclid(10) * 10, 1, 1),
        Field::Century => midnight(decade_start(100), 1, 1),
        Field::Millennium => midnight(decade_start(1000), 1, 1),
        _ => return Err(unsupported(name, type_name)),
    })
}

fn truncated_instant(name: &str, us: i64, zone: &TimeZone) -> Result<i64> {
    if is_infinite(us) {
        return truncated(name, us, INSTANT);
    }
    let local = truncated(name, zone.to_local(us), INSTANT)?;
    // Units below a day keep the offset in force, which matters in an hour that the clock shows twice.
    let within_day = matches!(
        Field::parse(name, INSTANT)?,
        Field::Microseconds | Field::Milliseconds | Field::Second | Field::Minute | Field::Hour
    );
    if within_day {
        return Ok(local - i64::from(zone.offset_at(us)) * US_PER_SECOND);
    }
    Ok(zone.to_utc(local))
}

fn truncated_interval(name: &str, s: Span) -> Result<Span> {
    let field = unit(name, "interval")?;
    let months = |unit: i32| Span::new(s.months / unit * unit, 0, 0);
    let time = |unit: i64| Span::new(s.months, s.days, s.us / unit * unit);
    Ok(match field {
        Field::Microseconds => s,
        Field::Milliseconds => time(1000),
        Field::Second => time(US_PER_SECOND),
        Field::Minute => time(US_PER_MINUTE),
        Field::Hour => time(US_PER_HOUR),
        Field::Day => Span::new(s.months, s.days, 0),
        Field::Month => months(1),
        Field::Quarter => months(3),
        Field::Year => months(12),
        Field::Decade => months(120),
        Field::Century => months(1200),
        Field::Millennium => months(12_000),
        Field::Week => {
            return Err(unsupported(name, "interval").with_detail("Months usually have fractional weeks."));
        }
        _ => return Err(unsupported(name, "interval")),
    })
}

fn zone(ctx: &EvalContext) -> Option<&TimeZone> {
    Some(&ctx.time_zone)
}

pub(super) const FUNCTIONS: &[FunctionDef] = &[
    def("extract", &[Text, Timestamp], Numeric, |_, a| {
        numeric(of_timestamp(text(&a[0]), stamp(&a[1]), None))
    }),
    def("extract", &[Text, TimestampTz], Numeric, |ctx, a| {
        numeric(of_timestamp(text(&a[0]), stamp(&a[1]), zone(ctx)))
    })
    .stable(),
    def("extract", &[Text, Date], Numeric, |_, a| numeric(of_date(text(&a[0]), date(&a[1])))),
    def("extract", &[Text, Time], Numeric, |_, a| numeric(of_time(text(&a[0]), time(&a[1])))),
    def("extract", &[Text, Interval], Numeric, |_, a| numeric(of_interval(text(&a[0]), interval(&a[1])))),
    def("date_part", &[Text, Timestamp], Float8, |_, a| {
        double(of_timestamp(text(&a[0]), stamp(&a[1]), None))
    }),
    def("date_part", &[Text, TimestampTz], Float8, |ctx, a| {
        double(of_timestamp(text(&a[0]), stamp(&a[1]), zone(ctx)))
    })
    .stable(),
    def("date_part", &[Text, Date], Float8, |_, a| {
        // A date is a timestamp at midnight here, so that its hour is 0 and not an error.
        let us = crate::cast::date_to_timestamp(date(&a[1]))?;
        double(of_timestamp(text(&a[0]), us, None))
    }),
    def("date_part", &[Text, Time], Float8, |_, a| double(of_time(text(&a[0]), time(&a[1])))),
    def("date_part", &[Text, Interval], Float8, |_, a| double_of_interval(text(&a[0]), interval(&a[1]))),
    def("date_trunc", &[Text, Timestamp], Timestamp, |_, a| {
        truncated(text(&a[0]), stamp(&a[1]), TIMESTAMP).map(Datum::Timestamp)
    }),
    def("date_trunc", &[Text, TimestampTz], TimestampTz, |ctx, a| {
        truncated_instant(text(&a[0]), stamp(&a[1]), &ctx.time_zone).map(Datum::TimestampTz)
    })
    .stable(),
    def("date_trunc", &[Text, TimestampTz, Text], TimestampTz, |_, a| {
        let zone = TimeZone::parse(text(&a[2]))?;
        truncated_instant(text(&a[0]), stamp(&a[1]), &zone).map(Datum::TimestampTz)
    })
    .stable(),
    def("date_trunc", &[Text, Interval], Interval, |_, a| {
        truncated_interval(text(&a[0]), interval(&a[1])).map(Datum::Interval)
    }),
];

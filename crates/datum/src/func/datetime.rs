//! Arithmetic of dates, times and intervals, and the functions that make and take them apart.

use crate::calendar::{
    Civil, US_PER_DAY, US_PER_HOUR, US_PER_MINUTE, US_PER_SECOND, check_date, check_timestamp, civil, days,
    days_in_month, is_infinite, split,
};
use crate::cast::CastContext;
use crate::context::EvalContext;
use crate::datum::Datum;
use crate::error::{Result, SqlError};
use crate::func::access::{date, f8, int, interval, stamp, text, time};
use crate::func::registry::Ty::{Bool, Date, Float8, Int4, Interval, Text, Time, Timestamp, TimestampTz};
use crate::func::registry::{FunctionDef, def};
use crate::interval::{DAYS_PER_MONTH, Interval as Span};
use crate::state::SqlState;
use crate::timezone::TimeZone;
use crate::types::DataType;

fn interval_overflow() -> SqlError {
    SqlError::datetime_out_of_range("interval")
}

fn span(months: Option<i32>, days: Option<i32>, us: Option<i64>) -> Result<Span> {
    match (months, days, us) {
        (Some(m), Some(d), Some(u)) => Ok(Span::new(m, d, u)),
        _ => Err(interval_overflow()),
    }
}

pub(crate) fn add_spans(a: Span, b: Span) -> Result<Span> {
    span(a.months.checked_add(b.months), a.days.checked_add(b.days), a.us.checked_add(b.us))
}

fn sub_spans(a: Span, b: Span) -> Result<Span> {
    span(a.months.checked_sub(b.months), a.days.checked_sub(b.days), a.us.checked_sub(b.us))
}

fn negated(a: Span) -> Result<Span> {
    span(a.months.checked_neg(), a.days.checked_neg(), a.us.checked_neg())
}

/// Rounds to the microsecond, as PostgreSQL's `TSROUND` does to cascaded parts.
fn to_microsecond(v: f64) -> f64 {
    (v * 1e6).round_ties_even() / 1e6
}

/// Multiplies an interval; what months and days have after the point cascades into the smaller parts.
fn scaled(a: Span, apply: impl Fn(f64) -> f64) -> Result<Span> {
    const SECONDS_PER_DAY: f64 = 86_400.0;
    let fits = |v: f64| (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&v);
    let (months, days) = (apply(f64::from(a.months)), apply(f64::from(a.days)));
    if months.is_nan() || days.is_nan() || !fits(months) || !fits(days) {
        return Err(interval_overflow());
    }
    let (whole_months, whole_days) = (months.trunc(), days.trunc());
    let month_days = to_microsecond((months - whole_months) * DAYS_PER_MONTH as f64);
    let mut seconds = to_microsecond((days - whole_days + month_days - month_days.trunc()) * SECONDS_PER_DAY);
    let mut extra_days = 0.0;
    if seconds.abs() >= SECONDS_PER_DAY {
        extra_days = (seconds / SECONDS_PER_DAY).trunc();
        seconds -= extra_days * SECONDS_PER_DAY;
    }
    let us = (apply(a.us as f64) + seconds * 1e6).round_ties_even();
    if us.is_nan() || us < i64::MIN as f64 || us >= i64::MAX as f64 {
        return Err(interval_overflow());
    }
    let total_days = whole_days + extra_days + month_days.trunc();
    if !fits(total_days) {
        return Err(interval_overflow());
    }
    Ok(Span::new(whole_months as i32, total_days as i32, us as i64))
}

pub(crate) fn divided(a: Span, by: f64) -> Result<Span> {
    if by == 0.0 {
        return Err(SqlError::division_by_zero());
    }
    scaled(a, |v| v / by)
}

/// Moves a local timestamp by months and days, keeping its time of day; the day is cut to the month's length.
fn shift_local(us: i64, months: i32, by_days: i32) -> Result<i64> {
    let (mut day, time) = split(us);
    if months != 0 {
        let c = civil(day);
        let total = c.year * 12 + c.month - 1 + i64::from(months);
        let (year, month) = (total.div_euclid(12), total.rem_euclid(12) + 1);
        day = days(year, month, c.day.min(days_in_month(year, month)));
    }
    day += i64::from(by_days);
    check_timestamp(day.checked_mul(US_PER_DAY).and_then(|d| d.checked_add(time)))
}

fn add_to_timestamp(us: i64, s: Span) -> Result<i64> {
    if is_infinite(us) {
        return Ok(us);
    }
    let moved = if s.months == 0 && s.days == 0 { us } else { shift_local(us, s.months, s.days)? };
    check_timestamp(moved.checked_add(s.us))
}

/// Months and days count by the wall clock of the zone, the rest by elapsed time.
fn add_to_instant(zone: &TimeZone, us: i64, s: Span) -> Result<i64> {
    if is_infinite(us) {
        return Ok(us);
    }
    let moved = if s.months == 0 && s.days == 0 {
        us
    } else {
        zone.to_utc(shift_local(zone.to_local(us), s.months, s.days)?)
    };
    check_timestamp(moved.checked_add(s.us))
}

fn difference(a: i64, b: i64) -> Result<Datum> {
    if is_infinite(a) || is_infinite(b) {
        return Err(SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "cannot subtract infinite timestamps"));
    }
    let us = a.checked_sub(b).ok_or_else(interval_overflow)?;
    Ok(Datum::Interval(Span::new(0, (us / US_PER_DAY) as i32, us % US_PER_DAY)))
}

fn add_days(d: i32, n: i64) -> Result<Datum> {
    if d == i32::MIN || d == i32::MAX {
        return Ok(Datum::Date(d));
    }
    check_date(i64::from(d) + n).map(Datum::Date)
}

fn date_as_timestamp(d: i32) -> Result<i64> {
    crate::cast::date_to_timestamp(d)
}

fn date_plus_time(d: i32, t: i64) -> Result<Datum> {
    let us = date_as_timestamp(d)?;
    if is_infinite(us) {
        Ok(Datum::Timestamp(us))
    } else {
        check_timestamp(us.checked_add(t)).map(Datum::Timestamp)
    }
}

fn date_minus_date(a: i32, b: i32) -> Result<Datum> {
    if [a, b].iter().any(|d| *d == i32::MIN || *d == i32::MAX) {
        return Err(SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "cannot subtract infinite dates"));
    }
    Ok(Datum::Int(i64::from(a) - i64::from(b)))
}

fn time_shifted(t: i64, by: i64) -> Datum {
    Datum::Time((i128::from(t) + i128::from(by)).rem_euclid(i128::from(US_PER_DAY)) as i64)
}

fn ts(us: i64) -> Datum {
    Datum::Timestamp(us)
}

fn tz(us: i64) -> Datum {
    Datum::TimestampTz(us)
}

pub(super) const OPERATORS: &[FunctionDef] = &[
    def("+", &[Date, Int4], Date, |_, a| add_days(date(&a[0]), int(&a[1]))),
    def("+", &[Int4, Date], Date, |_, a| add_days(date(&a[1]), int(&a[0]))),
    def("-", &[Date, Int4], Date, |_, a| add_days(date(&a[0]), -int(&a[1]))),
    def("-", &[Date, Date], Int4, |_, a| date_minus_date(date(&a[0]), date(&a[1]))),
    def("+", &[Date, Time], Timestamp, |_, a| date_plus_time(date(&a[0]), time(&a[1]))),
    def("+", &[Time, Date], Timestamp, |_, a| date_plus_time(date(&a[1]), time(&a[0]))),
    def("+", &[Date, Interval], Timestamp, |_, a| {
        add_to_timestamp(date_as_timestamp(date(&a[0]))?, interval(&a[1])).map(ts)
    }),
    def("+", &[Interval, Date], Timestamp, |_, a| {
        add_to_timestamp(date_as_timestamp(date(&a[1]))?, interval(&a[0])).map(ts)
    }),
    def("-", &[Date, Interval], Timestamp, |_, a| {
        add_to_timestamp(date_as_timestamp(date(&a[0]))?, negated(interval(&a[1]))?).map(ts)
    }),
    def("+", &[Time, Interval], Time, |_, a| Ok(time_shifted(time(&a[0]), interval(&a[1]).us))),
    def("+", &[Interval, Time], Time, |_, a| Ok(time_shifted(time(&a[1]), interval(&a[0]).us))),
    def("-", &[Time, Interval], Time, |_, a| {
        Ok(time_shifted(time(&a[0]), (-i128::from(interval(&a[1]).us) % i128::from(US_PER_DAY)) as i64))
    }),
    def("-", &[Time, Time], Interval, |_, a| Ok(Datum::Interval(Span::new(0, 0, time(&a[0]) - time(&a[1]))))),
    def("+", &[Timestamp, Interval], Timestamp, |_, a| {
        add_to_timestamp(stamp(&a[0]), interval(&a[1])).map(ts)
    }),
    def("+", &[Interval, Timestamp], Timestamp, |_, a| {
        add_to_timestamp(stamp(&a[1]), interval(&a[0])).map(ts)
    }),
    def("-", &[Timestamp, Interval], Timestamp, |_, a| {
        add_to_timestamp(stamp(&a[0]), negated(interval(&a[1]))?).map(ts)
    }),
    def("-", &[Timestamp, Timestamp], Interval, |_, a| difference(stamp(&a[0]), stamp(&a[1]))),
    def("+", &[TimestampTz, Interval], TimestampTz, |ctx, a| {
        add_to_instant(&ctx.time_zone, stamp(&a[0]), interval(&a[1])).map(tz)
    })
    .stable(),
    def("+", &[Interval, TimestampTz], TimestampTz, |ctx, a| {
        add_to_instant(&ctx.time_zone, stamp(&a[1]), interval(&a[0])).map(tz)
    })
    .stable(),
    def("-", &[TimestampTz, Interval], TimestampTz, |ctx, a| {
        add_to_instant(&ctx.time_zone, stamp(&a[0]), negated(interval(&a[1]))?).map(tz)
    })
    .stable(),
    def("-", &[TimestampTz, TimestampTz], Interval, |_, a| difference(stamp(&a[0]), stamp(&a[1]))),
    def("+", &[Interval, Interval], Interval, |_, a| {
        add_spans(interval(&a[0]), interval(&a[1])).map(Datum::Interval)
    }),
    def("-", &[Interval, Interval], Interval, |_, a| {
        sub_spans(interval(&a[0]), interval(&a[1])).map(Datum::Interval)
    }),
    def("-", &[Interval], Interval, |_, a| negated(interval(&a[0])).map(Datum::Interval)),
    def("*", &[Interval, Float8], Interval, |_, a| {
        let by = f8(&a[1]);
        scaled(interval(&a[0]), |v| v * by).map(Datum::Interval)
    }),
    def("*", &[Float8, Interval], Interval, |_, a| {
        let by = f8(&a[0]);
        scaled(interval(&a[1]), |v| v * by).map(Datum::Interval)
    }),
    def("/", &[Interval, Float8], Interval, |_, a| divided(interval(&a[0]), f8(&a[1])).map(Datum::Interval)),
];

/// The fields of a timestamp, as `age` subtracts them.
#[derive(Clone, Copy)]
struct Parts {
    civil: Civil,
    time: i64,
}

fn parts(us: i64) -> Parts {
    let (day, time) = split(us);
    Parts { civil: civil(day), time }
}

/// `age`: the difference field by field, borrowing days of the month that is left behind.
fn age(a: i64, b: i64) -> Result<Datum> {
    if is_infinite(a) || is_infinite(b) {
        return Err(SqlError::datetime_out_of_range("timestamp"));
    }
    let (sign, later, earlier) = if a >= b { (1, a, b) } else { (-1, b, a) };
    let (l, e) = (parts(later), parts(earlier));
    let mut us = l.time - e.time;
    let mut day = l.civil.day - e.civil.day;
    let mut months = (l.civil.year - e.civil.year) * 12 + l.civil.month - e.civil.month;
    if us < 0 {
        us += US_PER_DAY;
        day -= 1;
    }
    while day < 0 {
        // The borrowed month is that of the second argument, or of the first when the result is negative: in both
        // cases the earlier one.
        day += days_in_month(e.civil.year, e.civil.month);
        months -= 1;
    }
    Ok(Datum::Interval(Span::new((sign * months) as i32, (sign * day) as i32, sign * us)))
}

fn today(ctx: &EvalContext) -> i64 {
    split(ctx.time_zone.to_local(ctx.transaction_timestamp)).0
}

fn make_date(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    let (y, m, d) = (int(&a[0]), int(&a[1]), int(&a[2]));
    date_of(y, m, d).map(|d| Datum::Date(d as i32))
}

fn date_of(y: i64, m: i64, d: i64) -> Result<i64> {
    let year = if y < 0 { y + 1 } else { y };
    let overflow = || {
        SqlError::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("date field value out of range: {year}-{m:02}-{d:02}"),
        )
    };
    if y == 0 || !(1..=12).contains(&m) || d < 1 || d > days_in_month(year, m) {
        return Err(overflow());
    }
    let day = days(year, m, d);
    check_date(day).map(i64::from).map_err(|_| {
        SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("date out of range: {y}-{m:02}-{d:02}"))
    })
}

fn time_of(h: i64, m: i64, s: f64) -> Result<i64> {
    let us = (s * 1e6).round_ties_even();
    let valid = (0..=24).contains(&h)
        && (0..60).contains(&m)
        && (0.0..=60e6).contains(&us)
        && (h < 24 || (m == 0 && us == 0.0));
    if !valid {
        return Err(SqlError::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("time field value out of range: {h}:{m:02}:{s:02}"),
        ));
    }
    Ok(h * US_PER_HOUR + m * US_PER_MINUTE + us as i64)
}

fn timestamp_of(a: &[Datum]) -> Result<i64> {
    let day = date_of(int(&a[0]), int(&a[1]), int(&a[2]))?;
    let time = time_of(int(&a[3]), int(&a[4]), f8(&a[5]))?;
    check_timestamp(day.checked_mul(US_PER_DAY).and_then(|d| d.checked_add(time)))
}

fn make_interval(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    let part = |i: usize| a.get(i).map_or(0, int);
    let months = part(0) * 12 + part(1);
    let day = part(2) * 7 + part(3);
    let seconds = a.get(6).map_or(0.0, f8);
    let us = (part(4) * US_PER_HOUR + part(5) * US_PER_MINUTE)
        .checked_add((seconds * 1e6).round_ties_even() as i64);
    span(i32::try_from(months).ok(), i32::try_from(day).ok(), us).map(Datum::Interval)
}

fn to_timestamp(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    let seconds = f8(&a[0]);
    if seconds.is_infinite() {
        return Ok(tz(if seconds > 0.0 { i64::MAX } else { i64::MIN }));
    }
    let out_of_range = || {
        SqlError::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("timestamp out of range: \"{}\"", crate::func::string::output_f64(seconds)),
        )
    };
    if seconds.is_nan() {
        return Err(SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "timestamp cannot be NaN"));
    }
    let since_epoch = seconds + (days(1970, 1, 1) * 86_400) as f64;
    let us = (since_epoch * 1e6).round_ties_even();
    if us.abs() >= 9.3e18 {
        return Err(out_of_range());
    }
    check_timestamp(Some(us as i64)).map(tz).map_err(|_| out_of_range())
}

fn zone_named(name: &str) -> Result<TimeZone> {
    if let Some(zone) = TimeZone::by_name(name) {
        return Ok(zone);
    }
    // A bare offset is a POSIX specification here, whose sign counts westwards.
    match crate::timezone::parse_offset(name) {
        Some(westward) => Ok(TimeZone::Fixed(-westward)),
        None => TimeZone::parse(name)
            .map_err(|_| SqlError::invalid_parameter(format!("time zone \"{name}\" not recognized"))),
    }
}

fn zone_of_interval(s: Span) -> Result<TimeZone> {
    if s.months != 0 || s.days != 0 {
        return Err(SqlError::invalid_parameter("interval time zone must not include months or days"));
    }
    Ok(TimeZone::Fixed((s.us / US_PER_SECOND) as i32))
}

fn justify_days(s: Span) -> Result<Span> {
    let mut months = i64::from(s.months) + i64::from(s.days) / DAYS_PER_MONTH;
    let mut day = i64::from(s.days) % DAYS_PER_MONTH;
    if months > 0 && day < 0 {
        day += DAYS_PER_MONTH;
        months -= 1;
    } else if months < 0 && day > 0 {
        day -= DAYS_PER_MONTH;
        months += 1;
    }
    span(i32::try_from(months).ok(), Some(day as i32), Some(s.us))
}

fn justify_hours(s: Span) -> Result<Span> {
    let mut day = i64::from(s.days) + s.us / US_PER_DAY;
    let mut us = s.us % US_PER_DAY;
    if day > 0 && us < 0 {
        us += US_PER_DAY;
        day -= 1;
    } else if day < 0 && us > 0 {
        us -= US_PER_DAY;
        day += 1;
    }
    span(Some(s.months), i32::try_from(day).ok(), Some(us))
}

fn justify(s: Span) -> Result<Span> {
    let mut day = i64::from(s.days) + s.us / US_PER_DAY;
    let mut us = s.us % US_PER_DAY;
    let mut months = i64::from(s.months) + day / DAYS_PER_MONTH;
    day %= DAYS_PER_MONTH;
    if months > 0 && (day < 0 || (day == 0 && us < 0)) {
        day += DAYS_PER_MONTH;
        months -= 1;
    } else if months < 0 && (day > 0 || (day == 0 && us > 0)) {
        day -= DAYS_PER_MONTH;
        months += 1;
    }
    if day > 0 && us < 0 {
        us += US_PER_DAY;
        day -= 1;
    } else if day < 0 && us > 0 {
        us -= US_PER_DAY;
        day += 1;
    }
    span(i32::try_from(months).ok(), Some(day as i32), Some(us))
}

fn date_bin(stride: Span, source: i64, origin: i64) -> Result<i64> {
    if stride.months != 0 {
        return Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "timestamps cannot be binned into intervals containing months or years",
        ));
    }
    if is_infinite(source) {
        return Ok(source);
    }
    if is_infinite(origin) {
        return Err(SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "origin out of range"));
    }
    let width = i64::from(stride.days).checked_mul(US_PER_DAY).and_then(|d| d.checked_add(stride.us));
    let width = width.ok_or_else(interval_overflow)?;
    if width <= 0 {
        return Err(SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, "stride must be greater than zero"));
    }
    let offset = source.checked_sub(origin).ok_or_else(interval_overflow)?;
    check_timestamp(offset.div_euclid(width).checked_mul(width).and_then(|o| origin.checked_add(o)))
}

fn through_cast(ctx: &EvalContext, a: &[Datum], from: &DataType, to: &DataType) -> Result<Datum> {
    crate::cast::cast(ctx, a[0].clone(), from, to, CastContext::Explicit)
}

pub(super) const FUNCTIONS: &[FunctionDef] = &[
    def("now", &[], TimestampTz, |ctx, _| Ok(tz(ctx.transaction_timestamp))).stable(),
    def("transaction_timestamp", &[], TimestampTz, |ctx, _| Ok(tz(ctx.transaction_timestamp))).stable(),
    def("current_timestamp", &[], TimestampTz, |ctx, _| Ok(tz(ctx.transaction_timestamp))).stable(),
    def("statement_timestamp", &[], TimestampTz, |ctx, _| Ok(tz(ctx.statement_timestamp))).stable(),
    def("clock_timestamp", &[], TimestampTz, |ctx, _| Ok(tz(ctx.clock_timestamp()))).volatile(),
    def("current_date", &[], Date, |ctx, _| Ok(Datum::Date(today(ctx) as i32))).stable(),
    def("localtimestamp", &[], Timestamp, |ctx, _| Ok(ts(ctx.time_zone.to_local(ctx.transaction_timestamp))))
        .stable(),
    def("localtime", &[], Time, |ctx, _| {
        Ok(Datum::Time(split(ctx.time_zone.to_local(ctx.transaction_timestamp)).1))
    })
    .stable(),
    def("age", &[Timestamp, Timestamp], Interval, |_, a| age(stamp(&a[0]), stamp(&a[1]))),
    def("age", &[TimestampTz, TimestampTz], Interval, |ctx, a| {
        age(ctx.time_zone.to_local(stamp(&a[0])), ctx.time_zone.to_local(stamp(&a[1])))
    })
    .stable(),
    def("age", &[Timestamp], Interval, |ctx, a| age(today(ctx) * US_PER_DAY, stamp(&a[0]))).stable(),
    def("age", &[TimestampTz], Interval, |ctx, a| {
        age(today(ctx) * US_PER_DAY, ctx.time_zone.to_local(stamp(&a[0])))
    })
    .stable(),
    def("make_date", &[Int4, Int4, Int4], Date, make_date),
    def("make_time", &[Int4, Int4, Float8], Time, |_, a| {
        time_of(int(&a[0]), int(&a[1]), f8(&a[2])).map(Datum::Time)
    }),
    def("make_timestamp", &[Int4, Int4, Int4, Int4, Int4, Float8], Timestamp, |_, a| timestamp_of(a).map(ts)),
    def("make_timestamptz", &[Int4, Int4, Int4, Int4, Int4, Float8], TimestampTz, |ctx, a| {
        timestamp_of(a).map(|us| tz(ctx.time_zone.to_utc(us)))
    })
    .stable(),
    def("make_timestamptz", &[Int4, Int4, Int4, Int4, Int4, Float8, Text], TimestampTz, |_, a| {
        let zone = TimeZone::parse(text(&a[6]))?;
        timestamp_of(a).map(|us| tz(zone.to_utc(us)))
    })
    .stable(),
    def("make_interval", &[], Interval, make_interval),
    def("make_interval", &[Int4], Interval, make_interval),
    def("make_interval", &[Int4, Int4], Interval, make_interval),
    def("make_interval", &[Int4, Int4, Int4], Interval, make_interval),
    def("make_interval", &[Int4, Int4, Int4, Int4], Interval, make_interval),
    def("make_interval", &[Int4, Int4, Int4, Int4, Int4], Interval, make_interval),
    def("make_interval", &[Int4, Int4, Int4, Int4, Int4, Int4], Interval, make_interval),
    def("make_interval", &[Int4, Int4, Int4, Int4, Int4, Int4, Float8], Interval, make_interval),
    def("to_timestamp", &[Float8], TimestampTz, to_timestamp),
    def("timezone", &[Text, TimestampTz], Timestamp, |_, a| {
        Ok(ts(zone_named(text(&a[0]))?.to_local(stamp(&a[1]))))
    }),
    def("timezone", &[Text, Timestamp], TimestampTz, |_, a| {
        Ok(tz(zone_named(text(&a[0]))?.to_utc(stamp(&a[1]))))
    }),
    def("timezone", &[Interval, TimestampTz], Timestamp, |_, a| {
        Ok(ts(zone_of_interval(interval(&a[0]))?.to_local(stamp(&a[1]))))
    }),
    def("timezone", &[Interval, Timestamp], TimestampTz, |_, a| {
        Ok(tz(zone_of_interval(interval(&a[0]))?.to_utc(stamp(&a[1]))))
    }),
    def("isfinite", &[Date], Bool, |_, a| {
        let d = date(&a[0]);
        Ok(Datum::Bool(d != i32::MIN && d != i32::MAX))
    }),
    def("isfinite", &[Timestamp], Bool, |_, a| Ok(Datum::Bool(!is_infinite(stamp(&a[0]))))),
    def("isfinite", &[TimestampTz], Bool, |_, a| Ok(Datum::Bool(!is_infinite(stamp(&a[0]))))),
    def("isfinite", &[Interval], Bool, |_, _| Ok(Datum::Bool(true))),
    def("justify_days", &[Interval], Interval, |_, a| justify_days(interval(&a[0])).map(Datum::Interval)),
    def("justify_hours", &[Interval], Interval, |_, a| justify_hours(interval(&a[0])).map(Datum::Interval)),
    def("justify_interval", &[Interval], Interval, |_, a| justify(interval(&a[0])).map(Datum::Interval)),
    def("date_bin", &[Interval, Timestamp, Timestamp], Timestamp, |_, a| {
        date_bin(interval(&a[0]), stamp(&a[1]), stamp(&a[2])).map(ts)
    }),
    def("date_bin", &[Interval, TimestampTz, TimestampTz], TimestampTz, |_, a| {
        date_bin(interval(&a[0]), stamp(&a[1]), stamp(&a[2])).map(tz)
    }),
    def("date", &[Timestamp], Date, |ctx, a| through_cast(ctx, a, &DataType::Timestamp, &DataType::Date)),
    def("date", &[TimestampTz], Date, |ctx, a| through_cast(ctx, a, &DataType::TimestampTz, &DataType::Date))
        .stable(),
];

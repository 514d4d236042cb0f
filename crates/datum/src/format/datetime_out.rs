//! Dates, times and intervals as text, in every `DateStyle`; `IntervalStyle` postgres.

use bytes::BufMut;

use crate::calendar::{US_PER_HOUR, US_PER_MINUTE, US_PER_SECOND, civil, split};
use crate::date_style::{DateFormat, DateOrder, DateStyle};
use crate::format::number::write_i64;
use crate::interval::Interval;
use crate::timezone::TimeZone;

fn two<B: BufMut>(value: i64, out: &mut B) {
    out.put_u8(b'0' + (value / 10) as u8);
    out.put_u8(b'0' + (value % 10) as u8);
}

/// Writes a date in a style, without the era, and says whether it is before Christ.
fn write_civil<B: BufMut>(days: i64, style: DateStyle, out: &mut B) -> bool {
    let c = civil(days);
    let (year, before_christ) = shown_year(c.year);
    let (first, second) = if style.order == DateOrder::Dmy { (c.day, c.month) } else { (c.month, c.day) };
    let (a, separator, b) = match style.format {
        DateFormat::Iso => {
            write_year(year, out);
            out.put_u8(b'-');
            two(c.month, out);
            out.put_u8(b'-');
            two(c.day, out);
            return before_christ;
        }
        DateFormat::Sql => (first, b'/', second),
        DateFormat::Postgres => (first, b'-', second),
        DateFormat::German => (c.day, b'.', c.month),
    };
    two(a, out);
    out.put_u8(separator);
    two(b, out);
    out.put_u8(separator);
    write_year(year, out);
    before_christ
}

/// A year as it is written, and whether it is before Christ: there is no year 0.
fn shown_year(year: i64) -> (i64, bool) {
    if year > 0 { (year, false) } else { (1 - year, true) }
}

fn write_year<B: BufMut>(year: i64, out: &mut B) {
    if year < 10_000 {
        two(year / 100, out);
        two(year % 100, out);
    } else {
        write_i64(year, out);
    }
}

/// Writes up to six digits after a point, without trailing zeros.
fn write_fraction<B: BufMut>(us: i64, out: &mut B) {
    if us == 0 {
        return;
    }
    let mut digits = [0u8; 7];
    digits[0] = b'.';
    let mut rest = us;
    for d in digits[1..].iter_mut().rev() {
        *d = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let len = digits.len() - digits.iter().rev().take_while(|d| **d == b'0').count();
    out.put_slice(&digits[..len]);
}

/// Writes `hh:mm:ss[.ffffff]`.
pub(super) fn write_time<B: BufMut>(us: i64, out: &mut B) {
    two(us / US_PER_HOUR, out);
    out.put_u8(b':');
    two(us / US_PER_MINUTE % 60, out);
    out.put_u8(b':');
    two(us / US_PER_SECOND % 60, out);
    write_fraction(us % US_PER_SECOND, out);
}

pub(super) fn write_date<B: BufMut>(days: i32, style: DateStyle, out: &mut B) {
    match days {
        i32::MAX => out.put_slice(b"infinity"),
        i32::MIN => out.put_slice(b"-infinity"),
        _ => {
            if write_civil(i64::from(days), style, out) {
                out.put_slice(b" BC");
            }
        }
    }
}

fn write_infinity<B: BufMut>(us: i64, out: &mut B) -> bool {
    match us {
        i64::MAX => out.put_slice(b"infinity"),
        i64::MIN => out.put_slice(b"-infinity"),
        _ => return false,
    }
    true
}

pub(super) fn write_timestamp<B: BufMut>(us: i64, style: DateStyle, out: &mut B) {
    if !write_infinity(us, out) {
        write_moment(us, None, style, out);
    }
}

pub(super) fn write_timestamptz<B: BufMut>(us: i64, zone: &TimeZone, style: DateStyle, out: &mut B) {
    if write_infinity(us, out) {
        return;
    }
    let offset = zone.offset_at(us);
    let local = us + i64::from(offset) * US_PER_SECOND;
    match style.format {
        DateFormat::Iso => write_moment(local, Some(Zone::Offset(offset)), style, out),
        _ => {
            let name = zone.abbreviation_at(us);
            write_moment(local, Some(Zone::Name(&name)), style, out);
        }
    }
}

/// How a moment's zone is written.
enum Zone<'a> {
    Offset(i32),
    Name(&'a str),
}

/// Writes a date and a time of day by the wall clock.
fn write_moment<B: BufMut>(local: i64, zone: Option<Zone<'_>>, style: DateStyle, out: &mut B) {
    let (day, time) = split(local);
    let before_christ = if style.format == DateFormat::Postgres {
        write_in_words(day, time, style.order, out)
    } else {
        let before_christ = write_civil(day, style, out);
        out.put_u8(b' ');
        write_time(time, out);
        before_christ
    };
    match zone {
        None => {}
        Some(Zone::Offset(offset)) => write_offset(offset, out),
        Some(Zone::Name(name)) => {
            out.put_u8(b' ');
            out.put_slice(name.as_bytes());
        }
    }
    if before_christ {
        out.put_slice(b" BC");
    }
}

const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Writes `Wed Dec 17 07:37:16 1997`, and says whether it is before Christ.
fn write_in_words<B: BufMut>(day: i64, time: i64, order: DateOrder, out: &mut B) -> bool {
    let c = civil(day);
    let (year, before_christ) = shown_year(c.year);
    // Day 0 is a Saturday.
    out.put_slice(WEEKDAYS[(day + 6).rem_euclid(7) as usize].as_bytes());
    out.put_u8(b' ');
    let month = MONTHS[(c.month - 1) as usize].as_bytes();
    if order == DateOrder::Dmy {
        two(c.day, out);
        out.put_u8(b' ');
        out.put_slice(month);
    } else {
        out.put_slice(month);
        out.put_u8(b' ');
        two(c.day, out);
    }
    out.put_u8(b' ');
    write_time(time, out);
    out.put_u8(b' ');
    write_year(year, out);
    before_christ
}

/// Writes `+hh[:mm[:ss]]`.
fn write_offset<B: BufMut>(seconds: i32, out: &mut B) {
    out.put_u8(if seconds < 0 { b'-' } else { b'+' });
    let abs = i64::from(seconds.unsigned_abs());
    two(abs / 3600, out);
    if abs % 3600 != 0 {
        out.put_u8(b':');
        two(abs / 60 % 60, out);
        if abs % 60 != 0 {
            out.put_u8(b':');
            two(abs % 60, out);
        }
    }
}

pub(super) fn write_interval<B: BufMut>(interval: &Interval, out: &mut B) {
    let (mut zero, mut before) = (true, false);
    let mut part = |value: i64, unit: &[u8], out: &mut B| {
        if value == 0 {
            return;
        }
        if !zero {
            out.put_u8(b' ');
        }
        if before && value > 0 {
            out.put_u8(b'+');
        }
        write_i64(value, out);
        out.put_u8(b' ');
        out.put_slice(unit);
        if value != 1 {
            out.put_u8(b's');
        }
        before = value < 0;
        zero = false;
    };
    part(i64::from(interval.months / 12), b"year", out);
    part(i64::from(interval.months % 12), b"mon", out);
    part(i64::from(interval.days), b"day", out);
    if !zero && interval.us == 0 {
        return;
    }
    if !zero {
        out.put_u8(b' ');
    }
    if interval.us < 0 {
        out.put_u8(b'-');
    } else if before {
        out.put_u8(b'+');
    }
    let us = interval.us.unsigned_abs();
    let hours = us / US_PER_HOUR as u64;
    if hours < 100 {
        two(hours as i64, out);
    } else {
        write_i64(hours as i64, out);
    }
    out.put_u8(b':');
    two((us / US_PER_MINUTE as u64 % 60) as i64, out);
    out.put_u8(b':');
    two((us / US_PER_SECOND as u64 % 60) as i64, out);
    write_fraction((us % US_PER_SECOND as u64) as i64, out);
}

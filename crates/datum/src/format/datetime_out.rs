//! Dates, times and intervals as text: `DateStyle` ISO, `IntervalStyle` postgres.

use bytes::BufMut;

use crate::calendar::{US_PER_HOUR, US_PER_MINUTE, US_PER_SECOND, civil, split};
use crate::format::number::write_i64;
use crate::interval::Interval;
use crate::timezone::TimeZone;

fn two<B: BufMut>(value: i64, out: &mut B) {
    out.put_u8(b'0' + (value / 10) as u8);
    out.put_u8(b'0' + (value % 10) as u8);
}

/// Writes the date without the era, and says whether it is before Christ.
fn write_civil<B: BufMut>(days: i64, out: &mut B) -> bool {
    let c = civil(days);
    let (year, before_christ) = if c.year > 0 { (c.year, false) } else { (1 - c.year, true) };
    if year < 10_000 {
        two(year / 100, out);
        two(year % 100, out);
    } else {
        write_i64(year, out);
    }
    out.put_u8(b'-');
    two(c.month, out);
    out.put_u8(b'-');
    two(c.day, out);
    before_christ
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

pub(super) fn write_date<B: BufMut>(days: i32, out: &mut B) {
    match days {
        i32::MAX => out.put_slice(b"infinity"),
        i32::MIN => out.put_slice(b"-infinity"),
        _ => {
            if write_civil(i64::from(days), out) {
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

pub(super) fn write_timestamp<B: BufMut>(us: i64, out: &mut B) {
    if write_infinity(us, out) {
        return;
    }
    let (day, time) = split(us);
    let before_christ = write_civil(day, out);
    out.put_u8(b' ');
    write_time(time, out);
    if before_christ {
        out.put_slice(b" BC");
    }
}

pub(super) fn write_timestamptz<B: BufMut>(us: i64, zone: &TimeZone, out: &mut B) {
    if write_infinity(us, out) {
        return;
    }
    let offset = zone.offset_at(us);
    let (day, time) = split(us + i64::from(offset) * US_PER_SECOND);
    let before_christ = write_civil(day, out);
    out.put_u8(b' ');
    write_time(time, out);
    write_offset(offset, out);
    if before_christ {
        out.put_slice(b" BC");
    }
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

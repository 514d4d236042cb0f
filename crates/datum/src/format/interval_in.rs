//! Intervals from text: `1 year 2 mons -3 days 04:05:06`, `@ 1 hour ago`, `1-2`, ISO 8601 `P1Y2M3DT4H5M6S`.

use crate::error::{Result, SqlError};
use crate::interval::{DAYS_PER_MONTH, Interval, US_PER_DAY, US_PER_HOUR, US_PER_MINUTE, US_PER_SECOND};
use crate::state::SqlState;

enum Fault {
    Syntax,
    Range,
}

pub(crate) fn parse_interval(text: &str) -> Result<Interval> {
    let lower = text.trim().to_ascii_lowercase();
    let mut sum = Sum::default();
    let outcome = match lower.strip_prefix('p') {
        Some(iso) if !iso.is_empty() => sum.iso(iso),
        _ => sum.fields(&lower),
    };
    outcome.and_then(|()| sum.finish()).map_err(|fault| match fault {
        Fault::Syntax => SqlError::invalid_datetime("interval", text),
        Fault::Range => SqlError::new(
            SqlState::INTERVAL_FIELD_OVERFLOW,
            format!("interval field value out of range: \"{text}\""),
        ),
    })
}

#[derive(Clone, Copy)]
enum Unit {
    /// Fractions of it are microseconds.
    Time(i64),
    Days(i64),
    /// Fractions of it are days of a month.
    Month,
    /// Fractions of it are whole months.
    Months(i64),
}

fn unit(word: &str) -> Option<Unit> {
    Some(match word {
        "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecon" | "microsecond" | "microseconds" => {
            Unit::Time(1)
        }
        "ms" | "msec" | "msecs" | "mseconds" | "msecond" | "millisecon" | "millisecond" | "milliseconds" => {
            Unit::Time(1000)
        }
        "s" | "sec" | "secs" | "second" | "seconds" => Unit::Time(US_PER_SECOND),
        "m" | "min" | "mins" | "minute" | "minutes" => Unit::Time(US_PER_MINUTE),
        "h" | "hr" | "hrs" | "hour" | "hours" => Unit::Time(US_PER_HOUR),
        "d" | "day" | "days" => Unit::Days(1),
        "w" | "week" | "weeks" => Unit::Days(7),
        "mon" | "mons" | "month" | "months" => Unit::Month,
        "y" | "yr" | "yrs" | "year" | "years" => Unit::Months(12),
        "dec" | "decs" | "decade" | "decades" => Unit::Months(120),
        "c" | "cent" | "century" | "centuries" => Unit::Months(1200),
        "mil" | "mils" | "millennium" | "millennia" => Unit::Months(12_000),
        _ => return None,
    })
}

/// A signed decimal: the whole part, and the fraction with the same sign.
#[derive(Clone, Copy)]
struct Number {
    whole: i64,
    fraction: f64,
}

fn number(text: &str) -> Result<Number, Fault> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Err(Fault::Syntax);
    }
    if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(Fault::Syntax);
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| Fault::Range)? };
    let fraction: f64 =
        if fraction.is_empty() { 0.0 } else { format!("0.{fraction}").parse().map_err(|_| Fault::Syntax)? };
    Ok(if negative { Number { whole: -whole, fraction: -fraction } } else { Number { whole, fraction } })
}

#[derive(Default)]
struct Sum {
    months: i64,
    days: i64,
    us: i64,
    /// Fields read so far; each may come once.
    seen: u32,
}

const CLOCK: u32 = 0b111 << 2;

impl Unit {
    /// The field's bit in [`Sum::seen`].
    fn bit(self) -> u32 {
        match self {
            Unit::Time(1) => 1,
            Unit::Time(1000) => 1 << 1,
            Unit::Time(US_PER_SECOND) => 1 << 2,
            Unit::Time(US_PER_MINUTE) => 1 << 3,
            Unit::Time(_) => 1 << 4,
            Unit::Days(1) => 1 << 5,
            Unit::Days(_) => 1 << 6,
            Unit::Month => 1 << 7,
            Unit::Months(12) => 1 << 8,
            Unit::Months(120) => 1 << 9,
            Unit::Months(1200) => 1 << 10,
            Unit::Months(_) => 1 << 11,
        }
    }
}

impl Sum {
    fn once(&mut self, bits: u32) -> Result<(), Fault> {
        if self.seen & bits != 0 {
            return Err(Fault::Syntax);
        }
        self.seen |= bits;
        Ok(())
    }

    fn add_us(&mut self, us: i64) -> Result<(), Fault> {
        self.us = self.us.checked_add(us).ok_or(Fault::Range)?;
        Ok(())
    }

    /// Adds a fraction of something `scale` microseconds long, rounded.
    fn add_fraction(&mut self, fraction: f64, scale: i64) -> Result<(), Fault> {
        let exact = fraction * scale as f64;
        let mut us = exact as i64;
        let rest = exact - us as f64;
        if rest > 0.5 {
            us += 1;
        } else if rest < -0.5 {
            us -= 1;
        }
        self.add_us(us)
    }

    fn add_fractional_days(&mut self, fraction: f64, scale: i64) -> Result<(), Fault> {
        let exact = fraction * scale as f64;
        self.days = self.days.checked_add(exact as i64).ok_or(Fault::Range)?;
        self.add_fraction(exact - (exact as i64) as f64, US_PER_DAY)
    }

    fn add(&mut self, n: Number, unit: Unit) -> Result<(), Fault> {
        match unit {
            Unit::Time(scale) => {
                self.add_us(n.whole.checked_mul(scale).ok_or(Fault::Range)?)?;
                self.add_fraction(n.fraction, scale)
            }
            Unit::Days(scale) => {
                let days = n.whole.checked_mul(scale).ok_or(Fault::Range)?;
                self.days = self.days.checked_add(days).ok_or(Fault::Range)?;
                self.add_fractional_days(n.fraction, scale)
            }
            Unit::Month => {
                self.months = self.months.checked_add(n.whole).ok_or(Fault::Range)?;
                self.add_fractional_days(n.fraction, DAYS_PER_MONTH)
            }
            Unit::Months(scale) => {
                let months = n.whole.checked_mul(scale).ok_or(Fault::Range)?;
                self.months = self.months.checked_add(months).ok_or(Fault::Range)?;
                let rest = (n.fraction * scale as f64).round_ties_even() as i64;
                self.months = self.months.checked_add(rest).ok_or(Fault::Range)?;
                Ok(())
            }
        }
    }

    fn finish(&self) -> Result<Interval, Fault> {
        let months = i32::try_from(self.months).map_err(|_| Fault::Range)?;
        let days = i32::try_from(self.days).map_err(|_| Fault::Range)?;
        Ok(Interval::new(months, days, self.us))
    }

    fn fields(&mut self, text: &str) -> Result<(), Fault> {
        let text = text.strip_prefix('@').unwrap_or(text);
        let spaced = separate(text);
        let mut words = spaced.split_ascii_whitespace().peekable();
        let (mut ago, mut any) = (false, false);
        while let Some(word) = words.next() {
            if ago {
                return Err(Fault::Syntax);
            }
            if word == "ago" {
                ago = true;
                continue;
            }
            any = true;
            let signed = word.strip_prefix(['-', '+']).unwrap_or(word);
            if word.contains(':') {
                self.once(CLOCK)?;
                self.clock(word)?;
            } else if let Some((years, months)) = signed.split_once('-') {
                let negative = word.starts_with('-');
                let (y, m) = (number(years)?.whole, number(months)?.whole);
                if m >= 12 {
                    return Err(Fault::Range);
                }
                let total = y.checked_mul(12).and_then(|t| t.checked_add(m)).ok_or(Fault::Range)?;
                let total = if negative { -total } else { total };
                self.months = self.months.checked_add(total).ok_or(Fault::Range)?;
            } else {
                let n = number(word)?;
                let next = words.peek().copied();
                match next.map(|w| (w, unit(w))) {
                    Some((_, Some(u))) => {
                        words.next();
                        self.once(u.bit())?;
                        self.add(n, u)?;
                    }
                    // A number before a time of day counts days; one at the end counts seconds.
                    Some((w, None)) if w.contains(':') => {
                        self.once(Unit::Days(1).bit())?;
                        self.add(n, Unit::Days(1))?;
                    }
                    Some(("ago", None)) | None => {
                        self.once(Unit::Time(US_PER_SECOND).bit())?;
                        self.add(n, Unit::Time(US_PER_SECOND))?;
                    }
                    Some(_) => return Err(Fault::Syntax),
                }
            }
        }
        if !any {
            return Err(Fault::Syntax);
        }
        if ago {
            (self.months, self.days) = (-self.months, -self.days);
            self.us = self.us.checked_neg().ok_or(Fault::Range)?;
        }
        Ok(())
    }

    /// `[-]hh:mm[:ss[.f]]`, or `mm:ss.f`.
    fn clock(&mut self, word: &str) -> Result<(), Fault> {
        let negative = word.starts_with('-');
        let digits = word.strip_prefix(['-', '+']).unwrap_or(word);
        let parts: Vec<&str> = digits.split(':').collect();
        let (h, m, s) = match parts.as_slice() {
            [m, s] if s.contains('.') => (Number { whole: 0, fraction: 0.0 }, number(m)?, number(s)?),
            [h, m] => (number(h)?, number(m)?, Number { whole: 0, fraction: 0.0 }),
            [h, m, s] => (number(h)?, number(m)?, number(s)?),
            _ => return Err(Fault::Syntax),
        };
        if m.whole > 59 || s.whole > 60 {
            return Err(Fault::Range);
        }
        let mut time = Sum::default();
        time.add(h, Unit::Time(US_PER_HOUR))?;
        time.add(m, Unit::Time(US_PER_MINUTE))?;
        time.add(s, Unit::Time(US_PER_SECOND))?;
        self.add_us(if negative { -time.us } else { time.us })
    }

    /// What follows the `P`.
    fn iso(&mut self, text: &str) -> Result<(), Fault> {
        let date = text.split('t').next().unwrap_or(text);
        if date.len() == 10 && date.as_bytes()[4] == b'-' {
            return self.iso_alternative(date, text.get(11..));
        }
        let (mut rest, mut in_time) = (text, false);
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('t') {
                (rest, in_time) = (after, true);
                continue;
            }
            let end = rest.find(|c: char| c.is_ascii_alphabetic()).ok_or(Fault::Syntax)?;
            let n = number(&rest[..end])?;
            let unit = match (rest.as_bytes()[end], in_time) {
                (b'y', false) => Unit::Months(12),
                (b'm', false) => Unit::Month,
                (b'w', false) => Unit::Days(7),
                (b'd', false) => Unit::Days(1),
                (b'h', true) => Unit::Time(US_PER_HOUR),
                (b'm', true) => Unit::Time(US_PER_MINUTE),
                (b's', true) => Unit::Time(US_PER_SECOND),
                _ => return Err(Fault::Syntax),
            };
            self.add(n, unit)?;
            rest = &rest[end + 1..];
        }
        Ok(())
    }
}

impl Sum {
    /// `PYYYY-MM-DD[Thh:mm:ss]`.
    fn iso_alternative(&mut self, date: &str, time: Option<&str>) -> Result<(), Fault> {
        let parts: Vec<&str> = date.split('-').collect();
        let [years, months, days] = parts.as_slice() else { return Err(Fault::Syntax) };
        let years = number(years)?.whole.checked_mul(12).ok_or(Fault::Range)?;
        self.months = years.checked_add(number(months)?.whole).ok_or(Fault::Range)?;
        self.days = number(days)?.whole;
        time.map_or(Ok(()), |t| self.clock(t))
    }
}

/// Puts a blank between a number and the unit written right behind it (`1h30m`), and drops one behind a sign.
fn separate(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut previous = ' ';
    for c in text.chars() {
        if matches!(previous, '+' | '-') && c == ' ' {
            continue;
        }
        let digit = |c: char| c.is_ascii_digit() || c == '.';
        let to_word = digit(previous) && c.is_ascii_alphabetic();
        let to_number = previous.is_ascii_alphabetic() && (digit(c) || matches!(c, '+' | '-'));
        if to_word || to_number {
            out.push(' ');
        }
        out.push(c);
        previous = c;
    }
    out
}

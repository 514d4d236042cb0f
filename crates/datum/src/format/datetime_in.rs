//! Dates and times from text.
//!
//! The common ISO forms take a direct path. Everything else is cut into fields as PostgreSQL's `ParseDateTime` does it
//! (dates, times, numbers, words, offsets) and then put together in the order year, month, day where that is evident,
//! and otherwise in the order that `DateStyle` says.

use crate::calendar::{
    END_TIMESTAMP, MIN_TIMESTAMP, US_PER_DAY, US_PER_HOUR, US_PER_MINUTE, US_PER_SECOND, check_date, days,
    days_in_month, split,
};
use crate::context::EvalContext;
use crate::date_style::DateOrder;
use crate::error::{Result, SqlError};
use crate::state::SqlState;
use crate::timezone::{TimeZone, parse_offset};

/// Why a text is no date or time; the caller knows the type and the whole text.
enum Fault {
    Syntax,
    Field,
    /// A month or day that another `DateStyle` might accept.
    MonthDay,
    Displacement,
    ZoneUnknown(String),
}

impl Fault {
    fn error(self, type_name: &str, text: &str) -> SqlError {
        match self {
            Fault::Syntax => SqlError::invalid_datetime(type_name, text),
            Fault::Field => SqlError::datetime_field_out_of_range(text),
            Fault::MonthDay => SqlError::datetime_field_out_of_range(text)
                .with_hint("Perhaps you need a different \"datestyle\" setting."),
            Fault::Displacement => SqlError::new(
                SqlState::INVALID_TIME_ZONE_DISPLACEMENT_VALUE,
                format!("time zone displacement out of range: \"{text}\""),
            ),
            Fault::ZoneUnknown(zone) => {
                SqlError::invalid_parameter(format!("time zone \"{zone}\" not recognized"))
            }
        }
    }
}

/// A bound on years that keeps the calendar's arithmetic within 64 bits; the types end well below it.
const MAX_YEAR: i64 = 10_000_000;
/// The same for Julian days.
const MAX_JULIAN: i64 = MAX_YEAR * 366;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Special {
    Infinity,
    NegativeInfinity,
    Epoch,
    Now,
    /// Midnight of today plus so many days.
    Day(i64),
}

#[derive(Default)]
struct Fields {
    special: Option<Special>,
    /// Year, month, day; checked.
    date: Option<(i64, i64, i64)>,
    /// Microseconds since midnight.
    time: Option<i64>,
    zone: Option<TimeZone>,
}

pub(crate) fn parse_date(ctx: &EvalContext, text: &str) -> Result<i32> {
    let fields = parse(ctx, text).map_err(|f| f.error("date", text))?;
    match fields.special {
        Some(Special::Infinity) => return Ok(i32::MAX),
        Some(Special::NegativeInfinity) => return Ok(i32::MIN),
        Some(Special::Epoch) => return Ok(days(1970, 1, 1) as i32),
        Some(Special::Now) => return Ok(today(ctx) as i32),
        Some(Special::Day(n)) => return Ok((today(ctx) + n) as i32),
        None => {}
    }
    let (y, m, d) = fields.date.ok_or_else(|| SqlError::invalid_datetime("date", text))?;
    check_date(days(y, m, d)).map_err(|_| range_error("date", text))
}

pub(crate) fn parse_time(ctx: &EvalContext, text: &str) -> Result<i64> {
    let fields = parse_as(ctx, text, true).map_err(|f| f.error("time", text))?;
    match fields.special {
        Some(Special::Now) => return Ok(split(ctx.time_zone.to_local(ctx.transaction_timestamp)).1),
        Some(Special::Day(_)) if fields.time.is_none() => return Ok(0),
        Some(Special::Infinity | Special::NegativeInfinity) => {
            return Err(SqlError::invalid_datetime("time", text));
        }
        _ => {}
    }
    fields.time.ok_or_else(|| SqlError::invalid_datetime("time", text))
}

pub(crate) fn parse_timestamp(ctx: &EvalContext, text: &str) -> Result<i64> {
    const NAME: &str = "timestamp";
    let fields = parse(ctx, text).map_err(|f| f.error(NAME, text))?;
    match fields.special {
        Some(Special::Infinity) => return Ok(i64::MAX),
        Some(Special::NegativeInfinity) => return Ok(i64::MIN),
        Some(Special::Epoch) => return Ok(days(1970, 1, 1) * US_PER_DAY),
        Some(Special::Now) => return Ok(ctx.time_zone.to_local(ctx.transaction_timestamp)),
        Some(Special::Day(n)) => return Ok((today(ctx) + n) * US_PER_DAY + fields.time.unwrap_or(0)),
        None => {}
    }
    let local = local_timestamp(&fields).ok_or_else(|| SqlError::invalid_datetime(NAME, text))?;
    in_range(local).ok_or_else(|| range_error(NAME, text))
}

pub(crate) fn parse_timestamptz(ctx: &EvalContext, text: &str) -> Result<i64> {
    const NAME: &str = "timestamp with time zone";
    let fields = parse(ctx, text).map_err(|f| f.error(NAME, text))?;
    let zone = fields.zone.unwrap_or(ctx.time_zone);
    match fields.special {
        Some(Special::Infinity) => return Ok(i64::MAX),
        Some(Special::NegativeInfinity) => return Ok(i64::MIN),
        Some(Special::Epoch) => return Ok(days(1970, 1, 1) * US_PER_DAY),
        Some(Special::Now) => return Ok(ctx.transaction_timestamp),
        Some(Special::Day(n)) => {
            return Ok(zone.to_utc((today(ctx) + n) * US_PER_DAY + fields.time.unwrap_or(0)));
        }
        None => {}
    }
    let local = local_timestamp(&fields).ok_or_else(|| SqlError::invalid_datetime(NAME, text))?;
    let local = i64::try_from(local).map_err(|_| range_error("timestamp", text))?;
    in_range(i128::from(zone.to_utc(local))).ok_or_else(|| range_error("timestamp", text))
}

fn range_error(type_name: &str, text: &str) -> SqlError {
    SqlError::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("{type_name} out of range: \"{text}\""))
}

fn today(ctx: &EvalContext) -> i64 {
    split(ctx.time_zone.to_local(ctx.transaction_timestamp)).0
}

fn local_timestamp(fields: &Fields) -> Option<i128> {
    let (y, m, d) = fields.date?;
    Some(i128::from(days(y, m, d)) * i128::from(US_PER_DAY) + i128::from(fields.time.unwrap_or(0)))
}

fn in_range(us: i128) -> Option<i64> {
    i64::try_from(us).ok().filter(|us| (MIN_TIMESTAMP..END_TIMESTAMP).contains(us))
}

fn parse(ctx: &EvalContext, text: &str) -> Result<Fields, Fault> {
    parse_as(ctx, text, false)
}

/// Where a time of day is wanted, bare numbers are times and not dates.
fn parse_as(ctx: &EvalContext, text: &str, bare_time: bool) -> Result<Fields, Fault> {
    if let Some(fields) = parse_iso(text.as_bytes()) {
        return Ok(fields);
    }
    let lower = text.trim().to_ascii_lowercase();
    if lower.is_empty() {
        return Err(Fault::Syntax);
    }
    let tokens = tokens(&lower)?;
    Assembler { iso_time: bare_time, order: ctx.date_style.order, ..Assembler::default() }
        .assemble(&tokens, text)
}

/// `YYYY-MM-DD[{T| }HH:MM[:SS[.ffffff]][+hh[:mm]|Z]]`, or `None` for anything else or anything doubtful.
fn parse_iso(b: &[u8]) -> Option<Fields> {
    fn number(b: &[u8]) -> Option<i64> {
        b.iter().try_fold(0i64, |n, d| d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0')))
    }
    if b.len() < 10 || b[4] != b'-' || b[7] != b'-' {
        return None;
    }
    let (y, m, d) = (number(&b[..4])?, number(&b[5..7])?, number(&b[8..10])?);
    if y == 0 || !(1..=12).contains(&m) || d < 1 || d > days_in_month(y, m) {
        return None;
    }
    let mut fields = Fields { date: Some((y, m, d)), ..Fields::default() };
    if b.len() == 10 {
        return Some(fields);
    }
    if b.len() < 16 || !matches!(b[10], b' ' | b'T') || b[13] != b':' {
        return None;
    }
    let (h, min) = (number(&b[11..13])?, number(&b[14..16])?);
    let (mut s, mut us, mut at) = (0, 0, 16);
    if b.get(at) == Some(&b':') {
        s = number(b.get(17..19)?)?;
        at = 19;
        if b.get(at) == Some(&b'.') {
            let len = b[20..].iter().take_while(|d| d.is_ascii_digit()).count();
            if len == 0 || len > 6 {
                return None;
            }
            us = number(&b[20..20 + len])? * 10i64.pow(6 - len as u32);
            at = 20 + len;
        }
    }
    if h > 23 || min > 59 || s > 59 {
        return None;
    }
    fields.time = Some(h * US_PER_HOUR + min * US_PER_MINUTE + s * US_PER_SECOND + us);
    match &b[at..] {
        [] => {}
        [b'Z'] => fields.zone = Some(TimeZone::Utc),
        rest => {
            let offset = std::str::from_utf8(rest).ok().and_then(parse_offset)?;
            fields.zone = Some(TimeZone::Fixed(offset));
        }
    }
    Some(fields)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token<'a> {
    /// `1999-01-08`, `1/8/1999`, `jan-08-1999`
    Date(&'a str),
    /// `04:05:06.789`
    Time(&'a str),
    /// `19990108`, `8`, `040506.789`
    Number(&'a str),
    Word(&'a str),
    /// `+02`, `-08:00`
    Offset(&'a str),
}

fn tokens(text: &str) -> Result<Vec<Token<'_>>, Fault> {
    let b = text.as_bytes();
    let mut out = Vec::with_capacity(4);
    let mut at = 0;
    let run =
        |from: usize, keep: &dyn Fn(u8) -> bool| from + b[from..].iter().take_while(|c| keep(**c)).count();
    while at < b.len() {
        let c = b[at];
        let start = at;
        if c.is_ascii_whitespace() || c == b',' {
            at += 1;
        } else if c.is_ascii_digit() {
            at = run(at, &|c| c.is_ascii_digit());
            match b.get(at) {
                Some(b':') => {
                    at = run(at, &|c| c.is_ascii_digit() || matches!(c, b':' | b'.'));
                    out.push(Token::Time(&text[start..at]));
                }
                Some(delimiter @ (b'-' | b'/' | b'.')) => {
                    let delimiter = *delimiter;
                    let after = run(at + 1, &|c| c.is_ascii_alphanumeric());
                    let again = b.get(after) == Some(&delimiter);
                    if again {
                        at = run(after + 1, &|c| c.is_ascii_digit());
                        out.push(Token::Date(&text[start..at]));
                    } else if delimiter == b'.' {
                        at = run(at + 1, &|c| c.is_ascii_digit());
                        out.push(Token::Number(&text[start..at]));
                    } else if delimiter == b'-' && at - start >= 6 {
                        // 19990108-08: a number, then an offset.
                        out.push(Token::Number(&text[start..at]));
                    } else {
                        at = after;
                        out.push(Token::Date(&text[start..at]));
                    }
                }
                _ => out.push(Token::Number(&text[start..at])),
            }
        } else if c.is_ascii_alphabetic() {
            at = run(at, &|c| c.is_ascii_alphabetic());
            let word = &text[start..at];
            let digit_follows = b.get(at + 1).is_some_and(u8::is_ascii_digit);
            if month_number(word).is_some() && digit_follows && matches!(b[at], b'-' | b'/' | b'.') {
                at = run(at, &|c| c.is_ascii_digit() || matches!(c, b'-' | b'/' | b'.'));
                out.push(Token::Date(&text[start..at]));
            } else {
                if b.get(at) == Some(&b'.') {
                    out.push(Token::Word(word));
                    at += 1;
                    continue;
                }
                if matches!(b.get(at), Some(b'/' | b'_')) {
                    at = run(at, &|c| c.is_ascii_alphanumeric() || matches!(c, b'/' | b'_' | b'-' | b'+'));
                }
                out.push(Token::Word(&text[start..at]));
            }
        } else if matches!(c, b'+' | b'-') {
            at += 1;
            if b.get(at).is_some_and(u8::is_ascii_digit) {
                at = run(at, &|c| c.is_ascii_digit() || c == b':');
                out.push(Token::Offset(&text[start..at]));
            } else if text[at..].starts_with("inf") {
                at = run(at, &|c| c.is_ascii_alphabetic());
                out.push(Token::Word(&text[start..at]));
            } else {
                return Err(Fault::Syntax);
            }
        } else {
            return Err(Fault::Syntax);
        }
    }
    Ok(out)
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

fn month_number(word: &str) -> Option<i64> {
    let at =
        MONTHS.iter().position(|m| word == *m || word == &m[..3] || (word == "sept" && *m == "september"))?;
    Some(at as i64 + 1)
}

fn is_weekday(word: &str) -> bool {
    WEEKDAYS.iter().any(|d| word == *d || word == &d[..3])
        || matches!(word, "tues" | "weds" | "wednes" | "thur" | "thurs")
}

#[derive(Default)]
struct Assembler {
    fields: Fields,
    year: Option<(i64, usize)>,
    month: Option<i64>,
    day: Option<i64>,
    before_christ: Option<bool>,
    afternoon: Option<bool>,
    iso_time: bool,
    order: DateOrder,
    /// The next number is a Julian day.
    julian: bool,
}

/// The year as it is written: there is no year 0.
fn shown_year(year: i64) -> i64 {
    if year > 0 { year } else { 1 - year }
}

impl Assembler {
    fn assemble(mut self, tokens: &[Token<'_>], text: &str) -> Result<Fields, Fault> {
        for t in tokens {
            match *t {
                Token::Date(s) => self.date(s)?,
                Token::Time(s) => self.time(s)?,
                Token::Number(s) => self.number(s)?,
                Token::Offset(s) => self.offset(s)?,
                Token::Word(s) => self.word(s, text)?,
            }
        }
        self.finish()
    }

    fn date(&mut self, token: &str) -> Result<(), Fault> {
        if self.year.is_some() || self.day.is_some() {
            return Err(Fault::Syntax);
        }
        let parts: Vec<&str> = token.split(['-', '/', '.']).collect();
        if let [year, day] = parts.as_slice()
            && year.len() >= 4
            && day.len() == 3
        {
            // Year and day of the year.
            self.set_day_of_year(year, day)?;
            return Ok(());
        }
        if parts.len() != 3 {
            return Err(Fault::Syntax);
        }
        let mut numbers = Vec::with_capacity(3);
        for p in &parts {
            match month_number(p) {
                Some(m) if self.month.is_none() => self.month = Some(m),
                Some(_) => return Err(Fault::Syntax),
                None => numbers.push((p.parse::<i64>().map_err(|_| Fault::Syntax)?, p.len())),
            }
        }
        match numbers.as_slice() {
            // The month is a word: the year comes first where it must, or the order says so.
            [first, second] if first.1 > 2 || (self.order == DateOrder::Ymd && second.1 <= 2) => {
                (self.year, self.day) = (Some(*first), Some(second.0))
            }
            [first, second] => (self.day, self.year) = (Some(first.0), Some(*second)),
            [y, m, d] if y.1 > 2 => (self.year, self.month, self.day) = (Some(*y), Some(m.0), Some(d.0)),
            [a, b, c] => match self.order {
                DateOrder::Mdy => (self.month, self.day, self.year) = (Some(a.0), Some(b.0), Some(*c)),
                DateOrder::Dmy => (self.day, self.month, self.year) = (Some(a.0), Some(b.0), Some(*c)),
                DateOrder::Ymd => (self.year, self.month, self.day) = (Some(*a), Some(b.0), Some(c.0)),
            },
            _ => return Err(Fault::Syntax),
        }
        Ok(())
    }

    fn set_day_of_year(&mut self, year: &str, day: &str) -> Result<(), Fault> {
        let y: i64 = year.parse().map_err(|_| Fault::Syntax)?;
        let d: i64 = day.parse().map_err(|_| Fault::Syntax)?;
        if y > MAX_YEAR {
            return Err(Fault::Field);
        }
        if !(1..=365 + i64::from(crate::calendar::is_leap(y))).contains(&d) {
            return Err(Fault::Field);
        }
        let c = crate::calendar::civil(days(y, 1, 1) + d - 1);
        (self.year, self.month, self.day) = (Some((y, year.len())), Some(c.month), Some(c.day));
        Ok(())
    }

    fn time(&mut self, token: &str) -> Result<(), Fault> {
        if self.fields.time.is_some() {
            return Err(Fault::Syntax);
        }
        let parts: Vec<&str> = token.split(':').collect();
        let integer = |s: &str| s.parse::<i64>().map_err(|_| Fault::Syntax);
        let (h, m, s) = match parts.as_slice() {
            [h, m] if !m.contains('.') => (integer(h)?, integer(m)?, 0),
            // Minutes and seconds are read where the second part has a fraction.
            [m, s] => (0, integer(m)?, seconds(s)?),
            [h, m, s] => (integer(h)?, integer(m)?, seconds(s)?),
            _ => return Err(Fault::Syntax),
        };
        if m > 59 || s > 60 * US_PER_SECOND || h > 24 || (h == 24 && (m > 0 || s > 0)) {
            return Err(Fault::Field);
        }
        self.fields.time = Some(h * US_PER_HOUR + m * US_PER_MINUTE + s);
        Ok(())
    }

    fn number(&mut self, token: &str) -> Result<(), Fault> {
        let (whole, fraction) = token.split_once('.').unwrap_or((token, ""));
        let value: i64 = whole.parse().map_err(|_| Fault::Field)?;
        let have_date = self.year.is_some() && self.month.is_some() && self.day.is_some();
        if have_date || self.iso_time {
            // hhmmss[.f] or hhmm after a date.
            if self.fields.time.is_some() {
                return Err(Fault::Syntax);
            }
            let text = match whole.len() {
                6 => format!("{}:{}:{}.{fraction}", &whole[..2], &whole[2..4], &whole[4..]),
                4 => format!("{}:{}", &whole[..2], &whole[2..]),
                2 if self.iso_time => format!("{whole}:00"),
                _ => return Err(Fault::Syntax),
            };
            return self.time(text.trim_end_matches('.'));
        }
        if whole.len() == 4 && fraction.len() == 3 && self.year.is_none() {
            return self.set_day_of_year(whole, fraction);
        }
        if !fraction.is_empty() {
            return Err(Fault::Syntax);
        }
        if std::mem::take(&mut self.julian) {
            if value > MAX_JULIAN {
                return Err(Fault::Field);
            }
            let c = crate::calendar::civil(value - 2_451_545);
            (self.year, self.month, self.day) = (Some((shown_year(c.year), 4)), Some(c.month), Some(c.day));
            self.before_christ = (c.year <= 0).then_some(true);
            return Ok(());
        }
        match whole.len() {
            8 => {
                self.year = Some((value / 10_000, 4));
                (self.month, self.day) = (Some(value / 100 % 100), Some(value % 100));
            }
            6 if self.month.is_none() => {
                self.year = Some((value / 10_000, 2));
                (self.month, self.day) = (Some(value / 100 % 100), Some(value % 100));
            }
            n if n >= 3 && self.year.is_none() => self.year = Some((value, n)),
            _ if self.month.is_none() && self.year.is_none() && self.day.is_none() => self.day = Some(value),
            _ if self.day.is_none() => self.day = Some(value),
            n if self.year.is_none() => self.year = Some((value, n)),
            _ => return Err(Fault::Syntax),
        }
        Ok(())
    }

    fn offset(&mut self, token: &str) -> Result<(), Fault> {
        if self.fields.zone.is_some() {
            // POSIX: UTC+3 counts westwards.
            return Err(Fault::Syntax);
        }
        if self.fields.time.is_none() && !(self.year.is_some() && self.day.is_some()) {
            return Err(Fault::Syntax);
        }
        let offset = parse_offset(token).ok_or(Fault::Displacement)?;
        self.fields.zone = Some(TimeZone::Fixed(offset));
        Ok(())
    }

    fn word(&mut self, word: &str, text: &str) -> Result<(), Fault> {
        if let Some(m) = month_number(word) {
            if let Some(first) = self.month.replace(m) {
                // "08 Jan" read a day; "1 8 Jan" makes no sense.
                if self.day.is_some() {
                    return Err(Fault::Syntax);
                }
                self.day = Some(first);
            }
            return Ok(());
        }
        if is_weekday(word) {
            return Ok(());
        }
        match word {
            "t" => self.iso_time = true,
            "j" | "jd" | "julian" => self.julian = true,
            "at" | "on" | "of" => {}
            "am" => self.afternoon = Some(false),
            "pm" => self.afternoon = Some(true),
            "ad" | "ce" => self.before_christ = Some(false),
            "bc" | "bce" => self.before_christ = Some(true),
            "now" => self.fields.special = Some(Special::Now),
            "today" => self.fields.special = Some(Special::Day(0)),
            "tomorrow" => self.fields.special = Some(Special::Day(1)),
            "yesterday" => self.fields.special = Some(Special::Day(-1)),
            "epoch" => self.fields.special = Some(Special::Epoch),
            "infinity" | "+infinity" | "inf" | "+inf" => self.fields.special = Some(Special::Infinity),
            "-infinity" | "-inf" => self.fields.special = Some(Special::NegativeInfinity),
            "allballs" => {
                self.fields.time = Some(0);
                self.fields.zone = Some(TimeZone::Utc);
            }
            _ => {
                let zone = TimeZone::by_name(word).ok_or_else(|| {
                    if self.fields.time.is_some() && word.contains('/') {
                        let lower = text.to_ascii_lowercase();
                        let at = lower.find(word).unwrap_or(0);
                        Fault::ZoneUnknown(lower[at..at + word.len()].to_owned())
                    } else {
                        Fault::Syntax
                    }
                })?;
                if self.fields.zone.replace(zone).is_some() {
                    return Err(Fault::Syntax);
                }
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Fields, Fault> {
        if let Some(pm) = self.afternoon {
            let time = self.fields.time.ok_or(Fault::Syntax)?;
            let (hour, rest) = (time / US_PER_HOUR, time % US_PER_HOUR);
            if !(0..=12).contains(&hour) {
                return Err(Fault::Field);
            }
            self.fields.time = Some((hour % 12 + if pm { 12 } else { 0 }) * US_PER_HOUR + rest);
        }
        if self.fields.special.is_some() {
            if self.year.is_some() || self.month.is_some() || self.day.is_some() {
                return Err(Fault::Syntax);
            }
            return Ok(self.fields);
        }
        match (self.year, self.month, self.day) {
            (Some((year, len)), Some(month), Some(day)) => {
                let year = match self.before_christ {
                    Some(true) if year > 0 => 1 - year,
                    Some(_) if year <= 0 => return Err(Fault::Field),
                    None if len <= 2 && year < 70 => year + 2000,
                    None if len <= 2 => year + 1900,
                    _ if year == 0 => return Err(Fault::Field),
                    _ => year,
                };
                if year.abs() > MAX_YEAR {
                    return Err(Fault::Field);
                }
                if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
                    return Err(Fault::MonthDay);
                }
                if day > days_in_month(year, month) {
                    return Err(Fault::Field);
                }
                self.fields.date = Some((year, month, day));
            }
            (None, None, None) if self.before_christ.is_none() => {}
            _ => return Err(Fault::Syntax),
        }
        if self.fields.date.is_none() && self.fields.time.is_none() {
            return Err(Fault::Syntax);
        }
        Ok(self.fields)
    }
}

/// `ss[.ffffff]` in microseconds, rounded at the seventh digit.
fn seconds(text: &str) -> Result<i64, Fault> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let s = i64::from(whole.parse::<i32>().map_err(|_| Fault::Syntax)?);
    Ok(s * US_PER_SECOND + fraction_us(fraction).ok_or(Fault::Syntax)?)
}

/// Digits after a point in microseconds, rounded.
pub(super) fn fraction_us(digits: &str) -> Option<i64> {
    if digits.is_empty() {
        return Some(0);
    }
    let value: f64 =
        format!("0.{digits}").parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))?;
    Some((value * 1e6).round_ties_even() as i64)
}

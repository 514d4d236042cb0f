//! The session's time zone: offsets for instants and for local times.

use chrono::{NaiveDate, NaiveDateTime, Offset, TimeZone as _};
use chrono_tz::OffsetName;

use crate::calendar::{US_PER_SECOND, epoch_days};
use crate::error::{Result, SqlError};

/// A time zone: UTC, a fixed offset, or one of the IANA database.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TimeZone {
    /// `UTC`, `GMT`, `Z`
    #[default]
    Utc,
    /// Seconds east of Greenwich.
    Fixed(i32),
    /// A named zone with its rules.
    Named(chrono_tz::Tz),
}

/// Abbreviations of PostgreSQL's default list that stand for one offset, in hours east.
const ABBREVIATIONS: &[(&str, f64)] = &[
    ("UTC", 0.0),
    ("GMT", 0.0),
    ("UT", 0.0),
    ("WET", 0.0),
    ("Z", 0.0),
    ("ZULU", 0.0),
    ("BST", 1.0),
    ("CET", 1.0),
    ("MET", 1.0),
    ("WEST", 1.0),
    ("CEST", 2.0),
    ("EET", 2.0),
    ("MEST", 2.0),
    ("EEST", 3.0),
    ("MSK", 3.0),
    ("JST", 9.0),
    ("KST", 9.0),
    ("AEST", 10.0),
    ("AEDT", 11.0),
    ("NZST", 12.0),
    ("NZDT", 13.0),
    ("EST", -5.0),
    ("EDT", -4.0),
    ("CST", -6.0),
    ("CDT", -5.0),
    ("MST", -7.0),
    ("MDT", -6.0),
    ("PST", -8.0),
    ("PDT", -7.0),
    ("AKST", -9.0),
    ("AKDT", -8.0),
    ("HST", -10.0),
    ("NST", -3.5),
    ("NDT", -2.5),
];

impl TimeZone {
    /// The zone of `SET TimeZone`: a name, an abbreviation, a number of hours east of Greenwich, or a POSIX
    /// specification such as `UTC-3`, whose sign counts westwards.
    pub fn parse(name: &str) -> Result<TimeZone> {
        let invalid =
            || SqlError::invalid_parameter(format!("invalid value for parameter \"TimeZone\": \"{name}\""));
        let trimmed = name.trim();
        if let Ok(hours) = trimmed.parse::<f64>() {
            if !hours.is_finite() || hours.abs() > 167.0 {
                return Err(invalid());
            }
            return Ok(TimeZone::Fixed((hours * 3600.0) as i32));
        }
        if let Some(zone) = Self::by_name(trimmed) {
            return Ok(zone);
        }
        if let Some(offset) = parse_offset(trimmed) {
            return Ok(TimeZone::Fixed(offset));
        }
        let at = match trimmed.strip_prefix('<') {
            Some(rest) => rest.find('>').map(|i| i + 2),
            None => trimmed.find(['+', '-']).filter(|i| *i >= 3),
        };
        let westward = at.and_then(|at| trimmed.get(at..)).and_then(|rest| {
            if rest.starts_with(['+', '-']) { parse_offset(rest) } else { parse_offset(&format!("+{rest}")) }
        });
        westward.map(|w| TimeZone::Fixed(-w)).ok_or_else(invalid)
    }

    /// The zone with this name or abbreviation, in any case.
    pub fn by_name(name: &str) -> Option<TimeZone> {
        if name.eq_ignore_ascii_case("UTC")
            || name.eq_ignore_ascii_case("GMT")
            || name.eq_ignore_ascii_case("Z")
        {
            return Some(TimeZone::Utc);
        }
        if let Some((_, hours)) = ABBREVIATIONS.iter().find(|(a, _)| a.eq_ignore_ascii_case(name)) {
            return Some(TimeZone::Fixed((hours * 3600.0) as i32));
        }
        chrono_tz::Tz::from_str_insensitive(name).ok().map(TimeZone::Named)
    }

    /// What `SHOW TimeZone` answers.
    pub fn name(&self) -> String {
        match self {
            TimeZone::Utc => "UTC".to_owned(),
            TimeZone::Named(tz) => tz.name().to_owned(),
            TimeZone::Fixed(seconds) => {
                let text = |seconds: i32| {
                    let (sign, abs) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs());
                    let (h, m) = (abs / 3600, abs / 60 % 60);
                    if m == 0 { format!("{sign}{h:02}") } else { format!("{sign}{h:02}:{m:02}") }
                };
                format!("<{}>{}", text(*seconds), text(-*seconds))
            }
        }
    }

    /// Seconds east of Greenwich at an instant (microseconds since 2000-01-01 UTC).
    pub fn offset_at(&self, us: i64) -> i32 {
        match self {
            TimeZone::Utc => 0,
            TimeZone::Fixed(s) => *s,
            TimeZone::Named(tz) => tz.offset_from_utc_datetime(&naive(us)).fix().local_minus_utc(),
        }
    }

    /// The zone's name at an instant, as dates carry it: `PST`, or an offset where it has no name.
    pub fn abbreviation_at(&self, us: i64) -> String {
        let offset = |seconds: i32| {
            let (sign, abs) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs());
            let (h, m) = (abs / 3600, abs / 60 % 60);
            if m == 0 { format!("{sign}{h:02}") } else { format!("{sign}{h:02}:{m:02}") }
        };
        match self {
            TimeZone::Utc => "UTC".to_owned(),
            TimeZone::Fixed(seconds) => offset(*seconds),
            TimeZone::Named(tz) => {
                let at = tz.offset_from_utc_datetime(&naive(us));
                match at.abbreviation() {
                    Some(name) => name.to_owned(),
                    None => offset(at.fix().local_minus_utc()),
                }
            }
        }
    }

    /// Seconds east of Greenwich at a local time (microseconds since 2000-01-01 by the wall clock). A time that the
    /// clock skips counts by the offset before the gap, one that it shows twice by the offset after, as in PostgreSQL.
    pub fn offset_for_local(&self, us: i64) -> i32 {
        match self {
            TimeZone::Utc => 0,
            TimeZone::Fixed(s) => *s,
            TimeZone::Named(tz) => {
                let local = naive(us);
                match tz.offset_from_local_datetime(&local) {
                    chrono::LocalResult::Single(o) => o.fix().local_minus_utc(),
                    chrono::LocalResult::Ambiguous(_, later) => later.fix().local_minus_utc(),
                    chrono::LocalResult::None => {
                        let before = local.checked_sub_signed(chrono::Duration::hours(24)).unwrap_or(local);
                        tz.offset_from_utc_datetime(&before).fix().local_minus_utc()
                    }
                }
            }
        }
    }

    /// The wall clock's time at an instant; infinities stay.
    pub fn to_local(&self, us: i64) -> i64 {
        if us == i64::MIN || us == i64::MAX {
            return us;
        }
        us.saturating_add(i64::from(self.offset_at(us)) * US_PER_SECOND)
    }

    /// The instant at which the wall clock shows a time; infinities stay.
    pub fn to_utc(&self, local: i64) -> i64 {
        if local == i64::MIN || local == i64::MAX {
            return local;
        }
        local.saturating_sub(i64::from(self.offset_for_local(local)) * US_PER_SECOND)
    }
}

/// `+hh`, `+hhmm`, `+hh:mm`, `+hh:mm:ss` as seconds.
pub(crate) fn parse_offset(text: &str) -> Option<i32> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    if rest.is_empty() || !rest.bytes().all(|b| b.is_ascii_digit() || b == b':') {
        return None;
    }
    let parts: Vec<&str> = rest.split(':').collect();
    let number = |s: &str| s.parse::<i32>().ok();
    let (h, m, s) = match parts.as_slice() {
        [one] if one.len() <= 2 => (number(one)?, 0, 0),
        [one] if one.len() <= 4 => {
            let (h, m) = one.split_at(one.len() - 2);
            (number(h)?, number(m)?, 0)
        }
        [one] if one.len() == 6 => (number(&one[..2])?, number(&one[2..4])?, number(&one[4..])?),
        [h, m] => (number(h)?, number(m)?, 0),
        [h, m, s] => (number(h)?, number(m)?, number(s)?),
        _ => return None,
    };
    (h <= 15 && m < 60 && s < 60).then_some(sign * (h * 3600 + m * 60 + s))
}

/// Chrono's form of a time, clamped to the range of its calendar, where no zone has rules any more.
fn naive(us: i64) -> NaiveDateTime {
    let unix = us.div_euclid(US_PER_SECOND) + epoch_days() * 86_400;
    let clamped = unix.clamp(-8_000_000_000_000, 8_000_000_000_000);
    chrono::DateTime::from_timestamp(clamped, 0).map(|d| d.naive_utc()).unwrap_or_else(|| {
        NaiveDate::from_ymd_opt(2000, 1, 1).and_then(|d| d.and_hms_opt(0, 0, 0)).expect("a constant date")
    })
}

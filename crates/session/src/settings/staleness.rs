//! How old a snapshot a read-only transaction may use: `read_staleness`, Spanner's variable of the same purpose, and
//! the resolution of both against TrueTime.

use meridian_datum::{DataType, Datum, EvalContext, SqlError, parse_text};
use meridian_kv_api::ReadBound;
use meridian_types::{Duration, Timestamp, TtInterval};

/// 2000-01-01 00:00 UTC in microseconds of the Unix epoch.
pub(crate) const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A staleness, before the clock is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Staleness {
    /// Everything that was answered before is seen.
    #[default]
    Strong,
    /// Exactly this long ago.
    Exact(Duration),
    /// At most this long ago.
    Max(Duration),
    /// At this timestamp.
    At(Timestamp),
    /// Not before this timestamp.
    AtLeast(Timestamp),
}

impl Staleness {
    /// The bound of a transaction that begins at `now`.
    pub(crate) fn bound(self, now: TtInterval) -> ReadBound {
        match self {
            Staleness::Strong => ReadBound::Strong,
            Staleness::Exact(age) => ReadBound::At(now.earliest().saturating_sub(age)),
            Staleness::Max(age) => ReadBound::AtLeast(now.earliest().saturating_sub(age)),
            Staleness::At(t) => ReadBound::At(t),
            Staleness::AtLeast(t) => ReadBound::AtLeast(t),
        }
    }
}

fn invalid(value: &str) -> SqlError {
    SqlError::invalid_parameter(format!("invalid read staleness: \"{value}\"")).with_hint(
        "Use strong, exact <duration>, max <duration>, read_timestamp <timestamp> or min_read_timestamp <timestamp>.",
    )
}

/// `10s`, `250ms`, `1.5h`, `10 seconds`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim().trim_matches('\'');
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let scale = match unit.trim() {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" | "millisecond" | "milliseconds" => 1e6,
        "" | "s" | "sec" | "second" | "seconds" => 1e9,
        "m" | "min" | "minute" | "minutes" => 60e9,
        "h" | "hour" | "hours" => 3600e9,
        "d" | "day" | "days" => 86_400e9,
        _ => return None,
    };
    let nanos = number * scale;
    (nanos < 9.0e18).then_some(Duration::from_nanos(nanos as u64))
}

/// A timestamp: decimal nanoseconds since the epoch, or a date and time with up to nine decimals.
pub(crate) fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let text = text.trim().trim_matches('\'');
    if let Ok(nanos) = text.parse::<u64>() {
        return Some(Timestamp::from_nanos(nanos));
    }
    // The fraction of a second has nine digits here and six in SQL, so it is read apart.
    let (whole, nanos) = match text.find('.') {
        None => (text.to_owned(), 0),
        Some(dot) => {
            let digits = text[dot + 1..].bytes().take_while(u8::is_ascii_digit).count();
            if digits == 0 || digits > 9 {
                return None;
            }
            let fraction: u64 = text[dot + 1..dot + 1 + digits].parse().ok()?;
            let mut whole = text[..dot].to_owned();
            whole.push_str(&text[dot + 1 + digits..]);
            (whole, fraction * 10u64.pow(9 - digits as u32))
        }
    };
    match parse_text(&EvalContext::default(), &whole, &DataType::TimestampTz).ok()? {
        Datum::TimestampTz(micros) if micros != i64::MAX && micros != i64::MIN => {
            let unix_micros = u64::try_from(micros + POSTGRES_EPOCH_MICROS).ok()?;
            Some(Timestamp::from_nanos(unix_micros * 1000 + nanos))
        }
        _ => None,
    }
}

/// The words of `read_staleness`.
pub(crate) fn parse(value: &str) -> Result<Staleness, SqlError> {
    let v = value.trim();
    let (word, rest) = v.split_once([' ', '=']).unwrap_or((v, ""));
    let parsed = match word.to_ascii_lowercase().as_str() {
        "strong" if rest.trim().is_empty() => Some(Staleness::Strong),
        "exact" | "exact_staleness" => parse_duration(rest).map(Staleness::Exact),
        "max" | "max_staleness" => parse_duration(rest).map(Staleness::Max),
        "read_timestamp" => parse_timestamp(rest).map(Staleness::At),
        "min_read_timestamp" => parse_timestamp(rest).map(Staleness::AtLeast),
        _ => None,
    };
    parsed.ok_or_else(|| invalid(value))
}

/// The words of `spanner.read_only_staleness`: `STRONG`, `EXACT_STALENESS 10s`, `MAX_STALENESS 10s`,
/// `READ_TIMESTAMP ...`, `MIN_READ_TIMESTAMP ...`.
pub(crate) fn parse_spanner(value: &str) -> Result<Staleness, SqlError> {
    parse(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_and_their_bounds() {
        let now =
            TtInterval::new(Timestamp::from_nanos(10_000_000_000), Timestamp::from_nanos(10_000_000_100));
        let at = |ns| ReadBound::At(Timestamp::from_nanos(ns));
        for (text, expected) in [
            ("strong", ReadBound::Strong),
            ("exact 1s", at(9_000_000_000)),
            ("EXACT_STALENESS 500ms", at(9_500_000_000)),
            ("max 2 seconds", ReadBound::AtLeast(Timestamp::from_nanos(8_000_000_000))),
            ("read_timestamp 12345", at(12_345)),
            ("min_read_timestamp 77", ReadBound::AtLeast(Timestamp::from_nanos(77))),
            ("exact 1h", at(0)),
        ] {
            assert_eq!(parse(text).unwrap().bound(now), expected, "{text}");
        }
        for bad in ["", "weak", "exact", "exact ten", "max -1s", "strong 10s"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

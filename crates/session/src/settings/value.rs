//! The values that settings take: parsing, bounds and the normal form that `SHOW` prints.

use meridian_datum::{DateStyle, SqlError, SqlState, TimeZone};

/// The base unit of an integer setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unit {
    /// A plain number.
    None,
    /// `ms`
    Milliseconds,
    /// `s`
    Seconds,
    /// `kB`
    Kilobytes,
    /// Blocks of 8 kB.
    Pages,
}

/// Which values a setting takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// `on`, `off` and their synonyms.
    Bool,
    /// Anything.
    Text,
    /// A floating-point number.
    Real,
    /// An integer with a unit.
    Int {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
        /// The base unit.
        unit: Unit,
    },
    /// One of these words.
    Enum(&'static [&'static str]),
    /// A comma-separated list of identifiers.
    List,
    /// A known time zone.
    TimeZone,
    /// ISO output with an input order.
    DateStyle,
    /// UTF-8, by any of its names.
    Encoding,
    /// Settings that PostgreSQL lets switch off and this database does not.
    OnlyOn,
    /// Settings that PostgreSQL lets switch on and this database does not.
    OnlyOff,
    /// `strong`, `exact 10s`, `max 10s`, `min_read_timestamp ...`
    Staleness,
    /// Spanner's words for the same.
    SpannerStaleness,
}

fn invalid(name: &str, value: &str) -> SqlError {
    SqlError::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("invalid value for parameter \"{name}\": \"{value}\""),
    )
}

/// A zone by name, offset or POSIX specification.
pub(crate) fn time_zone(value: &str) -> Option<TimeZone> {
    let value = value.trim().trim_matches('\'');
    match value.to_ascii_lowercase().as_str() {
        "default" | "local" => Some(TimeZone::Utc),
        _ => TimeZone::parse(value).ok(),
    }
}

/// `on`/`off` and what PostgreSQL takes for them: unique prefixes of true, false, yes, no, and 1, 0.
pub(crate) fn parse_bool(value: &str) -> Option<bool> {
    let v = value.trim().to_ascii_lowercase();
    let is_prefix = |word: &str, least: usize| v.len() >= least && word.starts_with(&v);
    if is_prefix("true", 1) || is_prefix("yes", 1) || v == "on" || v == "1" {
        Some(true)
    } else if is_prefix("false", 1) || is_prefix("no", 1) || is_prefix("off", 2) || v == "0" {
        Some(false)
    } else {
        None
    }
}

impl Unit {
    /// Multipliers of the base unit, largest first, as PostgreSQL prints them.
    fn scale(self) -> &'static [(&'static str, i64)] {
        match self {
            Unit::None => &[],
            Unit::Milliseconds => {
                &[("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1)]
            }
            Unit::Seconds => &[("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)],
            Unit::Kilobytes => &[("TB", 1 << 30), ("GB", 1 << 20), ("MB", 1 << 10), ("kB", 1)],
            Unit::Pages => &[("TB", 1 << 27), ("GB", 1 << 17), ("MB", 1 << 7)],
        }
    }
}

/// An integer with an optional unit, in the base unit.
pub(crate) fn parse_int(value: &str, unit: Unit) -> Option<i64> {
    let v = value.trim();
    let digits =
        v.find(|c: char| !(c.is_ascii_digit() || c == '-' || c == '+' || c == '.')).unwrap_or(v.len());
    let (number, suffix) = v.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let suffix = suffix.trim();
    let factor = match (suffix, unit) {
        ("", _) => 1.0,
        ("us", Unit::Milliseconds) => 0.001,
        ("ms", Unit::Seconds) => 0.001,
        ("kB", Unit::Pages) => 1.0 / 8.0,
        _ => unit.scale().iter().find(|(name, _)| *name == suffix)?.1 as f64,
    };
    let scaled = (number * factor).round();
    (scaled.abs() < 9.0e18).then_some(scaled as i64)
}

fn print_int(value: i64, unit: Unit) -> String {
    if value > 0 {
        if let Some((name, factor)) = unit.scale().iter().find(|(_, f)| value % f == 0) {
            return format!("{}{name}", value / factor);
        }
        if unit == Unit::Pages {
            return format!("{}kB", value * 8);
        }
    }
    value.to_string()
}

/// A date style as the value names it; the empty value is PostgreSQL's own.
pub(crate) fn date_style(value: &str) -> DateStyle {
    DateStyle::parse(value, DateStyle::default()).unwrap_or_default()
}

impl Kind {
    /// The normal form of a value. `current` is the value in force, which a list need not say again.
    pub(crate) fn normalise(self, name: &str, value: &str, current: &str) -> Result<String, SqlError> {
        match self {
            Kind::Text | Kind::List => Ok(value.to_owned()),
            Kind::Bool | Kind::OnlyOn | Kind::OnlyOff => self.normalise_bool(name, value),
            Kind::Real => match value.trim().parse::<f64>() {
                Ok(v) if v.is_finite() => Ok(v.to_string()),
                _ => Err(invalid(name, value)),
            },
            Kind::Int { min, max, unit } => {
                let Some(v) = parse_int(value, unit) else { return Err(invalid(name, value)) };
                if v < min || v > max {
                    let message =
                        format!("{v} is outside the valid range for parameter \"{name}\" ({min} .. {max})");
                    return Err(SqlError::invalid_parameter(message));
                }
                Ok(print_int(v, unit))
            }
            Kind::Enum(words) => match words.iter().find(|w| w.eq_ignore_ascii_case(value.trim())) {
                Some(w) => Ok((*w).to_owned()),
                None => {
                    Err(invalid(name, value).with_hint(format!("Available values: {}.", words.join(", "))))
                }
            },
            Kind::TimeZone => match time_zone(value) {
                Some(zone) => Ok(zone.name()),
                None => Err(invalid(name, value)),
            },
            Kind::DateStyle => match DateStyle::parse(value, date_style(current)) {
                Some(style) => Ok(style.to_string()),
                None => Err(invalid(name, value)),
            },
            Kind::Encoding => match value.to_ascii_lowercase().replace(['-', '_', '\'', '"'], "").as_str() {
                "utf8" | "unicode" | "sqlascii" | "auto" | "default" => Ok("UTF8".to_owned()),
                _ => Err(SqlError::unsupported(format_args!("client encoding \"{value}\""))),
            },
            Kind::Staleness => super::staleness::parse(value).map(|_| value.trim().to_ascii_lowercase()),
            Kind::SpannerStaleness => super::staleness::parse_spanner(value).map(|_| value.trim().to_owned()),
        }
    }

    fn normalise_bool(self, name: &str, value: &str) -> Result<String, SqlError> {
        let Some(v) = parse_bool(value) else {
            let message = format!("parameter \"{name}\" requires a Boolean value");
            return Err(SqlError::invalid_parameter(message));
        };
        match (self, v) {
            (Kind::OnlyOn, false) => Err(SqlError::unsupported(format_args!("{name} = off"))),
            (Kind::OnlyOff, true) => Err(SqlError::unsupported(format_args!("{name} = on"))),
            (_, true) => Ok("on".to_owned()),
            (_, false) => Ok("off".to_owned()),
        }
    }
}

//! `DateStyle`: how dates are written, and in which order day and month are read where nothing else tells.

use std::fmt;

/// The setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DateStyle {
    /// How dates are written.
    pub format: DateFormat,
    /// The order of day, month and year.
    pub order: DateOrder,
}

/// How dates are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DateFormat {
    /// `1997-12-17 07:37:16-08`
    #[default]
    Iso,
    /// `12/17/1997 07:37:16.00 PST`
    Sql,
    /// `Wed Dec 17 07:37:16 1997 PST`
    Postgres,
    /// `17.12.1997 07:37:16.00 PST`
    German,
}

/// The order of day, month and year in `01/02/03`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DateOrder {
    /// Month, day, year.
    #[default]
    Mdy,
    /// Day, month, year.
    Dmy,
    /// Year, month, day.
    Ymd,
}

impl DateStyle {
    /// Reads a list such as `SQL, DMY`; what it does not say stays as in `current`. `None` for an unknown word, and for
    /// two words that contradict each other.
    pub fn parse(text: &str, current: DateStyle) -> Option<DateStyle> {
        let (mut format, mut order) = (None, None);
        for word in text.split(',') {
            let word = word.trim().to_ascii_lowercase();
            let (new_format, new_order) = match word.as_str() {
                "iso" => (Some(DateFormat::Iso), None),
                "sql" => (Some(DateFormat::Sql), None),
                "german" => (Some(DateFormat::German), None),
                w if w.starts_with("postgres") => (Some(DateFormat::Postgres), None),
                "ymd" => (None, Some(DateOrder::Ymd)),
                "mdy" | "us" => (None, Some(DateOrder::Mdy)),
                w if w.starts_with("noneuro") => (None, Some(DateOrder::Mdy)),
                "dmy" => (None, Some(DateOrder::Dmy)),
                w if w.starts_with("euro") => (None, Some(DateOrder::Dmy)),
                "default" => {
                    let default = DateStyle::default();
                    (format.is_none().then_some(default.format), order.is_none().then_some(default.order))
                }
                _ => return None,
            };
            if new_format.is_some_and(|n| format.is_some_and(|f| f != n))
                || new_order.is_some_and(|n| order.is_some_and(|o| o != n))
            {
                return None;
            }
            format = new_format.or(format);
            order = new_order.or(order);
        }
        if format == Some(DateFormat::German) {
            order = order.or(Some(DateOrder::Dmy));
        }
        Some(DateStyle { format: format.unwrap_or(current.format), order: order.unwrap_or(current.order) })
    }
}

impl fmt::Display for DateStyle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = match self.format {
            DateFormat::Iso => "ISO",
            DateFormat::Sql => "SQL",
            DateFormat::Postgres => "Postgres",
            DateFormat::German => "German",
        };
        let order = match self.order {
            DateOrder::Mdy => "MDY",
            DateOrder::Dmy => "DMY",
            DateOrder::Ymd => "YMD",
        };
        write!(f, "{format}, {order}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_change_what_they_name() {
        let parse = |text: &str, current: &str| {
            let current = DateStyle::parse(current, DateStyle::default()).unwrap();
            DateStyle::parse(text, current).map(|s| s.to_string())
        };
        for (text, current, expected) in [
            ("ISO", "SQL, DMY", Some("ISO, DMY")),
            ("dmy", "SQL", Some("SQL, DMY")),
            ("Postgres, MDY", "ISO", Some("Postgres, MDY")),
            ("european,sql", "ISO", Some("SQL, DMY")),
            ("German", "ISO", Some("German, DMY")),
            ("german, ymd", "ISO", Some("German, YMD")),
            ("US", "ISO, DMY", Some("ISO, MDY")),
            ("default", "SQL, DMY", Some("ISO, MDY")),
            ("iso, sql", "ISO", None),
            ("mdy, dmy", "ISO", None),
            ("julian", "ISO", None),
            ("", "ISO", None),
        ] {
            assert_eq!(parse(text, current).as_deref(), expected, "{text} on {current}");
        }
    }
}

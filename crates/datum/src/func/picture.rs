//! The template patterns of date and time formats, which `to_char` writes by and `to_date` reads by.

/// A piece of a template.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Node {
    /// A pattern with its modifiers.
    Field {
        /// What it stands for.
        field: Field,
        /// `FM`: no padding.
        fill: bool,
        /// `TH`, `th`: an ordinal suffix.
        ordinal: Option<Case>,
    },
    /// Anything else, quoted or not.
    Literal(char),
}

/// How letters are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Case {
    Upper,
    Capital,
    Lower,
}

/// A pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field {
    Hour12,
    Hour24,
    Minute,
    Second,
    Millisecond,
    Microsecond,
    /// So many digits of the fraction of a second.
    Fraction(u32),
    SecondOfDay,
    /// AM or PM, with points or without.
    Meridiem(Case, bool),
    /// The last so many digits of the year; four are the whole of it.
    Year(u32),
    YearComma,
    IsoYear(u32),
    /// BC or AD.
    Era(Case, bool),
    MonthName(Case),
    MonthShort(Case),
    Month,
    RomanMonth(Case),
    DayName(Case),
    DayShort(Case),
    DayOfYear,
    IsoDayOfYear,
    Day,
    /// Sunday is 1.
    DayOfWeek,
    /// Monday is 1.
    IsoDayOfWeek,
    WeekOfMonth,
    WeekOfYear,
    IsoWeek,
    Century,
    Julian,
    Quarter,
    ZoneName(Case),
    ZoneHours,
    ZoneMinutes,
    ZoneOffset,
}

use Case::{Capital, Lower, Upper};

/// Longest first among those with a common beginning. Patterns without letters of both cases are matched in any case.
const PATTERNS: &[(&str, Field)] = &[
    ("SSSSS", Field::SecondOfDay),
    ("SSSS", Field::SecondOfDay),
    ("HH24", Field::Hour24),
    ("HH12", Field::Hour12),
    ("HH", Field::Hour12),
    ("MI", Field::Minute),
    ("SS", Field::Second),
    ("MS", Field::Millisecond),
    ("US", Field::Microsecond),
    ("FF1", Field::Fraction(1)),
    ("FF2", Field::Fraction(2)),
    ("FF3", Field::Fraction(3)),
    ("FF4", Field::Fraction(4)),
    ("FF5", Field::Fraction(5)),
    ("FF6", Field::Fraction(6)),
    ("Y,YYY", Field::YearComma),
    ("YYYY", Field::Year(4)),
    ("YYY", Field::Year(3)),
    ("YY", Field::Year(2)),
    ("Y", Field::Year(1)),
    ("IYYY", Field::IsoYear(4)),
    ("IYY", Field::IsoYear(3)),
    ("IDDD", Field::IsoDayOfYear),
    ("IY", Field::IsoYear(2)),
    ("IW", Field::IsoWeek),
    ("ID", Field::IsoDayOfWeek),
    ("I", Field::IsoYear(1)),
    ("MM", Field::Month),
    ("DDD", Field::DayOfYear),
    ("DD", Field::Day),
    ("WW", Field::WeekOfYear),
    ("W", Field::WeekOfMonth),
    ("CC", Field::Century),
    ("J", Field::Julian),
    ("Q", Field::Quarter),
    ("TZH", Field::ZoneHours),
    ("TZM", Field::ZoneMinutes),
    ("OF", Field::ZoneOffset),
];

/// Patterns whose own case decides the case of what they write; tried before the others.
const CASED: &[(&str, Field)] = &[
    ("A.M.", Field::Meridiem(Upper, true)),
    ("P.M.", Field::Meridiem(Upper, true)),
    ("a.m.", Field::Meridiem(Lower, true)),
    ("p.m.", Field::Meridiem(Lower, true)),
    ("AM", Field::Meridiem(Upper, false)),
    ("PM", Field::Meridiem(Upper, false)),
    ("am", Field::Meridiem(Lower, false)),
    ("pm", Field::Meridiem(Lower, false)),
    ("B.C.", Field::Era(Upper, true)),
    ("A.D.", Field::Era(Upper, true)),
    ("b.c.", Field::Era(Lower, true)),
    ("a.d.", Field::Era(Lower, true)),
    ("BC", Field::Era(Upper, false)),
    ("AD", Field::Era(Upper, false)),
    ("bc", Field::Era(Lower, false)),
    ("ad", Field::Era(Lower, false)),
    ("MONTH", Field::MonthName(Upper)),
    ("Month", Field::MonthName(Capital)),
    ("month", Field::MonthName(Lower)),
    ("MON", Field::MonthShort(Upper)),
    ("Mon", Field::MonthShort(Capital)),
    ("mon", Field::MonthShort(Lower)),
    ("DAY", Field::DayName(Upper)),
    ("Day", Field::DayName(Capital)),
    ("day", Field::DayName(Lower)),
    ("DY", Field::DayShort(Upper)),
    ("Dy", Field::DayShort(Capital)),
    ("dy", Field::DayShort(Lower)),
    ("RM", Field::RomanMonth(Upper)),
    ("rm", Field::RomanMonth(Lower)),
];

/// `TZ` and `D` begin longer patterns, so they come last.
const LAST: &[(&str, Field)] = &[
    ("TZ", Field::ZoneName(Upper)),
    ("tz", Field::ZoneName(Lower)),
    ("D", Field::DayOfWeek),
    ("d", Field::DayOfWeek),
];

fn match_pattern(rest: &str) -> Option<(usize, Field)> {
    let exact =
        |table: &[(&str, Field)]| table.iter().find(|(p, _)| rest.starts_with(p)).map(|(p, f)| (p.len(), *f));
    let folded = || {
        let bytes = rest.as_bytes();
        PATTERNS
            .iter()
            .find(|(p, _)| bytes.len() >= p.len() && bytes[..p.len()].eq_ignore_ascii_case(p.as_bytes()))
            .map(|(p, f)| (p.len(), *f))
    };
    exact(CASED).or_else(folded).or_else(|| exact(LAST))
}

/// Cuts a template into its pieces.
pub(super) fn parse(template: &str) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut rest = template;
    while !rest.is_empty() {
        let fill = rest.len() >= 2 && rest.as_bytes()[..2].eq_ignore_ascii_case(b"FM");
        let after_prefix = if fill { &rest[2..] } else { rest };
        if let Some((len, field)) = match_pattern(after_prefix) {
            rest = &after_prefix[len..];
            let ordinal = match rest.get(..2) {
                Some("TH") => Some(Upper),
                Some("th") => Some(Lower),
                _ => None,
            };
            if ordinal.is_some() {
                rest = &rest[2..];
            }
            nodes.push(Node::Field { field, fill, ordinal });
            continue;
        }
        if fill {
            rest = after_prefix;
            continue;
        }
        let mut chars = rest.chars();
        match chars.next() {
            Some('"') => loop {
                match chars.next() {
                    None | Some('"') => break,
                    Some('\\') => nodes.extend(chars.next().map(Node::Literal)),
                    Some(c) => nodes.push(Node::Literal(c)),
                }
            },
            Some('\\') if chars.as_str().starts_with('"') => {
                chars.next();
                nodes.push(Node::Literal('"'));
            }
            Some(c) => nodes.push(Node::Literal(c)),
            None => {}
        }
        rest = chars.as_str();
    }
    nodes
}

/// Months by their full names.
pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Days of the week by their full names, from Sunday.
pub(super) const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Months in Roman numerals.
pub(super) const ROMAN: [&str; 12] =
    ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];

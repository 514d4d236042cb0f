//! Arguments by representation. The planner has cast them to the signature, so another representation is a bug.

use crate::array::ArrayValue;
use crate::datum::Datum;
use crate::decimal::Decimal;
use crate::interval::Interval;

#[cold]
fn wrong(expected: &str, found: &Datum) -> ! {
    panic!("a function's argument should be {expected}, found {found:?}")
}

macro_rules! accessor {
    ($name:ident, $result:ty, $expected:literal, $($pattern:pat => $value:expr),+) => {
        #[doc = concat!("The argument as ", $expected, ".")]
        pub(super) fn $name(d: &Datum) -> $result {
            match d {
                $($pattern => $value,)+
                other => wrong($expected, other),
            }
        }
    };
}

accessor!(int, i64, "an integer", Datum::Int(v) => *v);
accessor!(f4, f32, "a real", Datum::Float4(v) => *v);
accessor!(f8, f64, "a double", Datum::Float8(v) => *v);
accessor!(float, f64, "a float", Datum::Float8(v) => *v, Datum::Float4(v) => f64::from(*v));
accessor!(num, &Decimal, "a numeric", Datum::Numeric(v) => v);
accessor!(text, &str, "a string", Datum::Text(v) | Datum::Char(v) => v);
accessor!(bytes, &[u8], "a bytea", Datum::Bytea(v) => v);
accessor!(date, i32, "a date", Datum::Date(v) => *v);
accessor!(time, i64, "a time", Datum::Time(v) => *v);
accessor!(stamp, i64, "a timestamp", Datum::Timestamp(v) | Datum::TimestampTz(v) => *v);
accessor!(interval, Interval, "an interval", Datum::Interval(v) => *v);
accessor!(array, &ArrayValue, "an array", Datum::Array(v) => v);

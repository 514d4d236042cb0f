//! Comparison operators.

use std::cmp::Ordering;

use crate::calendar::{US_PER_DAY, is_infinite};
use crate::column::kernels::{Comparison, Kernel};
use crate::compare::compare_f64;
use crate::context::EvalContext;
use crate::datum::Datum;
use crate::error::Result;
use crate::func::access::float;
use crate::func::registry::{FunctionDef, ScalarFn, Ty, def};

type Order = fn(&EvalContext, &Datum, &Datum) -> Ordering;

fn same(_: &EvalContext, a: &Datum, b: &Datum) -> Ordering {
    a.cmp(b)
}

fn mixed_floats(_: &EvalContext, a: &Datum, b: &Datum) -> Ordering {
    compare_f64(float(a), float(b))
}

/// Dates, timestamps and instants against each other: the coarser side is widened, beyond every limit of the type.
fn mixed_times(ctx: &EvalContext, a: &Datum, b: &Datum) -> Ordering {
    let zoned = matches!(a, Datum::TimestampTz(_)) || matches!(b, Datum::TimestampTz(_));
    let widen = |d: &Datum| -> i128 {
        match d {
            Datum::Date(i32::MIN) => i128::from(i64::MIN),
            Datum::Date(i32::MAX) => i128::from(i64::MAX),
            Datum::Date(days) => {
                let local = i128::from(*days) * i128::from(US_PER_DAY);
                match i64::try_from(local) {
                    Ok(l) if zoned => i128::from(ctx.time_zone.to_utc(l)),
                    _ => local.min(i128::from(i64::MAX) - 1),
                }
            }
            Datum::Timestamp(us) if zoned && !is_infinite(*us) => i128::from(ctx.time_zone.to_utc(*us)),
            Datum::Timestamp(us) | Datum::TimestampTz(us) => i128::from(*us),
            other => panic!("a date or timestamp was expected, found {other:?}"),
        }
    };
    widen(a).cmp(&widen(b))
}

macro_rules! evaluator {
    ($order:ident, $($name:ident $test:expr),+) => {
        $(
            pub(super) fn $name(ctx: &EvalContext, a: &[Datum]) -> Result<Datum> {
                let test: fn(Ordering) -> bool = $test;
                let order: super::Order = super::$order;
                Ok(Datum::Bool(test(order(ctx, &a[0], &a[1]))))
            }
        )+
    };
}

macro_rules! evaluators {
    ($module:ident, $order:ident) => {
        mod $module {
            use super::{Datum, EvalContext, Ordering, Result};
            evaluator!(
                $order,
                eq | o | o == Ordering::Equal,
                ne | o | o != Ordering::Equal,
                lt | o | o == Ordering::Less,
                le | o | o != Ordering::Greater,
                gt | o | o == Ordering::Greater,
                ge | o | o != Ordering::Less
            );
        }
    };
}

evaluators!(plain, same);
evaluators!(floats, mixed_floats);
evaluators!(times, mixed_times);

const fn row(
    symbol: &'static str,
    args: &'static [Ty],
    eval: ScalarFn,
    comparison: Comparison,
) -> FunctionDef {
    def(symbol, args, Ty::Bool, eval).kernel(Kernel::Compare(comparison))
}

macro_rules! comparisons {
    ($($module:ident $left:ident $right:ident $($stable:ident)?;)+) => {
        pub(super) const OPERATORS: &[FunctionDef] = &[
            $(
                row("=", &[Ty::$left, Ty::$right], $module::eq, Comparison::Eq)$(.$stable())?,
                row("<>", &[Ty::$left, Ty::$right], $module::ne, Comparison::Ne)$(.$stable())?,
                row("<", &[Ty::$left, Ty::$right], $module::lt, Comparison::Lt)$(.$stable())?,
                row("<=", &[Ty::$left, Ty::$right], $module::le, Comparison::Le)$(.$stable())?,
                row(">", &[Ty::$left, Ty::$right], $module::gt, Comparison::Gt)$(.$stable())?,
                row(">=", &[Ty::$left, Ty::$right], $module::ge, Comparison::Ge)$(.$stable())?,
            )+
        ];
    };
}

comparisons! {
    plain Int4 Int4;
    plain Int8 Int8;
    plain Int2 Int2;
    plain Int2 Int4;
    plain Int4 Int2;
    plain Int2 Int8;
    plain Int8 Int2;
    plain Int4 Int8;
    plain Int8 Int4;
    plain Bool Bool;
    plain Text Text;
    plain Char Char;
    plain Name Name;
    plain Name Text;
    plain Text Name;
    plain InternalChar InternalChar;
    plain Bytea Bytea;
    plain Numeric Numeric;
    floats Float4 Float4;
    plain Float8 Float8;
    floats Float4 Float8;
    floats Float8 Float4;
    plain Date Date;
    plain Time Time;
    plain Timestamp Timestamp;
    plain TimestampTz TimestampTz;
    times Date Timestamp;
    times Timestamp Date;
    times Date TimestampTz stable;
    times TimestampTz Date stable;
    times Timestamp TimestampTz stable;
    times TimestampTz Timestamp stable;
    plain Interval Interval;
    plain Uuid Uuid;
    plain Oid Oid;
    plain OidVector OidVector;
    plain AnyArray AnyArray;
    plain Record Record;
}

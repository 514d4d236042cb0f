//! Which aggregates exist, for which types.

use crate::cast::{CastContext, can_cast};
use crate::error::{Result, SqlError};
use crate::state::SqlState;
use crate::types::DataType;

/// The algorithm of an aggregate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    CountRows,
    Count,
    /// Integers whose sum is a bigint.
    SumInt,
    /// Integers whose sum is a numeric.
    SumIntNumeric,
    AvgInt,
    SumFloat4,
    SumFloat8,
    AvgFloat,
    SumNumeric,
    AvgNumeric,
    SumInterval,
    AvgInterval,
    Min,
    Max,
    BoolAnd,
    BoolOr,
    BitAnd,
    BitOr,
    BitXor,
    StringAgg,
    ByteaAgg,
    ArrayAgg,
    /// Variance or deviation of floats.
    FloatMoment(Moment),
    /// Variance or deviation of integers and numerics.
    NumericMoment(Moment),
}

/// Which moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Moment {
    /// Divides by N, not by N - 1.
    pub(super) population: bool,
    /// The root of the variance.
    pub(super) deviation: bool,
}

/// An aggregate whose overload is chosen.
#[derive(Clone, Debug)]
pub struct AggregateFn {
    pub(super) kind: Kind,
    /// The name it was called by.
    pub name: &'static str,
    /// The types that the arguments must be cast to; none for `count(*)`.
    pub arg_types: Vec<DataType>,
    /// The type of the result.
    pub result_type: DataType,
}

const NAMES: &[&str] = &[
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "bool_and",
    "bool_or",
    "every",
    "bit_and",
    "bit_or",
    "bit_xor",
    "string_agg",
    "array_agg",
    "variance",
    "var_samp",
    "var_pop",
    "stddev",
    "stddev_samp",
    "stddev_pop",
];

/// Whether a name is an aggregate's, whatever its arguments.
pub fn is_aggregate(name: &str) -> bool {
    NAMES.contains(&name)
}

fn moment(name: &str) -> Option<Moment> {
    Some(match name {
        "variance" | "var_samp" => Moment { population: false, deviation: false },
        "var_pop" => Moment { population: true, deviation: false },
        "stddev" | "stddev_samp" => Moment { population: false, deviation: true },
        "stddev_pop" => Moment { population: true, deviation: true },
        _ => return None,
    })
}

/// What an aggregate of one argument does for a type: its algorithm, the type it takes, the type it gives.
fn unary(name: &str, arg: &DataType) -> Option<(Kind, DataType, DataType)> {
    use DataType as D;
    if let Some(m) = moment(name) {
        return Some(match arg {
            D::Int2 | D::Int4 | D::Int8 | D::Numeric(_) => {
                (Kind::NumericMoment(m), D::Numeric(None), D::Numeric(None))
            }
            D::Float4 | D::Float8 => (Kind::FloatMoment(m), D::Float8, D::Float8),
            _ => return None,
        });
    }
    let plain = arg.without_modifier();
    Some(match (name, arg) {
        ("count", D::Unknown) => (Kind::Count, D::Text, D::Int8),
        ("count", _) => (Kind::Count, arg.clone(), D::Int8),
        ("sum", D::Int2 | D::Int4) => (Kind::SumInt, plain, D::Int8),
        ("sum", D::Int8) => (Kind::SumIntNumeric, plain, D::Numeric(None)),
        ("sum", D::Float4) => (Kind::SumFloat4, plain, D::Float4),
        ("sum", D::Float8) => (Kind::SumFloat8, plain, D::Float8),
        ("sum", D::Numeric(_)) => (Kind::SumNumeric, arg.clone(), D::Numeric(None)),
        ("sum", D::Interval) => (Kind::SumInterval, plain, D::Interval),
        ("avg", D::Int2 | D::Int4 | D::Int8) => (Kind::AvgInt, plain, D::Numeric(None)),
        ("avg", D::Float4 | D::Float8) => (Kind::AvgFloat, D::Float8, D::Float8),
        ("avg", D::Numeric(_)) => (Kind::AvgNumeric, arg.clone(), D::Numeric(None)),
        ("avg", D::Interval) => (Kind::AvgInterval, plain, D::Interval),
        ("min" | "max", _) => {
            let kind = if name == "min" { Kind::Min } else { Kind::Max };
            let taken = match arg {
                D::Bool | D::Bytea | D::Uuid | D::Json | D::Record | D::Void | D::InternalChar => {
                    return None;
                }
                D::Unknown | D::Varchar(_) | D::Name => D::Text,
                D::RegClass | D::RegType | D::RegProc | D::RegNamespace => D::Oid,
                _ => plain,
            };
            (kind, taken.clone(), taken)
        }
        ("bool_and" | "every", D::Bool | D::Unknown) => (Kind::BoolAnd, D::Bool, D::Bool),
        ("bool_or", D::Bool | D::Unknown) => (Kind::BoolOr, D::Bool, D::Bool),
        ("bit_and", D::Int2 | D::Int4 | D::Int8) => (Kind::BitAnd, plain.clone(), plain),
        ("bit_or", D::Int2 | D::Int4 | D::Int8) => (Kind::BitOr, plain.clone(), plain),
        ("bit_xor", D::Int2 | D::Int4 | D::Int8) => (Kind::BitXor, plain.clone(), plain),
        ("array_agg", D::Unknown) => (Kind::ArrayAgg, D::Text, D::array(D::Text)),
        ("array_agg", D::Array(_)) => (Kind::ArrayAgg, plain.clone(), plain),
        ("array_agg", _) => (Kind::ArrayAgg, plain.clone(), D::array(plain)),
        _ => return None,
    })
}

/// The aggregate that a call means. `count(*)` has no arguments.
pub fn lookup_aggregate(name: &str, args: &[DataType]) -> Result<AggregateFn> {
    let known = NAMES.iter().find(|n| **n == name);
    let shown = || {
        let list: Vec<String> = args.iter().map(|a| a.without_modifier().to_string()).collect();
        format!("function {name}({})", list.join(", "))
    };
    let missing = || {
        SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("{} does not exist", shown())).with_hint(
            "No function matches the given name and argument types. You might need to add explicit type casts.",
        )
    };
    let Some(name) = known.copied() else { return Err(missing()) };
    let made = |kind, arg_types, result_type| Ok(AggregateFn { kind, name, arg_types, result_type });
    match args {
        [] if name == "count" => made(Kind::CountRows, Vec::new(), DataType::Int8),
        [arg] => match unary(name, arg) {
            Some((kind, taken, result)) => made(kind, vec![taken], result),
            None if *arg == DataType::Unknown => Err(SqlError::new(
                SqlState::AMBIGUOUS_FUNCTION,
                format!("{} is not unique", shown()),
            )
            .with_hint(
                "Could not choose a best candidate function. You might need to add explicit type casts.",
            )),
            None => Err(missing()),
        },
        [value, delimiter] if name == "string_agg" => {
            let of = |t: DataType| {
                let fits = |a: &DataType| can_cast(a, &t, CastContext::Implicit);
                fits(value) && fits(delimiter)
            };
            if of(DataType::Text) {
                made(Kind::StringAgg, vec![DataType::Text; 2], DataType::Text)
            } else if of(DataType::Bytea) {
                made(Kind::ByteaAgg, vec![DataType::Bytea; 2], DataType::Bytea)
            } else {
                Err(missing())
            }
        }
        _ => Err(missing()),
    }
}

//! Floating-point arithmetic and functions. An infinite result of finite operands is an overflow, a zero that should
//! not be one an underflow, as in PostgreSQL.

use crate::cast::CastContext;
use crate::column::kernels::{FloatOp, Kernel};
use crate::compare::compare_f64;
use crate::context::EvalContext;
use crate::datum::Datum;
use crate::error::{Result, SqlError};
use crate::func::access::{f4, f8, float};
use crate::func::integer::identity;
use crate::func::registry::Ty::{Float4, Float8, Int4};
use crate::func::registry::{FunctionDef, def};
use crate::state::SqlState;

/// `a op b` in doubles, checked.
pub(crate) fn apply(op: FloatOp, a: f64, b: f64) -> Result<f64> {
    let (value, may_vanish) = match op {
        FloatOp::Add => (a + b, true),
        FloatOp::Sub => (a - b, true),
        FloatOp::Mul => (a * b, a == 0.0 || b == 0.0),
        FloatOp::Div => {
            if b == 0.0 && !a.is_nan() {
                return Err(SqlError::division_by_zero());
            }
            (a / b, a == 0.0 || b.is_infinite())
        }
    };
    if value.is_infinite() && !a.is_infinite() && !b.is_infinite() {
        return Err(SqlError::float_overflow());
    }
    if value == 0.0 && !may_vanish {
        return Err(SqlError::float_underflow());
    }
    Ok(value)
}

fn apply4(op: FloatOp, a: f32, b: f32) -> Result<Datum> {
    let (value, may_vanish) = match op {
        FloatOp::Add => (a + b, true),
        FloatOp::Sub => (a - b, true),
        FloatOp::Mul => (a * b, a == 0.0 || b == 0.0),
        FloatOp::Div => {
            if b == 0.0 && !a.is_nan() {
                return Err(SqlError::division_by_zero());
            }
            (a / b, a == 0.0 || b.is_infinite())
        }
    };
    if value.is_infinite() && !a.is_infinite() && !b.is_infinite() {
        return Err(SqlError::float_overflow());
    }
    if value == 0.0 && !may_vanish {
        return Err(SqlError::float_underflow());
    }
    Ok(Datum::Float4(value))
}

macro_rules! operators {
    ($($symbol:literal $op:ident),+ ; $($rest:expr,)*) => {
        pub(super) const OPERATORS: &[FunctionDef] = &[
            $(
                def($symbol, &[Float8, Float8], Float8, |_, a| {
                    apply(FloatOp::$op, f8(&a[0]), f8(&a[1])).map(Datum::Float8)
                }).kernel(Kernel::Float(FloatOp::$op)),
                def($symbol, &[Float4, Float4], Float4, |_, a| apply4(FloatOp::$op, f4(&a[0]), f4(&a[1]))),
                def($symbol, &[Float4, Float8], Float8, |_, a| {
                    apply(FloatOp::$op, float(&a[0]), float(&a[1])).map(Datum::Float8)
                }),
                def($symbol, &[Float8, Float4], Float8, |_, a| {
                    apply(FloatOp::$op, float(&a[0]), float(&a[1])).map(Datum::Float8)
                }),
            )+
            $($rest,)*
        ];
    };
}

operators! {
    "+" Add, "-" Sub, "*" Mul, "/" Div
    ;
    def("-", &[Float8], Float8, |_, a| Ok(Datum::Float8(-f8(&a[0])))),
    def("-", &[Float4], Float4, |_, a| Ok(Datum::Float4(-f4(&a[0])))),
    def("+", &[Float8], Float8, identity),
    def("+", &[Float4], Float4, identity),
    def("@", &[Float8], Float8, |_, a| Ok(Datum::Float8(f8(&a[0]).abs()))),
    def("@", &[Float4], Float4, |_, a| Ok(Datum::Float4(f4(&a[0]).abs()))),
    def("^", &[Float8, Float8], Float8, power),
    def("|/", &[Float8], Float8, sqrt),
    def("||/", &[Float8], Float8, |_, a| Ok(Datum::Float8(f8(&a[0]).cbrt()))),
}

fn domain(state: SqlState, message: &'static str) -> SqlError {
    SqlError::new(state, message)
}

fn sqrt(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    let v = f8(&a[0]);
    if v < 0.0 {
        return Err(domain(
            SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
            "cannot take square root of a negative number",
        ));
    }
    Ok(Datum::Float8(v.sqrt()))
}

fn power(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    let (x, y) = (f8(&a[0]), f8(&a[1]));
    if (x.is_nan() && y != 0.0) || (y.is_nan() && x != 1.0) {
        return Ok(Datum::Float8(f64::NAN));
    }
    if x == 0.0 && y < 0.0 {
        return Err(domain(
            SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
            "zero raised to a negative power is undefined",
        ));
    }
    if x < 0.0 && y.floor() != y {
        return Err(domain(
            SqlState::INVALID_ARGUMENT_FOR_POWER_FUNCTION,
            "a negative number raised to a non-integer power yields a complex result",
        ));
    }
    let v = x.powf(y);
    if v.is_infinite() && !x.is_infinite() && !y.is_infinite() {
        return Err(SqlError::float_overflow());
    }
    if v == 0.0 && x != 0.0 && !x.is_infinite() && !y.is_infinite() {
        return Err(SqlError::float_underflow());
    }
    Ok(Datum::Float8(v))
}

fn exp(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    let x = f8(&a[0]);
    let v = x.exp();
    if v.is_infinite() && !x.is_infinite() {
        return Err(SqlError::float_overflow());
    }
    if v == 0.0 && !x.is_infinite() {
        return Err(SqlError::float_underflow());
    }
    Ok(Datum::Float8(v))
}

fn logarithm(a: &[Datum], f: fn(f64) -> f64) -> Result<Datum> {
    let x = f8(&a[0]);
    if x == 0.0 {
        return Err(domain(SqlState::INVALID_ARGUMENT_FOR_LOGARITHM, "cannot take logarithm of zero"));
    }
    if x < 0.0 {
        return Err(domain(
            SqlState::INVALID_ARGUMENT_FOR_LOGARITHM,
            "cannot take logarithm of a negative number",
        ));
    }
    Ok(Datum::Float8(f(x)))
}

fn out_of_range() -> SqlError {
    domain(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "input is out of range")
}

/// A trigonometric function, which has no value at infinity.
fn trigonometric(a: &[Datum], f: fn(f64) -> f64) -> Result<Datum> {
    let x = f8(&a[0]);
    if x.is_infinite() { Err(out_of_range()) } else { Ok(Datum::Float8(f(x))) }
}

fn inverse(a: &[Datum], f: fn(f64) -> f64) -> Result<Datum> {
    let x = f8(&a[0]);
    if !x.is_nan() && !(-1.0..=1.0).contains(&x) { Err(out_of_range()) } else { Ok(Datum::Float8(f(x))) }
}

fn plain(a: &[Datum], f: fn(f64) -> f64) -> Result<Datum> {
    Ok(Datum::Float8(f(f8(&a[0]))))
}

fn sign(v: f64) -> f64 {
    match compare_f64(v, 0.0) {
        _ if v.is_nan() => 0.0,
        std::cmp::Ordering::Less => -1.0,
        std::cmp::Ordering::Equal => 0.0,
        std::cmp::Ordering::Greater => 1.0,
    }
}

fn random(ctx: &EvalContext, _: &[Datum]) -> Result<Datum> {
    // The 53 bits that a double can tell apart in [0, 1).
    Ok(Datum::Float8((ctx.next_random() >> 11) as f64 / (1u64 << 53) as f64))
}

fn to_int(ctx: &EvalContext, a: &[Datum], to: &crate::types::DataType) -> Result<Datum> {
    crate::cast::cast(ctx, a[0].clone(), &crate::types::DataType::Float8, to, CastContext::Explicit)
}

pub(super) const FUNCTIONS: &[FunctionDef] = &[
    def("abs", &[Float8], Float8, |_, a| plain(a, f64::abs)),
    def("abs", &[Float4], Float4, |_, a| Ok(Datum::Float4(f4(&a[0]).abs()))),
    def("ceil", &[Float8], Float8, |_, a| plain(a, f64::ceil)),
    def("ceiling", &[Float8], Float8, |_, a| plain(a, f64::ceil)),
    def("floor", &[Float8], Float8, |_, a| plain(a, f64::floor)),
    def("round", &[Float8], Float8, |_, a| plain(a, f64::round_ties_even)),
    def("trunc", &[Float8], Float8, |_, a| plain(a, f64::trunc)),
    def("sign", &[Float8], Float8, |_, a| plain(a, sign)),
    def("sqrt", &[Float8], Float8, sqrt),
    def("cbrt", &[Float8], Float8, |_, a| plain(a, f64::cbrt)),
    def("power", &[Float8, Float8], Float8, power),
    def("pow", &[Float8, Float8], Float8, power),
    def("exp", &[Float8], Float8, exp),
    def("ln", &[Float8], Float8, |_, a| logarithm(a, f64::ln)),
    def("log", &[Float8], Float8, |_, a| logarithm(a, f64::log10)),
    def("log10", &[Float8], Float8, |_, a| logarithm(a, f64::log10)),
    def("pi", &[], Float8, |_, _| Ok(Datum::Float8(std::f64::consts::PI))),
    def("degrees", &[Float8], Float8, |_, a| {
        apply(FloatOp::Div, f8(&a[0]), std::f64::consts::PI / 180.0).map(Datum::Float8)
    }),
    def("radians", &[Float8], Float8, |_, a| plain(a, |x| x * (std::f64::consts::PI / 180.0))),
    def("sin", &[Float8], Float8, |_, a| trigonometric(a, f64::sin)),
    def("cos", &[Float8], Float8, |_, a| trigonometric(a, f64::cos)),
    def("tan", &[Float8], Float8, |_, a| trigonometric(a, f64::tan)),
    def("cot", &[Float8], Float8, |_, a| trigonometric(a, |x| 1.0 / x.tan())),
    def("asin", &[Float8], Float8, |_, a| inverse(a, f64::asin)),
    def("acos", &[Float8], Float8, |_, a| inverse(a, f64::acos)),
    def("atan", &[Float8], Float8, |_, a| plain(a, f64::atan)),
    def("atan2", &[Float8, Float8], Float8, |_, a| Ok(Datum::Float8(f8(&a[0]).atan2(f8(&a[1]))))),
    def("sinh", &[Float8], Float8, |_, a| plain(a, f64::sinh)),
    def("cosh", &[Float8], Float8, |_, a| plain(a, f64::cosh)),
    def("tanh", &[Float8], Float8, |_, a| plain(a, f64::tanh)),
    def("random", &[], Float8, random).volatile(),
    def("int4", &[Float8], Int4, |ctx, a| to_int(ctx, a, &crate::types::DataType::Int4)),
];

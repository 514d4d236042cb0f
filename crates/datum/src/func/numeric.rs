//! NUMERIC arithmetic and functions.

use crate::context::EvalContext;
use crate::datum::Datum;
use crate::decimal::Decimal;
use crate::error::Result;
use crate::func::access::{int, num};
use crate::func::integer::identity;
use crate::func::registry::Ty::{Int4, Numeric};
use crate::func::registry::{FunctionDef, def};

fn binary(a: &[Datum], f: impl Fn(&Decimal, &Decimal) -> Result<Decimal>) -> Result<Datum> {
    f(num(&a[0]), num(&a[1])).map(Datum::Numeric)
}

fn unary(a: &[Datum], f: impl Fn(&Decimal) -> Decimal) -> Result<Datum> {
    Ok(Datum::Numeric(f(num(&a[0]))))
}

pub(super) const OPERATORS: &[FunctionDef] = &[
    def("+", &[Numeric, Numeric], Numeric, |_, a| binary(a, Decimal::add)),
    def("-", &[Numeric, Numeric], Numeric, |_, a| binary(a, Decimal::sub)),
    def("*", &[Numeric, Numeric], Numeric, |_, a| binary(a, Decimal::mul)),
    def("/", &[Numeric, Numeric], Numeric, |_, a| binary(a, Decimal::div)),
    def("%", &[Numeric, Numeric], Numeric, |_, a| binary(a, Decimal::rem)),
    def("^", &[Numeric, Numeric], Numeric, |_, a| binary(a, Decimal::pow)),
    def("-", &[Numeric], Numeric, |_, a| unary(a, Decimal::neg)),
    def("+", &[Numeric], Numeric, identity),
    def("@", &[Numeric], Numeric, |_, a| unary(a, Decimal::abs)),
];

/// The scale argument of `round` and `trunc`, within what a result may have.
fn scale(d: &Datum) -> i32 {
    int(d).clamp(-2000, 2000) as i32
}

fn sign(v: &Decimal) -> Decimal {
    if v.is_nan() { Decimal::NAN } else { Decimal::from(v.signum()) }
}

fn ten() -> Decimal {
    Decimal::from(10)
}

fn least_scale(v: &Decimal) -> Datum {
    if v.is_finite() { Datum::Int(i64::from(v.normalized().scale())) } else { Datum::Null }
}

fn gcd(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    let (mut x, mut y) = (num(&a[0]).abs(), num(&a[1]).abs());
    if !x.is_finite() || !y.is_finite() {
        return Ok(Datum::Numeric(Decimal::NAN));
    }
    let scale = x.scale().max(y.scale()) as i32;
    while !y.is_zero() {
        let r = x.rem(&y)?;
        (x, y) = (y, r);
    }
    Ok(Datum::Numeric(x.round(scale)))
}

pub(super) const FUNCTIONS: &[FunctionDef] = &[
    def("abs", &[Numeric], Numeric, |_, a| unary(a, Decimal::abs)),
    def("ceil", &[Numeric], Numeric, |_, a| unary(a, Decimal::ceil)),
    def("ceiling", &[Numeric], Numeric, |_, a| unary(a, Decimal::ceil)),
    def("floor", &[Numeric], Numeric, |_, a| unary(a, Decimal::floor)),
    def("round", &[Numeric], Numeric, |_, a| unary(a, |v| v.round(0))),
    def("round", &[Numeric, Int4], Numeric, |_, a| unary(a, |v| v.round(scale(&a[1])))),
    def("trunc", &[Numeric], Numeric, |_, a| unary(a, |v| v.trunc(0))),
    def("trunc", &[Numeric, Int4], Numeric, |_, a| unary(a, |v| v.trunc(scale(&a[1])))),
    def("sign", &[Numeric], Numeric, |_, a| unary(a, sign)),
    def("mod", &[Numeric, Numeric], Numeric, |_, a| binary(a, Decimal::rem)),
    def("div", &[Numeric, Numeric], Numeric, |_, a| binary(a, Decimal::div_trunc)),
    def("gcd", &[Numeric, Numeric], Numeric, gcd),
    def("sqrt", &[Numeric], Numeric, |_, a| num(&a[0]).sqrt().map(Datum::Numeric)),
    def("exp", &[Numeric], Numeric, |_, a| num(&a[0]).exp().map(Datum::Numeric)),
    def("ln", &[Numeric], Numeric, |_, a| num(&a[0]).ln().map(Datum::Numeric)),
    def("log", &[Numeric], Numeric, |_, a| num(&a[0]).log(&ten()).map(Datum::Numeric)),
    def("log10", &[Numeric], Numeric, |_, a| num(&a[0]).log(&ten()).map(Datum::Numeric)),
    def("log", &[Numeric, Numeric], Numeric, |_, a| binary(a, |base, v| v.log(base))),
    def("power", &[Numeric, Numeric], Numeric, |_, a| binary(a, Decimal::pow)),
    def("pow", &[Numeric, Numeric], Numeric, |_, a| binary(a, Decimal::pow)),
    def("scale", &[Numeric], Int4, |_, a| {
        let v = num(&a[0]);
        Ok(if v.is_finite() { Datum::Int(i64::from(v.scale())) } else { Datum::Null })
    }),
    def("min_scale", &[Numeric], Int4, |_, a| Ok(least_scale(num(&a[0])))),
    def("trim_scale", &[Numeric], Numeric, |_, a| unary(a, Decimal::normalized)),
];

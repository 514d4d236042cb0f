//! Integer arithmetic. Overflow is an error, never a wrap.

use crate::column::kernels::{IntOp, IntWidth, Kernel};
use crate::context::EvalContext;
use crate::datum::Datum;
use crate::error::{Result, SqlError};
use crate::func::access::int;
use crate::func::registry::Ty::{Bytea, Float8, Int2, Int4, Int8, Text};
use crate::func::registry::{FunctionDef, Ty, def};

fn bound(width: IntWidth, v: Option<i64>) -> Result<Datum> {
    v.filter(|v| width.contains(*v)).map(Datum::Int).ok_or_else(|| width.out_of_range())
}

fn apply(op: IntOp, width: IntWidth, a: &[Datum]) -> Result<Datum> {
    let (x, y) = (int(&a[0]), int(&a[1]));
    let value = match op {
        IntOp::Add => x.checked_add(y),
        IntOp::Sub => x.checked_sub(y),
        IntOp::Mul => x.checked_mul(y),
        IntOp::Div if y == 0 => return Err(SqlError::division_by_zero()),
        IntOp::Div => x.checked_div(y),
        IntOp::Rem if y == 0 => return Err(SqlError::division_by_zero()),
        // The least integer modulo -1 is 0, although the machine traps on it.
        IntOp::Rem => Some(x.checked_rem(y).unwrap_or(0)),
    };
    bound(width, value)
}

macro_rules! arithmetic {
    ($($width:ident { $($name:ident $op:ident),+ })+) => {
        $($(
            fn $name(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
                apply(IntOp::$op, IntWidth::$width, a)
            }
        )+)+
    };
}

arithmetic! {
    Int2 { add2 Add, sub2 Sub, mul2 Mul, div2 Div, rem2 Rem }
    Int4 { add4 Add, sub4 Sub, mul4 Mul, div4 Div, rem4 Rem }
    Int8 { add8 Add, sub8 Sub, mul8 Mul, div8 Div, rem8 Rem }
}

macro_rules! arithmetic_rows {
    ($($left:ident $right:ident => $width:ident $add:ident $sub:ident $mul:ident $div:ident;)+ ; $($rest:expr,)*) => {
        pub(super) const OPERATORS: &[FunctionDef] = &[
            $(
                def("+", &[$left, $right], Ty::$width, $add).kernel(Kernel::Int(IntOp::Add, IntWidth::$width)),
                def("-", &[$left, $right], Ty::$width, $sub).kernel(Kernel::Int(IntOp::Sub, IntWidth::$width)),
                def("*", &[$left, $right], Ty::$width, $mul).kernel(Kernel::Int(IntOp::Mul, IntWidth::$width)),
                def("/", &[$left, $right], Ty::$width, $div).kernel(Kernel::Int(IntOp::Div, IntWidth::$width)),
            )+
            $($rest,)*
        ];
    };
}

arithmetic_rows! {
    Int2 Int2 => Int2 add2 sub2 mul2 div2;
    Int4 Int4 => Int4 add4 sub4 mul4 div4;
    Int8 Int8 => Int8 add8 sub8 mul8 div8;
    Int2 Int4 => Int4 add4 sub4 mul4 div4;
    Int4 Int2 => Int4 add4 sub4 mul4 div4;
    Int2 Int8 => Int8 add8 sub8 mul8 div8;
    Int8 Int2 => Int8 add8 sub8 mul8 div8;
    Int4 Int8 => Int8 add8 sub8 mul8 div8;
    Int8 Int4 => Int8 add8 sub8 mul8 div8;
    ;
    def("%", &[Int2, Int2], Int2, rem2).kernel(Kernel::Int(IntOp::Rem, IntWidth::Int2)),
    def("%", &[Int4, Int4], Int4, rem4).kernel(Kernel::Int(IntOp::Rem, IntWidth::Int4)),
    def("%", &[Int8, Int8], Int8, rem8).kernel(Kernel::Int(IntOp::Rem, IntWidth::Int8)),
    def("-", &[Int2], Int2, |_, a| bound(IntWidth::Int2, int(&a[0]).checked_neg())),
    def("-", &[Int4], Int4, |_, a| bound(IntWidth::Int4, int(&a[0]).checked_neg())),
    def("-", &[Int8], Int8, |_, a| bound(IntWidth::Int8, int(&a[0]).checked_neg())),
    def("+", &[Int2], Int2, identity),
    def("+", &[Int4], Int4, identity),
    def("+", &[Int8], Int8, identity),
    def("@", &[Int2], Int2, |_, a| bound(IntWidth::Int2, int(&a[0]).checked_abs())),
    def("@", &[Int4], Int4, |_, a| bound(IntWidth::Int4, int(&a[0]).checked_abs())),
    def("@", &[Int8], Int8, |_, a| bound(IntWidth::Int8, int(&a[0]).checked_abs())),
    def("&", &[Int2, Int2], Int2, and),
    def("&", &[Int4, Int4], Int4, and),
    def("&", &[Int8, Int8], Int8, and),
    def("|", &[Int2, Int2], Int2, or),
    def("|", &[Int4, Int4], Int4, or),
    def("|", &[Int8, Int8], Int8, or),
    def("#", &[Int2, Int2], Int2, xor),
    def("#", &[Int4, Int4], Int4, xor),
    def("#", &[Int8, Int8], Int8, xor),
    def("~", &[Int2], Int2, not),
    def("~", &[Int4], Int4, not),
    def("~", &[Int8], Int8, not),
    def("<<", &[Int2, Int4], Int2, |_, a| Ok(shift(a, |x, n| i64::from((x as i32).wrapping_shl(n) as i16)))),
    def("<<", &[Int4, Int4], Int4, |_, a| Ok(shift(a, |x, n| i64::from((x as i32).wrapping_shl(n))))),
    def("<<", &[Int8, Int4], Int8, |_, a| Ok(shift(a, i64::wrapping_shl))),
    def(">>", &[Int2, Int4], Int2, |_, a| Ok(shift(a, |x, n| i64::from((x as i32).wrapping_shr(n))))),
    def(">>", &[Int4, Int4], Int4, |_, a| Ok(shift(a, |x, n| i64::from((x as i32).wrapping_shr(n))))),
    def(">>", &[Int8, Int4], Int8, |_, a| Ok(shift(a, i64::wrapping_shr))),
}

pub(super) fn identity(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    Ok(a[0].clone())
}

fn and(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    Ok(Datum::Int(int(&a[0]) & int(&a[1])))
}

fn or(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    Ok(Datum::Int(int(&a[0]) | int(&a[1])))
}

fn xor(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    Ok(Datum::Int(int(&a[0]) ^ int(&a[1])))
}

fn not(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    Ok(Datum::Int(!int(&a[0])))
}

fn shift(a: &[Datum], f: impl Fn(i64, u32) -> i64) -> Datum {
    Datum::Int(f(int(&a[0]), int(&a[1]) as u32))
}

fn gcd_of(a: i64, b: i64) -> u64 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn gcd(width: IntWidth, a: &[Datum]) -> Result<Datum> {
    bound(width, i64::try_from(gcd_of(int(&a[0]), int(&a[1]))).ok())
}

fn lcm(width: IntWidth, a: &[Datum]) -> Result<Datum> {
    let (x, y) = (int(&a[0]), int(&a[1]));
    if x == 0 || y == 0 {
        return Ok(Datum::Int(0));
    }
    let multiple = (x.unsigned_abs() / gcd_of(x, y)).checked_mul(y.unsigned_abs());
    bound(width, multiple.and_then(|m| i64::try_from(m).ok()))
}

fn radix_hex(v: u64) -> Datum {
    Datum::text(format!("{v:x}"))
}

fn width_bucket(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    use crate::func::access::f8;
    use crate::state::SqlState;
    let (operand, low, high, count) = (f8(&a[0]), f8(&a[1]), f8(&a[2]), int(&a[3]));
    let invalid = |m: &'static str| SqlError::new(SqlState::INVALID_ARGUMENT_FOR_WIDTH_BUCKET_FUNCTION, m);
    if count <= 0 {
        return Err(invalid("count must be greater than zero"));
    }
    if operand.is_nan() || low.is_nan() || high.is_nan() {
        return Err(invalid("operand, lower bound, and upper bound cannot be NaN"));
    }
    if low.is_infinite() || high.is_infinite() {
        return Err(invalid("lower and upper bounds must be finite"));
    }
    let bucket = if low < high {
        if operand < low {
            0
        } else if operand >= high {
            count + 1
        } else {
            (((operand - low) / (high - low) * count as f64) as i64).min(count - 1) + 1
        }
    } else if low > high {
        if operand > low {
            0
        } else if operand <= high {
            count + 1
        } else {
            (((low - operand) / (low - high) * count as f64) as i64).min(count - 1) + 1
        }
    } else {
        return Err(invalid("lower bound cannot equal upper bound"));
    };
    bound(IntWidth::Int4, Some(bucket))
}

pub(super) const FUNCTIONS: &[FunctionDef] = &[
    def("abs", &[Int2], Int2, |_, a| bound(IntWidth::Int2, int(&a[0]).checked_abs())),
    def("abs", &[Int4], Int4, |_, a| bound(IntWidth::Int4, int(&a[0]).checked_abs())),
    def("abs", &[Int8], Int8, |_, a| bound(IntWidth::Int8, int(&a[0]).checked_abs())),
    def("mod", &[Int2, Int2], Int2, rem2),
    def("mod", &[Int4, Int4], Int4, rem4),
    def("mod", &[Int8, Int8], Int8, rem8),
    def("gcd", &[Int4, Int4], Int4, |_, a| gcd(IntWidth::Int4, a)),
    def("gcd", &[Int8, Int8], Int8, |_, a| gcd(IntWidth::Int8, a)),
    def("lcm", &[Int4, Int4], Int4, |_, a| lcm(IntWidth::Int4, a)),
    def("lcm", &[Int8, Int8], Int8, |_, a| lcm(IntWidth::Int8, a)),
    def("to_hex", &[Int4], Text, |_, a| Ok(radix_hex(u64::from(int(&a[0]) as u32)))),
    def("to_hex", &[Int8], Text, |_, a| Ok(radix_hex(int(&a[0]) as u64))),
    def("width_bucket", &[Float8, Float8, Float8, Int4], Int4, width_bucket),
    def("get_byte", &[Bytea, Int4], Int4, |_, a| {
        let (bytes, at) = (crate::func::access::bytes(&a[0]), int(&a[1]));
        let byte = usize::try_from(at).ok().and_then(|i| bytes.get(i));
        byte.map(|b| Datum::Int(i64::from(*b))).ok_or_else(|| {
            SqlError::new(
                crate::state::SqlState::ARRAY_SUBSCRIPT_ERROR,
                format!("index {at} out of valid range, 0..{}", bytes.len() as i64 - 1),
            )
        })
    }),
];

//! Vectorised operators over columns: comparisons, integer and float arithmetic, three-valued logic.
//!
//! A kernel computes every row, NULL ones included, on whatever the value slot holds, and unites the null bitmaps; an
//! overflow counts only in rows that are not NULL. Whoever must not evaluate some rows (CASE, a filter before a
//! division) selects rows first.

use std::cmp::Ordering;

use crate::column::{Column, Nulls, TextVector, Vector};
use crate::compare::compare_f64;
use crate::datum::Datum;
use crate::error::{Result, SqlError};
use crate::func::Operand;

/// Vectorised code of an operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kernel {
    /// A comparison of equal types.
    Compare(Comparison),
    /// Integer arithmetic whose result has a width.
    Int(IntOp, IntWidth),
    /// Double arithmetic.
    Float(FloatOp),
    /// A test of strings against a constant pattern, and whether it is negated.
    Text(TextTest, bool),
}

/// A pattern match.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TextTest {
    /// LIKE, ILIKE
    Like {
        /// Whether case is ignored.
        insensitive: bool,
    },
    /// `~`, `~*`
    Regex {
        /// Whether case is ignored.
        insensitive: bool,
    },
}

/// A comparison operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// `=`
    Eq,
    /// `<>`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

impl Comparison {
    /// Whether an order satisfies the operator.
    pub fn test(self, order: Ordering) -> bool {
        match self {
            Comparison::Eq => order == Ordering::Equal,
            Comparison::Ne => order != Ordering::Equal,
            Comparison::Lt => order == Ordering::Less,
            Comparison::Le => order != Ordering::Greater,
            Comparison::Gt => order == Ordering::Greater,
            Comparison::Ge => order != Ordering::Less,
        }
    }

    fn flipped(self) -> Comparison {
        match self {
            Comparison::Lt => Comparison::Gt,
            Comparison::Le => Comparison::Ge,
            Comparison::Gt => Comparison::Lt,
            Comparison::Ge => Comparison::Le,
            same => same,
        }
    }
}

/// An integer operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IntOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Rem,
}

/// The width of an integer result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IntWidth {
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
}

impl IntWidth {
    /// Whether the type has the value.
    pub fn contains(self, v: i64) -> bool {
        match self {
            IntWidth::Int2 => i16::try_from(v).is_ok(),
            IntWidth::Int4 => i32::try_from(v).is_ok(),
            IntWidth::Int8 => true,
        }
    }

    /// 22003 of the type.
    #[cold]
    pub fn out_of_range(self) -> SqlError {
        SqlError::out_of_range(match self {
            IntWidth::Int2 => "smallint",
            IntWidth::Int4 => "integer",
            IntWidth::Int8 => "bigint",
        })
    }
}

/// A floating-point operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FloatOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
}

/// Runs a kernel, or answers `None` when the operands are not of representations it has code for.
pub fn run(kernel: Kernel, args: &[Operand<'_>], rows: usize) -> Option<Result<Column>> {
    let [left, right] = args else { return None };
    match kernel {
        Kernel::Compare(c) => compare(c, *left, *right, rows).map(Ok),
        Kernel::Int(op, width) => int_arithmetic(op, width, *left, *right, rows),
        Kernel::Float(op) => float_arithmetic(op, *left, *right, rows),
        Kernel::Text(test, negated) => text_test(test, negated, *left, *right),
    }
}

fn text_test(test: TextTest, negated: bool, left: Operand<'_>, right: Operand<'_>) -> Option<Result<Column>> {
    let (Operand::Column(Column::Text(v)), Operand::Constant(Datum::Text(pattern))) = (left, right) else {
        return None;
    };
    Some(match test {
        TextTest::Like { insensitive } => crate::func::LikePattern::compile(pattern, insensitive)
            .map(|p| text_predicate(v, |s| p.matches(s) != negated)),
        TextTest::Regex { insensitive } => crate::func::operator_regex(pattern, insensitive)
            .map(|r| text_predicate(v, |s| r.is_match(s) != negated)),
    })
}

fn all_null(rows: usize) -> Column {
    Column::Bool(Vector::new(vec![false; rows], Nulls::all(rows)))
}

fn compare(c: Comparison, left: Operand<'_>, right: Operand<'_>, rows: usize) -> Option<Column> {
    match (left, right) {
        (Operand::Constant(Datum::Null), _) | (_, Operand::Constant(Datum::Null)) => Some(all_null(rows)),
        (Operand::Constant(_), Operand::Column(_)) => compare(c.flipped(), right, left, rows),
        (Operand::Column(a), Operand::Constant(b)) => compare_constant(c, a, b),
        (Operand::Column(a), Operand::Column(b)) => compare_columns(c, a, b),
        (Operand::Constant(_), Operand::Constant(_)) => None,
    }
}

/// One loop per operator, so that the compiler sees a plain comparison inside each.
macro_rules! by_operator {
    ($c:expr, $values:expr, |$a:ident, $b:ident| $left:expr, $right:expr) => {
        match $c {
            Comparison::Eq => $values.map(|($a, $b)| $left == $right).collect(),
            Comparison::Ne => $values.map(|($a, $b)| $left != $right).collect(),
            Comparison::Lt => $values.map(|($a, $b)| $left < $right).collect(),
            Comparison::Le => $values.map(|($a, $b)| $left <= $right).collect(),
            Comparison::Gt => $values.map(|($a, $b)| $left > $right).collect(),
            Comparison::Ge => $values.map(|($a, $b)| $left >= $right).collect(),
        }
    };
}

fn int_value(d: &Datum) -> Option<i64> {
    match d {
        Datum::Int(v) | Datum::Time(v) | Datum::Timestamp(v) | Datum::TimestampTz(v) => Some(*v),
        Datum::Date(v) => Some(i64::from(*v)),
        _ => None,
    }
}

fn compare_constant(c: Comparison, a: &Column, b: &Datum) -> Option<Column> {
    let repeat = |n: usize| std::iter::repeat_n((), n);
    Some(match (a, b) {
        (Column::Int(kind, v), b) => {
            // A date beside a timestamp is another comparison than that of their numbers.
            let k = int_value(b)
                .filter(|k| std::mem::discriminant(&kind.datum(*k)) == std::mem::discriminant(b))?;
            let values: Vec<bool> = by_operator!(c, v.values.iter().zip(repeat(v.len())), |a, _unit| *a, k);
            Column::Bool(Vector::new(values, v.nulls.clone()))
        }
        (Column::Text(v), Datum::Text(k)) => {
            let k = k.as_bytes();
            let rows = (0..v.len()).zip(repeat(v.len()));
            let values: Vec<bool> = by_operator!(c, rows, |row, _unit| v.bytes_at(row), k);
            Column::Bool(Vector::new(values, v.nulls().clone()))
        }
        (Column::Float8(v), Datum::Float8(k)) => {
            let values = v.values.iter().map(|a| c.test(compare_f64(*a, *k))).collect();
            Column::Bool(Vector::new(values, v.nulls.clone()))
        }
        (Column::Datum(v), k) if v.iter().all(|d| d.is_null() || same_kind(d, k)) => {
            let mut out = Vector::with_capacity(v.len());
            for d in v {
                out.push(d.sql_cmp(k).map(|o| c.test(o)));
            }
            Column::Bool(out)
        }
        _ => return None,
    })
}

fn same_kind(a: &Datum, b: &Datum) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

fn compare_columns(c: Comparison, a: &Column, b: &Column) -> Option<Column> {
    Some(match (a, b) {
        (Column::Int(ka, a), Column::Int(kb, b)) if ka == kb => {
            let values: Vec<bool> = by_operator!(c, a.values.iter().zip(&b.values), |a, b| a, b);
            Column::Bool(Vector::new(values, a.nulls.union(&b.nulls)))
        }
        (Column::Float8(a), Column::Float8(b)) => {
            let values = a.values.iter().zip(&b.values).map(|(a, b)| c.test(compare_f64(*a, *b))).collect();
            Column::Bool(Vector::new(values, a.nulls.union(&b.nulls)))
        }
        (Column::Text(a), Column::Text(b)) => {
            assert_eq!(a.len(), b.len(), "operands of a kernel must have equal lengths");
            let rows = (0..a.len()).map(|row| (row, row));
            let values: Vec<bool> = by_operator!(c, rows, |x, y| a.bytes_at(x), b.bytes_at(y));
            Column::Bool(Vector::new(values, a.nulls().union(b.nulls())))
        }
        (Column::Bool(a), Column::Bool(b)) => {
            let values: Vec<bool> = by_operator!(c, a.values.iter().zip(&b.values), |a, b| a, b);
            Column::Bool(Vector::new(values, a.nulls.union(&b.nulls)))
        }
        _ => return None,
    })
}

/// An integer operand: a column's values, or a constant.
enum Ints<'a> {
    Many(&'a Vector<i64>),
    One(i64),
}

fn ints<'a>(operand: Operand<'a>) -> Option<Ints<'a>> {
    match operand {
        Operand::Column(Column::Int(super::IntKind::Int, v)) => Some(Ints::Many(v)),
        Operand::Constant(Datum::Int(v)) => Some(Ints::One(*v)),
        _ => None,
    }
}

fn int_arithmetic(
    op: IntOp,
    width: IntWidth,
    left: Operand<'_>,
    right: Operand<'_>,
    rows: usize,
) -> Option<Result<Column>> {
    let (left, right) = (ints(left)?, ints(right)?);
    let nulls = match (&left, &right) {
        (Ints::Many(a), Ints::Many(b)) => a.nulls.union(&b.nulls),
        (Ints::Many(a), Ints::One(_)) | (Ints::One(_), Ints::Many(a)) => a.nulls.clone(),
        (Ints::One(_), Ints::One(_)) => return None,
    };
    let value = |operand: &Ints<'_>, row: usize| match operand {
        Ints::Many(v) => v.values[row],
        Ints::One(v) => *v,
    };
    let run = |f: fn(i64, i64) -> (i64, bool)| -> Result<Column> {
        let mut out = Vec::with_capacity(rows);
        let mut failed = false;
        for row in 0..rows {
            let (v, overflow) = f(value(&left, row), value(&right, row));
            failed |= overflow | !width.contains(v);
            out.push(v);
        }
        if failed {
            recheck(op, width, &nulls, |row| (value(&left, row), value(&right, row)), &mut out)?;
        }
        Ok(Column::Int(super::IntKind::Int, Vector::new(out, nulls.clone())))
    };
    Some(run(match op {
        IntOp::Add => i64::overflowing_add,
        IntOp::Sub => i64::overflowing_sub,
        IntOp::Mul => i64::overflowing_mul,
        IntOp::Div => |a, b| if b == 0 { (0, true) } else { a.overflowing_div(b) },
        IntOp::Rem => |a, b| if b == 0 { (0, true) } else { (a.wrapping_rem(b), false) },
    }))
}

/// Some row overflowed: an error if it is a row that counts, else the slot of a NULL, which is cleared.
#[cold]
fn recheck(
    op: IntOp,
    width: IntWidth,
    nulls: &Nulls,
    operands: impl Fn(usize) -> (i64, i64),
    out: &mut [i64],
) -> Result<()> {
    for (row, slot) in out.iter_mut().enumerate() {
        if nulls.is_null(row) {
            *slot = 0;
            continue;
        }
        let (a, b) = operands(row);
        let value = match op {
            IntOp::Add => a.checked_add(b),
            IntOp::Sub => a.checked_sub(b),
            IntOp::Mul => a.checked_mul(b),
            IntOp::Div | IntOp::Rem if b == 0 => return Err(SqlError::division_by_zero()),
            IntOp::Div => a.checked_div(b),
            IntOp::Rem => Some(a.wrapping_rem(b)),
        };
        value.filter(|v| width.contains(*v)).ok_or_else(|| width.out_of_range())?;
    }
    Ok(())
}

fn float_arithmetic(
    op: FloatOp,
    left: Operand<'_>,
    right: Operand<'_>,
    rows: usize,
) -> Option<Result<Column>> {
    let parts = |o: Operand<'_>| match o {
        Operand::Column(Column::Float8(_)) | Operand::Constant(Datum::Float8(_)) => true,
        Operand::Column(_) | Operand::Constant(_) => false,
    };
    if !parts(left) || !parts(right) {
        return None;
    }
    let value = |o: Operand<'_>, row: usize| match o {
        Operand::Column(Column::Float8(v)) => v.get(row),
        Operand::Constant(Datum::Float8(v)) => Some(*v),
        _ => None,
    };
    let mut out = Vector::with_capacity(rows);
    for row in 0..rows {
        match (value(left, row), value(right, row)) {
            (Some(a), Some(b)) => match crate::func::float_op(op, a, b) {
                Ok(v) => out.push(Some(v)),
                Err(e) => return Some(Err(e)),
            },
            _ => out.push(None),
        }
    }
    Some(Ok(Column::Float8(out)))
}

fn bools(column: &Column) -> &Vector<bool> {
    match column {
        Column::Bool(v) => v,
        other => panic!("a boolean column was expected, found {other:?}"),
    }
}

/// `a AND b`: false wins over NULL.
///
/// # Panics
/// When a column is not boolean.
pub fn and(a: &Column, b: &Column) -> Column {
    logic(a, b, false)
}

/// `a OR b`: true wins over NULL.
///
/// # Panics
/// When a column is not boolean.
pub fn or(a: &Column, b: &Column) -> Column {
    logic(a, b, true)
}

fn logic(a: &Column, b: &Column, winner: bool) -> Column {
    let (a, b) = (bools(a), bools(b));
    assert_eq!(a.len(), b.len(), "operands of a kernel must have equal lengths");
    if !a.nulls.any() && !b.nulls.any() {
        let pairs = a.values.iter().zip(&b.values);
        let values =
            if winner { pairs.map(|(a, b)| a | b).collect() } else { pairs.map(|(a, b)| a & b).collect() };
        return Column::Bool(Vector::from_values(values));
    }
    let mut out = Vector::with_capacity(a.len());
    for row in 0..a.len() {
        out.push(match (a.get(row), b.get(row)) {
            (Some(v), _) | (_, Some(v)) if v == winner => Some(winner),
            (Some(_), Some(_)) => Some(!winner),
            _ => None,
        });
    }
    Column::Bool(out)
}

/// `NOT a`.
///
/// # Panics
/// When the column is not boolean.
pub fn not(a: &Column) -> Column {
    let a = bools(a);
    Column::Bool(Vector::new(a.values.iter().map(|v| !v).collect(), a.nulls.clone()))
}

/// `a IS NULL`.
pub fn is_null(a: &Column) -> Column {
    Column::Bool(Vector::from_values((0..a.len()).map(|row| a.is_null(row)).collect()))
}

/// `a IS NOT NULL`.
pub fn is_not_null(a: &Column) -> Column {
    Column::Bool(Vector::from_values((0..a.len()).map(|row| !a.is_null(row)).collect()))
}

/// A text predicate over a column.
pub fn text_predicate(v: &TextVector, test: impl Fn(&str) -> bool) -> Column {
    let values = (0..v.len()).map(|row| test(v.str_at(row))).collect();
    Column::Bool(Vector::new(values, v.nulls().clone()))
}

//! The states and their transitions.

use std::sync::Arc;

use crate::agg::registry::{AggregateFn, Kind, Moment};
use crate::array::{ArrayValue, Dimension};
use crate::column::Column;
use crate::column::kernels::FloatOp;
use crate::context::EvalContext;
use crate::datum::Datum;
use crate::decimal::Decimal;
use crate::error::{Result, SqlError};
use crate::func::{add_spans, divided};
use crate::interval::Interval;
use crate::state::SqlState;
use crate::types::DataType;

/// What an aggregate has gathered.
#[derive(Clone, Debug)]
pub struct AggState(pub(super) State);

#[derive(Clone, Debug)]
pub(super) enum State {
    /// Rows.
    Count(i64),
    /// Rows whatever they hold.
    CountRows(i64),
    /// Integers: their sum and number.
    Ints {
        sum: i128,
        count: i64,
    },
    /// Singles, added as singles.
    Float4(Option<f32>),
    /// Doubles of which only the sum is wanted.
    Float8(Option<f64>),
    /// Doubles: number, sum, and the sum of squared deviations.
    Floats {
        count: i64,
        sum: f64,
        deviations: f64,
    },
    /// Numerics; squares only where a moment needs them.
    Numerics {
        count: i64,
        sum: Decimal,
        squares: Option<Decimal>,
    },
    Intervals {
        count: i64,
        sum: Interval,
    },
    /// The least value so far.
    Min(Datum),
    /// The greatest value so far.
    Max(Datum),
    And(Option<bool>),
    Or(Option<bool>),
    BitAnd(Option<i64>),
    BitOr(Option<i64>),
    BitXor(Option<i64>),
    /// Every value after its delimiter, and how long the first delimiter is.
    Bytes(Option<(Vec<u8>, usize)>),
    Values(Vec<Datum>),
}

impl AggState {
    /// Bytes on the heap, approximately; for memory limits.
    pub fn heap_size(&self) -> usize {
        match &self.0 {
            State::Min(d) | State::Max(d) => d.heap_size(),
            State::Bytes(Some((b, _))) => b.capacity(),
            State::Values(v) => v.iter().map(|d| d.heap_size() + size_of::<Datum>()).sum(),
            State::Numerics { sum, squares, .. } => {
                sum.heap_size() + squares.as_ref().map_or(0, Decimal::heap_size)
            }
            _ => 0,
        }
    }

    /// Feeds an integer where the state is of integers; says whether it was.
    pub(super) fn add_int(&mut self, value: i64) -> bool {
        match &mut self.0 {
            State::Ints { sum, count } => {
                *sum += i128::from(value);
                *count += 1;
            }
            State::Count(n) | State::CountRows(n) => *n += 1,
            State::Min(Datum::Int(m)) => *m = value.min(*m),
            State::Max(Datum::Int(m)) => *m = value.max(*m),
            _ => return false,
        }
        true
    }

    /// Feeds whole columns where there is a loop for it; says whether there was.
    pub(super) fn update_all(&mut self, args: &[&Column], len: usize) -> Result<bool> {
        match (&mut self.0, args) {
            (State::CountRows(n), _) => *n += len as i64,
            (State::Count(n), [column]) => {
                *n += match column {
                    Column::Bool(v) => (len - v.nulls.count()) as i64,
                    Column::Int(_, v) => (len - v.nulls.count()) as i64,
                    Column::Float8(v) => (len - v.nulls.count()) as i64,
                    Column::Text(v) => (len - v.nulls().count()) as i64,
                    Column::Datum(v) => v.iter().filter(|d| !d.is_null()).count() as i64,
                };
            }
            (State::Ints { sum, count }, [Column::Int(_, v)]) => {
                if v.nulls.any() {
                    for value in (0..len).filter_map(|row| v.get(row)) {
                        *sum += i128::from(value);
                        *count += 1;
                    }
                } else {
                    *sum += v.values.iter().map(|v| i128::from(*v)).sum::<i128>();
                    *count += len as i64;
                }
            }
            (State::Min(least), [Column::Int(kind, v)]) => {
                if let Some(m) = (0..len).filter_map(|row| v.get(row)).min() {
                    keep(least, kind.datum(m), |new, old| new < old);
                }
            }
            (State::Max(greatest), [Column::Int(kind, v)]) => {
                if let Some(m) = (0..len).filter_map(|row| v.get(row)).max() {
                    keep(greatest, kind.datum(m), |new, old| new > old);
                }
            }
            (State::Float8(sum), [Column::Float8(v)]) => {
                for value in (0..len).filter_map(|row| v.get(row)) {
                    *sum = Some(sum.map_or(Ok(value), |s| crate::func::float_op(FloatOp::Add, s, value))?);
                }
            }
            (State::Floats { .. }, [Column::Float8(v)]) => {
                for value in (0..len).filter_map(|row| v.get(row)) {
                    self.add_float(value)?;
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The Youngs-Cramer recurrence (`float8_accum`).
    fn add_float(&mut self, value: f64) -> Result<()> {
        let State::Floats { count, sum, deviations } = &mut self.0 else {
            panic!("a float was fed to another state");
        };
        let before = *sum;
        *count += 1;
        *sum += value;
        if *count > 1 {
            let n = *count as f64;
            let d = value * n - *sum;
            *deviations += d * d / (n * (n - 1.0));
            if sum.is_infinite() || deviations.is_infinite() {
                if !before.is_infinite() && !value.is_infinite() {
                    return Err(SqlError::float_overflow());
                }
                *deviations = f64::NAN;
            }
        } else if !value.is_finite() {
            *deviations = f64::NAN;
        }
        Ok(())
    }
}

fn keep(best: &mut Datum, new: Datum, better: impl Fn(&Datum, &Datum) -> bool) {
    if !new.is_null() && (best.is_null() || better(&new, best)) {
        *best = new;
    }
}

impl AggregateFn {
    /// The state of no rows.
    pub fn init(&self) -> AggState {
        AggState(match self.kind {
            Kind::CountRows => State::CountRows(0),
            Kind::Count => State::Count(0),
            Kind::SumInt | Kind::SumIntNumeric | Kind::AvgInt => State::Ints { sum: 0, count: 0 },
            Kind::SumFloat4 => State::Float4(None),
            Kind::SumFloat8 => State::Float8(None),
            Kind::AvgFloat | Kind::FloatMoment(_) => State::Floats { count: 0, sum: 0.0, deviations: 0.0 },
            Kind::SumNumeric | Kind::AvgNumeric => {
                State::Numerics { count: 0, sum: Decimal::ZERO, squares: None }
            }
            Kind::NumericMoment(_) => {
                State::Numerics { count: 0, sum: Decimal::ZERO, squares: Some(Decimal::ZERO) }
            }
            Kind::SumInterval | Kind::AvgInterval => State::Intervals { count: 0, sum: Interval::default() },
            Kind::Min => State::Min(Datum::Null),
            Kind::Max => State::Max(Datum::Null),
            Kind::BoolAnd => State::And(None),
            Kind::BoolOr => State::Or(None),
            Kind::BitAnd => State::BitAnd(None),
            Kind::BitOr => State::BitOr(None),
            Kind::BitXor => State::BitXor(None),
            Kind::StringAgg | Kind::ByteaAgg => State::Bytes(None),
            Kind::ArrayAgg => State::Values(Vec::new()),
        })
    }

    /// Feeds one row.
    ///
    /// # Panics
    /// When an argument is not of its type.
    pub fn update(&self, state: &mut AggState, args: &[Datum]) -> Result<()> {
        let first = args.first().unwrap_or(&Datum::Null);
        match &mut state.0 {
            State::CountRows(n) => {
                *n += 1;
                return Ok(());
            }
            State::Values(v) => {
                if self.arg_types[0].is_array() {
                    check_nested(v.first(), first)?;
                }
                v.push(first.clone());
                return Ok(());
            }
            _ if first.is_null() => return Ok(()),
            _ => {}
        }
        match (&mut state.0, first) {
            (State::Count(n), _) => *n += 1,
            (State::Ints { .. }, Datum::Int(v)) => {
                state.add_int(*v);
            }
            (State::Float4(sum), Datum::Float4(v)) => {
                let before = sum.unwrap_or(0.0);
                let after = before + v;
                if after.is_infinite() && !before.is_infinite() && !v.is_infinite() {
                    return Err(SqlError::float_overflow());
                }
                *sum = Some(after);
            }
            (State::Float8(sum), Datum::Float8(v)) => {
                *sum = Some(sum.map_or(Ok(*v), |s| crate::func::float_op(FloatOp::Add, s, *v))?);
            }
            (State::Floats { .. }, Datum::Float8(v)) => state.add_float(*v)?,
            (State::Numerics { count, sum, squares }, Datum::Numeric(v)) => {
                *sum = sum.add(v)?;
                if let Some(s) = squares {
                    *s = s.add(&v.mul(v)?)?;
                }
                *count += 1;
            }
            (State::Intervals { count, sum }, Datum::Interval(v)) => {
                *sum = add_spans(*sum, *v)?;
                *count += 1;
            }
            (State::Min(least), v) => {
                if least.is_null() || v < least {
                    *least = v.clone();
                }
            }
            (State::Max(greatest), v) => {
                if greatest.is_null() || v > greatest {
                    *greatest = v.clone();
                }
            }
            (State::And(all), Datum::Bool(v)) => *all = Some(all.unwrap_or(true) & v),
            (State::Or(any), Datum::Bool(v)) => *any = Some(any.unwrap_or(false) | v),
            (State::BitAnd(bits), Datum::Int(v)) => *bits = Some(bits.map_or(*v, |b| b & v)),
            (State::BitOr(bits), Datum::Int(v)) => *bits = Some(bits.map_or(*v, |b| b | v)),
            (State::BitXor(bits), Datum::Int(v)) => *bits = Some(bits.map_or(*v, |b| b ^ v)),
            (State::Bytes(so_far), v) => {
                let delimiter = bytes_of(&args[1]);
                let (text, _) = so_far.get_or_insert_with(|| (Vec::new(), delimiter.len()));
                text.extend_from_slice(delimiter);
                text.extend_from_slice(bytes_of(v));
            }
            (state, v) => panic!("the aggregate {} was fed {v:?} in state {state:?}", self.name),
        }
        Ok(())
    }

    /// Adds what another state has gathered.
    ///
    /// # Panics
    /// When the states are of different aggregates.
    pub fn merge(&self, state: &mut AggState, other: &AggState) -> Result<()> {
        match (&mut state.0, &other.0) {
            (State::Count(a), State::Count(b)) | (State::CountRows(a), State::CountRows(b)) => *a += b,
            (State::Ints { sum, count }, State::Ints { sum: s, count: c }) => {
                *sum += s;
                *count += c;
            }
            (State::Float4(a), State::Float4(Some(b))) => {
                let sum = a.unwrap_or(0.0) + b;
                *a = Some(sum);
            }
            (State::Float8(a), State::Float8(Some(b))) => {
                *a = Some(a.map_or(Ok(*b), |a| crate::func::float_op(FloatOp::Add, a, *b))?);
            }
            (State::Floats { count, sum, deviations }, State::Floats { count: c, sum: s, deviations: d }) => {
                if *c > 0 && *count == 0 {
                    (*count, *sum, *deviations) = (*c, *s, *d);
                } else if *c > 0 {
                    let (n, m) = (*count as f64, *c as f64);
                    let gap = *sum / n - s / m;
                    *deviations += d + n * m * gap * gap / (n + m);
                    *sum += s;
                    *count += c;
                }
            }
            (State::Numerics { count, sum, squares }, State::Numerics { count: c, sum: s, squares: q }) => {
                *count += c;
                *sum = sum.add(s)?;
                if let (Some(a), Some(b)) = (squares, q) {
                    *a = a.add(b)?;
                }
            }
            (State::Intervals { count, sum }, State::Intervals { count: c, sum: s }) => {
                *count += c;
                *sum = add_spans(*sum, *s)?;
            }
            (State::Min(a), State::Min(b)) => keep(a, b.clone(), |new, old| new < old),
            (State::Max(a), State::Max(b)) => keep(a, b.clone(), |new, old| new > old),
            (State::And(a), State::And(Some(b))) => *a = Some(a.unwrap_or(true) & b),
            (State::Or(a), State::Or(Some(b))) => *a = Some(a.unwrap_or(false) | b),
            (State::BitAnd(a), State::BitAnd(Some(b))) => *a = Some(a.map_or(*b, |a| a & b)),
            (State::BitOr(a), State::BitOr(Some(b))) => *a = Some(a.map_or(*b, |a| a | b)),
            (State::BitXor(a), State::BitXor(Some(b))) => *a = Some(a.map_or(*b, |a| a ^ b)),
            (State::Bytes(a), State::Bytes(Some((text, first)))) => {
                let (so_far, _) = a.get_or_insert_with(|| (Vec::new(), *first));
                so_far.extend_from_slice(text);
            }
            (State::Values(a), State::Values(b)) => a.extend_from_slice(b),
            (
                State::Float4(_)
                | State::Float8(_)
                | State::And(_)
                | State::Or(_)
                | State::BitAnd(_)
                | State::BitOr(_)
                | State::BitXor(_)
                | State::Bytes(_),
                b,
            ) if std::mem::discriminant(b) == std::mem::discriminant(&self.init().0) => {}
            (a, b) => panic!("states of different aggregates were merged: {a:?} and {b:?}"),
        }
        Ok(())
    }

    /// The result.
    pub fn finish(&self, _: &EvalContext, state: &AggState) -> Result<Datum> {
        Ok(match &state.0 {
            State::Count(n) | State::CountRows(n) => Datum::Int(*n),
            State::Ints { count: 0, .. }
            | State::Floats { count: 0, .. }
            | State::Numerics { count: 0, .. }
            | State::Intervals { count: 0, .. } => Datum::Null,
            State::Ints { sum, count } => match self.kind {
                Kind::SumInt => {
                    i64::try_from(*sum).map(Datum::Int).map_err(|_| SqlError::out_of_range("bigint"))?
                }
                Kind::AvgInt => Datum::Numeric(Decimal::from(*sum).div(&Decimal::from(*count))?),
                _ => Datum::Numeric(Decimal::from(*sum)),
            },
            State::Float4(sum) => sum.map_or(Datum::Null, Datum::Float4),
            State::Float8(sum) => sum.map_or(Datum::Null, Datum::Float8),
            State::Floats { count, sum, deviations } => match self.kind {
                Kind::AvgFloat => Datum::Float8(sum / *count as f64),
                Kind::FloatMoment(m) => float_moment(m, *count, *deviations),
                kind => panic!("{kind:?} does not gather deviations"),
            },
            State::Numerics { count, sum, squares } => match (self.kind, squares) {
                (Kind::AvgNumeric, _) => Datum::Numeric(sum.div(&Decimal::from(*count))?),
                (Kind::NumericMoment(m), Some(squares)) => numeric_moment(m, *count, sum, squares)?,
                _ => Datum::Numeric(sum.clone()),
            },
            State::Intervals { count, sum } => Datum::Interval(match self.kind {
                Kind::AvgInterval => divided(*sum, *count as f64)?,
                _ => *sum,
            }),
            State::Min(d) | State::Max(d) => d.clone(),
            State::And(v) | State::Or(v) => v.map_or(Datum::Null, Datum::Bool),
            State::BitAnd(v) | State::BitOr(v) | State::BitXor(v) => v.map_or(Datum::Null, Datum::Int),
            State::Bytes(None) => Datum::Null,
            State::Bytes(Some((bytes, first))) => match self.kind {
                Kind::ByteaAgg => Datum::bytea(&bytes[*first..]),
                _ => Datum::text(std::str::from_utf8(&bytes[*first..]).expect("only strings were joined")),
            },
            State::Values(v) if v.is_empty() => Datum::Null,
            State::Values(v) => Datum::Array(Arc::new(gathered(v, &self.arg_types[0]))),
        })
    }
}

fn bytes_of(d: &Datum) -> &[u8] {
    match d {
        Datum::Null => &[],
        Datum::Text(s) | Datum::Char(s) => s.as_bytes(),
        Datum::Bytea(b) => b,
        other => panic!("a string was expected, found {other:?}"),
    }
}

fn float_moment(m: Moment, count: i64, deviations: f64) -> Datum {
    if !m.population && count < 2 {
        return Datum::Null;
    }
    let variance = deviations / (if m.population { count } else { count - 1 }) as f64;
    Datum::Float8(if m.deviation { variance.sqrt() } else { variance })
}

/// `numeric_stddev_internal`.
fn numeric_moment(m: Moment, count: i64, sum: &Decimal, squares: &Decimal) -> Result<Datum> {
    if !m.population && count < 2 {
        return Ok(Datum::Null);
    }
    if !sum.is_finite() {
        return Ok(Datum::Numeric(Decimal::NAN));
    }
    let n = Decimal::from(count);
    let numerator = n.mul(squares)?.sub(&sum.mul(sum)?)?;
    if numerator.signum() <= 0 {
        return Ok(Datum::Numeric(Decimal::ZERO));
    }
    let denominator = n.mul(&if m.population { n.clone() } else { Decimal::from(count - 1) })?;
    let scale = numerator.quotient_scale(&denominator);
    let variance = numerator.div_at(&denominator, scale)?;
    Ok(Datum::Numeric(if m.deviation { variance.sqrt_at(scale) } else { variance }))
}

/// Arrays that become one of a dimension more must be alike.
fn check_nested(first: Option<&Datum>, next: &Datum) -> Result<()> {
    let lens = |d: &Datum| d.as_array().map(|a| a.dimensions().iter().map(|d| d.len).collect::<Vec<_>>());
    let Some(next) = lens(next) else {
        return Err(SqlError::new(SqlState::NULL_VALUE_NOT_ALLOWED, "cannot accumulate null arrays"));
    };
    if next.is_empty() {
        return Err(SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, "cannot accumulate empty arrays"));
    }
    crate::array::check_dimensions(next.len() + 1)?;
    if first.is_some_and(|f| lens(f).as_ref() != Some(&next)) {
        return Err(SqlError::new(
            SqlState::ARRAY_SUBSCRIPT_ERROR,
            "cannot accumulate arrays of different dimensionality",
        ));
    }
    Ok(())
}

fn gathered(values: &[Datum], arg_type: &DataType) -> ArrayValue {
    let DataType::Array(element) = arg_type else {
        return ArrayValue::new(arg_type.clone(), values.to_vec());
    };
    let arrays: Vec<&ArrayValue> = values.iter().filter_map(Datum::as_array).collect();
    let mut dimensions = vec![Dimension { len: arrays.len() as i32, lower: 1 }];
    dimensions.extend_from_slice(arrays[0].dimensions());
    let elements = arrays.iter().flat_map(|a| a.elements().iter().cloned()).collect();
    ArrayValue::with_dimensions((**element).clone(), dimensions, elements)
}

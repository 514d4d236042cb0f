//! States as columns, for partial aggregates that are computed elsewhere.

use std::sync::Arc;

use crate::agg::registry::{AggregateFn, Kind};
use crate::agg::state::{AggState, State};
use crate::array::ArrayValue;
use crate::datum::Datum;
use crate::error::{Result, SqlError};
use crate::types::DataType;

fn malformed() -> SqlError {
    SqlError::internal("a partial aggregate is not of its aggregate's form")
}

impl AggregateFn {
    /// Whether partial states can be shipped: all but `array_agg` over arrays, whose states have no type.
    pub fn is_mergeable(&self) -> bool {
        !(self.kind == Kind::ArrayAgg && self.arg_types[0].is_array())
    }

    pub(super) fn shipped_types(&self) -> Vec<DataType> {
        use DataType as D;
        match self.kind {
            Kind::CountRows | Kind::Count => vec![D::Int8],
            Kind::SumInt | Kind::SumIntNumeric | Kind::AvgInt => vec![D::Numeric(None), D::Int8],
            Kind::SumFloat4 => vec![D::Float4],
            Kind::SumFloat8 => vec![D::Float8],
            Kind::AvgFloat | Kind::FloatMoment(_) => vec![D::Int8, D::Float8, D::Float8],
            Kind::SumNumeric | Kind::AvgNumeric | Kind::NumericMoment(_) => {
                vec![D::Int8, D::Numeric(None), D::Numeric(None)]
            }
            Kind::SumInterval | Kind::AvgInterval => vec![D::Int8, D::Interval],
            Kind::Min | Kind::Max | Kind::BitAnd | Kind::BitOr | Kind::BitXor => {
                vec![self.arg_types[0].clone()]
            }
            Kind::BoolAnd | Kind::BoolOr => vec![D::Bool],
            Kind::StringAgg | Kind::ByteaAgg => vec![D::Bytea, D::Int8],
            Kind::ArrayAgg => vec![D::array(self.arg_types[0].clone())],
        }
    }

    /// The state's parts, of the types [`AggregateFn::state_types`], to be shipped.
    pub fn export(&self, state: &AggState) -> Vec<Datum> {
        let int = |v: &Option<i64>| v.map_or(Datum::Null, Datum::Int);
        match &state.0 {
            State::Count(n) | State::CountRows(n) => vec![Datum::Int(*n)],
            State::Ints { sum, count } => vec![Datum::Numeric((*sum).into()), Datum::Int(*count)],
            State::Float4(v) => vec![v.map_or(Datum::Null, Datum::Float4)],
            State::Float8(v) => vec![v.map_or(Datum::Null, Datum::Float8)],
            State::Floats { count, sum, deviations } => {
                vec![Datum::Int(*count), Datum::Float8(*sum), Datum::Float8(*deviations)]
            }
            State::Numerics { count, sum, squares } => vec![
                Datum::Int(*count),
                Datum::Numeric(sum.clone()),
                squares.clone().map_or(Datum::Null, Datum::Numeric),
            ],
            State::Intervals { count, sum } => vec![Datum::Int(*count), Datum::Interval(*sum)],
            State::Min(d) | State::Max(d) => vec![d.clone()],
            State::And(v) | State::Or(v) => vec![v.map_or(Datum::Null, Datum::Bool)],
            State::BitAnd(v) | State::BitOr(v) | State::BitXor(v) => vec![int(v)],
            State::Bytes(None) => vec![Datum::Null, Datum::Null],
            State::Bytes(Some((b, first))) => vec![Datum::bytea(b.as_slice()), Datum::Int(*first as i64)],
            State::Values(v) => {
                vec![Datum::Array(Arc::new(ArrayValue::new(self.arg_types[0].clone(), v.clone())))]
            }
        }
    }

    /// The state of parts that [`AggregateFn::export`] gave.
    ///
    /// # Errors
    /// `XX000` when the parts are not of the aggregate's form.
    pub fn import(&self, parts: &[Datum]) -> Result<AggState> {
        let mut state = self.init();
        match (&mut state.0, parts) {
            (State::Count(n) | State::CountRows(n), [Datum::Int(v)]) => *n = *v,
            (State::Ints { sum, count }, [Datum::Numeric(s), Datum::Int(c)]) => {
                let total = s.to_big_integer().and_then(|b| i128::try_from(b).ok());
                (*sum, *count) = (total.ok_or_else(malformed)?, *c);
            }
            (State::Float4(v), [Datum::Float4(s)]) => *v = Some(*s),
            (State::Float8(v), [Datum::Float8(s)]) => *v = Some(*s),
            (
                State::Floats { count, sum, deviations },
                [Datum::Int(c), Datum::Float8(s), Datum::Float8(d)],
            ) => {
                (*count, *sum, *deviations) = (*c, *s, *d);
            }
            (State::Numerics { count, sum, squares }, [Datum::Int(c), Datum::Numeric(s), q]) => {
                (*count, *sum) = (*c, s.clone());
                *squares = match q {
                    Datum::Null => None,
                    Datum::Numeric(q) => Some(q.clone()),
                    _ => return Err(malformed()),
                };
            }
            (State::Intervals { count, sum }, [Datum::Int(c), Datum::Interval(s)]) => {
                (*count, *sum) = (*c, *s)
            }
            (State::Min(d) | State::Max(d), [v]) => *d = v.clone(),
            (State::And(v) | State::Or(v), [Datum::Bool(b)]) => *v = Some(*b),
            (State::BitAnd(v) | State::BitOr(v) | State::BitXor(v), [Datum::Int(b)]) => *v = Some(*b),
            (State::Bytes(v), [Datum::Bytea(b), Datum::Int(first)]) => {
                let first = usize::try_from(*first).ok().filter(|f| *f <= b.len()).ok_or_else(malformed)?;
                *v = Some((b.to_vec(), first));
            }
            (State::Values(v), [Datum::Array(a)]) => *v = a.elements().to_vec(),
            (_, parts) if parts.len() == self.shipped_types().len() && parts.iter().all(Datum::is_null) => {}
            _ => return Err(malformed()),
        }
        Ok(state)
    }
}

//! Evaluation of one row at a time: key expressions, values of INSERT, and the rare forms of expression that have no
//! vectorised code.

use std::cmp::Ordering;
use std::sync::Arc;

use meridian_datum::{ArrayValue, Batch, DataType, Datum, Result, SqlError, SqlState, cast};
use meridian_plan::Expr;
use smallvec::SmallVec;

use super::Scope;

/// The row that an expression's columns refer to.
#[derive(Clone, Copy, Debug)]
pub enum Row<'a> {
    /// No columns.
    None,
    /// A row of a batch.
    Batch(&'a Batch, usize),
    /// Values.
    Values(&'a [Datum]),
    /// Two rows side by side: the columns of the first, then those of the second.
    Pair(&'a [Datum], &'a [Datum]),
}

impl Row<'_> {
    fn get(&self, index: usize) -> Datum {
        match self {
            Row::None => panic!("an expression without input mentions column {index}"),
            Row::Batch(batch, row) => batch.get(index, *row),
            Row::Values(values) => values[index].clone(),
            Row::Pair(a, b) => match a.get(index) {
                Some(d) => d.clone(),
                None => b[index - a.len()].clone(),
            },
        }
    }
}

impl Scope<'_> {
    /// The value of an expression for a row.
    pub fn datum(&self, e: &Expr, row: Row<'_>) -> Result<Datum> {
        match e {
            Expr::Const(d, _) => Ok(d.clone()),
            Expr::Column { index, .. } => Ok(row.get(*index)),
            Expr::Param { index, .. } => Ok(self.param(*index)),
            Expr::Outer { index, .. } => Ok(self.outer[*index].clone()),
            Expr::Call { function, args } => {
                let args = self.datums(args, row)?;
                function.call(self.eval, &args)
            }
            Expr::Session { .. } => self.session_value(e, row),
            Expr::Cast { input, from, to, context } => {
                cast(self.eval, self.datum(input, row)?, from, to, *context)
            }
            Expr::And(args) => self.kleene(args, row, false),
            Expr::Or(args) => self.kleene(args, row, true),
            Expr::Not(input) => {
                Ok(self.datum(input, row)?.as_bool().map_or(Datum::Null, |b| Datum::Bool(!b)))
            }
            Expr::IsNull { input, negated } => Ok(Datum::Bool(is_null(&self.datum(input, row)?, *negated))),
            Expr::IsBool { input, value, negated } => {
                let is = self.datum(input, row)?.as_bool() == Some(*value);
                Ok(Datum::Bool(is != *negated))
            }
            Expr::IsDistinct { left, right, negated } => {
                let distinct = self.datum(left, row)? != self.datum(right, row)?;
                Ok(Datum::Bool(distinct != *negated))
            }
            Expr::Case { branches, otherwise, .. } => {
                for (condition, value) in branches {
                    if self.datum(condition, row)?.as_bool() == Some(true) {
                        return self.datum(value, row);
                    }
                }
                self.datum(otherwise, row)
            }
            Expr::Coalesce { args, .. } => {
                for a in args {
                    let d = self.datum(a, row)?;
                    if !d.is_null() {
                        return Ok(d);
                    }
                }
                Ok(Datum::Null)
            }
            Expr::NullIf { value, equal } => match self.datum(equal, row)?.as_bool() {
                Some(true) => Ok(Datum::Null),
                _ => self.datum(value, row),
            },
            Expr::Extremum { greatest, args, .. } => self.extremum(*greatest, args, row),
            Expr::InSet { input, set, has_null, negated } => {
                Ok(in_set(&self.datum(input, row)?, set, *has_null, *negated))
            }
            Expr::AnyAll { .. } | Expr::Array { .. } | Expr::Subscript { .. } | Expr::Row(_) => {
                self.container(e, row)
            }
            Expr::Subquery(s) => self.subquery_value(s, row),
            Expr::Unplanned(_) => panic!("subqueries are planned before they are executed"),
        }
    }

    fn datums(&self, args: &[Expr], row: Row<'_>) -> Result<SmallVec<[Datum; 4]>> {
        args.iter().map(|a| self.datum(a, row)).collect()
    }

    /// AND (`decisive` is false) and OR (`decisive` is true).
    fn kleene(&self, args: &[Expr], row: Row<'_>, decisive: bool) -> Result<Datum> {
        let mut unknown = false;
        for a in args {
            match self.datum(a, row)?.as_bool() {
                Some(b) if b == decisive => return Ok(Datum::Bool(decisive)),
                Some(_) => {}
                None => unknown = true,
            }
        }
        Ok(if unknown { Datum::Null } else { Datum::Bool(!decisive) })
    }

    fn extremum(&self, greatest: bool, args: &[Expr], row: Row<'_>) -> Result<Datum> {
        let wanted = if greatest { Ordering::Greater } else { Ordering::Less };
        let mut best = Datum::Null;
        for a in args {
            let d = self.datum(a, row)?;
            if !d.is_null() && (best.is_null() || d.cmp(&best) == wanted) {
                best = d;
            }
        }
        Ok(best)
    }

    fn container(&self, e: &Expr, row: Row<'_>) -> Result<Datum> {
        match e {
            Expr::AnyAll { all, function, left, array } => {
                let left = self.datum(left, row)?;
                let array = self.datum(array, row)?;
                let Some(array) = array.as_array() else { return Ok(Datum::Null) };
                let mut unknown = false;
                for element in array.elements() {
                    match function.call(self.eval, &[left.clone(), element.clone()])?.as_bool() {
                        Some(b) if b != *all => return Ok(Datum::Bool(b)),
                        Some(_) => {}
                        None => unknown = true,
                    }
                }
                Ok(if unknown { Datum::Null } else { Datum::Bool(*all) })
            }
            Expr::Array { elements, ty } => {
                let values = elements.iter().map(|x| self.datum(x, row)).collect::<Result<Vec<_>>>()?;
                array_of(values, ty)
            }
            Expr::Subscript { array, subscripts, .. } => {
                let array = self.datum(array, row)?;
                let mut at: SmallVec<[i64; 2]> = SmallVec::new();
                for s in subscripts {
                    match self.datum(s, row)?.as_int() {
                        Some(i) => at.push(i),
                        None => return Ok(Datum::Null),
                    }
                }
                Ok(array.as_array().and_then(|a| a.get(&at)).cloned().unwrap_or(Datum::Null))
            }
            Expr::Row(fields) => {
                let values = fields.iter().map(|x| self.datum(x, row)).collect::<Result<Vec<_>>>()?;
                Ok(Datum::Record(values.into()))
            }
            _ => panic!("only containers are evaluated here"),
        }
    }
}

/// `IS [NOT] NULL`; of a row: whether all fields are (not) NULL.
pub(super) fn is_null(d: &Datum, negated: bool) -> bool {
    match d {
        Datum::Record(fields) => fields.iter().all(|f| f.is_null() != negated),
        _ => d.is_null() != negated,
    }
}

/// `x [NOT] IN (sorted set)`.
pub(super) fn in_set(d: &Datum, set: &[Datum], has_null: bool, negated: bool) -> Datum {
    if d.is_null() {
        return if set.is_empty() && !has_null { Datum::Bool(negated) } else { Datum::Null };
    }
    if set.binary_search(d).is_ok() {
        return Datum::Bool(!negated);
    }
    if has_null { Datum::Null } else { Datum::Bool(negated) }
}

/// `ARRAY[...]`: of scalars, or of arrays of equal dimensions, which become one array of one dimension more.
pub(super) fn array_of(values: Vec<Datum>, ty: &DataType) -> Result<Datum> {
    let element = ty.element().unwrap_or(DataType::Unknown);
    let nested = values.iter().any(|v| matches!(v, Datum::Array(_)));
    if !nested {
        return Ok(Datum::Array(Arc::new(ArrayValue::new(element, values))));
    }
    let mismatch = || {
        SqlError::new(
            SqlState::ARRAY_SUBSCRIPT_ERROR,
            "multidimensional arrays must have array expressions with matching dimensions",
        )
    };
    let mut inner: Option<Vec<meridian_datum::Dimension>> = None;
    let mut flat = Vec::new();
    for v in &values {
        let Datum::Array(a) = v else { return Err(mismatch()) };
        match &inner {
            None => inner = Some(a.dimensions().to_vec()),
            Some(d) if d == a.dimensions() => {}
            Some(_) => return Err(mismatch()),
        }
        flat.extend_from_slice(a.elements());
    }
    let mut dimensions = vec![meridian_datum::Dimension { len: values.len() as i32, lower: 1 }];
    dimensions.extend(inner.unwrap_or_default());
    meridian_datum::array::check_dimensions(dimensions.len())?;
    Ok(Datum::Array(Arc::new(ArrayValue::with_dimensions(element, dimensions, flat))))
}

impl Scope<'_> {
    fn session_value(&self, e: &Expr, row: Row<'_>) -> Result<Datum> {
        let Expr::Session { function, args } = e else { panic!("only catalog functions are evaluated here") };
        let args = self.datums(args, row)?;
        meridian_catalog::evaluate(*function, &args, &self.stmt().catalog, &*self.stmt().session)
    }
}

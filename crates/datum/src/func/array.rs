//! Array functions and operators.

use std::sync::Arc;

use crate::array::{ArrayValue, Dimension};
use crate::context::EvalContext;
use crate::datum::Datum;
use crate::error::{Result, SqlError};
use crate::func::access::{array, int, text};
use crate::func::registry::Ty::{AnyArray, AnyElement, Bool, Int4, Text};
use crate::func::registry::{FunctionDef, Ty, def};
use crate::func::string::output;
use crate::state::SqlState;

fn made(a: ArrayValue) -> Result<Datum> {
    Ok(Datum::Array(Arc::new(a)))
}

fn append(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    push(&a[0], &a[1], false)
}

fn prepend(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    push(&a[1], &a[0], true)
}

fn push(to: &Datum, element: &Datum, front: bool) -> Result<Datum> {
    let empty;
    let to = match to {
        Datum::Null => {
            empty = ArrayValue::new(super::untyped(element), Vec::new());
            &empty
        }
        other => array(other),
    };
    if to.dimensions().len() > 1 {
        return Err(SqlError::new(
            SqlState::DATA_EXCEPTION,
            "argument must be empty or one-dimensional array",
        ));
    }
    let mut elements = to.elements().to_vec();
    if front {
        elements.insert(0, element.clone());
    } else {
        elements.push(element.clone());
    }
    made(ArrayValue::new(to.element_type().clone(), elements))
}

fn cat(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    if a[0].is_null() {
        return Ok(a[1].clone());
    }
    if a[1].is_null() {
        return Ok(a[0].clone());
    }
    let (x, y) = (array(&a[0]), array(&a[1]));
    if x.is_empty() {
        return Ok(a[1].clone());
    }
    if y.is_empty() {
        return Ok(a[0].clone());
    }
    let incompatible = || {
        SqlError::new(SqlState::ARRAY_SUBSCRIPT_ERROR, "cannot concatenate incompatible arrays")
            .with_detail("Arrays with differing dimensions are not compatible for concatenation.")
    };
    let (dx, dy) = (x.dimensions(), y.dimensions());
    let lens = |d: &[Dimension]| d.iter().map(|d| d.len).collect::<Vec<_>>();
    let mut dimensions = if dx.len() >= dy.len() { dx.to_vec() } else { dy.to_vec() };
    if dx.len() == dy.len() && lens(&dx[1..]) == lens(&dy[1..]) {
        dimensions[0].len += dy[0].len;
    } else if (dx.len() == dy.len() + 1 && lens(&dx[1..]) == lens(dy))
        || (dy.len() == dx.len() + 1 && lens(&dy[1..]) == lens(dx))
    {
        // One is an element of what the other is made of.
        dimensions[0].len += 1;
    } else {
        return Err(incompatible());
    }
    let elements = [x.elements(), y.elements()].concat();
    made(ArrayValue::with_dimensions(x.element_type().clone(), dimensions, elements))
}

fn dimension(a: &[Datum]) -> Option<&Dimension> {
    let n = int(&a[1]);
    usize::try_from(n - 1).ok().and_then(|n| array(&a[0]).dimensions().get(n))
}

fn contains(x: &ArrayValue, y: &ArrayValue) -> bool {
    y.elements().iter().all(|e| !e.is_null() && x.elements().contains(e))
}

fn to_string(ctx: &EvalContext, a: &[Datum]) -> Result<Datum> {
    if a[0].is_null() || a[1].is_null() {
        return Ok(Datum::Null);
    }
    let null_text = a.get(2).filter(|d| !d.is_null()).map(text);
    let parts: Vec<String> = array(&a[0])
        .elements()
        .iter()
        .filter_map(|e| if e.is_null() { null_text.map(str::to_owned) } else { Some(output(ctx, e)) })
        .collect();
    Ok(Datum::from(parts.join(text(&a[1]))))
}

fn position(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    if a[0].is_null() {
        return Ok(Datum::Null);
    }
    let x = array(&a[0]);
    if x.dimensions().len() > 1 {
        return Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "searching for elements in multidimensional arrays is not supported",
        ));
    }
    let lower = x.dimensions().first().map_or(1, |d| i64::from(d.lower));
    let from = match a.get(2) {
        None => lower,
        Some(Datum::Null) => {
            return Err(SqlError::new(SqlState::NULL_VALUE_NOT_ALLOWED, "initial position must not be null"));
        }
        Some(d) => int(d),
    };
    let found = x.elements().iter().enumerate().find(|(i, e)| *i as i64 + lower >= from && **e == a[1]);
    Ok(found.map_or(Datum::Null, |(i, _)| Datum::Int(i as i64 + lower)))
}

fn remove(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    if a[0].is_null() {
        return Ok(Datum::Null);
    }
    let x = array(&a[0]);
    if x.dimensions().len() > 1 {
        return Err(SqlError::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "removing elements from multidimensional arrays is not supported",
        ));
    }
    let kept = x.elements().iter().filter(|e| **e != a[1]).cloned().collect();
    made(ArrayValue::new(x.element_type().clone(), kept))
}

fn replace(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    if a[0].is_null() {
        return Ok(Datum::Null);
    }
    let x = array(&a[0]);
    let elements = x.elements().iter().map(|e| if *e == a[1] { a[2].clone() } else { e.clone() }).collect();
    made(ArrayValue::with_dimensions(x.element_type().clone(), x.dimensions().to_vec(), elements))
}

fn dims(_: &EvalContext, a: &[Datum]) -> Result<Datum> {
    let x = array(&a[0]);
    if x.is_empty() {
        return Ok(Datum::Null);
    }
    Ok(Datum::from(
        x.dimensions()
            .iter()
            .map(|d| format!("[{}:{}]", d.lower, i64::from(d.lower) + i64::from(d.len) - 1))
            .collect::<String>(),
    ))
}

fn int_or_null(v: Option<i64>) -> Result<Datum> {
    Ok(v.map_or(Datum::Null, Datum::Int))
}

pub(super) const OPERATORS: &[FunctionDef] = &[
    def("||", &[AnyArray, AnyElement], AnyArray, append).on_null(),
    def("||", &[AnyElement, AnyArray], AnyArray, prepend).on_null(),
    def("||", &[AnyArray, AnyArray], AnyArray, cat).on_null(),
    def("@>", &[AnyArray, AnyArray], Bool, |_, a| Ok(Datum::Bool(contains(array(&a[0]), array(&a[1]))))),
    def("<@", &[AnyArray, AnyArray], Bool, |_, a| Ok(Datum::Bool(contains(array(&a[1]), array(&a[0]))))),
    def("&&", &[AnyArray, AnyArray], Bool, |_, a| {
        let (x, y) = (array(&a[0]), array(&a[1]));
        Ok(Datum::Bool(x.elements().iter().any(|e| !e.is_null() && y.elements().contains(e))))
    }),
];

pub(super) const FUNCTIONS: &[FunctionDef] = &[
    def("array_append", &[AnyArray, AnyElement], AnyArray, append).on_null(),
    def("array_prepend", &[AnyElement, AnyArray], AnyArray, prepend).on_null(),
    def("array_cat", &[AnyArray, AnyArray], AnyArray, cat).on_null(),
    def("array_length", &[AnyArray, Int4], Int4, |_, a| int_or_null(dimension(a).map(|d| i64::from(d.len)))),
    def("array_lower", &[AnyArray, Int4], Int4, |_, a| int_or_null(dimension(a).map(|d| i64::from(d.lower)))),
    def("array_upper", &[AnyArray, Int4], Int4, |_, a| {
        int_or_null(dimension(a).map(|d| i64::from(d.lower) + i64::from(d.len) - 1))
    }),
    def("array_ndims", &[AnyArray], Int4, |_, a| {
        let n = array(&a[0]).dimensions().len();
        int_or_null((n > 0).then_some(n as i64))
    }),
    def("array_dims", &[AnyArray], Text, dims),
    def("cardinality", &[AnyArray], Int4, |_, a| Ok(Datum::Int(array(&a[0]).len() as i64))),
    def("array_to_string", &[AnyArray, Text], Text, to_string).on_null().stable(),
    def("array_to_string", &[AnyArray, Text, Text], Text, to_string).on_null().stable(),
    def("array_position", &[AnyArray, AnyElement], Int4, position).on_null(),
    def("array_position", &[AnyArray, AnyElement, Ty::Int4], Int4, position).on_null(),
    def("array_remove", &[AnyArray, AnyElement], AnyArray, remove).on_null(),
    def("array_replace", &[AnyArray, AnyElement, AnyElement], AnyArray, replace).on_null(),
];

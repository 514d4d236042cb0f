//! Functions that make JSON. The planner has `to_json` called on every argument of the others first, since only the type
//! tells a text from a JSON; object identifiers, which are no numbers in JSON, it makes texts before.

use std::borrow::Cow;

use crate::context::EvalContext;
use crate::datum::Datum;
use crate::error::{Result, SqlError};
use crate::format::{natural_type, write_json};
use crate::func::registry::Ty::{Any, AnyElement, Json};
use crate::func::registry::{FunctionDef, def};

fn to_json(ctx: &EvalContext, args: &[Datum]) -> Result<Datum> {
    let mut out = String::new();
    write_json(ctx, &args[0], &natural_type(&args[0]), &mut out);
    Ok(Datum::text(out))
}

/// The text of a value that is JSON already.
fn json_text<'a>(ctx: &EvalContext, value: &'a Datum) -> Cow<'a, str> {
    match value {
        Datum::Null => Cow::Borrowed("null"),
        Datum::Text(json) => Cow::Borrowed(json),
        other => {
            let mut out = String::new();
            write_json(ctx, other, &natural_type(other), &mut out);
            Cow::Owned(out)
        }
    }
}

/// `json_build_object(key, value, ...)` over JSON: PostgreSQL puts blanks around the colon and after the comma.
fn build_object(ctx: &EvalContext, args: &[Datum]) -> Result<Datum> {
    if args.len() % 2 == 1 {
        return Err(SqlError::invalid_parameter("argument list must have even number of elements")
            .with_hint("The arguments of json_build_object() must consist of alternating keys and values."));
    }
    let mut out = String::from("{");
    for (i, pair) in args.chunks_exact(2).enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        if pair[0].is_null() {
            let message = format!("argument {} cannot be null", 2 * i + 1);
            return Err(SqlError::invalid_parameter(message).with_hint("Object keys should be text."));
        }
        let key = json_text(ctx, &pair[0]);
        // A key of another type than text is its text.
        if key.starts_with('"') {
            out.push_str(&key);
        } else {
            out.push('"');
            out.push_str(&key);
            out.push('"');
        }
        out.push_str(" : ");
        out.push_str(&json_text(ctx, &pair[1]));
    }
    out.push('}');
    Ok(Datum::text(out))
}

fn build_array(ctx: &EvalContext, args: &[Datum]) -> Result<Datum> {
    let items: Vec<Cow<'_, str>> = args.iter().map(|a| json_text(ctx, a)).collect();
    Ok(Datum::text(format!("[{}]", items.join(", "))))
}

pub(super) const FUNCTIONS: &[FunctionDef] = &[
    def("json_build_array", &[], Json, build_array),
    def("json_build_array", &[Any], Json, build_array).variadic().on_null().stable(),
    def("json_build_object", &[], Json, build_object),
    def("json_build_object", &[Any], Json, build_object).variadic().on_null().stable(),
    def("to_json", &[Json], Json, |_, a| Ok(a[0].clone())),
    def("to_json", &[AnyElement], Json, to_json).stable(),
];

//! CASE, arrays, and the functions that SQL spells with keywords.

use meridian_datum::{CastContext, DataType, Datum, Result, SqlError, SqlState};
use sqlparser::ast::{self, DateTimeField, TrimWhereField};

use super::expr::{Cx, conjunction, position};
use super::{At, Binder};
use crate::expr::Expr;

impl Binder<'_> {
    pub(super) fn case(
        &mut self,
        operand: Option<&ast::Expr>,
        conditions: &[ast::CaseWhen],
        otherwise: Option<&ast::Expr>,
        cx: &mut Cx<'_, '_>,
    ) -> Result<Expr> {
        let operand = match operand {
            Some(o) => Some((self.typed_expr(o, cx)?, position(o))),
            None => None,
        };
        let mut tests = Vec::with_capacity(conditions.len());
        let mut values = Vec::with_capacity(conditions.len() + 1);
        for c in conditions {
            let test = self.expr(&c.condition, cx)?;
            tests.push(match &operand {
                Some((o, at)) => self.compare("=", o.clone(), test, *at)?,
                None => self.coerce_bool(test, "CASE/WHEN", position(&c.condition))?,
            });
            values.push((self.expr(&c.result, cx)?, position(&c.result)));
        }
        let otherwise = match otherwise {
            Some(e) => (self.expr(e, cx)?, position(e)),
            None => (Expr::Const(Datum::Null, DataType::Unknown), 0),
        };
        // The ELSE branch comes first where types are weighed, as in PostgreSQL.
        values.insert(0, otherwise);
        let ty = self.unify("CASE", &mut values)?;
        let mut values = values.into_iter().map(|(v, _)| v);
        let otherwise = values.next().expect("put first above");
        let branches: Vec<(Expr, Expr)> = tests.into_iter().zip(values).collect();
        if branches.iter().all(|(t, _)| matches!(t, Expr::Const(Datum::Bool(false) | Datum::Null, _))) {
            return Ok(otherwise);
        }
        Ok(Expr::Case { branches, otherwise: Box::new(otherwise), ty })
    }

    pub(super) fn array(&mut self, a: &ast::Array, cx: &mut Cx<'_, '_>) -> Result<Expr> {
        let mut items = Vec::with_capacity(a.elem.len());
        for e in &a.elem {
            items.push((self.expr(e, cx)?, position(e)));
        }
        if items.is_empty() {
            let message = "cannot determine type of empty array";
            return Err(SqlError::new(SqlState::INDETERMINATE_DATATYPE, message)
                .with_hint("Explicitly cast to the desired type, for example ARRAY[]::integer[]."));
        }
        let ty = self.unify("ARRAY", &mut items)?;
        let elements = items.into_iter().map(|(e, _)| e).collect();
        let ty = if ty.is_array() { ty } else { DataType::array(ty) };
        Ok(Expr::Array { elements, ty })
    }

    /// `ARRAY[...]::t[]`: the elements are cast, not the array, so that it may be empty.
    pub(super) fn typed_array(
        &mut self,
        a: &ast::Array,
        element: &DataType,
        cx: &mut Cx<'_, '_>,
    ) -> Result<Expr> {
        let mut elements = Vec::with_capacity(a.elem.len());
        for e in &a.elem {
            let bound = match e {
                ast::Expr::Array(inner) => self.typed_array(inner, element, cx)?,
                _ => {
                    let bound = self.expr(e, cx)?;
                    self.coerce(bound, element, CastContext::Explicit, position(e))?
                }
            };
            elements.push(bound);
        }
        Ok(Expr::Array { elements, ty: DataType::array(element.clone()) })
    }

    pub(super) fn field_access(
        &mut self,
        root: &ast::Expr,
        chain: &[ast::AccessExpr],
        cx: &mut Cx<'_, '_>,
    ) -> Result<Expr> {
        let mut subscripts = Vec::new();
        for access in chain {
            match access {
                ast::AccessExpr::Subscript(ast::Subscript::Index { index }) => {
                    let i = self.expr(index, cx)?;
                    subscripts.push(self.coerce(
                        i,
                        &DataType::Int4,
                        CastContext::Assignment,
                        position(index),
                    )?);
                }
                ast::AccessExpr::Subscript(ast::Subscript::Slice { .. }) => {
                    return Err(SqlError::unsupported("an array slice").at(position(root)));
                }
                ast::AccessExpr::Dot(_) => {
                    return Err(SqlError::unsupported("a field of a composite value").at(position(root)));
                }
            }
        }
        let array = self.typed_expr(root, cx)?;
        let Some(element) = array.ty().element() else {
            let message =
                format!("cannot subscript type {} because it does not support subscripting", array.ty());
            return Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message).at(position(root)));
        };
        Ok(Expr::Subscript { array: Box::new(array), subscripts, ty: element })
    }

    /// EXTRACT, POSITION, SUBSTRING, TRIM, OVERLAY, CEIL, FLOOR.
    pub(super) fn keyword_function(&mut self, e: &ast::Expr, cx: &mut Cx<'_, '_>) -> Result<Expr> {
        use ast::Expr as A;
        let at = position(e);
        let optional = |b: &mut Self,
                        x: &Option<Box<ast::Expr>>,
                        cx: &mut Cx<'_, '_>|
         -> Result<Option<Expr>> { x.as_ref().map(|x| b.expr(x, cx)).transpose() };
        match e {
            A::Extract { field, expr, .. } => {
                let value = self.expr(expr, cx)?;
                let field = Expr::Const(Datum::from(field_name(field)), DataType::Text);
                self.call_named("extract", vec![field, value], at)
            }
            A::Position { expr, r#in } => {
                let needle = self.expr(expr, cx)?;
                let hay = self.expr(r#in, cx)?;
                self.call_named("position", vec![hay, needle], at)
            }
            A::Substring { expr, substring_from, substring_for, .. } => {
                let value = self.expr(expr, cx)?;
                let from = optional(self, substring_from, cx)?;
                let length = optional(self, substring_for, cx)?;
                let from = match (from, &length) {
                    (Some(f), _) => f,
                    // SUBSTRING(x FOR n) starts at 1.
                    (None, _) => Expr::Const(Datum::Int(1), DataType::Int4),
                };
                let mut args = vec![value, from];
                args.extend(length);
                self.call_named("substring", args, at)
            }
            A::Trim { trim_where, trim_what, expr, trim_characters } => {
                let value = self.expr(expr, cx)?;
                let mut args = vec![value];
                args.extend(optional(self, trim_what, cx)?);
                for c in trim_characters.iter().flatten() {
                    args.push(self.expr(c, cx)?);
                }
                let name = match trim_where {
                    Some(TrimWhereField::Leading) => "ltrim",
                    Some(TrimWhereField::Trailing) => "rtrim",
                    _ => "btrim",
                };
                self.call_named(name, args, at)
            }
            A::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                let mut args =
                    vec![self.expr(expr, cx)?, self.expr(overlay_what, cx)?, self.expr(overlay_from, cx)?];
                args.extend(optional(self, overlay_for, cx)?);
                self.call_named("overlay", args, at)
            }
            A::Ceil { expr, field } | A::Floor { expr, field } => {
                let name = if matches!(e, A::Ceil { .. }) { "ceil" } else { "floor" };
                match field {
                    ast::CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) => {}
                    _ => return Err(SqlError::unsupported(format!("{name} to a field")).at(at)),
                }
                let value = self.expr(expr, cx)?;
                self.call_named(name, vec![value], at)
            }
            _ => Err(SqlError::internal("not a keyword function")),
        }
    }

    /// COALESCE, NULLIF, GREATEST, LEAST. `None`: some other function.
    pub(super) fn conditional(
        &mut self,
        name: &str,
        args: Vec<(Expr, u32)>,
        at: u32,
    ) -> Result<Option<Expr>> {
        let mut args = args;
        let needs =
            |n: usize, ok: bool| -> Result<()> { if ok { Ok(()) } else { Err(wrong_count(name, n).at(at)) } };
        Ok(Some(match name {
            "coalesce" => {
                needs(args.len(), !args.is_empty())?;
                let ty = self.unify("COALESCE", &mut args)?;
                Expr::Coalesce { args: args.into_iter().map(|(a, _)| a).collect(), ty }
            }
            "greatest" | "least" => {
                needs(args.len(), !args.is_empty())?;
                let greatest = name == "greatest";
                let ty = self.unify(if greatest { "GREATEST" } else { "LEAST" }, &mut args)?;
                if !ty.is_comparable() {
                    let message = format!("could not identify a comparison function for type {ty}");
                    return Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, message).at(at));
                }
                Expr::Extremum { greatest, args: args.into_iter().map(|(a, _)| a).collect(), ty }
            }
            "nullif" => {
                needs(args.len(), args.len() == 2)?;
                let (right, _) = args.pop().expect("two");
                let (left, _) = args.pop().expect("two");
                let equal = self.compare("=", left.clone(), right, at)?;
                // The result has the left side's type as the comparison sees it, so that an untyped literal has one.
                let value = match (&equal, left.ty()) {
                    (Expr::Call { args, .. }, DataType::Unknown) => args[0].clone(),
                    _ => self.settle(left)?,
                };
                Expr::NullIf { value: Box::new(value), equal: Box::new(equal) }
            }
            _ => return Ok(None),
        }))
    }

    /// `x IN (row, row)` and the like need a conjunction over pairs; this one is for USING and NATURAL.
    pub(super) fn equal_pairs(&mut self, pairs: Vec<(Expr, Expr)>, at: u32) -> Result<Expr> {
        let parts =
            pairs.into_iter().map(|(l, r)| self.operator("=", l, r, at)).collect::<Result<Vec<_>>>()?;
        Ok(conjunction(parts))
    }
}

fn wrong_count(name: &str, _n: usize) -> SqlError {
    SqlError::new(SqlState::SYNTAX_ERROR, format!("wrong number of arguments for {}", name.to_uppercase()))
}

/// The name of a field as `extract` takes it.
fn field_name(field: &DateTimeField) -> String {
    match field {
        DateTimeField::Custom(i) => i.value.to_lowercase(),
        DateTimeField::Week(None) => "week".to_owned(),
        other => other.to_string().to_lowercase(),
    }
}

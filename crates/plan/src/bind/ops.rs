//! Operators: overloads, AND and OR, comparisons of rows, IN, BETWEEN, LIKE, ANY and ALL over arrays.

use std::sync::Arc;

use meridian_datum::{
    CastContext, DataType, Datum, ResolvedFunction, Result, SqlError, SqlState, Volatility, lookup_operator,
};
use sqlparser::ast::{self, BinaryOperator};

use super::expr::{Cx, conjunction, disjunction, negate, position, strip_nested};
use super::{At, Binder};
use crate::expr::Expr;
use crate::parse::SYMMETRIC;

/// Nested BETWEEN SYMMETRIC. Every level takes four copies of what is below it.
const SYMMETRIC_DEPTH_MAX: usize = 5;

impl Binder<'_> {
    pub(super) fn binary(
        &mut self,
        whole: &ast::Expr,
        left: &ast::Expr,
        op: &BinaryOperator,
        right: &ast::Expr,
        cx: &mut Cx<'_, '_>,
    ) -> Result<Expr> {
        if matches!(op, BinaryOperator::And | BinaryOperator::Or) {
            return self.connective(whole, op, cx);
        }
        // `(a, b) = (SELECT ...)` compares a row with a subquery's only row.
        if let ast::Expr::Subquery(q) = strip_nested(right)
            && matches!(strip_nested(left), ast::Expr::Tuple(_))
        {
            return self.row_subquery(left, op, q, cx);
        }
        let l = self.expr(left, cx)?;
        let r = self.expr(right, cx)?;
        let at = self.operator_position(left, right);
        if *op == BinaryOperator::Overlaps {
            return Err(SqlError::unsupported("OVERLAPS").at(at));
        }
        let symbol = operator_symbol(op).map_err(|e| e.at(at))?;
        self.compare(&symbol, l, r, at)
    }

    /// A chain of AND or OR, read without recursion along the chain.
    fn connective(&mut self, whole: &ast::Expr, op: &BinaryOperator, cx: &mut Cx<'_, '_>) -> Result<Expr> {
        let mut operands = Vec::new();
        let mut e = whole;
        while let ast::Expr::BinaryOp { left, op: o, right } = e {
            if o != op {
                break;
            }
            operands.push(&**right);
            e = left;
        }
        operands.push(e);
        let name = if *op == BinaryOperator::And { "AND" } else { "OR" };
        let mut parts = Vec::with_capacity(operands.len());
        for o in operands.into_iter().rev() {
            let bound = self.expr(o, cx)?;
            parts.push(self.coerce_bool(bound, name, position(o))?);
        }
        Ok(if name == "AND" { conjunction(parts) } else { disjunction(parts) })
    }

    /// A comparison or other operator; rows are compared field by field.
    pub(super) fn compare(&mut self, symbol: &str, l: Expr, r: Expr, at: u32) -> Result<Expr> {
        match (l, r) {
            (Expr::Row(a), Expr::Row(b)) => self.compare_rows(symbol, a, b, at),
            (l, r) => self.operator(symbol, l, r, at),
        }
    }

    fn compare_rows(&mut self, symbol: &str, a: Vec<Expr>, b: Vec<Expr>, at: u32) -> Result<Expr> {
        if a.len() != b.len() {
            let message = "unequal number of entries in row expressions";
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(at));
        }
        if a.is_empty() {
            return Err(SqlError::unsupported("comparison of rows of zero length").at(at));
        }
        match symbol {
            "=" => {
                let parts =
                    a.into_iter().zip(b).map(|(x, y)| self.compare("=", x, y, at)).collect::<Result<_>>()?;
                Ok(conjunction(parts))
            }
            "<>" => {
                let parts =
                    a.into_iter().zip(b).map(|(x, y)| self.compare("<>", x, y, at)).collect::<Result<_>>()?;
                Ok(disjunction(parts))
            }
            "<" | "<=" | ">" | ">=" => {
                // (a, b) < (x, y)  is  a < x OR (a = x AND b < y), with the last field deciding equality.
                let strict = &symbol[..1];
                let n = a.len();
                let mut result = self.compare(symbol, a[n - 1].clone(), b[n - 1].clone(), at)?;
                for i in (0..n - 1).rev() {
                    let less = self.compare(strict, a[i].clone(), b[i].clone(), at)?;
                    let same = self.compare("=", a[i].clone(), b[i].clone(), at)?;
                    result = disjunction(vec![less, conjunction(vec![same, result])]);
                }
                Ok(result)
            }
            _ => {
                let message = format!("operator does not exist: record {symbol} record");
                Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, message).at(at))
            }
        }
    }

    /// The call that an operator means, its arguments cast; folded when constant.
    pub(super) fn operator(&mut self, symbol: &str, l: Expr, r: Expr, at: u32) -> Result<Expr> {
        let function = lookup_operator(symbol, Some(&l.ty()), &r.ty()).at(at)?;
        self.call(function, vec![l, r], at)
    }

    pub(super) fn prefix_operator(&mut self, symbol: &str, operand: Expr, at: u32) -> Result<Expr> {
        let function = lookup_operator(symbol, None, &operand.ty()).at(at)?;
        self.call(function, vec![operand], at)
    }

    /// A call of a resolved function: casts the arguments and folds constants.
    pub(super) fn call(&mut self, function: ResolvedFunction, args: Vec<Expr>, at: u32) -> Result<Expr> {
        let mut cast = Vec::with_capacity(args.len());
        for (a, t) in args.into_iter().zip(&function.arg_types) {
            cast.push(self.coerce_argument(a, t, at)?);
        }
        if function.def.volatility == Volatility::Immutable {
            let constants: Option<Vec<Datum>> = cast.iter().map(|a| a.as_const().cloned()).collect();
            if let Some(values) = constants
                && let Ok(v) = function.call(self.ctx.eval, &values)
            {
                return Ok(Expr::Const(v, function.result_type.clone()));
            }
        }
        Ok(Expr::Call { function: Arc::new(function), args: cast })
    }

    fn coerce_argument(&mut self, a: Expr, to: &DataType, at: u32) -> Result<Expr> {
        if *to == DataType::Unknown || *to == DataType::Record {
            return self.settle(a);
        }
        // Overload resolution has already found that the cast exists.
        self.coerce(a, to, CastContext::Implicit, at)
    }

    pub(super) fn in_list(
        &mut self,
        whole: &ast::Expr,
        e: &ast::Expr,
        list: &[ast::Expr],
        negated: bool,
        cx: &mut Cx<'_, '_>,
    ) -> Result<Expr> {
        let at = list.first().map_or(position(whole), |f| self.operator_position(e, f));
        let left = self.expr(e, cx)?;
        let mut items = Vec::with_capacity(list.len());
        for i in list {
            items.push((self.expr(i, cx)?, position(i)));
        }
        if !matches!(left, Expr::Row(_))
            && let Some(set) = self.in_set(&left, &items, negated, at)?
        {
            return Ok(set);
        }
        let parts = items
            .into_iter()
            .map(|(i, _)| self.compare("=", left.clone(), i, at))
            .collect::<Result<Vec<_>>>()?;
        let found = disjunction(parts);
        Ok(if negated { negate(found) } else { found })
    }

    /// A list of constants as a set: all are cast to the left side's common type with them first.
    fn in_set(&mut self, left: &Expr, items: &[(Expr, u32)], negated: bool, at: u32) -> Result<Option<Expr>> {
        if items.len() < 2 || !items.iter().all(|(i, _)| matches!(i, Expr::Const(..))) {
            return Ok(None);
        }
        let mut types = vec![left.ty()];
        types.extend(items.iter().map(|(i, _)| i.ty()));
        let Ok(ty) = super::types::common_type("IN", &types) else { return Ok(None) };
        let function = lookup_operator("=", Some(&ty), &ty).at(at)?;
        let ty = function.arg_types[0].clone();
        let input = self.coerce(left.clone(), &ty, CastContext::Implicit, at)?;
        let mut set = Vec::with_capacity(items.len());
        let mut has_null = false;
        for (i, p) in items {
            match self.coerce(i.clone(), &ty, CastContext::Implicit, *p)? {
                Expr::Const(Datum::Null, _) => has_null = true,
                Expr::Const(d, _) => set.push(d),
                _ => return Ok(None),
            }
        }
        set.sort();
        set.dedup();
        Ok(Some(Expr::InSet { input: Box::new(input), set: set.into(), has_null, negated }))
    }

    pub(super) fn between(
        &mut self,
        _whole: &ast::Expr,
        e: &ast::Expr,
        negated: bool,
        low: &ast::Expr,
        high: &ast::Expr,
        cx: &mut Cx<'_, '_>,
    ) -> Result<Expr> {
        let at = self.operator_position(e, low);
        if let ast::Expr::Prefixed { prefix, value: low } = low
            && prefix.value == SYMMETRIC
        {
            return self.between_symmetric(e, negated, low, high, at, cx);
        }
        let value = self.expr(e, cx)?;
        let low = self.expr(low, cx)?;
        let high = self.expr(high, cx)?;
        let (a, b) = if negated { ("<", ">") } else { (">=", "<=") };
        let parts = vec![self.compare(a, value.clone(), low, at)?, self.compare(b, value, high, at)?];
        Ok(if negated { disjunction(parts) } else { conjunction(parts) })
    }

    /// As PostgreSQL has it: between the bounds in either order. Its operands are evaluated more than once.
    fn between_symmetric(
        &mut self,
        e: &ast::Expr,
        negated: bool,
        low: &ast::Expr,
        high: &ast::Expr,
        at: u32,
        cx: &mut Cx<'_, '_>,
    ) -> Result<Expr> {
        if self.symmetric_depth == SYMMETRIC_DEPTH_MAX {
            let message = "BETWEEN SYMMETRIC is nested too deeply";
            return Err(SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, message).at(at));
        }
        self.symmetric_depth += 1;
        let operands = [e, low, high].map(|o| self.expr(o, cx));
        self.symmetric_depth -= 1;
        let [value, low, high] = operands;
        let (value, low, high) = (value?, low?, high?);
        let mut within = |a: &Expr, b: &Expr| -> Result<Expr> {
            let low = self.compare(">=", value.clone(), a.clone(), at)?;
            let high = self.compare("<=", value.clone(), b.clone(), at)?;
            Ok(conjunction(vec![low, high]))
        };
        let found = disjunction(vec![within(&low, &high)?, within(&high, &low)?]);
        Ok(if negated { negate(found) } else { found })
    }

    pub(super) fn like(
        &mut self,
        _whole: &ast::Expr,
        symbol: &str,
        e: &ast::Expr,
        pattern: &ast::Expr,
        escape: Option<&ast::Expr>,
        cx: &mut Cx<'_, '_>,
    ) -> Result<Expr> {
        let at = self.operator_position(e, pattern);
        let value = self.expr(e, cx)?;
        let mut pattern_expr = self.expr(pattern, cx)?;
        if let Some(escape) = escape {
            let escape = self.expr(escape, cx)?;
            pattern_expr = self.call_named("like_escape", vec![pattern_expr, escape], at)?;
        }
        self.operator(symbol, value, pattern_expr, at)
    }

    pub(super) fn similar(
        &mut self,
        _whole: &ast::Expr,
        negated: bool,
        e: &ast::Expr,
        pattern: &ast::Expr,
        escape: Option<&ast::Expr>,
        cx: &mut Cx<'_, '_>,
    ) -> Result<Expr> {
        let at = self.operator_position(e, pattern);
        let value = self.expr(e, cx)?;
        let mut args = vec![self.expr(pattern, cx)?];
        if let Some(escape) = escape {
            args.push(self.expr(escape, cx)?);
        }
        let regex = self.call_named("similar_to_escape", args, at)?;
        self.operator(if negated { "!~" } else { "~" }, value, regex, at)
    }

    pub(super) fn any_all(
        &mut self,
        _whole: &ast::Expr,
        all: bool,
        left: &ast::Expr,
        op: &BinaryOperator,
        right: &ast::Expr,
        cx: &mut Cx<'_, '_>,
    ) -> Result<Expr> {
        let at = self.operator_position(left, right);
        let symbol = operator_symbol(op).map_err(|e| e.at(at))?;
        if let ast::Expr::Subquery(q) = strip_nested(right) {
            return self.quantified(all, left, &symbol, q, at, cx);
        }
        let l = self.expr(left, cx)?;
        let mut array = self.expr(right, cx)?;
        if array.ty() == DataType::Unknown {
            // An untyped literal or parameter is an array of the left side's type.
            let element = if l.ty() == DataType::Unknown { DataType::Text } else { l.ty() };
            array = self.coerce(array, &DataType::array(element), CastContext::Implicit, position(right))?;
        }
        let Some(element) = array.ty().element() else {
            let message = "op ANY/ALL (array) requires array on right side";
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).at(at));
        };
        let function = lookup_operator(&symbol, Some(&l.ty()), &element).at(at)?;
        if function.result_type != DataType::Bool {
            let message = "op ANY/ALL (array) requires operator to yield boolean";
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).at(at));
        }
        let left = self.coerce(l, &function.arg_types[0], CastContext::Implicit, at)?;
        if !function.arg_types[1].same_type(&element) {
            let to = DataType::array(function.arg_types[1].clone());
            array = self.coerce(array, &to, CastContext::Implicit, at)?;
        }
        Ok(Expr::AnyAll { all, function: Arc::new(function), left: Box::new(left), array: Box::new(array) })
    }
}

/// PostgreSQL's symbol of an operator.
pub(super) fn operator_symbol(op: &BinaryOperator) -> Result<String> {
    use BinaryOperator as B;
    Ok(match op {
        B::Plus => "+",
        B::Minus => "-",
        B::Multiply => "*",
        B::Divide => "/",
        B::Modulo => "%",
        B::StringConcat => "||",
        B::Gt => ">",
        B::Lt => "<",
        B::GtEq => ">=",
        B::LtEq => "<=",
        B::Eq => "=",
        B::NotEq => "<>",
        B::BitwiseOr => "|",
        B::BitwiseAnd => "&",
        B::PGBitwiseXor | B::BitwiseXor => "#",
        B::PGBitwiseShiftLeft => "<<",
        B::PGBitwiseShiftRight => ">>",
        B::PGExp => "^",
        B::PGOverlap => "&&",
        B::PGRegexMatch => "~",
        B::PGRegexIMatch => "~*",
        B::PGRegexNotMatch => "!~",
        B::PGRegexNotIMatch => "!~*",
        B::PGLikeMatch => "~~",
        B::PGILikeMatch => "~~*",
        B::PGNotLikeMatch => "!~~",
        B::PGNotILikeMatch => "!~~*",
        B::PGStartsWith => "^@",
        B::AtArrow => "@>",
        B::ArrowAt => "<@",
        B::Custom(s) => return Ok(s.clone()),
        B::PGCustomBinaryOperator(parts) => match parts.as_slice() {
            [schema, op] if schema == "pg_catalog" => return Ok(op.clone()),
            [op] => return Ok(op.clone()),
            _ => return Err(SqlError::unsupported("an operator in a schema")),
        },
        other => return Err(SqlError::unsupported(format!("operator {other}"))),
    }
    .to_owned())
}

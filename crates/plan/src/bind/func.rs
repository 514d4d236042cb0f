//! Function calls: scalar functions, functions of the catalog, casts in the guise of calls; aggregates and window
//! functions are told apart here.

use meridian_catalog::lookup_catalog_function;
use meridian_datum::{
    CastContext, DataType, Datum, EvalContext, FunctionDef, ResolvedFunction, Result, SqlError, SqlState, Ty,
    Volatility, is_aggregate, lookup_function,
};
use sqlparser::ast::{self, FunctionArg, FunctionArgExpr, FunctionArguments};

use super::expr::{Clause, Cx, position};
use super::{At, Binder, name_of, names_of, position_of};
use crate::expr::Expr;

/// A call with its name resolved.
pub(super) struct CallSyntax<'f> {
    pub(super) name: String,
    pub(super) args: Vec<&'f ast::Expr>,
    pub(super) star: bool,
    pub(super) distinct: bool,
    pub(super) order_by: &'f [ast::OrderByExpr],
    pub(super) filter: Option<&'f ast::Expr>,
    pub(super) over: Option<&'f ast::WindowType>,
    pub(super) position: u32,
}

/// `ROW(...)`, which is syntax and no name that can be quoted.
pub(super) fn is_row_constructor(f: &ast::Function) -> bool {
    let is_plain = f.over.is_none() && f.filter.is_none() && matches!(f.args, FunctionArguments::List(_));
    match f.name.0.as_slice() {
        [only] if is_plain => {
            only.as_ident().is_some_and(|i| i.quote_style.is_none() && i.value.eq_ignore_ascii_case("row"))
        }
        _ => false,
    }
}

impl Binder<'_> {
    pub(super) fn function(&mut self, f: &ast::Function, cx: &mut Cx<'_, '_>) -> Result<Expr> {
        let at = position_of(&f.name);
        if let FunctionArguments::Subquery(q) = &f.args {
            let names = names_of(&f.name)?;
            if names.last().is_some_and(|n| n == "array") {
                return self.array_subquery(q, cx);
            }
            return Err(SqlError::unsupported("a query as the argument of a function").at(at));
        }
        let call = call_syntax(f)?;
        if is_row_constructor(f) {
            let items = call.args.iter().map(|a| self.expr(a, cx)).collect::<Result<_>>()?;
            return Ok(Expr::Row(items));
        }
        if let Some(over) = call.over {
            return self.window_function(&call, over, cx);
        }
        if is_aggregate(&call.name) {
            return self.aggregate(&call, cx);
        }
        if is_window_function(&call.name) {
            let message = format!("window function {} requires an OVER clause", call.name);
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).at(at));
        }
        if call.distinct {
            let message = format!("DISTINCT specified, but {} is not an aggregate function", call.name);
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).at(at));
        }
        if call.filter.is_some() {
            let message = format!("FILTER specified, but {} is not an aggregate function", call.name);
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).at(at));
        }
        if call.star {
            let message = format!("{}(*) specified, but {0} is not an aggregate function", call.name);
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).at(at));
        }
        if matches!(f.args, FunctionArguments::None)
            && let Some(e) = self.value_keyword(&call.name)?
        {
            return Ok(e);
        }
        let mut args = Vec::with_capacity(call.args.len());
        for a in &call.args {
            args.push((self.expr(a, cx)?, position(a)));
        }
        if matches!(call.name.as_str(), "coalesce" | "nullif" | "greatest" | "least") {
            return self
                .conditional(&call.name, args, at)?
                .ok_or_else(|| SqlError::internal("a conditional"));
        }
        if super::from::is_set_returning(&call.name) {
            let place = match cx.clause {
                // In most of these PostgreSQL takes them, and they are what is missing here.
                Clause::Select
                | Clause::GroupBy
                | Clause::OrderBy
                | Clause::FromFunction
                | Clause::AggregateArgument => "this context",
                clause => clause.name(),
            };
            let message = format!("set-returning functions are not allowed in {place}");
            return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message).at(at));
        }
        self.call_named(&call.name, args.into_iter().map(|(a, _)| a).collect(), at)
    }

    /// `to_json`, `json_build_object`, `json_build_array`. Their arguments become JSON where their types are known: from
    /// a value alone a text could not be told from a JSON, nor an object identifier from a number.
    fn json_call(&mut self, name: &str, args: Vec<Expr>, at: u32) -> Result<Expr> {
        let mut json = Vec::with_capacity(args.len());
        for (i, a) in args.into_iter().enumerate() {
            let from = a.ty();
            if name == "to_json" && from == DataType::Unknown {
                let message = "could not determine polymorphic type because input has type unknown";
                return Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message).at(at));
            }
            let is_key = name == "json_build_object" && i % 2 == 0;
            if is_key && (from.is_array() || matches!(from, DataType::Record | DataType::Json)) {
                let message = "key value must be scalar, not array, composite, or json";
                return Err(SqlError::invalid_parameter(message).at(at));
            }
            let a = self.settle(a)?;
            let a = if from.is_oid_like() {
                self.coerce(a, &DataType::Text, CastContext::Explicit, at)?
            } else {
                a
            };
            let to_json = lookup_function("to_json", &[a.ty()]).at(at)?;
            json.push(self.call(to_json, vec![a], at)?);
        }
        if name == "to_json" {
            return json.pop().filter(|_| json.is_empty()).ok_or_else(|| {
                SqlError::new(SqlState::UNDEFINED_FUNCTION, "function to_json() does not exist").at(at)
            });
        }
        let function = lookup_function(name, &vec![DataType::Json; json.len()]).at(at)?;
        self.call(function, json, at)
    }

    /// Calls a function by name.
    pub(super) fn call_named(&mut self, name: &str, args: Vec<Expr>, at: u32) -> Result<Expr> {
        if matches!(name, "to_json" | "json_build_object" | "json_build_array") {
            return self.json_call(name, args, at);
        }
        let types: Vec<DataType> = args.iter().map(Expr::ty).collect();
        if let Some((function, arg_types)) = lookup_catalog_function(name, &types) {
            let mut cast = Vec::with_capacity(args.len());
            for (a, t) in args.into_iter().zip(&arg_types) {
                cast.push(if *t == DataType::Unknown {
                    self.settle(a)?
                } else {
                    self.coerce(a, t, CastContext::Assignment, at)?
                });
            }
            return Ok(Expr::Session { function, args: cast });
        }
        if name == "unique_rowid" && types.is_empty() {
            let function =
                ResolvedFunction { def: &UNIQUE_ROWID, arg_types: Vec::new(), result_type: DataType::Int8 };
            return self.call(function, args, at);
        }
        match lookup_function(name, &types) {
            Ok(function) => self.call(function, args, at),
            Err(e) => {
                // `int4(x)` and `text(x)` are casts.
                if let ([_], Some(to)) = (args.as_slice(), DataType::from_name(name)) {
                    let arg = args.into_iter().next().expect("one");
                    return self.coerce(arg, &to.without_modifier(), CastContext::Explicit, at);
                }
                Err(e.at(at))
            }
        }
    }

    /// `CURRENT_DATE` and its kin, which are calls without parentheses.
    pub(super) fn value_keyword(&mut self, name: &str) -> Result<Option<Expr>> {
        let now_as = |b: &mut Self, to: &DataType| -> Result<Option<Expr>> {
            let now = b.call_named("now", Vec::new(), 0)?;
            b.coerce(now, to, CastContext::Explicit, 0).map(Some)
        };
        match name {
            "current_timestamp" => self.call_named("now", Vec::new(), 0).map(Some),
            "current_date" => now_as(self, &DataType::Date),
            "localtimestamp" => now_as(self, &DataType::Timestamp),
            "localtime" => now_as(self, &DataType::Time),
            "current_time" => Err(SqlError::unsupported("type time with time zone")),
            "current_user" | "session_user" | "current_role" | "user" => self
                .call_named(if name == "session_user" { name } else { "current_user" }, Vec::new(), 0)
                .map(Some),
            "current_catalog" => self.call_named("current_database", Vec::new(), 0).map(Some),
            "current_schema" => self.call_named("current_schema", Vec::new(), 0).map(Some),
            _ => Ok(None),
        }
    }

    /// A name of the catalog as its oid: `'t'::regclass`. PostgreSQL looks literals up while parsing, and so the plan
    /// depends on the catalog's version, which every cached plan is checked against.
    pub(super) fn reg_literal(&self, text: &str, to: &DataType) -> Result<Datum> {
        meridian_catalog::parse_reg(
            self.ctx.snapshot,
            self.ctx.database,
            self.ctx.search_path,
            self.ctx.user,
            text,
            to,
        )
        .map(|oid| Datum::Int(i64::from(oid)))
    }

    /// Casts between texts and object identifiers that need the catalog. `None`: an ordinary cast.
    pub(super) fn reg_cast(&mut self, expr: &Expr, from: &DataType, to: &DataType) -> Result<Option<Expr>> {
        let named = |t: &DataType| t.is_oid_like() && *t != DataType::Oid;
        if from.is_string() && named(to) {
            if let Expr::Const(Datum::Text(s), _) = expr {
                return Ok(Some(Expr::Const(self.reg_literal(s, to)?, to.clone())));
            }
            let function = meridian_catalog::reg_input(to);
            return Ok(Some(Expr::Session { function, args: vec![expr.clone()] }));
        }
        if named(from) && to.is_string() {
            let function = meridian_catalog::reg_output(from);
            return Ok(Some(Expr::Session { function, args: vec![expr.clone()] }));
        }
        Ok(None)
    }
}

/// `unique_rowid()`: the default of serial and identity columns and of hidden row ids. Random, so that the rows of
/// parallel writers spread over a table's shards; 63 bits, so that a second drawing of a number is not to be expected.
static UNIQUE_ROWID: FunctionDef = FunctionDef {
    name: "unique_rowid",
    args: &[],
    variadic: false,
    result: Ty::Int8,
    strict: false,
    volatility: Volatility::Volatile,
    eval: unique_rowid,
    kernel: None,
};

fn unique_rowid(ctx: &EvalContext, _args: &[Datum]) -> Result<Datum> {
    Ok(Datum::Int((ctx.next_random() >> 1) as i64))
}

/// The parts of a call that have a meaning; others are refused.
pub(super) fn call_syntax(f: &ast::Function) -> Result<CallSyntax<'_>> {
    let at = position_of(&f.name);
    let parts = names_of(&f.name)?;
    let name = match parts.as_slice() {
        [n] => n.clone(),
        [s, n] if s == "pg_catalog" => n.clone(),
        [s, n] if s == "meridian" => format!("meridian.{n}"),
        _ => {
            let message = format!("function {}() does not exist", parts.join("."));
            return Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, message).at(at));
        }
    };
    if !matches!(f.parameters, FunctionArguments::None) || f.uses_odbc_syntax {
        return Err(SqlError::unsupported("a parametric function").at(at));
    }
    if !f.within_group.is_empty() {
        return Err(SqlError::unsupported("WITHIN GROUP").at(at));
    }
    if f.null_treatment.is_some() {
        return Err(SqlError::unsupported("IGNORE NULLS").at(at));
    }
    let mut call = CallSyntax {
        name,
        args: Vec::new(),
        star: false,
        distinct: false,
        order_by: &[],
        filter: f.filter.as_deref(),
        over: f.over.as_ref(),
        position: at,
    };
    if let FunctionArguments::List(list) = &f.args {
        call.distinct = matches!(list.duplicate_treatment, Some(ast::DuplicateTreatment::Distinct));
        for a in &list.args {
            match a {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => call.args.push(e),
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => call.star = true,
                FunctionArg::Named { name, .. } => {
                    let what = format!("named argument {}", name_of(name));
                    return Err(SqlError::unsupported(what).at(at));
                }
                _ => return Err(SqlError::unsupported("this form of argument").at(at)),
            }
        }
        for clause in &list.clauses {
            match clause {
                ast::FunctionArgumentClause::OrderBy(keys) => call.order_by = keys,
                other => return Err(SqlError::unsupported(format!("argument clause {other}")).at(at)),
            }
        }
    }
    Ok(call)
}

/// Functions that exist only with OVER.
pub(super) fn is_window_function(name: &str) -> bool {
    matches!(
        name,
        "row_number"
            | "rank"
            | "dense_rank"
            | "percent_rank"
            | "cume_dist"
            | "ntile"
            | "lag"
            | "lead"
            | "first_value"
            | "last_value"
            | "nth_value"
    )
}

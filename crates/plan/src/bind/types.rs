//! Coercion: casts that are written, casts that are implied, untyped literals and parameters.

use meridian_datum::{
    CastContext, DataType, Datum, Result, SqlError, SqlState, can_cast, cast, parse_text, resolve_common_type,
};
use sqlparser::ast::{
    self, ArrayElemTypeDef, CharacterLength, ExactNumberInfo, IntervalFields as F, TimezoneInfo,
};

use super::{At, Binder, names_of};
use crate::expr::Expr;

/// Refuses to tell values of a type apart that has no equality.
pub(super) fn needs_equality(ty: &DataType, at: u32) -> Result<()> {
    if ty.is_comparable() {
        return Ok(());
    }
    let message = format!("could not identify an equality operator for type {ty}");
    Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, message).at(at))
}

/// Refuses to sort by a type that has no order.
pub(super) fn needs_order(ty: &DataType, at: u32) -> Result<()> {
    if ty.is_comparable() {
        return Ok(());
    }
    let message = format!("could not identify an ordering operator for type {ty}");
    Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, message)
        .with_hint("Use an explicit ordering operator or modify the query.")
        .at(at))
}

impl Binder<'_> {
    /// Makes the expression one of type `to`, by a cast if need be.
    pub(super) fn coerce(
        &mut self,
        expr: Expr,
        to: &DataType,
        context: CastContext,
        position: u32,
    ) -> Result<Expr> {
        let from = expr.ty();
        if from == *to {
            return Ok(expr);
        }
        if from == DataType::Unknown {
            return self.coerce_unknown(expr, to, context, position);
        }
        if from.same_type(to) && (context == CastContext::Implicit || to.type_modifier() < 0) {
            // Only the modifier differs, and a type without one takes any value of the type.
            return Ok(retyped(expr, to));
        }
        if !from.same_type(to) && !can_cast(&from, to, context) {
            return Err(SqlError::cannot_cast(&from.to_string(), &to.to_string()).at(position));
        }
        if from == DataType::Record {
            return Err(SqlError::unsupported("a cast of a row value").at(position));
        }
        if let Some(e) = self.reg_cast(&expr, &from, to)? {
            return Ok(e);
        }
        let immutable = is_immutable_cast(&from, to);
        if immutable
            && let Expr::Const(value, _) = &expr
            && let Ok(v) = cast(self.ctx.eval, value.clone(), &from, to, context)
        {
            return Ok(Expr::Const(v, to.clone()));
        }
        Ok(Expr::Cast { input: Box::new(expr), from, to: to.clone(), context })
    }

    fn coerce_unknown(
        &mut self,
        expr: Expr,
        to: &DataType,
        context: CastContext,
        position: u32,
    ) -> Result<Expr> {
        match expr {
            Expr::Const(Datum::Null, _) => Ok(Expr::Const(Datum::Null, to.clone())),
            Expr::Const(Datum::Text(s), _) => self.read_literal(&s, to, context, position),
            Expr::Param { index, .. } => {
                let known = &mut self.params[index];
                let base = to.without_modifier();
                if *known == DataType::Unknown {
                    *known = base.clone();
                } else if *known != base {
                    let message = format!("inconsistent types deduced for parameter ${}", index + 1);
                    let detail = format!("{known} versus {base}");
                    return Err(SqlError::new(SqlState::AMBIGUOUS_PARAMETER, message)
                        .with_detail(detail)
                        .at(position));
                }
                let param = Expr::Param { index, ty: base.clone() };
                if base == *to || context == CastContext::Implicit {
                    return Ok(param);
                }
                Ok(Expr::Cast { input: Box::new(param), from: base, to: to.clone(), context })
            }
            other => {
                let from = DataType::Text;
                let input = Box::new(retyped(other, &from));
                if *to == from {
                    return Ok(*input);
                }
                Ok(Expr::Cast { input, from, to: to.clone(), context: CastContext::Explicit })
            }
        }
    }

    /// An untyped literal as a value of a type: its input function is run, as PostgreSQL does, while binding.
    fn read_literal(
        &mut self,
        text: &str,
        to: &DataType,
        context: CastContext,
        position: u32,
    ) -> Result<Expr> {
        if *to == DataType::Unknown {
            return Ok(Expr::Const(Datum::text(text), DataType::Unknown));
        }
        if to.is_oid_like() && *to != DataType::Oid {
            let datum = self.reg_literal(text, to).at(position)?;
            return Ok(Expr::Const(datum, to.clone()));
        }
        let base = to.without_modifier();
        let value = parse_text(self.ctx.eval, text, &base).at(position)?;
        if depends_on_time(&base, text) {
            self.time_dependent = true;
        }
        if base == *to {
            return Ok(Expr::Const(value, base));
        }
        // The length of `'abc'::varchar(2)` cuts; that of a column refuses.
        let value = cast(self.ctx.eval, value, &base, to, context).at(position)?;
        Ok(Expr::Const(value, to.clone()))
    }

    /// Unknown becomes text, as in the output of a query.
    pub(super) fn settle(&mut self, expr: Expr) -> Result<Expr> {
        if expr.ty() == DataType::Unknown {
            return self.coerce_unknown(expr, &DataType::Text, CastContext::Implicit, 0);
        }
        match expr {
            Expr::Row(items) => {
                Ok(Expr::Row(items.into_iter().map(|i| self.settle(i)).collect::<Result<_>>()?))
            }
            other => Ok(other),
        }
    }

    /// A boolean for WHERE and its kin; 42804 names the clause.
    pub(super) fn coerce_bool(&mut self, expr: Expr, clause: &str, position: u32) -> Result<Expr> {
        let ty = expr.ty();
        if ty == DataType::Bool {
            return Ok(expr);
        }
        if ty == DataType::Unknown {
            return self.coerce(expr, &DataType::Bool, CastContext::Implicit, position);
        }
        let message = format!("argument of {clause} must be type boolean, not type {ty}");
        Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message).at(position))
    }

    /// Casts the expressions to their common type.
    pub(super) fn unify(&mut self, context: &str, exprs: &mut [(Expr, u32)]) -> Result<DataType> {
        let types: Vec<DataType> = exprs.iter().map(|(e, _)| e.ty()).collect();
        let ty = common_type(context, &types).map_err(|e| {
            let odd = types.iter().position(|t| *t != DataType::Unknown && !t.same_type(&types[0]));
            e.at(odd.map_or(0, |i| exprs[i].1))
        })?;
        for (e, position) in exprs.iter_mut() {
            let taken = std::mem::replace(e, Expr::null(DataType::Unknown));
            *e = self.coerce(taken, &ty, CastContext::Implicit, *position)?;
        }
        Ok(ty)
    }

    /// A value for a column: assignment casts are allowed, and the error names the column.
    pub(super) fn assign(&mut self, expr: Expr, column: &str, to: &DataType, position: u32) -> Result<Expr> {
        let from = expr.ty();
        if from != DataType::Unknown && !from.same_type(to) && !can_cast(&from, to, CastContext::Assignment) {
            let message = format!("column \"{column}\" is of type {to} but expression is of type {from}");
            return Err(SqlError::new(
                SqlState::DATATYPE_MISMATCH,
                message.replace(&to.to_string(), &plain(to)),
            )
            .with_hint("You will need to rewrite or cast the expression.")
            .at(position));
        }
        self.coerce(expr, to, CastContext::Assignment, position)
    }

    /// `$n`.
    pub(super) fn parameter(&mut self, text: &str, position: u32) -> Result<Expr> {
        let number: usize = text
            .strip_prefix('$')
            .and_then(|n| n.parse().ok())
            .filter(|n| (1..=PARAMS_MAX).contains(n))
            .ok_or_else(|| {
                SqlError::new(SqlState::UNDEFINED_PARAMETER, format!("there is no parameter {text}"))
                    .at(position)
            })?;
        let index = number - 1;
        if self.params.len() <= index {
            self.params.resize(index + 1, DataType::Unknown);
        }
        if self.param_positions.len() <= index {
            self.param_positions.resize(index + 1, 0);
        }
        if self.param_positions[index] == 0 {
            self.param_positions[index] = position;
        }
        Ok(Expr::Param { index, ty: self.params[index].clone() })
    }

    /// The type that the text names.
    pub(super) fn data_type(&self, ty: &ast::DataType) -> Result<DataType> {
        use ast::DataType as A;
        Ok(match ty {
            A::Char(l) | A::Character(l) => DataType::Char(Some(length("char", l.as_ref())?.unwrap_or(1))),
            A::Varchar(l) | A::CharVarying(l) | A::CharacterVarying(l) | A::Nvarchar(l) => {
                DataType::Varchar(length("varchar", l.as_ref())?)
            }
            A::Uuid => DataType::Uuid,
            A::JSON => DataType::Json,
            A::Numeric(i) | A::Decimal(i) | A::Dec(i) => numeric(i)?,
            A::Float(i) => match i {
                ExactNumberInfo::None => DataType::Float8,
                ExactNumberInfo::Precision(p) if (1..=24).contains(p) => DataType::Float4,
                ExactNumberInfo::Precision(p) if (25..=53).contains(p) => DataType::Float8,
                ExactNumberInfo::Precision(0) => {
                    return Err(SqlError::invalid_parameter(
                        "precision for type float must be at least 1 bit",
                    ));
                }
                _ => {
                    return Err(SqlError::invalid_parameter(
                        "precision for type float must be less than 54 bits",
                    ));
                }
            },
            A::SmallInt(_) | A::Int2(_) => DataType::Int2,
            A::Int(_) | A::Integer(_) | A::Int4(_) => DataType::Int4,
            A::BigInt(_) | A::Int8(_) => DataType::Int8,
            A::Real | A::Float4 => DataType::Float4,
            A::Float8 | A::DoublePrecision => DataType::Float8,
            A::Bool | A::Boolean => DataType::Bool,
            A::Date => DataType::Date,
            A::Time(p, zone) => match zone {
                TimezoneInfo::None | TimezoneInfo::WithoutTimeZone => {
                    full_precision("time", *p)?;
                    DataType::Time
                }
                _ => return Err(SqlError::unsupported("type time with time zone")),
            },
            A::Timestamp(p, zone) => {
                full_precision("timestamp", *p)?;
                match zone {
                    TimezoneInfo::None | TimezoneInfo::WithoutTimeZone => DataType::Timestamp,
                    _ => DataType::TimestampTz,
                }
            }
            A::Interval { fields: None, precision } => {
                full_precision("interval", *precision)?;
                DataType::Interval
            }
            // What ends with seconds leaves nothing out.
            A::Interval {
                fields: Some(F::DayToSecond | F::HourToSecond | F::MinuteToSecond | F::Second),
                precision,
            } => {
                full_precision("interval", *precision)?;
                DataType::Interval
            }
            A::Interval { fields: Some(f), .. } => {
                return Err(SqlError::unsupported(format!("type interval {f}")));
            }
            A::Regclass => DataType::RegClass,
            A::Text => DataType::Text,
            A::Bytea => DataType::Bytea,
            A::Array(ArrayElemTypeDef::SquareBracket(e, _) | ArrayElemTypeDef::AngleBracket(e)) => {
                // Any number of brackets is one type: dimensions are no part of it.
                match self.data_type(e)? {
                    a @ DataType::Array(_) => a,
                    e => DataType::array(e),
                }
            }
            A::Custom(name, modifiers) => self.named_type(name, modifiers)?,
            other => return Err(SqlError::unsupported(format!("type {}", other.to_string().to_lowercase()))),
        })
    }

    fn named_type(&self, name: &ast::ObjectName, modifiers: &[String]) -> Result<DataType> {
        let parts = names_of(name)?;
        let last = parts.last().map_or("", String::as_str);
        let builtin = parts.len() == 1 || parts[0] == "pg_catalog";
        let quoted = name.0.last().and_then(|p| p.as_ident()).is_some_and(|i| i.quote_style.is_some());
        let missing = || {
            let message = format!("type \"{}\" does not exist", parts.join("."));
            SqlError::new(SqlState::UNDEFINED_OBJECT, message).at(super::position_of(name))
        };
        if !builtin {
            return Err(missing());
        }
        let ty = match last {
            "char" if quoted || parts.len() > 1 => DataType::InternalChar,
            "timetz" | "jsonb" | "xml" | "money" | "inet" | "cidr" | "macaddr" | "bit" | "varbit"
            | "point" | "tsvector" | "tsquery" | "int4range" | "int8range" | "numrange" | "tsrange"
            | "tstzrange" | "daterange" => {
                return Err(SqlError::unsupported(format!("type {last}")));
            }
            _ => DataType::from_name(last).ok_or_else(missing)?,
        };
        let number = |i: usize| -> Result<i64> {
            modifiers[i].trim().parse().map_err(|_| SqlError::invalid_parameter("invalid type modifier"))
        };
        Ok(match (&ty, modifiers.len()) {
            (_, 0) => ty,
            (DataType::Varchar(_), 1) => DataType::Varchar(Some(checked_length("varchar", number(0)?)?)),
            (DataType::Char(_), 1) => DataType::Char(Some(checked_length("char", number(0)?)?)),
            (DataType::Numeric(_), 1) => numeric_mod(number(0)?, 0)?,
            (DataType::Numeric(_), 2) => numeric_mod(number(0)?, number(1)?)?,
            (DataType::Timestamp | DataType::TimestampTz | DataType::Time | DataType::Interval, 1) => {
                full_precision(ty.pg_name(), u64::try_from(number(0)?).ok())?;
                ty
            }
            _ => {
                let message = format!("type modifier is not allowed for type \"{last}\"");
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
            }
        })
    }
}

/// Most parameters of a statement, as in the wire protocol.
const PARAMS_MAX: usize = 65_535;

/// The common type; untyped literals alone are text.
pub(super) fn common_type(context: &str, types: &[DataType]) -> Result<DataType> {
    let Some(first) = types.iter().find(|t| **t != DataType::Unknown) else { return Ok(DataType::Text) };
    if types.iter().all(|t| t == first || *t == DataType::Unknown) {
        return Ok(first.clone());
    }
    resolve_common_type(context, types)
}

/// The same value under a type that differs in its modifier only.
fn retyped(mut expr: Expr, to: &DataType) -> Expr {
    match &mut expr {
        Expr::Const(_, ty) | Expr::Param { ty, .. } => {
            *ty = to.clone();
            expr
        }
        _ => expr,
    }
}

/// Casts whose result depends on nothing but the value, so that constants may be folded.
pub(super) fn is_immutable_cast(from: &DataType, to: &DataType) -> bool {
    let depends = |t: &DataType| {
        matches!(
            t,
            DataType::TimestampTz
                | DataType::RegClass
                | DataType::RegType
                | DataType::RegProc
                | DataType::RegNamespace
        )
    };
    let textual = |t: &DataType| t.is_string();
    let temporal = |t: &DataType| {
        matches!(
            t,
            DataType::Date
                | DataType::Timestamp
                | DataType::TimestampTz
                | DataType::Time
                | DataType::Interval
        )
    };
    !(depends(from) != depends(to) || textual(from) && temporal(to) || depends(from) && textual(to))
}

/// `now`, `today` and the like are read when the literal is.
fn depends_on_time(ty: &DataType, text: &str) -> bool {
    matches!(ty, DataType::Date | DataType::Timestamp | DataType::TimestampTz | DataType::Time)
        && ["now", "today", "tomorrow", "yesterday"]
            .iter()
            .any(|w| text.trim().to_ascii_lowercase().starts_with(w))
}

/// A type without modifier in messages about assignment, as PostgreSQL prints it.
fn plain(ty: &DataType) -> String {
    ty.without_modifier().to_string()
}

fn length(name: &str, l: Option<&CharacterLength>) -> Result<Option<u32>> {
    match l {
        None => Ok(None),
        Some(CharacterLength::IntegerLength { length, .. }) => {
            Ok(Some(checked_length(name, i64::try_from(*length).unwrap_or(i64::MAX))?))
        }
        Some(CharacterLength::Max) => Err(SqlError::unsupported("varchar(max)")),
    }
}

/// Longest declared length of a string type, as in PostgreSQL.
const LENGTH_MAX: i64 = 10_485_760;

fn checked_length(name: &str, n: i64) -> Result<u32> {
    if n < 1 {
        return Err(SqlError::invalid_parameter(format!("length for type {name} must be at least 1")));
    }
    if n > LENGTH_MAX {
        return Err(SqlError::invalid_parameter(format!(
            "length for type {name} cannot exceed {LENGTH_MAX}"
        )));
    }
    Ok(n as u32)
}

fn numeric(info: &ExactNumberInfo) -> Result<DataType> {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    match info {
        ExactNumberInfo::None => Ok(DataType::Numeric(None)),
        ExactNumberInfo::Precision(p) => numeric_mod(number(*p), 0),
        ExactNumberInfo::PrecisionAndScale(p, s) => numeric_mod(number(*p), *s),
    }
}

fn numeric_mod(precision: i64, scale: i64) -> Result<DataType> {
    if !(1..=1000).contains(&precision) {
        let message = format!("NUMERIC precision {precision} must be between 1 and 1000");
        return Err(SqlError::invalid_parameter(message));
    }
    if !(-1000..=1000).contains(&scale) {
        let message = format!("NUMERIC scale {scale} must be between -1000 and 1000");
        return Err(SqlError::invalid_parameter(message));
    }
    Ok(DataType::numeric(precision as u16, scale as i16))
}

/// Fractions of seconds are kept to microseconds; a type that would round them to fewer digits is not there.
fn full_precision(name: &str, precision: Option<u64>) -> Result<()> {
    match precision {
        None | Some(6) => Ok(()),
        Some(p) => Err(SqlError::unsupported(format!("type {name}({p})"))),
    }
}

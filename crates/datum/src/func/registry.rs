//! The form of the tables.

use crate::column::Column;
use crate::column::kernels::{self, Kernel};
use crate::context::EvalContext;
use crate::datum::Datum;
use crate::error::Result;
use crate::types::DataType;

/// The code of a scalar function. The arguments are already of the signature's types; where the function is strict
/// none of them is NULL.
pub type ScalarFn = fn(&EvalContext, &[Datum]) -> Result<Datum>;

/// `pg_proc.provolatile`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Volatility {
    /// Same arguments, same result, for ever: the planner may fold it.
    Immutable,
    /// Constant within one statement (depends on the time zone, on the transaction's time).
    Stable,
    /// Differs from call to call.
    Volatile,
}

/// A type in a signature: concrete, or one of PostgreSQL's polymorphic pseudo-types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ty {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    Text,
    Varchar,
    Char,
    Bytea,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Interval,
    Uuid,
    Json,
    Name,
    InternalChar,
    Oid,
    RegClass,
    RegType,
    RegProc,
    RegNamespace,
    Int2Vector,
    OidVector,
    TextArray,
    Int2Array,
    Int4Array,
    Int8Array,
    OidArray,
    Float8Array,
    NameArray,
    Record,
    Void,
    /// Any element type, the same for every polymorphic position.
    AnyElement,
    /// Any element type that is no array.
    AnyNonArray,
    /// The array over [`Ty::AnyElement`].
    AnyArray,
    /// Any type at all, each position for itself.
    Any,
}

/// One row of the registry.
#[derive(Debug)]
pub struct FunctionDef {
    /// The function's name, or the operator's symbol.
    pub name: &'static str,
    /// The arguments.
    pub args: &'static [Ty],
    /// Whether the last argument may repeat (at least once).
    pub variadic: bool,
    /// The result.
    pub result: Ty,
    /// Whether a NULL argument makes the result NULL without a call.
    pub strict: bool,
    /// How constant the result is.
    pub volatility: Volatility,
    /// The code for one row.
    pub eval: ScalarFn,
    /// The code for columns, where there is one.
    pub kernel: Option<Kernel>,
}

/// A strict, immutable function in the making.
pub(super) const fn def(name: &'static str, args: &'static [Ty], result: Ty, eval: ScalarFn) -> FunctionDef {
    FunctionDef {
        name,
        args,
        variadic: false,
        result,
        strict: true,
        volatility: Volatility::Immutable,
        eval,
        kernel: None,
    }
}

impl FunctionDef {
    /// Depends on the environment of the statement.
    pub(super) const fn stable(mut self) -> Self {
        self.volatility = Volatility::Stable;
        self
    }

    /// Differs from call to call.
    pub(super) const fn volatile(mut self) -> Self {
        self.volatility = Volatility::Volatile;
        self
    }

    /// Is called even with NULL arguments.
    pub(super) const fn on_null(mut self) -> Self {
        self.strict = false;
        self
    }

    /// Repeats its last argument.
    pub(super) const fn variadic(mut self) -> Self {
        self.variadic = true;
        self
    }

    /// Has vectorised code.
    pub(super) const fn kernel(mut self, kernel: Kernel) -> Self {
        self.kernel = Some(kernel);
        self
    }
}

impl Ty {
    /// The type, unless it is polymorphic.
    pub fn data_type(self) -> Option<DataType> {
        use DataType as D;
        Some(match self {
            Ty::Bool => D::Bool,
            Ty::Int2 => D::Int2,
            Ty::Int4 => D::Int4,
            Ty::Int8 => D::Int8,
            Ty::Float4 => D::Float4,
            Ty::Float8 => D::Float8,
            Ty::Numeric => D::Numeric(None),
            Ty::Text => D::Text,
            Ty::Varchar => D::Varchar(None),
            Ty::Char => D::Char(None),
            Ty::Bytea => D::Bytea,
            Ty::Date => D::Date,
            Ty::Time => D::Time,
            Ty::Timestamp => D::Timestamp,
            Ty::TimestampTz => D::TimestampTz,
            Ty::Interval => D::Interval,
            Ty::Uuid => D::Uuid,
            Ty::Json => D::Json,
            Ty::Name => D::Name,
            Ty::InternalChar => D::InternalChar,
            Ty::Oid => D::Oid,
            Ty::RegClass => D::RegClass,
            Ty::RegType => D::RegType,
            Ty::RegProc => D::RegProc,
            Ty::RegNamespace => D::RegNamespace,
            Ty::Int2Vector => D::Int2Vector,
            Ty::OidVector => D::OidVector,
            Ty::TextArray => D::array(D::Text),
            Ty::Int2Array => D::array(D::Int2),
            Ty::Int4Array => D::array(D::Int4),
            Ty::Int8Array => D::array(D::Int8),
            Ty::OidArray => D::array(D::Oid),
            Ty::Float8Array => D::array(D::Float8),
            Ty::NameArray => D::array(D::Name),
            Ty::Record => D::Record,
            Ty::Void => D::Void,
            Ty::AnyElement | Ty::AnyNonArray | Ty::AnyArray | Ty::Any => return None,
        })
    }
}

/// An argument of a vectorised call.
#[derive(Clone, Copy, Debug)]
pub enum Operand<'a> {
    /// One value per row.
    Column(&'a Column),
    /// The same value in every row.
    Constant(&'a Datum),
}

impl Operand<'_> {
    /// The value at a row.
    pub fn get(&self, row: usize) -> Datum {
        match self {
            Operand::Column(c) => c.get(row),
            Operand::Constant(d) => (*d).clone(),
        }
    }
}

/// A call whose overload is chosen.
#[derive(Clone, Debug)]
pub struct ResolvedFunction {
    /// The row of the registry.
    pub def: &'static FunctionDef,
    /// The types that the arguments must be cast to before the call, one per actual argument.
    pub arg_types: Vec<DataType>,
    /// The type of the result.
    pub result_type: DataType,
}

impl ResolvedFunction {
    /// Calls the function for one row.
    pub fn call(&self, ctx: &EvalContext, args: &[Datum]) -> Result<Datum> {
        if self.def.strict && args.iter().any(Datum::is_null) {
            return Ok(Datum::Null);
        }
        (self.def.eval)(ctx, args)
    }

    /// Calls the function for `rows` rows.
    pub fn call_columns(&self, ctx: &EvalContext, args: &[Operand<'_>], rows: usize) -> Result<Column> {
        if let Some(kernel) = self.def.kernel
            && let Some(done) = kernels::run(kernel, args, rows)
        {
            return done;
        }
        let mut out = Column::with_capacity(&self.result_type, rows);
        let mut values = Vec::with_capacity(args.len());
        for row in 0..rows {
            values.clear();
            values.extend(args.iter().map(|a| a.get(row)));
            out.push(self.call(ctx, &values)?);
        }
        Ok(out)
    }
}

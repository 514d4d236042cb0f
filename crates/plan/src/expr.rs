//! Bound scalar expressions.
//!
//! An expression is typed, all overloads are chosen and all casts are explicit; evaluating it needs no names and no
//! catalog (but for [`Expr::Session`]). Columns are positions in the row of the operator that evaluates it: for joins,
//! the left input's columns followed by the right's.
//!
//! Inside the planner the same type is used with *column identities* (unique per statement) in the place of positions;
//! lowering replaces them. What leaves the crate has positions only.

use std::sync::Arc;

use meridian_catalog::CatalogFunction;
use meridian_datum::{CastContext, DataType, Datum, ResolvedFunction, Volatility};

use crate::logical::Unplanned;
use crate::physical::Plan;

/// A bound scalar expression.
#[derive(Clone, Debug)]
pub enum Expr {
    /// A constant of a type.
    Const(Datum, DataType),
    /// A column of the input row.
    Column {
        /// Position in the row.
        index: usize,
        /// Its type.
        ty: DataType,
    },
    /// A value that the enclosing [`Subquery`] or `Apply` operator passes in: element `index` of its `args`, constant
    /// for one run of the plan that mentions it. A subquery nested deeper has arguments of its own.
    Outer {
        /// Position in the enclosing `args`.
        index: usize,
        /// Its type.
        ty: DataType,
    },
    /// `$n`, as index from 0.
    Param {
        /// Index from 0.
        index: usize,
        /// Its type.
        ty: DataType,
    },
    /// A function or operator of the registry. `args` are of `function.arg_types`.
    Call {
        /// The overload.
        function: Arc<ResolvedFunction>,
        /// The arguments.
        args: Vec<Expr>,
    },
    /// A function that asks the catalog or the session. Never strict.
    Session {
        /// Which.
        function: CatalogFunction,
        /// The arguments.
        args: Vec<Expr>,
    },
    /// A cast that changes type or modifier; errors at evaluation.
    Cast {
        /// What.
        input: Box<Expr>,
        /// The input's type.
        from: DataType,
        /// The result's type, with its modifier.
        to: DataType,
        /// Assignment and explicit casts treat excess length differently.
        context: CastContext,
    },
    /// Conjunction in Kleene logic; evaluation may stop at the first false.
    And(Vec<Expr>),
    /// Disjunction in Kleene logic; evaluation may stop at the first true.
    Or(Vec<Expr>),
    /// Negation.
    Not(Box<Expr>),
    /// `IS NULL`, `IS NOT NULL`.
    IsNull {
        /// What.
        input: Box<Expr>,
        /// `IS NOT NULL`.
        negated: bool,
    },
    /// `IS [NOT] TRUE | FALSE`; never NULL. (`IS UNKNOWN` is `IsNull`.)
    IsBool {
        /// A boolean.
        input: Box<Expr>,
        /// TRUE or FALSE.
        value: bool,
        /// `IS NOT`.
        negated: bool,
    },
    /// `IS [NOT] DISTINCT FROM`, both sides of one type.
    IsDistinct {
        /// Left.
        left: Box<Expr>,
        /// Right.
        right: Box<Expr>,
        /// `IS NOT DISTINCT FROM`.
        negated: bool,
    },
    /// `CASE`: the first branch whose condition is true. The simple form is rewritten to conditions.
    Case {
        /// Conditions and results; only what is needed may be evaluated.
        branches: Vec<(Expr, Expr)>,
        /// `ELSE`; NULL when absent.
        otherwise: Box<Expr>,
        /// The common type.
        ty: DataType,
    },
    /// The first argument that is not NULL; later ones are not evaluated.
    Coalesce {
        /// The arguments, of one type.
        args: Vec<Expr>,
        /// The common type.
        ty: DataType,
    },
    /// `NULLIF(left, right)`: `equal` is the comparison that overload resolution chose, `left` cast for it apart.
    NullIf {
        /// The value.
        value: Box<Expr>,
        /// A boolean: value and the other argument are equal.
        equal: Box<Expr>,
    },
    /// `GREATEST`, `LEAST`: NULLs are ignored.
    Extremum {
        /// `GREATEST`.
        greatest: bool,
        /// The arguments, of one type.
        args: Vec<Expr>,
        /// The common type.
        ty: DataType,
    },
    /// `x [NOT] IN (list)` where the list is constant and comparison is equality of one type: a set lookup. The set is
    /// sorted, without NULLs and duplicates.
    InSet {
        /// What.
        input: Box<Expr>,
        /// The values, ascending.
        set: Arc<[Datum]>,
        /// The list has a NULL: no match is NULL then.
        has_null: bool,
        /// `NOT IN`.
        negated: bool,
    },
    /// `left op ANY (array)`, `left op ALL (array)`.
    AnyAll {
        /// `ALL`.
        all: bool,
        /// The comparison of `left` with an element; a boolean operator. Its arguments are already cast.
        function: Arc<ResolvedFunction>,
        /// The left side.
        left: Box<Expr>,
        /// The array.
        array: Box<Expr>,
    },
    /// `ARRAY[...]`.
    Array {
        /// The elements, of one type.
        elements: Vec<Expr>,
        /// The array's type.
        ty: DataType,
    },
    /// `array[i][j]`.
    Subscript {
        /// The array.
        array: Box<Expr>,
        /// The subscripts, integers.
        subscripts: Vec<Expr>,
        /// The element's type.
        ty: DataType,
    },
    /// `ROW(...)` as a value.
    Row(Vec<Expr>),
    /// A subquery.
    Subquery(Box<Subquery>),
    /// A subquery inside the planner. Never leaves it: lowering makes each a [`Expr::Subquery`].
    Unplanned(Box<Unplanned>),
}

/// A subquery in an expression.
///
/// With no `args` the plan is the same for every row: it is run once per statement, when it is first needed, and its
/// answer is kept.
#[derive(Clone, Debug)]
pub struct Subquery {
    /// How its rows become a value.
    pub kind: SubqueryKind,
    /// The rows.
    pub plan: Arc<Plan>,
    /// Values from the enclosing row, which the plan reads as [`Expr::Outer`].
    pub args: Vec<Expr>,
    /// The type of the value.
    pub ty: DataType,
}

/// How the rows of a subquery become a value.
#[derive(Clone, Debug)]
pub enum SubqueryKind {
    /// The single column of the single row; NULL without a row, 21000 with more than one.
    Scalar,
    /// Whether there is a row.
    Exists,
    /// `left op ANY (subquery)`; `IN` is `= ANY`. `NOT IN` is the negation.
    Any(SubqueryComparison),
    /// `left op ALL (subquery)`.
    All(SubqueryComparison),
    /// `ARRAY(subquery)`.
    Array,
}

/// The comparison of a quantified subquery.
#[derive(Clone, Debug)]
pub struct SubqueryComparison {
    /// The left side: one expression per column of the subquery.
    pub left: Vec<Expr>,
    /// A boolean over `left` (columns `0..n`) followed by the subquery's row (columns `n..2n`).
    pub condition: Expr,
    /// `condition` is plain equality column by column, of equal types: the answer may come from a hash set.
    pub is_equality: bool,
}

impl Expr {
    /// The type of the value.
    pub fn ty(&self) -> DataType {
        match self {
            Expr::Const(_, ty)
            | Expr::Column { ty, .. }
            | Expr::Outer { ty, .. }
            | Expr::Param { ty, .. }
            | Expr::Case { ty, .. }
            | Expr::Coalesce { ty, .. }
            | Expr::Extremum { ty, .. }
            | Expr::Array { ty, .. }
            | Expr::Subscript { ty, .. }
            | Expr::Cast { to: ty, .. } => ty.clone(),
            Expr::Call { function, .. } => function.result_type.clone(),
            Expr::Session { function, .. } => function.result_type(),
            Expr::NullIf { value, .. } => value.ty(),
            Expr::Row(_) => DataType::Record,
            Expr::Subquery(s) => s.ty.clone(),
            Expr::Unplanned(s) => s.ty.clone(),
            Expr::And(_)
            | Expr::Or(_)
            | Expr::Not(_)
            | Expr::IsNull { .. }
            | Expr::IsBool { .. }
            | Expr::IsDistinct { .. }
            | Expr::InSet { .. }
            | Expr::AnyAll { .. } => DataType::Bool,
        }
    }

    /// A boolean constant.
    pub fn bool(value: bool) -> Expr {
        Expr::Const(Datum::Bool(value), DataType::Bool)
    }

    /// NULL of a type.
    pub fn null(ty: DataType) -> Expr {
        Expr::Const(Datum::Null, ty)
    }

    /// A column.
    pub fn column(index: usize, ty: DataType) -> Expr {
        Expr::Column { index, ty }
    }

    /// The constant, if it is one.
    pub fn as_const(&self) -> Option<&Datum> {
        match self {
            Expr::Const(d, _) => Some(d),
            _ => None,
        }
    }

    /// Calls `f` with every direct child, subqueries' plans not included (but for their arguments and left sides).
    pub fn for_each_child<'a>(&'a self, f: &mut dyn FnMut(&'a Expr)) {
        match self {
            Expr::Const(..) | Expr::Column { .. } | Expr::Outer { .. } | Expr::Param { .. } => {}
            Expr::Call { args, .. }
            | Expr::Session { args, .. }
            | Expr::And(args)
            | Expr::Or(args)
            | Expr::Coalesce { args, .. }
            | Expr::Extremum { args, .. }
            | Expr::Array { elements: args, .. }
            | Expr::Row(args) => args.iter().for_each(f),
            Expr::Cast { input, .. }
            | Expr::Not(input)
            | Expr::IsNull { input, .. }
            | Expr::IsBool { input, .. }
            | Expr::InSet { input, .. } => f(input),
            Expr::IsDistinct { left, right, .. } => {
                f(left);
                f(right);
            }
            Expr::Case { branches, otherwise, .. } => {
                for (c, v) in branches {
                    f(c);
                    f(v);
                }
                f(otherwise);
            }
            Expr::NullIf { value, equal } => {
                f(value);
                f(equal);
            }
            Expr::AnyAll { left, array, .. } => {
                f(left);
                f(array);
            }
            Expr::Subscript { array, subscripts, .. } => {
                f(array);
                subscripts.iter().for_each(f);
            }
            Expr::Unplanned(s) => s.left.iter().for_each(f),
            Expr::Subquery(s) => {
                s.args.iter().for_each(&mut *f);
                match &s.kind {
                    SubqueryKind::Any(c) | SubqueryKind::All(c) => c.left.iter().for_each(f),
                    SubqueryKind::Scalar | SubqueryKind::Exists | SubqueryKind::Array => {}
                }
            }
        }
    }

    /// Calls `f` with every direct child, mutably.
    pub fn for_each_child_mut(&mut self, f: &mut dyn FnMut(&mut Expr)) {
        match self {
            Expr::Const(..) | Expr::Column { .. } | Expr::Outer { .. } | Expr::Param { .. } => {}
            Expr::Call { args, .. }
            | Expr::Session { args, .. }
            | Expr::And(args)
            | Expr::Or(args)
            | Expr::Coalesce { args, .. }
            | Expr::Extremum { args, .. }
            | Expr::Array { elements: args, .. }
            | Expr::Row(args) => args.iter_mut().for_each(f),
            Expr::Cast { input, .. }
            | Expr::Not(input)
            | Expr::IsNull { input, .. }
            | Expr::IsBool { input, .. }
            | Expr::InSet { input, .. } => f(input),
            Expr::IsDistinct { left, right, .. } => {
                f(left);
                f(right);
            }
            Expr::Case { branches, otherwise, .. } => {
                for (c, v) in branches {
                    f(c);
                    f(v);
                }
                f(otherwise);
            }
            Expr::NullIf { value, equal } => {
                f(value);
                f(equal);
            }
            Expr::AnyAll { left, array, .. } => {
                f(left);
                f(array);
            }
            Expr::Subscript { array, subscripts, .. } => {
                f(array);
                subscripts.iter_mut().for_each(f);
            }
            Expr::Unplanned(s) => s.left.iter_mut().for_each(f),
            Expr::Subquery(s) => {
                s.args.iter_mut().for_each(&mut *f);
                match &mut s.kind {
                    SubqueryKind::Any(c) | SubqueryKind::All(c) => c.left.iter_mut().for_each(f),
                    SubqueryKind::Scalar | SubqueryKind::Exists | SubqueryKind::Array => {}
                }
            }
        }
    }

    /// Whether `f` holds for the expression or anything in it.
    pub fn any(&self, f: &mut dyn FnMut(&Expr) -> bool) -> bool {
        if f(self) {
            return true;
        }
        let mut found = false;
        self.for_each_child(&mut |c| found = found || c.any(f));
        found
    }

    /// Whether the value may differ from call to call with the same inputs, so that it must be evaluated exactly where
    /// it was written.
    pub fn is_volatile(&self) -> bool {
        self.any(&mut |e| match e {
            Expr::Call { function, .. } => function.def.volatility == Volatility::Volatile,
            Expr::Session { function, .. } => function.is_volatile(),
            _ => false,
        })
    }

    /// Whether a subquery is in it.
    pub fn has_subquery(&self) -> bool {
        self.any(&mut |e| matches!(e, Expr::Subquery(_) | Expr::Unplanned(_)))
    }

    /// Whether it needs no input row: constants, parameters, outer values and functions of them.
    pub fn is_row_independent(&self) -> bool {
        !self.any(&mut |e| matches!(e, Expr::Column { .. }))
    }
}

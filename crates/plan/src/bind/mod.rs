//! Names and types: a syntax tree becomes a logical plan.
//!
//! What is settled here: which table, column, function, operator and cast every name and symbol means; the type of every
//! expression, literal and parameter; whether aggregates and subqueries stand where they may. Messages, codes and
//! positions are PostgreSQL's, since people and programs read them.
//!
//! | file | what |
//! |---|---|
//! | [`scope`] | what names are visible where |
//! | [`expr`], [`ops`], [`special`], [`subquery`] | scalar expressions |
//! | [`func`], [`agg`], [`window`] | calls |
//! | [`types`] | coercion, untyped literals, parameters |
//! | [`from`], [`select`], [`column_name`], [`query`], [`recursive`], [`order`] | queries |
//! | [`size`] | what a statement may grow to |
//! | [`insert`], [`arbiter`], [`update`], [`target`] | writes |
//! | [`ddl`], [`alter`], [`definition`], [`stored`] | schema changes, expressions of indexes |
//! | [`command`] | statements of the session |

mod agg;
mod alter;
mod arbiter;
mod column_name;
mod command;
mod ddl;
mod definition;
mod expr;
mod from;
mod func;
mod insert;
mod literal;
mod ops;
mod order;
mod query;
mod recursive;
mod scope;
mod select;
mod size;
mod special;
mod stored;
mod subquery;
mod target;
mod types;
mod update;
mod window;

use std::sync::Arc;

use meridian_catalog::{Relation, TableId, TableRef};
use meridian_datum::{DataType, Result, SqlError, SqlState};
use sqlparser::ast::{Ident, ObjectName};
use sqlparser::tokenizer::Span;

use crate::PlanContext;
use crate::expr::Expr;
use crate::logical::{ColId, Rel};
use crate::parse::ConflictElements;

pub(crate) use command::BoundCommand;
pub(crate) use expr::{conjunction, disjunction};
pub(crate) use query::BoundQuery;
pub(crate) use scope::Scope;
use size::Size;
pub use stored::{index_expressions, index_predicate};

/// The state of binding one statement.
pub(crate) struct Binder<'a> {
    pub(crate) ctx: &'a PlanContext<'a>,
    /// The whole query string, for positions and for texts that descriptors keep.
    pub(crate) source: &'a str,
    next_col: ColId,
    /// Types of `$1`, ...; unknown ones are settled by their context.
    params: Vec<DataType>,
    /// Where each parameter was first seen, for the error when nothing settles its type.
    param_positions: Vec<u32>,
    /// Tables read and written, with versions.
    pub(crate) tables: Vec<(TableId, u64)>,
    /// Common table expressions that run once.
    pub(crate) ctes: Vec<Rel>,
    /// Every reference to a column in order: for messages about ungrouped columns.
    col_refs: Vec<ColRef>,
    /// Depth of aggregate arguments that are being bound.
    in_aggregate: usize,
    /// A literal was read whose value depends on when it was read (`'now'::timestamptz`).
    pub(crate) time_dependent: bool,
    /// NOTICE messages.
    pub(crate) notices: Vec<String>,
    /// What `ON CONFLICT` clauses name, where that is more than columns.
    pub(crate) conflict_targets: &'a [ConflictElements],
    /// What untyped columns of the next SELECT list become: the types of an INSERT's columns.
    target_types: Option<Vec<DataType>>,
    /// The next SELECT list is an operand of a set operation, which gives its untyped columns their types.
    keeps_untyped: bool,
    /// Operands of BETWEEN SYMMETRIC that are being bound: each is used more than once.
    symmetric_depth: usize,
    /// Subqueries in expressions that are being bound.
    subquery_depth: usize,
    /// Recursive queries so far.
    recursions: usize,
    /// What the statement has become so far, which its text does not bound.
    size: Size,
}

/// A reference to a column in the text.
#[derive(Clone, Debug)]
struct ColRef {
    col: ColId,
    position: u32,
    /// `t.x`
    table: Arc<str>,
    name: Arc<str>,
    in_aggregate: bool,
}

impl<'a> Binder<'a> {
    pub(crate) fn new(ctx: &'a PlanContext<'a>, source: &'a str) -> Self {
        Binder {
            ctx,
            source,
            next_col: 0,
            params: ctx.param_types.to_vec(),
            param_positions: Vec::new(),
            tables: Vec::new(),
            ctes: Vec::new(),
            col_refs: Vec::new(),
            in_aggregate: 0,
            time_dependent: false,
            notices: Vec::new(),
            conflict_targets: &[],
            target_types: None,
            keeps_untyped: false,
            symmetric_depth: 0,
            subquery_depth: 0,
            recursions: 0,
            size: Size::default(),
        }
    }

    pub(crate) fn new_col(&mut self) -> ColId {
        self.next_col += 1;
        self.next_col - 1
    }

    pub(crate) fn new_cols(&mut self, n: usize) -> Vec<ColId> {
        (0..n).map(|_| self.new_col()).collect()
    }

    /// The parameters' types; an unsettled one is 42P18.
    pub(crate) fn finish_params(&mut self) -> Result<Vec<DataType>> {
        for (i, t) in self.params.iter().enumerate() {
            if *t == DataType::Unknown {
                let message = format!("could not determine data type of parameter ${}", i + 1);
                let e = SqlError::new(SqlState::INDETERMINATE_DATATYPE, message);
                return Err(match self.param_positions.get(i) {
                    Some(p) if *p > 0 => e.with_position(*p),
                    _ => e,
                });
            }
        }
        Ok(std::mem::take(&mut self.params))
    }

    /// The relation that a name means, or `None`.
    fn find_relation(&self, name: &[String]) -> Result<Option<Relation>> {
        let (schema, table) = match name {
            [t] => (None, t),
            [s, t] => (Some(s.as_str()), t),
            [d, s, t] => {
                if d != self.ctx.database {
                    let full = name.join(".");
                    return Err(SqlError::unsupported(format!("cross-database reference to \"{full}\"")));
                }
                (Some(s.as_str()), t)
            }
            _ => {
                let full = name.join(".");
                let message = format!("improper relation name (too many dotted names): {full}");
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
            }
        };
        Ok(self.ctx.snapshot.resolve(self.ctx.database, self.ctx.search_path, self.ctx.user, schema, table))
    }

    /// The relation that a name means; 42P01 where there is none.
    fn relation(&self, name: &[String], position: u32) -> Result<Relation> {
        match self.find_relation(name).map_err(|e| e.or_position(position))? {
            Some(r) => Ok(r),
            None => Err(undefined_table(name).with_position(position)),
        }
    }

    /// The table with storage that a name means: the target of a write or of a schema change.
    fn stored_table(&self, name: &[String], position: u32) -> Result<TableRef> {
        match self.relation(name, position)? {
            Relation::Table(t) => Ok(t),
            Relation::Virtual(v) => Err(SqlError::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("permission denied: \"{}\" is a system catalog", v.name),
            )),
            Relation::Index(..) => {
                let message = format!("\"{}\" is not a table", name.last().map_or("", String::as_str));
                Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message))
            }
        }
    }

    fn note_table(&mut self, table: &TableRef) {
        if !self.tables.iter().any(|(id, _)| *id == table.id) {
            self.tables.push((table.id, table.version));
        }
    }
}

/// `relation "x" does not exist`.
pub(crate) fn undefined_table(name: &[String]) -> SqlError {
    SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{}\" does not exist", name.join(".")))
}

/// Longest identifier in bytes (`NAMEDATALEN - 1`).
const NAME_BYTES_MAX: usize = 63;

/// The name that an identifier means: folded unless quoted, cut to 63 bytes.
pub(crate) fn name_of(ident: &Ident) -> String {
    let mut name = if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() };
    if name.len() > NAME_BYTES_MAX {
        let mut end = NAME_BYTES_MAX;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
    }
    name
}

/// The parts of a dotted name.
pub(crate) fn names_of(name: &ObjectName) -> Result<Vec<String>> {
    name.0
        .iter()
        .map(|p| match p.as_ident() {
            Some(i) => Ok(name_of(i)),
            None => Err(SqlError::unsupported("a function call as a name")),
        })
        .collect()
}

/// Where a name stands, 0 where it is not known.
pub(crate) fn position_of(name: &ObjectName) -> u32 {
    name.0.first().and_then(|p| p.as_ident()).map_or(0, |i| pos(i.span))
}

/// A span's beginning as a position of an error.
pub(crate) fn pos(span: Span) -> u32 {
    span.start.column as u32
}

/// Adds a position that may be unknown (0).
pub(crate) trait At {
    fn at(self, position: u32) -> Self;
}

impl At for SqlError {
    fn at(self, position: u32) -> Self {
        if position > 0 { self.or_position(position) } else { self }
    }
}

impl<T> At for Result<T> {
    fn at(self, position: u32) -> Self {
        self.map_err(|e| e.at(position))
    }
}

/// A cast of an expression to `bigint` for LIMIT, counts and the like happens in many places; this is its type.
pub(crate) const COUNT: DataType = DataType::Int8;

/// An expression and the name that PostgreSQL would give its column.
#[derive(Clone, Debug)]
pub(crate) struct NamedExpr {
    pub(crate) expr: Expr,
    pub(crate) name: String,
}

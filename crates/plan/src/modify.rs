//! INSERT, UPDATE and DELETE.
//!
//! The executor maintains every index of the table that its state demands ([`IndexState`](meridian_catalog::IndexState)),
//! checks NOT NULL from the descriptor and the checks listed here, in PostgreSQL's order: not-null constraints in column
//! order, then checks in name order, then unique indexes in order of creation.

use meridian_catalog::{IndexId, TableRef};
use meridian_kv_api::Locking;

use crate::expr::Expr;
use crate::physical::Plan;

/// A write to one table.
#[derive(Clone, Debug)]
pub struct Modify {
    /// The table.
    pub table: TableRef,
    /// What is done.
    pub action: ModifyAction,
    /// The constraints to check on new rows.
    pub checks: Vec<Check>,
    /// `RETURNING`. For INSERT over the new row; for UPDATE over the new row followed by the input's columns after the
    /// old row (FROM); for DELETE over the old row followed by the same (USING). "Row" is all of the table's columns.
    pub returning: Option<Vec<Expr>>,
    /// The table whose row must exist, for an interleaved table.
    pub parent: Option<TableRef>,
    /// Tables interleaved in this one, whose rows follow a deleted or re-keyed row.
    pub children: Vec<TableRef>,
}

/// A `CHECK` constraint.
#[derive(Clone, Debug)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// Over the new row; violated when false.
    pub condition: Expr,
}

/// What is done to the table.
#[derive(Clone, Debug)]
pub enum ModifyAction {
    /// Rows are added.
    Insert {
        /// Where values come from.
        source: InsertSource,
        /// `ON CONFLICT`
        on_conflict: Option<OnConflict>,
    },
    /// Rows are changed.
    Update {
        /// Yields all of the table's columns, then further ones. A row that comes twice is changed once.
        input: Plan,
        /// Values over the input row, for ordinals.
        assignments: Vec<(usize, Expr)>,
    },
    /// Rows are removed.
    Delete {
        /// Yields all of the table's columns, then further ones.
        input: Plan,
    },
}

/// Where the rows of an INSERT come from.
#[derive(Clone, Debug)]
pub enum InsertSource {
    /// Literal rows: one expression per column of the table, without input row.
    Rows(Vec<Vec<Expr>>),
    /// A query: one expression per column of the table, over its row.
    Query {
        /// The query.
        input: Plan,
        /// The row.
        row: Vec<Expr>,
    },
}

/// `ON CONFLICT`.
#[derive(Clone, Debug)]
pub struct OnConflict {
    /// The unique indexes that may conflict; a violation of others is an error. `None`: any (only for DO NOTHING).
    pub arbiters: Option<Vec<IndexId>>,
    /// What then.
    pub action: ConflictAction,
}

/// What a conflicting row does.
#[derive(Clone, Debug)]
pub enum ConflictAction {
    /// It is left out.
    Nothing,
    /// The existing row is changed. A second change of one row by the statement is 21000.
    Update {
        /// Values over the existing row followed by the proposed row (`excluded`), for ordinals.
        assignments: Vec<(usize, Expr)>,
        /// Over the same; the row is left alone unless true.
        filter: Option<Expr>,
    },
}

/// `SELECT ... WHERE key = value`: one row by primary key, without operators.
#[derive(Clone, Debug)]
pub struct PointSelect {
    /// The table.
    pub table: TableRef,
    /// Values of the primary key's columns, without input row; NULL finds nothing.
    pub key: Vec<Expr>,
    /// The columns that are decoded, as ordinals; `filter` and `exprs` refer to positions in this list.
    pub columns: Vec<usize>,
    /// Further conditions.
    pub filter: Option<Expr>,
    /// The output.
    pub exprs: Vec<Expr>,
    /// `exprs[i]` is column `i` for every `i`: rows may be sent as decoded.
    pub is_identity: bool,
    /// How the row is locked in a read-write transaction.
    pub locking: Locking,
    /// `FOR UPDATE` or `FOR SHARE` was written.
    pub for_update: bool,
}

/// `UPDATE ... WHERE key = value`.
#[derive(Clone, Debug)]
pub struct PointUpdate {
    /// The table.
    pub table: TableRef,
    /// Values of the primary key's columns, without input row.
    pub key: Vec<Expr>,
    /// Over the old row.
    pub filter: Option<Expr>,
    /// Values over the old row, for ordinals; never a column of the primary key.
    pub assignments: Vec<(usize, Expr)>,
    /// Constraints to check on the new row.
    pub checks: Vec<Check>,
    /// Over the new row.
    pub returning: Option<Vec<Expr>>,
}

/// `DELETE ... WHERE key = value`, of a table without interleaved children.
#[derive(Clone, Debug)]
pub struct PointDelete {
    /// The table.
    pub table: TableRef,
    /// Values of the primary key's columns, without input row.
    pub key: Vec<Expr>,
    /// Over the old row.
    pub filter: Option<Expr>,
    /// Over the old row.
    pub returning: Option<Vec<Expr>>,
}

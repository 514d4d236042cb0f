//! Schema changes, with names resolved and definitions checked as far as the catalog snapshot can tell.
//!
//! Ids and oids are not assigned here: the executor draws them from the cluster when it applies the change, and it
//! repeats the checks that depend on the catalog inside its transaction.

use meridian_catalog::{ColumnId, DatabaseId, Direction, Identity, IndexId, SchemaId, TableId, TableRef};
use meridian_datum::DataType;

use crate::expr::Expr;
use crate::modify::Modify;
use crate::physical::Plan;

/// A schema change.
#[derive(Clone, Debug)]
pub enum Ddl {
    /// `CREATE DATABASE`
    CreateDatabase {
        /// Its name.
        name: String,
    },
    /// `DROP DATABASE`
    DropDatabase {
        /// Which.
        database: DatabaseId,
    },
    /// `CREATE SCHEMA`
    CreateSchema {
        /// Where.
        database: DatabaseId,
        /// Its name.
        name: String,
    },
    /// `DROP SCHEMA`; with the tables in it where CASCADE was said.
    DropSchema {
        /// Which.
        schemas: Vec<SchemaId>,
        /// The tables to drop with them.
        tables: Vec<TableRef>,
    },
    /// `CREATE TABLE`
    CreateTable(Box<CreateTable>),
    /// `CREATE TABLE AS`
    CreateTableAs {
        /// The table.
        table: Box<CreateTable>,
        /// Its rows.
        query: Box<Plan>,
        /// `WITH NO DATA`
        with_data: bool,
    },
    /// `DROP TABLE`, interleaved children included where CASCADE was said.
    DropTable {
        /// Which, children before parents.
        tables: Vec<TableRef>,
    },
    /// `TRUNCATE`
    Truncate {
        /// Which.
        tables: Vec<TableRef>,
    },
    /// `CREATE INDEX`
    CreateIndex {
        /// On which table.
        table: TableRef,
        /// The index.
        index: NewIndex,
        /// Those of the statements that follow, where they are made together. The planner sees one statement and leaves it
        /// empty.
        more: Vec<NewIndex>,
        /// Do nothing where the name is taken.
        if_not_exists: bool,
    },
    /// `DROP INDEX`
    DropIndex {
        /// Which.
        indexes: Vec<(TableRef, IndexId)>,
    },
    /// `ALTER INDEX ... RENAME TO`
    RenameIndex {
        /// Its table.
        table: TableRef,
        /// Which.
        index: IndexId,
        /// The name to be.
        name: String,
    },
    /// `ALTER TABLE`: actions in order, as one change.
    AlterTable {
        /// Which table.
        table: TableRef,
        /// What.
        actions: Vec<AlterAction>,
    },
    /// A statement that would have changed something, had it existed or not existed (`IF EXISTS`).
    Nothing,
}

/// A column to be made.
#[derive(Clone, Debug)]
pub struct NewColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: DataType,
    /// Whether NULL is allowed.
    pub nullable: bool,
    /// The default as SQL text.
    pub default: Option<String>,
    /// An identity column.
    pub identity: Option<Identity>,
    /// Left out of `*`: the row id of a table without primary key.
    pub hidden: bool,
}

/// An index or unique constraint to be made. Columns are ordinals of the table.
#[derive(Clone, Debug)]
pub struct NewIndex {
    /// Its name; chosen as PostgreSQL would where the user gave none.
    pub name: String,
    /// Unique.
    pub unique: bool,
    /// A constraint owns it.
    pub is_constraint: bool,
    /// The key; ordinals from the number of the table's columns on are those of `expressions`.
    pub columns: Vec<(usize, Direction)>,
    /// The key's expressions.
    pub expressions: Vec<NewExpression>,
    /// Further columns kept in the entries.
    pub storing: Vec<usize>,
    /// `WHERE`: the condition as SQL text.
    pub predicate: Option<String>,
}

/// An expression in the key of an index to be made.
#[derive(Clone, Debug)]
pub struct NewExpression {
    /// What names that are chosen call it: the function's name, or `expr`.
    pub name: String,
    /// SQL text over the table's columns.
    pub text: String,
    /// Its type.
    pub ty: DataType,
    /// It looks like a call, which needs no parentheses in definitions.
    pub is_call: bool,
}

/// A check to be made.
#[derive(Clone, Debug)]
pub struct NewCheck {
    /// Its name.
    pub name: String,
    /// The condition as SQL text.
    pub expr: String,
    /// The condition over all columns of the table (as it will be).
    pub condition: Expr,
    /// `NOT VALID`: existing rows are not looked at.
    pub not_valid: bool,
}

/// `CREATE TABLE`.
#[derive(Clone, Debug)]
pub struct CreateTable {
    /// Where.
    pub schema: SchemaId,
    /// Its name.
    pub name: String,
    /// The columns; the last is the hidden row id where there is no primary key.
    pub columns: Vec<NewColumn>,
    /// The primary key.
    pub primary: NewIndex,
    /// `UNIQUE` constraints.
    pub indexes: Vec<NewIndex>,
    /// `CHECK` constraints.
    pub checks: Vec<NewCheck>,
    /// `INTERLEAVE IN PARENT`
    pub interleave: Option<NewInterleave>,
    /// `WITH (...)`
    pub storage_parameters: Vec<(String, String)>,
    /// Do nothing where the name is taken.
    pub if_not_exists: bool,
}

/// `INTERLEAVE IN PARENT parent [ON DELETE CASCADE]`.
#[derive(Clone, Debug)]
pub struct NewInterleave {
    /// The parent.
    pub parent: TableId,
    /// How many columns of the key are the parent's.
    pub shared_columns: usize,
    /// Children follow their deleted parent.
    pub cascade: bool,
}

/// One action of `ALTER TABLE`. Ordinals count in the table as it was before the statement, with columns that earlier
/// actions of the same statement added at the end.
#[derive(Clone, Debug)]
pub enum AlterAction {
    /// `ADD COLUMN`. With a default, existing rows have it, too.
    AddColumn {
        /// The column.
        column: NewColumn,
        /// The default, over no row, of the column's type.
        default: Option<Expr>,
    },
    /// `DROP COLUMN`, with the indexes and checks that need it.
    DropColumn {
        /// Which.
        column: usize,
        /// Indexes that go with it.
        indexes: Vec<IndexId>,
        /// Checks that go with it, by name.
        checks: Vec<String>,
    },
    /// `ADD PRIMARY KEY`: rows move to the keys that it gives them; the hidden row id is dropped.
    AddPrimaryKey {
        /// The key.
        index: NewIndex,
    },
    /// `ADD UNIQUE`
    AddUnique {
        /// The index.
        index: NewIndex,
    },
    /// `ADD CHECK`
    AddCheck(NewCheck),
    /// `VALIDATE CONSTRAINT`
    ValidateCheck {
        /// Which.
        name: String,
        /// The condition over all columns of the table.
        condition: Expr,
    },
    /// `DROP CONSTRAINT` of a check.
    DropCheck {
        /// Which.
        name: String,
    },
    /// `DROP CONSTRAINT` of a unique constraint.
    DropUnique {
        /// Which.
        index: IndexId,
    },
    /// `RENAME TO`
    RenameTable {
        /// The name to be.
        name: String,
    },
    /// `RENAME COLUMN`. Texts of checks and indexes that mention the column come with it.
    RenameColumn {
        /// Which.
        column: usize,
        /// The name to be.
        name: String,
        /// Check texts as they will be: name and text.
        checks: Vec<(String, String)>,
        /// Texts of indexes as they will be.
        indexes: Vec<RenamedText>,
    },
    /// `RENAME CONSTRAINT`
    RenameConstraint {
        /// Which.
        from: String,
        /// The name to be.
        to: String,
    },
    /// `ALTER COLUMN SET DEFAULT`, `DROP DEFAULT`
    SetDefault {
        /// Which.
        column: usize,
        /// The default as SQL text.
        default: Option<String>,
    },
    /// `ALTER COLUMN SET NOT NULL` (rows are checked), `DROP NOT NULL`
    SetNullable {
        /// Which.
        column: usize,
        /// Whether NULL is allowed.
        nullable: bool,
    },
    /// `ALTER COLUMN TYPE`: every row is rewritten.
    SetType {
        /// Which.
        column: usize,
        /// The type to be.
        ty: DataType,
        /// The value over all columns of the table.
        using: Expr,
    },
    /// `SET (...)`, `RESET (...)`: storage parameters.
    SetStorageParameters(Vec<(String, Option<String>)>),
    /// `SET SCHEMA`
    SetSchema {
        /// Where to.
        schema: SchemaId,
    },
}

/// A text of an index in which a column has another name.
#[derive(Clone, Debug)]
pub enum RenamedText {
    /// The index's predicate.
    Predicate(IndexId, String),
    /// One of its expressions.
    Expression(ColumnId, String),
}

impl AlterAction {
    /// Whether every row is written anew. A row lacks a column that was added later and reads there as the value that the
    /// default had then, unless it has another value for each row.
    pub fn rewrites(&self) -> bool {
        match self {
            AlterAction::AddColumn { default, .. } => default.as_ref().is_some_and(Expr::is_volatile),
            AlterAction::AddPrimaryKey { .. } | AlterAction::SetType { .. } => true,
            _ => false,
        }
    }
}

/// Whether writers wait while rows are looked at or rewritten. Otherwise they heed new constraints and maintain new indexes
/// before those are relied on; that needs columns to keep their names.
pub fn writers_wait(actions: &[AlterAction]) -> bool {
    let renames = |action: &AlterAction| {
        matches!(
            action,
            AlterAction::RenameTable { .. }
                | AlterAction::RenameColumn { .. }
                | AlterAction::RenameConstraint { .. }
        )
    };
    actions.iter().any(|action| action.rewrites() || renames(action))
}

/// The indexes that the actions make, where that is all they do.
pub fn only_unique(actions: &[AlterAction]) -> Option<Vec<&NewIndex>> {
    let mut indexes = Vec::with_capacity(actions.len());
    for action in actions {
        let AlterAction::AddUnique { index } = action else { return None };
        indexes.push(index);
    }
    Some(indexes)
}

/// `COPY`.
#[derive(Clone, Debug)]
pub struct Copy {
    /// What it does.
    pub direction: CopyDirection,
    /// How fields are written.
    pub format: CopyFormat,
}

/// Into or out of the database.
#[derive(Clone, Debug)]
pub enum CopyDirection {
    /// `FROM STDIN`.
    From {
        /// The table.
        table: TableRef,
        /// Which columns come, as ordinals, with their types.
        columns: Vec<usize>,
        /// The write: an INSERT whose input is one text field per column of `columns`, already parsed as the column's
        /// type (`InsertSource::Query` over the received rows; its `input` is an empty `Values` of those types).
        insert: Box<Modify>,
    },
    /// `TO STDOUT`.
    To {
        /// The rows.
        query: Box<Plan>,
        /// The column names, for HEADER.
        names: Vec<String>,
    },
}

/// Options of `COPY`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyFormat {
    /// Text, CSV or binary.
    pub kind: CopyKind,
    /// `DELIMITER`
    pub delimiter: u8,
    /// `NULL`
    pub null: String,
    /// `HEADER`
    pub header: bool,
    /// `QUOTE`
    pub quote: u8,
    /// `ESCAPE`
    pub escape: u8,
}

/// The encoding of a `COPY` stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyKind {
    /// Tab-separated with backslash escapes.
    Text,
    /// Comma-separated values.
    Csv,
    /// PostgreSQL's binary format.
    Binary,
}

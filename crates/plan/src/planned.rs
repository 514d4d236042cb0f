//! What planning a statement yields.

use std::sync::Arc;

use meridian_catalog::TableId;
use meridian_datum::DataType;
use meridian_types::Timestamp;

use crate::ddl::Ddl;
use crate::modify::{Modify, PointDelete, PointSelect, PointUpdate};
use crate::physical::Plan;
use crate::planner::{changes_cluster, locks_for_session};
use crate::session::SessionStatement;

/// A statement that can be executed any number of times, with different parameters, while the catalog stays as it is.
#[derive(Clone, Debug)]
pub struct PlannedStatement {
    /// What is to be done.
    pub plan: StatementPlan,
    /// The types of `$1`, `$2`, ...
    pub param_types: Vec<DataType>,
    /// The result's columns; `None` for a statement that returns no rows.
    pub columns: Option<Arc<[OutputColumn]>>,
    /// The command tag.
    pub tag: CommandTag,
    /// Common table expressions that are run once; [`Operator::CteScan`](crate::physical::Operator) names them.
    pub ctes: Vec<Plan>,
    /// The tables read or written, with their versions.
    pub tables: Vec<(TableId, u64)>,
    /// The statement reads only and locks nothing, so that it may run in a read-only transaction.
    pub is_read_only: bool,
    /// Everything read lies in one operation (one key, one list of keys, or one span of one index), as
    /// `ReadOnlyOptions::single_operation` asks.
    pub single_operation: bool,
    /// The plan may be kept for the same text. False where a value of planning time is in it (`now()` is not one).
    pub cacheable: bool,
    /// `AS OF SYSTEM TIME`: the snapshot to read.
    pub as_of: Option<AsOf>,
    /// Messages to the client that planning gave (level NOTICE): "table "t" does not exist, skipping".
    pub notices: Vec<String>,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum StatementPlan {
    /// An operator tree: SELECT, VALUES, and every write that is no point write.
    Query(Plan),
    /// One row by primary key.
    PointSelect(Box<PointSelect>),
    /// A row changed by primary key.
    PointUpdate(Box<PointUpdate>),
    /// A row removed by primary key.
    PointDelete(Box<PointDelete>),
    /// Literal rows added: the action is `Insert` from `InsertSource::Rows`, without subqueries.
    PointInsert(Box<Modify>),
    /// A schema change.
    Ddl(Box<Ddl>),
    /// What the session does itself.
    Session(Box<SessionStatement>),
    /// `EXPLAIN`.
    Explain(Box<Explain>),
}

/// `EXPLAIN`.
#[derive(Clone, Debug)]
pub struct Explain {
    /// The statement.
    pub statement: PlannedStatement,
    /// Run it and show what happened.
    pub analyze: bool,
    /// Show output columns.
    pub verbose: bool,
    /// Show costs; `COSTS OFF` leaves them out.
    pub costs: bool,
    /// The plan as text, one line per element (without what ANALYZE adds).
    pub lines: Vec<String>,
}

/// A column of a result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutputColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: DataType,
    /// The table's oid and the column's number, where it is a plain column; zeroes otherwise.
    pub origin: (u32, i16),
}

/// The command tag of CommandComplete, without counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommandTag {
    /// `SELECT n`
    Select,
    /// `INSERT 0 n`
    Insert,
    /// `UPDATE n`
    Update,
    /// `DELETE n`
    Delete,
    /// `COPY n`
    Copy,
    /// A word or two without a count: `CREATE TABLE`.
    Plain(&'static str),
}

/// Which moment `AS OF SYSTEM TIME` names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AsOf {
    /// Nanoseconds before the statement.
    Ago(u64),
    /// A timestamp.
    At(Timestamp),
}

impl PlannedStatement {
    /// Whether running it changes the cluster (`meridian.split_at` and the like), which no rollback undoes.
    pub fn changes_cluster(&self) -> bool {
        match &self.plan {
            StatementPlan::Query(plan) if !self.is_read_only => {
                changes_cluster(plan) || self.ctes.iter().any(changes_cluster)
            }
            _ => false,
        }
    }

    /// Whether running it takes or gives up advisory locks that belong to the session, whatever becomes of the transaction.
    pub fn locks_for_session(&self) -> bool {
        match &self.plan {
            StatementPlan::Query(plan) => locks_for_session(plan) || self.ctes.iter().any(locks_for_session),
            _ => false,
        }
    }

    /// The tables that the plan holds, for privilege and version checks.
    pub fn table_ids(&self) -> impl Iterator<Item = TableId> + '_ {
        self.tables.iter().map(|(id, _)| *id)
    }
}

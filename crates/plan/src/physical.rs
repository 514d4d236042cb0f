//! Physical plans: what the executor runs.
//!
//! A [`Plan`] is a tree of operators. Every operator yields rows of `types`; the expressions in an operator refer to the
//! columns of its input by position. Operators that read tables yield chosen columns of the table, named by their
//! position ("ordinal") in [`TableDesc::columns`](meridian_catalog::TableDesc).
//!
//! ```text
//!   Scan ─ IndexJoin          one table, by spans of an index
//!   LookupJoin                inner side read by keys made from outer rows, in batches
//!   HashJoin, NestedLoopJoin, Apply
//!   Filter, Project, Aggregate, Distinct, Sort, TopN, Limit, SetOp, Window
//!   Values, TableFunction, VirtualScan, CteScan, WorkScan
//!   Modify                    INSERT, UPDATE, DELETE, with or without RETURNING
//! ```

use std::sync::Arc;

use meridian_catalog::{IndexId, TableRef, VirtualTable};
use meridian_datum::{AggregateFn, DataType, ResolvedFunction};
use meridian_kv_api::Locking;

use crate::expr::Expr;
use crate::modify::Modify;

/// An operator with its output.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it does.
    pub op: Operator,
    /// The types of the output columns.
    pub types: Arc<[DataType]>,
    /// How many rows the planner expects.
    pub rows: f64,
}

/// How an operator makes its rows.
#[derive(Clone, Debug)]
pub enum Operator {
    /// Reads spans of an index.
    Scan(Box<Scan>),
    /// Reads the primary rows of secondary index entries.
    IndexJoin(Box<IndexJoin>),
    /// Reads the inner side of a join by key.
    LookupJoin(Box<LookupJoin>),
    /// Equi-join over a hash table of the right input.
    HashJoin(Box<HashJoin>),
    /// Join on any condition; the right input is run once and kept.
    NestedLoopJoin(Box<NestedLoopJoin>),
    /// The right input is run for every left row (LATERAL).
    Apply(Box<Apply>),
    /// Keeps the rows for which the condition is true.
    Filter {
        /// Where from.
        input: Box<Plan>,
        /// A boolean.
        condition: Expr,
    },
    /// Computes columns.
    Project {
        /// Where from.
        input: Box<Plan>,
        /// One per output column.
        exprs: Vec<Expr>,
    },
    /// Groups and aggregates. Output: the group keys, then the aggregates.
    Aggregate(Box<Aggregate>),
    /// Drops duplicates of whole rows (NULL equals NULL).
    Distinct {
        /// Where from.
        input: Box<Plan>,
    },
    /// `DISTINCT ON`: the first row of every run of equal keys; the input is sorted by them.
    DistinctOn {
        /// Where from.
        input: Box<Plan>,
        /// Positions of the keys.
        keys: Vec<usize>,
    },
    /// Sorts, stably.
    Sort {
        /// Where from.
        input: Box<Plan>,
        /// By what.
        keys: Vec<SortKey>,
    },
    /// Sorts and keeps `offset + limit` rows, then drops `offset`.
    TopN {
        /// Where from.
        input: Box<Plan>,
        /// By what.
        keys: Vec<SortKey>,
        /// How many; NULL is no limit.
        limit: Expr,
        /// How many to drop first.
        offset: Option<Expr>,
    },
    /// LIMIT and OFFSET. The values are `bigint`; NULL is no limit; negative ones are 2201W and 2201X.
    Limit {
        /// Where from.
        input: Box<Plan>,
        /// How many.
        limit: Option<Expr>,
        /// How many to drop first.
        offset: Option<Expr>,
    },
    /// UNION, INTERSECT, EXCEPT of inputs of equal types.
    SetOp {
        /// Which.
        kind: SetOpKind,
        /// Keeps duplicates as the standard counts them.
        all: bool,
        /// Left.
        left: Box<Plan>,
        /// Right.
        right: Box<Plan>,
    },
    /// Window functions; output: the input's columns, then one per function.
    Window(Box<Window>),
    /// Constant rows. Zero columns and one row for a SELECT without FROM.
    Values {
        /// The rows; expressions see no input row.
        rows: Vec<Vec<Expr>>,
    },
    /// A set-returning function in FROM.
    TableFunction(Box<TableFunction>),
    /// A catalog or cluster table.
    VirtualScan {
        /// Which.
        table: Arc<VirtualTable>,
        /// Output columns, as positions in the table.
        columns: Vec<usize>,
        /// Over the output row.
        filter: Option<Expr>,
    },
    /// The rows of `PlannedStatement::ctes[index]`, which is run at most once.
    CteScan {
        /// Which.
        index: usize,
    },
    /// `WITH RECURSIVE`.
    RecursiveUnion(Box<RecursiveUnion>),
    /// Below the step of a [`RecursiveUnion`]: the rows that its last run added.
    WorkScan {
        /// Which union's.
        index: usize,
    },
    /// Writes.
    Modify(Box<Modify>),
}

/// Rows of `base`; then of `step` over those that were added last, as long as there are any.
#[derive(Clone, Debug)]
pub struct RecursiveUnion {
    /// Its number in the statement.
    pub index: usize,
    /// `UNION ALL`; otherwise a row that was put out before is not added again.
    pub all: bool,
    /// The rows to begin with.
    pub base: Plan,
    /// What follows from rows.
    pub step: Plan,
}

/// Reads spans of an index.
///
/// Reading the primary index yields any columns; reading a secondary index only those in its key, the primary key and
/// what it stores.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The table.
    pub table: TableRef,
    /// Which index.
    pub index: IndexId,
    /// What to read. [`Spans::Points`] promises whole keys of a unique index.
    pub spans: Spans,
    /// Output columns as ordinals.
    pub columns: Vec<usize>,
    /// Over the output row.
    pub filter: Option<Expr>,
    /// Descending index order.
    pub reverse: bool,
    /// The rows' order matters to an operator above: spans are to be read in order.
    pub ordered: bool,
    /// No more rows than this are wanted after the filter.
    pub limit: Option<Expr>,
    /// How rows are locked in a read-write transaction.
    pub locking: Locking,
    /// `FOR UPDATE`, `FOR SHARE`: the row of the primary index must be locked, even where an index would do.
    pub for_update: bool,
}

/// Which part of an index is read. The expressions see no input row; their values are of the key columns' types.
/// Spans may overlap once evaluated, and then each row is to be yielded once.
#[derive(Clone, Debug)]
pub enum Spans {
    /// All of it.
    All,
    /// Whole keys, one row each at most.
    Points(Vec<Vec<SpanKey>>),
    /// Ranges.
    Ranges(Vec<SpanRange>),
    /// Nothing: the condition is never true.
    Empty,
}

/// A range of an index: equal on a prefix of the key, bounded on the next column.
#[derive(Clone, Debug)]
pub struct SpanRange {
    /// Values of the first columns.
    pub equal: Vec<SpanKey>,
    /// Lower bound of the next column, in value order (whatever the index's direction).
    pub lower: SpanBound,
    /// Upper bound of the next column. If either side is bounded, NULLs are outside.
    pub upper: SpanBound,
}

/// One column of a key prefix.
#[derive(Clone, Debug)]
pub enum SpanKey {
    /// Equal to the value; NULL matches nothing.
    Value(Expr),
    /// Equal to an element of the array; NULL elements match nothing.
    AnyOf(Expr),
    /// Is NULL.
    Null,
}

/// One side of a range.
#[derive(Clone, Debug)]
pub enum SpanBound {
    /// No bound, and if both sides have none, NULLs are included.
    Unbounded,
    /// Every value but NULL.
    NotNull,
    /// The value belongs to the range; NULL makes the range empty.
    Included(Expr),
    /// The value does not belong to the range; NULL makes the range empty.
    Excluded(Expr),
}

/// Reads the primary rows of secondary index entries.
#[derive(Clone, Debug)]
pub struct IndexJoin {
    /// Yields at least the primary key.
    pub input: Plan,
    /// The table.
    pub table: TableRef,
    /// Positions of the primary key's columns in the input row.
    pub key: Vec<usize>,
    /// Output columns as ordinals; the input's columns are not passed on.
    pub columns: Vec<usize>,
    /// Over the output row.
    pub filter: Option<Expr>,
    /// How rows are locked.
    pub locking: Locking,
    /// See [`Scan::for_update`].
    pub for_update: bool,
}

/// What a join yields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JoinKind {
    /// Matching pairs.
    Inner,
    /// And left rows without match, with NULLs.
    Left,
    /// And right rows without match, with NULLs.
    Right,
    /// Both.
    Full,
    /// Left rows that have a match, once.
    Semi,
    /// Left rows that have none.
    Anti,
    /// `NOT IN`: a left row passes only if the comparison is false for every right row: a NULL on either side (unless
    /// the right side is empty) keeps it out.
    NullAwareAnti,
}

impl JoinKind {
    /// Whether the right columns are in the output.
    pub fn emits_right(self) -> bool {
        matches!(self, JoinKind::Inner | JoinKind::Left | JoinKind::Right | JoinKind::Full)
    }
}

/// For every input row, reads the rows of a table whose index key begins with the row's key. Inner, Left, Semi, Anti.
#[derive(Clone, Debug)]
pub struct LookupJoin {
    /// Left side.
    pub input: Plan,
    /// Which rows are yielded.
    pub kind: JoinKind,
    /// The inner table.
    pub table: TableRef,
    /// Which index is read by key.
    pub index: IndexId,
    /// Values of the first columns of the index, over the input row; NULL matches nothing.
    pub key: Vec<Expr>,
    /// The key is a whole key of a unique index: one row at most.
    pub is_point: bool,
    /// Inner columns of the output, as ordinals. Where the index lacks one, primary rows are read too.
    pub columns: Vec<usize>,
    /// Further condition over input row and inner columns.
    pub on: Option<Expr>,
    /// How inner rows are locked.
    pub locking: Locking,
    /// See [`Scan::for_update`].
    pub for_update: bool,
}

/// Equi-join; the hash table is over the right input.
#[derive(Clone, Debug)]
pub struct HashJoin {
    /// Which rows are yielded.
    pub kind: JoinKind,
    /// Probe side.
    pub left: Plan,
    /// Build side.
    pub right: Plan,
    /// Keys over the left row.
    pub left_keys: Vec<Expr>,
    /// Keys over the right row, of the same types. NULL matches nothing.
    pub right_keys: Vec<Expr>,
    /// Further condition over left and right row.
    pub on: Option<Expr>,
}

/// Join on any condition.
#[derive(Clone, Debug)]
pub struct NestedLoopJoin {
    /// Which rows are yielded.
    pub kind: JoinKind,
    /// Outer.
    pub left: Plan,
    /// Inner, run once.
    pub right: Plan,
    /// Condition over left and right row; none for a cross join.
    pub on: Option<Expr>,
}

/// Join whose right side depends on the left row. Inner, Left.
#[derive(Clone, Debug)]
pub struct Apply {
    /// Which rows are yielded.
    pub kind: JoinKind,
    /// Outer.
    pub left: Plan,
    /// Inner, run per left row; reads `args` as [`Expr::Outer`].
    pub right: Plan,
    /// Over the left row.
    pub args: Vec<Expr>,
    /// Condition over left and right row.
    pub on: Option<Expr>,
}

/// Groups and aggregates.
#[derive(Clone, Debug)]
pub struct Aggregate {
    /// Where from.
    pub input: Plan,
    /// Group keys over the input row. None: one group, which exists even without rows.
    pub group_by: Vec<Expr>,
    /// `GROUPING SETS`: for every set the positions in `group_by` that it has, the others being NULL. None: one set
    /// with all.
    pub grouping_sets: Option<Vec<Vec<usize>>>,
    /// The aggregates.
    pub aggregates: Vec<AggregateCall>,
    /// The input comes sorted by the group keys, so that groups may be finished as they end.
    pub input_sorted: bool,
}

/// One aggregate.
#[derive(Clone, Debug)]
pub struct AggregateCall {
    /// The aggregate function.
    pub function: Arc<AggregateFn>,
    /// Its name, for EXPLAIN.
    pub name: Arc<str>,
    /// Arguments over the input row, of `function.arg_types`.
    pub args: Vec<Expr>,
    /// Every distinct argument once.
    pub distinct: bool,
    /// `FILTER (WHERE ...)` over the input row.
    pub filter: Option<Expr>,
    /// `ORDER BY` inside the call: the aggregate is fed in this order. Keys are positions in `order_args`.
    pub order_by: Vec<SortKey>,
    /// What `order_by` refers to, over the input row.
    pub order_args: Vec<Expr>,
}

/// Sorting by one column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SortKey {
    /// Position in the row.
    pub column: usize,
    /// Descending.
    pub descending: bool,
    /// NULLs before everything else.
    pub nulls_first: bool,
}

/// UNION, INTERSECT, EXCEPT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetOpKind {
    /// UNION
    Union,
    /// INTERSECT
    Intersect,
    /// EXCEPT
    Except,
}

/// Window functions over one partitioning and order; the input is sorted by both.
#[derive(Clone, Debug)]
pub struct Window {
    /// Sorted by `partition_by`, then `order_by`.
    pub input: Plan,
    /// Positions of the partition's columns.
    pub partition_by: Vec<usize>,
    /// The order within a partition.
    pub order_by: Vec<SortKey>,
    /// The functions.
    pub functions: Vec<WindowCall>,
}

/// One window function.
#[derive(Clone, Debug)]
pub struct WindowCall {
    /// Which.
    pub function: WindowFunction,
    /// Arguments over the input row.
    pub args: Vec<Expr>,
    /// So many of `args`, the last ones, are the frame's: for RANGE with an offset the ORDER BY value, and behind it the
    /// value at which the frame starts and the one at which it ends, as far as these have offsets. All are of one type.
    pub frame_args: usize,
    /// `FILTER` of an aggregate.
    pub filter: Option<Expr>,
    /// Over which rows, for aggregates and `first_value` and its kin.
    pub frame: WindowFrame,
    /// The result's type.
    pub ty: DataType,
}

/// A window function.
#[derive(Clone, Debug)]
pub enum WindowFunction {
    /// `row_number()`
    RowNumber,
    /// `rank()`
    Rank,
    /// `dense_rank()`
    DenseRank,
    /// `percent_rank()`
    PercentRank,
    /// `cume_dist()`
    CumeDist,
    /// `ntile(n)`
    Ntile,
    /// `lag(value, offset, default)`: always three arguments
    Lag,
    /// `lead(value, offset, default)`: always three arguments
    Lead,
    /// `first_value(value)`
    FirstValue,
    /// `last_value(value)`
    LastValue,
    /// `nth_value(value, n)`
    NthValue,
    /// An aggregate over the frame.
    Aggregate(Arc<AggregateFn>),
}

/// The frame of a window function.
#[derive(Clone, Debug)]
pub struct WindowFrame {
    /// ROWS, RANGE or GROUPS.
    pub unit: FrameUnit,
    /// Where it starts.
    pub start: FrameBound,
    /// Where it ends.
    pub end: FrameBound,
}

/// What a frame counts in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameUnit {
    /// Rows.
    Rows,
    /// Peers; an offset is a distance from the value of the only ORDER BY column.
    Range,
    /// Groups of peers.
    Groups,
}

/// An end of a frame.
#[derive(Clone, Debug)]
pub enum FrameBound {
    /// The partition's start.
    UnboundedPreceding,
    /// So many before.
    Preceding(Expr),
    /// The current row, with its peers in RANGE and GROUPS.
    CurrentRow,
    /// So many after.
    Following(Expr),
    /// The partition's end.
    UnboundedFollowing,
}

/// A set-returning function.
#[derive(Clone, Debug)]
pub struct TableFunction {
    /// Which.
    pub function: SetFunction,
    /// Its arguments; they see no input row (but `Outer` values).
    pub args: Vec<Expr>,
    /// `WITH ORDINALITY`: a last column that counts rows from 1.
    pub ordinality: bool,
}

/// The set-returning functions.
#[derive(Clone, Debug)]
pub enum SetFunction {
    /// `generate_series(start, stop [, step])` over `integer` (as 64-bit), `numeric` or timestamps; the arguments are of
    /// the result's type but for the step of timestamps, an interval. Always three arguments.
    GenerateSeries(DataType),
    /// `generate_subscripts(array, dimension)`
    GenerateSubscripts,
    /// `unnest(array)`; several arrays side by side, padded with NULL.
    Unnest,
    /// `regexp_split_to_table`, `string_to_table`: any scalar function that yields an array, one row per element.
    UnnestCall(Arc<ResolvedFunction>),
    /// A scalar function in FROM: one row.
    Scalar(Expr),
    /// `pg_get_keywords()` and the like: no rows.
    Empty,
    /// `meridian.truetime()` and the like: a virtual table in the guise of a function.
    Virtual(Arc<VirtualTable>),
    /// `meridian.split_at`, `merge_at`, `move_replica`, `transfer_leader`.
    Cluster(ClusterFunction),
    /// Several functions of one SELECT list, each with the number of its arguments, which stand one after another: they
    /// step together, and one that has no more rows yields NULL until all have none.
    Lockstep(Vec<(SetFunction, usize)>),
}

impl SetFunction {
    /// Calls `f` with the function, or with each of those that step together, and its arguments.
    pub fn each<'a, A>(&'a self, args: &'a [A], f: &mut dyn FnMut(&'a SetFunction, &'a [A])) {
        let SetFunction::Lockstep(functions) = self else { return f(self, args) };
        let mut rest = args;
        for (function, count) in functions {
            let (own, others) = rest.split_at(*count);
            f(function, own);
            rest = others;
        }
        assert!(rest.is_empty(), "every argument belongs to a function");
    }

    /// Whether `holds` is true of the function, or of one of those that step together.
    pub(crate) fn any(&self, holds: &dyn Fn(&SetFunction) -> bool) -> bool {
        match self {
            SetFunction::Lockstep(functions) => functions.iter().any(|(f, _)| holds(f)),
            other => holds(other),
        }
    }

    /// The types of the columns, but for the ordinality.
    pub(crate) fn output_types(&self, args: &[Expr]) -> Vec<DataType> {
        match self {
            SetFunction::GenerateSeries(t) => vec![t.clone()],
            SetFunction::GenerateSubscripts => vec![DataType::Int4],
            SetFunction::Unnest => args.iter().map(|a| a.ty().element().unwrap_or(DataType::Text)).collect(),
            SetFunction::UnnestCall(f) => vec![f.result_type.element().unwrap_or(DataType::Text)],
            SetFunction::Scalar(e) => vec![e.ty()],
            SetFunction::Empty => vec![DataType::Text; 5],
            SetFunction::Virtual(v) => v.columns.iter().map(|c| c.ty.clone()).collect(),
            SetFunction::Cluster(function) => vec![function.result_type()],
            SetFunction::Lockstep(_) => {
                let mut types = Vec::new();
                self.each(args, &mut |f, own| types.extend(f.output_types(own)));
                types
            }
        }
    }
}

/// Functions of operators and of advisory locks: all but `check_table` change the cluster. In a SELECT list they are planned as a one-row table function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClusterFunction {
    /// `split_at(table text, key...)`
    SplitAt,
    /// `check_table(table text)`, which only reads.
    CheckTable,
    /// `merge_at(table text, key...)`
    MergeAt,
    /// `move_replica(shard bigint, from_node bigint, to_node bigint)`
    MoveReplica,
    /// `transfer_leader(shard bigint, node bigint)`
    TransferLeader,
    /// `add_replica`, `add_witness`, `promote_replica`, `demote_replica`, `remove_replica`, all of `(shard bigint, node bigint)`
    ChangeReplica(meridian_kv_api::ReplicaChange),
    /// `pg_advisory_lock` and its kin, of `(bigint)` or `(integer, integer)`
    Advisory(AdvisoryCall),
}

impl ClusterFunction {
    /// The type of its result.
    pub(crate) fn result_type(self) -> DataType {
        match self {
            ClusterFunction::Advisory(AdvisoryCall {
                action: AdvisoryAction::Lock | AdvisoryAction::UnlockAll,
                ..
            }) => DataType::Void,
            _ => DataType::Bool,
        }
    }
}

/// What is done with an advisory lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AdvisoryAction {
    /// It is waited for.
    Lock,
    /// It is taken where nobody is in the way.
    TryLock,
    /// It is given up.
    Unlock,
    /// All of the session are.
    UnlockAll,
}

/// A call of one of the functions on advisory locks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AdvisoryCall {
    /// What is done.
    pub action: AdvisoryAction,
    /// Others may have the lock, too.
    pub is_shared: bool,
    /// The transaction's end gives it up.
    pub is_of_transaction: bool,
}

impl AdvisoryCall {
    /// The call of the function with this name, if it is one.
    pub(crate) fn named(name: &str) -> Option<AdvisoryCall> {
        if name == "pg_advisory_unlock_all" {
            let action = AdvisoryAction::UnlockAll;
            return Some(AdvisoryCall { action, is_shared: false, is_of_transaction: false });
        }
        let (name, is_shared) = match name.strip_suffix("_shared") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let (action, is_of_transaction) = match name {
            "pg_advisory_lock" => (AdvisoryAction::Lock, false),
            "pg_advisory_xact_lock" => (AdvisoryAction::Lock, true),
            "pg_try_advisory_lock" => (AdvisoryAction::TryLock, false),
            "pg_try_advisory_xact_lock" => (AdvisoryAction::TryLock, true),
            "pg_advisory_unlock" => (AdvisoryAction::Unlock, false),
            _ => return None,
        };
        Some(AdvisoryCall { action, is_shared, is_of_transaction })
    }
}

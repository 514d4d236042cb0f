//! Aggregate functions: registry and state machines.
//!
//! A state is fed values, merged with other states of the same aggregate (partial aggregates of shards), and finished
//! once. States turn into datums and back, so that a shard can ship them. DISTINCT, ORDER BY and FILTER of an
//! aggregate are the executor's business.

use crate::column::Column;
use crate::context::EvalContext;
use crate::datum::Datum;
use crate::error::{Result, SqlError};
use crate::types::DataType;

/// An aggregate whose overload is chosen.
#[derive(Clone, Debug)]
pub struct AggregateFn {
    /// The types that the arguments must be cast to; none for `count(*)`.
    pub arg_types: Vec<DataType>,
    /// The type of the result.
    pub result_type: DataType,
}

/// What an aggregate has gathered.
#[derive(Clone, Debug)]
pub struct AggState(());

/// Whether a name is an aggregate's, whatever its arguments.
pub fn is_aggregate(name: &str) -> bool {
    let _ = name;
    false
}

/// The aggregate that a call means. `count(*)` has no arguments.
pub fn lookup_aggregate(name: &str, args: &[DataType]) -> Result<AggregateFn> {
    let _ = args;
    Err(SqlError::unsupported(name))
}

impl AggregateFn {
    /// The state of no rows.
    pub fn init(&self) -> AggState {
        AggState(())
    }

    /// Feeds one row.
    pub fn update(&self, state: &mut AggState, args: &[Datum]) -> Result<()> {
        let _ = (state, args);
        Ok(())
    }

    /// Feeds rows of a batch to one state; `rows` picks them, `None` is all `len` of them.
    pub fn update_batch(
        &self,
        state: &mut AggState,
        args: &[&Column],
        rows: Option<&[u32]>,
        len: usize,
    ) -> Result<()> {
        let _ = (state, args, rows, len);
        Ok(())
    }

    /// Feeds every row of a batch to the state of its group: `groups[row]` indexes `states`.
    pub fn update_groups(&self, states: &mut [AggState], groups: &[u32], args: &[&Column]) -> Result<()> {
        let _ = (states, groups, args);
        Ok(())
    }

    /// Adds what another state has gathered.
    pub fn merge(&self, state: &mut AggState, other: &AggState) -> Result<()> {
        let _ = (state, other);
        Ok(())
    }

    /// The result.
    pub fn finish(&self, ctx: &EvalContext, state: &AggState) -> Result<Datum> {
        let _ = (ctx, state);
        Ok(Datum::Null)
    }

    /// The state's parts, to be shipped.
    pub fn export(&self, state: &AggState) -> Vec<Datum> {
        let _ = state;
        Vec::new()
    }

    /// The state of parts that [`AggregateFn::export`] gave.
    pub fn import(&self, parts: &[Datum]) -> Result<AggState> {
        let _ = parts;
        Ok(AggState(()))
    }
}

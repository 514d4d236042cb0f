//! Aggregate functions: registry and state machines.
//!
//! A state is fed values, merged with other states of the same aggregate (partial aggregates of shards), and finished
//! once:
//!
//! ```text
//!   init --> update* --> finish --> value
//!              |  ^
//!       export v  | import + merge
//!            [columns of state_types]
//! ```
//!
//! States turn into datums of fixed types and back, so that a shard ships them as ordinary columns. Sums of integers are
//! kept in 128 bits, which no table can overflow; variances of floats use the Youngs-Cramer recurrence and those of
//! everything else exact sums, as PostgreSQL does. DISTINCT, ORDER BY and FILTER of an aggregate are the executor's
//! business.

mod registry;
mod ship;
mod state;

use crate::column::{Column, IntKind};
use crate::datum::Datum;
use crate::error::Result;
use crate::types::DataType;

pub use registry::{AggregateFn, is_aggregate, lookup_aggregate};
pub use state::AggState;

impl AggregateFn {
    /// Feeds rows of a batch to one state; `rows` picks them, `None` is all `len` of them.
    pub fn update_batch(
        &self,
        state: &mut AggState,
        args: &[&Column],
        rows: Option<&[u32]>,
        len: usize,
    ) -> Result<()> {
        if let Some(rows) = rows {
            let mut values = Vec::with_capacity(args.len());
            for row in rows {
                values.clear();
                values.extend(args.iter().map(|c| c.get(*row as usize)));
                self.update(state, &values)?;
            }
            return Ok(());
        }
        if state.update_all(args, len)? {
            return Ok(());
        }
        let mut values = Vec::with_capacity(args.len());
        for row in 0..len {
            values.clear();
            values.extend(args.iter().map(|c| c.get(row)));
            self.update(state, &values)?;
        }
        Ok(())
    }

    /// Feeds every row of a batch to the state of its group: `groups[row]` indexes `states`.
    pub fn update_groups(&self, states: &mut [AggState], groups: &[u32], args: &[&Column]) -> Result<()> {
        if let [Column::Int(IntKind::Int, v)] = args {
            for (row, group) in groups.iter().enumerate() {
                if let Some(value) = v.get(row) {
                    let state = &mut states[*group as usize];
                    if !state.add_int(value) {
                        self.update(state, &[Datum::Int(value)])?;
                    }
                } else {
                    self.update(&mut states[*group as usize], &[Datum::Null])?;
                }
            }
            return Ok(());
        }
        let mut values = Vec::with_capacity(args.len());
        for (row, group) in groups.iter().enumerate() {
            values.clear();
            values.extend(args.iter().map(|c| c.get(row)));
            self.update(&mut states[*group as usize], &values)?;
        }
        Ok(())
    }

    /// The types of what [`AggregateFn::export`] gives.
    pub fn state_types(&self) -> Vec<DataType> {
        self.shipped_types()
    }
}

//! The keys of a hash join.

use meridian_datum::{Batch, Column, Result};
use meridian_plan::Expr;
use meridian_plan::physical::HashJoin;

use super::filter::project;
use super::groups::{Chains, hash_row};
use super::join::JoinOp;
use crate::context::Ctx;

/// Keys of both sides and the hash table over the right ones.
pub(super) struct HashKeys<'a> {
    left_exprs: &'a [Expr],
    right_exprs: &'a [Expr],
    right: Vec<Column>,
    chains: Chains,
    /// Right rows with a NULL in the key.
    with_null: Vec<u32>,
}

impl<'a> HashKeys<'a> {
    /// Hashes the right rows.
    pub(super) async fn read(&mut self, ctx: Ctx<'_>, right: &Batch) -> Result<()> {
        self.right = project(ctx, self.right_exprs, right).await?.into_columns();
        let columns: Vec<&Column> = self.right.iter().collect();
        self.chains = Chains::with_capacity(right.len());
        for row in 0..right.len() {
            if columns.iter().any(|c| c.is_null(row)) {
                self.with_null.push(row as u32);
                self.chains.push_unreachable();
            } else {
                self.chains.push(hash_row(&columns, row));
            }
        }
        Ok(())
    }

    /// The keys of left rows.
    pub(super) async fn left_columns(&self, ctx: Ctx<'_>, left: &Batch) -> Result<Vec<Column>> {
        Ok(project(ctx, self.left_exprs, left).await?.into_columns())
    }

    /// Appends the right rows whose keys equal those of a left row, in their order.
    pub(super) fn candidates(&self, left: &[Column], row: usize, out: &mut Vec<u32>) {
        if left.iter().any(|c| c.is_null(row)) {
            return;
        }
        let columns: smallvec::SmallVec<[&Column; 4]> = left.iter().collect();
        let first = out.len();
        out.extend(
            self.chains.matches(hash_row(&columns, row)).filter(|&r| {
                self.right.iter().zip(left).all(|(a, b)| a.cmp_rows(r as usize, b, row).is_eq())
            }),
        );
        out[first..].reverse();
    }

    /// Appends the right rows whose comparison with a left row is NULL: some key is NULL on either side, and no key
    /// differs.
    pub(super) fn unknown(&self, left: &[Column], row: usize, right_len: usize, out: &mut Vec<u32>) {
        let left_null = left.iter().any(|c| c.is_null(row));
        let agrees = |r: u32| {
            self.right.iter().zip(left).all(|(a, b)| {
                a.is_null(r as usize) || b.is_null(row) || a.cmp_rows(r as usize, b, row).is_eq()
            })
        };
        if left_null {
            out.extend((0..right_len as u32).filter(|&r| agrees(r)));
        } else {
            out.extend(self.with_null.iter().copied().filter(|&r| agrees(r)));
        }
    }
}

/// An equi-join.
pub(super) struct HashJoinOp;

impl HashJoinOp {
    #[allow(clippy::new_ret_no_self)]
    pub(super) fn new<'a>(ctx: Ctx<'a>, join: &'a HashJoin) -> Result<JoinOp<'a>> {
        let keys = HashKeys {
            left_exprs: &join.left_keys,
            right_exprs: &join.right_keys,
            right: Vec::new(),
            chains: Chains::with_capacity(0),
            with_null: Vec::new(),
        };
        JoinOp::new(ctx, join.kind, &join.left, &join.right, join.on.as_ref(), Some(keys))
    }
}

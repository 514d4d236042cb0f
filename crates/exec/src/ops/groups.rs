//! A hash table of distinct rows: grouping, DISTINCT, set operations and the build side of joins.

use std::hash::Hasher;

use meridian_datum::{Batch, Column, DataType};

/// A quick hash for values that no adversary needs to be kept from: collisions cost time, not correctness, and the
/// finaliser spreads low entropy over all bits.
#[derive(Default)]
pub(super) struct RowHasher(u64);

const MULTIPLIER: u64 = 0x517c_c1b7_2722_0a95;

impl Hasher for RowHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for c in &mut chunks {
            self.write_u64(u64::from_le_bytes(c.try_into().expect("a chunk has eight bytes")));
        }
        let mut tail = [0u8; 8];
        let rest = chunks.remainder();
        tail[..rest.len()].copy_from_slice(rest);
        self.write_u64(u64::from_le_bytes(tail) ^ ((bytes.len() as u64) << 56));
    }

    fn write_u8(&mut self, v: u8) {
        self.write_u64(u64::from(v));
    }

    fn write_i64(&mut self, v: i64) {
        self.write_u64(v as u64);
    }

    fn write_u64(&mut self, v: u64) {
        self.0 = (self.0.rotate_left(5) ^ v).wrapping_mul(MULTIPLIER);
    }

    fn finish(&self) -> u64 {
        let mut z = self.0;
        z = (z ^ (z >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        z ^ (z >> 32)
    }
}

/// The hash of a row over some columns.
pub(super) fn hash_row(columns: &[&Column], row: usize) -> u64 {
    let mut hasher = RowHasher::default();
    for c in columns {
        c.hash_row(row, &mut hasher);
    }
    hasher.finish()
}

const EMPTY: u32 = u32::MAX;

/// Chains of row numbers by hash.
#[derive(Debug)]
pub(super) struct Chains {
    heads: Vec<u32>,
    next: Vec<u32>,
    hashes: Vec<u64>,
}

impl Chains {
    /// For about `rows` rows.
    pub(super) fn with_capacity(rows: usize) -> Self {
        let heads = (rows * 2).next_power_of_two().max(16);
        Chains { heads: vec![EMPTY; heads], next: Vec::with_capacity(rows), hashes: Vec::with_capacity(rows) }
    }

    /// How many rows.
    pub(super) fn len(&self) -> usize {
        self.next.len()
    }

    /// Appends the next row.
    pub(super) fn push(&mut self, hash: u64) {
        if self.next.len() * 2 >= self.heads.len() {
            self.grow();
        }
        let row = self.next.len() as u32;
        let mask = self.heads.len() - 1;
        let head = &mut self.heads[hash as usize & mask];
        self.next.push(std::mem::replace(head, row));
        self.hashes.push(hash);
    }

    /// Appends a row that no lookup finds.
    pub(super) fn push_unreachable(&mut self) {
        self.next.push(EMPTY);
        self.hashes.push(0);
    }

    fn grow(&mut self) {
        let size = self.heads.len() * 4;
        let mut in_chain = vec![false; self.next.len()];
        for &head in &self.heads {
            let mut at = head;
            while at != EMPTY {
                in_chain[at as usize] = true;
                at = self.next[at as usize];
            }
        }
        self.heads = vec![EMPTY; size];
        for (row, is_in) in in_chain.into_iter().enumerate() {
            if is_in {
                let head = &mut self.heads[self.hashes[row] as usize & (size - 1)];
                self.next[row] = std::mem::replace(head, row as u32);
            }
        }
    }

    /// The rows with this hash, latest first.
    pub(super) fn matches(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        let mut at = self.heads[hash as usize & (self.heads.len() - 1)];
        std::iter::from_fn(move || {
            while at != EMPTY {
                let row = at;
                at = self.next[row as usize];
                if self.hashes[row as usize] == hash {
                    return Some(row);
                }
            }
            None
        })
    }
}

/// Distinct rows in order of their first appearance. NULL equals NULL.
#[derive(Debug)]
pub(super) struct GroupTable {
    keys: Vec<Column>,
    chains: Chains,
}

impl GroupTable {
    /// For rows of these types.
    pub(super) fn new<'t>(types: impl IntoIterator<Item = &'t DataType>) -> Self {
        GroupTable { keys: types.into_iter().map(Column::new).collect(), chains: Chains::with_capacity(8) }
    }

    /// How many distinct rows.
    pub(super) fn len(&self) -> usize {
        self.chains.len()
    }

    fn find_hashed(&self, columns: &[&Column], row: usize, hash: u64) -> Option<u32> {
        self.chains
            .matches(hash)
            .find(|&g| self.keys.iter().zip(columns).all(|(k, c)| k.cmp_rows(g as usize, c, row).is_eq()))
    }

    /// The number of a row, if it is there.
    pub(super) fn find(&self, columns: &[&Column], row: usize) -> Option<u32> {
        self.find_hashed(columns, row, hash_row(columns, row))
    }

    /// The number of a row, and whether it was not there before.
    pub(super) fn insert(&mut self, columns: &[&Column], row: usize) -> (u32, bool) {
        let hash = hash_row(columns, row);
        if let Some(g) = self.find_hashed(columns, row, hash) {
            return (g, false);
        }
        let group = self.chains.len() as u32;
        self.chains.push(hash);
        for (k, c) in self.keys.iter_mut().zip(columns) {
            k.append_range(c, row..row + 1);
        }
        (group, true)
    }

    /// The rows, numbered as they were inserted.
    pub(super) fn into_keys(self) -> Vec<Column> {
        self.keys
    }

    /// Bytes held, approximately.
    pub(super) fn heap_size(&self) -> usize {
        self.keys.iter().map(Column::heap_size).sum::<usize>() + self.chains.len() * 20
    }
}

/// All columns of a batch.
pub(super) fn columns_of(batch: &Batch) -> Vec<&Column> {
    batch.columns().iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_datum::Datum;

    #[test]
    fn rows_are_found_again_through_growth() {
        let mut table = GroupTable::new([&DataType::Int8, &DataType::Text]);
        let ints = Column::from_datums(
            &DataType::Int8,
            (0..5000).map(|i| if i % 10 == 0 { Datum::Null } else { Datum::Int(i % 2500) }),
        );
        let texts = Column::from_datums(
            &DataType::Text,
            (0..5000).map(|i| Datum::from(if i % 2 == 0 { "a" } else { "b" })),
        );
        let columns = [&ints, &texts];
        let first: Vec<_> = (0..5000).map(|r| table.insert(&columns, r).0).collect();
        assert_eq!(table.len(), 2250 + 1);
        for (r, group) in first.into_iter().enumerate() {
            assert_eq!(table.find(&columns, r), Some(group));
            assert_eq!(table.insert(&columns, r), (group, false));
        }
    }
}

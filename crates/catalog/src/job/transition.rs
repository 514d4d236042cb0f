//! A table on its way from one schema to another, while rows are looked at and given entries.

use crate::descriptor::{CheckDesc, ColumnDesc, IndexDesc, IndexState, TableDesc};
use crate::ids::IndexId;

/// What an `ALTER TABLE` makes of a table whose rows are read and written meanwhile.
///
/// ```text
///   before ──> enforced ──┬──> after     every row was found to be as it must
///                         └──> before    one was not, or the change was cancelled
/// ```
/// Invariant: rows lie in the same storage before and after, and columns keep their names and types.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transition {
    /// The table as it was.
    pub before: TableDesc,
    /// The table as it is to be.
    pub after: TableDesc,
}

impl Transition {
    /// The version in between, which follows `before`. What is new holds for whatever is written, and nothing that reads
    /// relies on it; what goes is still there.
    ///
    /// # Panics
    /// When rows would have to move.
    pub fn enforced(&self) -> TableDesc {
        let Transition { before, after } = self;
        assert!(before.storage == after.storage, "table {}: rows do not move", before.name);
        let mut table = self.numbered(before, before.version + 1);
        for column in &mut table.columns {
            let next = after.columns.iter().find(|c| c.id == column.id);
            assert!(
                next.is_none_or(|next| next.name == column.name && next.ty == column.ty),
                "table {}: column {} keeps its name and its type",
                before.name,
                column.name
            );
            column.refuses_null = column.nullable && next.is_some_and(|next| !next.nullable);
        }
        let added = after.columns.iter().filter(|c| before.columns.iter().all(|b| b.id != c.id));
        table.columns.extend(added.cloned().map(unproven));
        let new = self.new_indexes();
        let new = after.indexes.iter().filter(|i| new.contains(&i.id)).cloned();
        table.indexes.extend(new.map(|index| IndexDesc { state: IndexState::WriteOnly, ..index }));
        let new = after.checks.iter().filter(|c| before.checks.iter().all(|b| b.oid != c.oid)).cloned();
        table.checks.extend(new.map(|check| CheckDesc { validated: false, ..check }));
        table
    }

    /// The checks that rows from before have to meet.
    pub fn checks(&self) -> impl Iterator<Item = &CheckDesc> {
        let is_proven = |c: &CheckDesc| self.before.checks.iter().any(|b| b.oid == c.oid && b.validated);
        self.after.checks.iter().filter(move |c| c.validated && !is_proven(c))
    }

    /// The indexes that rows from before have no entries in.
    pub fn new_indexes(&self) -> Vec<IndexId> {
        missing_of(&self.after, &self.before)
    }

    /// The indexes that go when the change is made.
    pub fn dropped_indexes(&self) -> Vec<IndexId> {
        missing_of(&self.before, &self.after)
    }

    /// The version behind `current` that ends the change, made or undone.
    pub fn end(&self, current: &TableDesc, is_made: bool) -> TableDesc {
        self.numbered(if is_made { &self.after } else { &self.before }, current.version + 1)
    }

    /// Numbers of columns and indexes are not used again, whatever comes of the change: rows and entries that have them may
    /// be there.
    fn numbered(&self, table: &TableDesc, version: u64) -> TableDesc {
        let TableDesc { next_column, next_index, .. } = self.after;
        TableDesc { version, next_column, next_index, ..table.clone() }
    }
}

/// An added column as writers maintain it. What rows from before lack is known; that it is NULL is for them to find out.
fn unproven(column: ColumnDesc) -> ColumnDesc {
    let may_be_null = column.nullable || column.missing.is_none();
    ColumnDesc {
        hidden: true,
        refuses_null: may_be_null && !column.nullable,
        nullable: may_be_null,
        ..column
    }
}

fn missing_of(table: &TableDesc, other: &TableDesc) -> Vec<IndexId> {
    table.indexes.iter().map(|i| i.id).filter(|id| other.index(*id).is_none()).collect()
}

//! Schema changes: whether descriptors alone change, or rows are looked at, given index entries, or rewritten.
//!
//! What is said here is what the executor does with the change outside of a transaction block. Both ask
//! [`AlterAction::rewrites`] and [`writers_wait`]; whoever makes another action wait for rows adds it there.

use meridian_catalog::{CatalogSnapshot, TableDesc};

use super::{Explainer, index_name};
use crate::ddl::{AlterAction, Ddl, NewIndex, only_unique, writers_wait};
use crate::optimize::estimate::Estimator;

impl Explainer<'_> {
    pub(super) fn ddl(&mut self, ddl: &Ddl) {
        match ddl {
            Ddl::Nothing => self.title("Nothing to do"),
            Ddl::CreateDatabase { name } => self.metadata(&format!("Create Database {name}")),
            Ddl::DropDatabase { .. } => self.dropped("Drop Database"),
            Ddl::CreateSchema { name, .. } => self.metadata(&format!("Create Schema {name}")),
            Ddl::DropSchema { tables, .. } if tables.is_empty() => self.metadata("Drop Schema"),
            Ddl::DropSchema { .. } => self.dropped("Drop Schema"),
            Ddl::CreateTable(table) => self.metadata(&format!("Create Table {}", table.name)),
            Ddl::CreateTableAs { table, with_data: false, .. } => {
                self.metadata(&format!("Create Table {}", table.name));
            }
            Ddl::CreateTableAs { table, query, .. } => {
                self.title(&format!("Create Table {}", table.name));
                self.plan(query, 1);
            }
            Ddl::DropTable { tables } => {
                let names: Vec<&str> = tables.iter().map(|t| t.name.as_str()).collect();
                self.dropped(&format!("Drop Table {}", names.join(", ")));
            }
            Ddl::Truncate { tables } => {
                for table in tables {
                    self.title(&format!("Truncate {}", table.name));
                    self.work(
                        "Deletion: every row, in the transaction; writes wait for its commit",
                        Some(table),
                    );
                }
            }
            Ddl::CreateIndex { table, index, .. } => self.create_index(table, index),
            Ddl::DropIndex { indexes } => {
                for (table, id) in indexes {
                    self.dropped_index(&format!("Drop Index {} on {}", index_name(table, *id), table.name));
                }
            }
            Ddl::RenameIndex { table, index, name } => {
                let from = index_name(table, *index);
                self.metadata(&format!("Rename Index {from} on {} to {name}", table.name));
            }
            Ddl::AlterTable { table, actions } => self.alter_table(table, actions),
        }
    }

    fn title(&mut self, text: &str) {
        self.lines.push(text.to_owned());
    }

    fn metadata(&mut self, title: &str) {
        self.title(title);
        self.detail(0, "Metadata only");
    }

    fn dropped(&mut self, title: &str) {
        self.title(title);
        self.detail(0, "Metadata only; rows are removed afterwards, in the background");
    }

    fn dropped_index(&mut self, title: &str) {
        self.title(title);
        self.detail(0, "Metadata only; entries are removed afterwards, in the background");
    }

    /// Something that is done to rows, with how many there may be.
    fn work(&mut self, text: &str, rows_of: Option<&TableDesc>) {
        let rows = rows_of.filter(|_| self.costs).map_or_else(String::new, |t| estimate(self.snapshot, t));
        self.detail(0, &format!("{text}{rows}"));
    }

    fn create_index(&mut self, table: &TableDesc, index: &NewIndex) {
        self.title(&format!("Create Index {} on {}", index.name, table.name));
        let text = "Backfill: an entry for every row; reads and writes go on";
        self.work(text, Some(table));
        self.unique(index);
    }

    fn unique(&mut self, index: &NewIndex) {
        if index.unique {
            self.work(&format!("Validation: no two rows have the same key in \"{}\"", index.name), None);
        }
    }

    fn alter_table(&mut self, table: &TableDesc, actions: &[AlterAction]) {
        // These two alone are changes of an index, which wait for nobody.
        match actions {
            [AlterAction::AddUnique { index }] => return self.create_index(table, index),
            [AlterAction::DropUnique { index }] => {
                let name = index_name(table, *index);
                return self.dropped_index(&format!("Drop Index {name} on {}", table.name));
            }
            _ => {}
        }
        self.title(&format!("Alter Table {}", table.name));
        // Several of them are filled together.
        if let Some(indexes) = only_unique(actions) {
            let names: Vec<String> = indexes.iter().map(|i| format!("\"{}\"", i.name)).collect();
            let text = format!(
                "Backfill: entries in {} for every row, with one read of the table; reads and writes go on",
                names.join(", ")
            );
            self.work(&text, Some(table));
            indexes.iter().for_each(|index| self.unique(index));
            return;
        }
        let rewrites = actions.iter().any(AlterAction::rewrites);
        let conditions = conditions(table, actions);
        let others = match writers_wait(actions) {
            true => "reads go on, writes wait until it is done",
            false => "reads and writes go on",
        };
        if rewrites {
            self.work(&format!("Rewrite: every row and all its index entries; {others}"), Some(table));
        } else if !conditions.is_empty() {
            self.work(&format!("Scan: every row is read; {others}"), Some(table));
        }
        for condition in &conditions {
            self.work(&format!("Validation: {condition}"), None);
        }
        let mut has_indexes = false;
        for action in actions {
            match action {
                AlterAction::AddUnique { index } => {
                    has_indexes = true;
                    if !rewrites {
                        let text =
                            format!("Backfill: an entry in \"{}\" for every row; {others}", index.name);
                        self.work(&text, Some(table));
                    }
                    self.unique(index);
                }
                AlterAction::AddPrimaryKey { index } => self.unique(index),
                _ => {}
            }
        }
        if !rewrites && !has_indexes && conditions.is_empty() {
            self.detail(0, "Metadata only");
        }
    }
}

/// What every row must meet, in the order of the actions.
fn conditions(table: &TableDesc, actions: &[AlterAction]) -> Vec<String> {
    let mut columns: Vec<(&str, bool)> =
        table.columns.iter().map(|c| (c.name.as_str(), c.nullable)).collect();
    let mut found = Vec::new();
    let not_null = |name: &str| format!("column \"{name}\" has no nulls");
    for action in actions {
        match action {
            AlterAction::AddColumn { column, default } => {
                columns.push((column.name.as_str(), column.nullable));
                // A value that is computed once is not NULL, or fails when it is computed.
                let is_given = default
                    .as_ref()
                    .is_some_and(|e| !e.is_volatile() && e.as_const().is_none_or(|value| !value.is_null()));
                if !column.nullable && !is_given {
                    found.push(not_null(&column.name));
                }
            }
            AlterAction::SetNullable { column, nullable } => {
                let was = std::mem::replace(&mut columns[*column].1, *nullable);
                if was && !nullable {
                    found.push(not_null(columns[*column].0));
                }
            }
            AlterAction::AddPrimaryKey { index } => {
                for (column, _) in &index.columns {
                    if std::mem::replace(&mut columns[*column].1, false) {
                        found.push(not_null(columns[*column].0));
                    }
                }
            }
            AlterAction::AddCheck(check) if !check.not_valid => {
                found.push(format!("check \"{}\" holds for every row", check.name));
            }
            AlterAction::ValidateCheck { name, .. } => {
                found.push(format!("check \"{name}\" holds for every row"));
            }
            _ => {}
        }
    }
    found
}

fn estimate(snapshot: &CatalogSnapshot, table: &TableDesc) -> String {
    let rows = Estimator { snapshot }.table_rows(table).round() as u64;
    match snapshot.statistics(table.id) {
        Some(_) => format!("  (rows={rows})"),
        None => format!("  (rows={rows}, a guess before ANALYZE)"),
    }
}

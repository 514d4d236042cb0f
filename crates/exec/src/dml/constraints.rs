//! NOT NULL, CHECK and the words of constraint errors.

use meridian_catalog::TableDesc;
use meridian_datum::{Column, Datum, Result, SqlError, SqlState, to_text};
use meridian_plan::modify::Check;

use super::{TableRow, table_batch};
use crate::context::{Ctx, Statement};
use crate::eval::Row;
use crate::table::IndexWriter;

/// The constraints of single rows.
#[derive(Clone, Debug)]
pub(crate) struct Constraints<'a> {
    table: &'a TableDesc,
    not_null: Vec<usize>,
    checks: &'a [Check],
}

impl<'a> Constraints<'a> {
    pub(crate) fn new(table: &'a TableDesc, checks: &'a [Check]) -> Self {
        let not_null =
            table.columns.iter().enumerate().filter(|(_, c)| !c.accepts_null()).map(|(i, _)| i).collect();
        Constraints { table, not_null, checks }
    }

    /// Checks rows, in their order.
    pub(crate) async fn check(&self, ctx: Ctx<'_>, rows: &[TableRow]) -> Result<()> {
        let results = self.evaluate_checks(ctx, rows).await?;
        for (at, row) in rows.iter().enumerate() {
            if let Some(&column) = self.not_null.iter().find(|&&c| row[c].is_null()) {
                return Err(not_null_violation(ctx.stmt, self.table, column, row));
            }
            for (check, result) in self.checks.iter().zip(&results) {
                if result.get(at).as_bool() == Some(false) {
                    return Err(check_violation(ctx.stmt, self.table, &check.name, row));
                }
            }
        }
        Ok(())
    }

    async fn evaluate_checks(&self, ctx: Ctx<'_>, rows: &[TableRow]) -> Result<Vec<Column>> {
        if self.checks.is_empty() || rows.is_empty() {
            return Ok(Vec::new());
        }
        // NOT NULL comes first: a check is not asked about a row that fails already.
        if let [row] = rows {
            if self.not_null.iter().any(|&c| row[c].is_null()) {
                return Ok(Vec::new());
            }
            let values = self.checks.iter().map(|check| {
                let value = ctx.scope().datum(&check.condition, Row::Values(row))?;
                Ok(Column::from_datums(&meridian_datum::DataType::Bool, [value]))
            });
            return values.collect();
        }
        let batch = table_batch(self.table, rows);
        self.checks.iter().map(|check| ctx.scope().column(&check.condition, &batch)).collect()
    }
}

/// `(1, null, abc)`, as PostgreSQL shows a row in a detail.
fn row_text(stmt: &Statement, table: &TableDesc, row: &[Datum]) -> String {
    const LONGEST: usize = 64;
    let mut out = String::from("(");
    for (column, value) in table.columns.iter().zip(row).filter(|(c, _)| !c.hidden) {
        if out.len() > 1 {
            out.push_str(", ");
        }
        if value.is_null() {
            out.push_str("null");
            continue;
        }
        let text = to_text(&stmt.eval, value, &column.ty);
        match text.char_indices().nth(LONGEST) {
            Some((end, _)) => {
                out.push_str(&text[..end]);
                out.push_str("...");
            }
            None => out.push_str(&text),
        }
    }
    out.push(')');
    out
}

fn schema_name<'s>(stmt: &'s Statement, table: &TableDesc) -> &'s str {
    stmt.catalog.schema_name(table)
}

#[cold]
fn not_null_violation(stmt: &Statement, table: &TableDesc, column: usize, row: &[Datum]) -> SqlError {
    let name = &table.columns[column].name;
    let message = format!(
        "null value in column \"{name}\" of relation \"{}\" violates not-null constraint",
        table.name
    );
    SqlError::new(SqlState::NOT_NULL_VIOLATION, message)
        .with_detail(format!("Failing row contains {}.", row_text(stmt, table, row)))
        .with_table(schema_name(stmt, table), table.name.clone())
        .with_column(name.clone())
}

#[cold]
fn check_violation(stmt: &Statement, table: &TableDesc, check: &str, row: &[Datum]) -> SqlError {
    let message = format!("new row for relation \"{}\" violates check constraint \"{check}\"", table.name);
    SqlError::new(SqlState::CHECK_VIOLATION, message)
        .with_detail(format!("Failing row contains {}.", row_text(stmt, table, row)))
        .with_table(schema_name(stmt, table), table.name.clone())
        .with_constraint(check)
}

/// `Key (a, b)=(1, 2)`
pub(crate) fn key_text(stmt: &Statement, table: &TableDesc, index: &IndexWriter, row: &[Datum]) -> String {
    let names: Vec<String> = index.own_columns().map(|o| table.part_name(o)).collect();
    // It was written, or found to be in the way, so that its key is known.
    let full = index.full(row).unwrap_or_default();
    let value =
        |o: usize| full.get(o).map_or_else(String::new, |d| to_text(&stmt.eval, d, table.part_type(o)));
    let values: Vec<String> = index.own_columns().map(value).collect();
    format!("Key ({})=({})", names.join(", "), values.join(", "))
}

/// 23505.
#[cold]
pub(crate) fn duplicate_key(
    stmt: &Statement,
    table: &TableDesc,
    index: &IndexWriter,
    row: &[Datum],
) -> SqlError {
    let message = format!("duplicate key value violates unique constraint \"{}\"", index.name);
    SqlError::new(SqlState::UNIQUE_VIOLATION, message)
        .with_detail(format!("{} already exists.", key_text(stmt, table, index, row)))
        .with_table(schema_name(stmt, table), table.name.clone())
        .with_constraint(index.name.clone())
}

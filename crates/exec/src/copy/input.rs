//! COPY ... FROM STDIN.

use std::sync::Arc;

use meridian_datum::{
    Batch, CastContext, Column, DataType, IntKind, Result, SqlError, SqlState, cast, parse_binary, parse_text,
};
use meridian_plan::ddl::{Copy, CopyDirection, CopyFormat, CopyKind};
use meridian_plan::modify::{InsertSource, Modify, ModifyAction};
use meridian_plan::session::SessionStatement;
use meridian_plan::{Expr, StatementPlan};

use super::binary::Tuples;
use super::record::{Fields, Records};
use crate::context::Statement;
use crate::dml::{Inserter, Target, WRITE_ROWS};
use crate::ops;
use crate::table::TableWriter;

/// A COPY that receives rows.
pub struct CopyIn {
    statement: Arc<Statement>,
    writer: Arc<TableWriter>,
    /// The rows of the binary format; those of the others are records.
    tuples: Option<Tuples>,
    records: Records,
    fields: Fields,
    types: Vec<DataType>,
    batch: Batch,
    rows: u64,
    needs_header: bool,
    /// `\.` was seen: what follows is ignored.
    is_ended: bool,
}

impl std::fmt::Debug for CopyIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyIn").field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// The COPY of a statement.
fn copy_of(statement: &Statement) -> &Copy {
    match &statement.planned.plan {
        StatementPlan::Session(s) => match s.as_ref() {
            SessionStatement::Copy(copy) => copy,
            _ => panic!("only COPY is copied"),
        },
        _ => panic!("only COPY is copied"),
    }
}

struct Parts<'a> {
    format: &'a CopyFormat,
    columns: &'a [usize],
    insert: &'a Modify,
    row: &'a [Expr],
}

fn parts(statement: &Statement) -> Parts<'_> {
    let copy = copy_of(statement);
    let CopyDirection::From { columns, insert, .. } = &copy.direction else {
        panic!("COPY FROM is received")
    };
    let ModifyAction::Insert { source: InsertSource::Query { row, .. }, .. } = &insert.action else {
        panic!("COPY FROM inserts the received rows");
    };
    Parts { format: &copy.format, columns, insert, row }
}

#[cold]
fn bad_format(message: String) -> SqlError {
    SqlError::new(SqlState::BAD_COPY_FILE_FORMAT, message)
}

impl CopyIn {
    /// A COPY that awaits its first data.
    ///
    /// # Errors
    /// The table is not in the catalog any more.
    pub fn new(statement: Arc<Statement>) -> Result<Self> {
        let p = parts(&statement);
        let table = &p.insert.table;
        let types: Vec<DataType> = p.columns.iter().map(|&c| table.columns[c].ty.clone()).collect();
        let writer = Arc::new(TableWriter::new(&statement.catalog, table)?);
        let records = Records::new(p.format);
        let needs_header = p.format.header;
        let batch = Batch::with_capacity(&types, WRITE_ROWS);
        let tuples = (p.format.kind == CopyKind::Binary).then(|| Tuples::new(types.len()));
        Ok(CopyIn {
            statement,
            writer,
            tuples,
            records,
            fields: Fields::default(),
            types,
            batch,
            rows: 0,
            needs_header,
            is_ended: false,
        })
    }

    /// How many columns a row has.
    pub fn columns(&self) -> usize {
        self.types.len()
    }

    /// Whether the stream is of the binary format.
    pub fn is_binary(&self) -> bool {
        self.tuples.is_some()
    }

    /// Takes a piece of the stream.
    pub async fn feed(&mut self, data: &[u8]) -> Result<()> {
        self.statement.checkpoint().await?;
        if let Some(tuples) = &mut self.tuples {
            tuples.feed(data);
            return self.take_tuples().await;
        }
        self.records.feed(data);
        self.take_records(false).await
    }

    /// Ends the stream; how many rows were added.
    pub async fn finish(mut self) -> Result<u64> {
        match &self.tuples {
            Some(tuples) => tuples.finish()?,
            None => self.take_records(true).await?,
        }
        if self.records.is_inside_quotes() && !self.is_ended {
            return Err(bad_format("unterminated CSV quoted field".to_owned()));
        }
        self.flush().await?;
        Ok(self.rows)
    }

    async fn take_tuples(&mut self) -> Result<()> {
        while let Some(tuples) = &mut self.tuples
            && let Some(fields) = tuples.next()?
        {
            let (statement, types) = (&self.statement, &self.types);
            if fields.is_empty() {
                self.batch.push_empty_row();
            } else {
                self.batch.push_with(|columns: &mut [Column]| {
                    for ((column, ty), field) in columns.iter_mut().zip(types).zip(&fields) {
                        let Some(range) = field else {
                            column.push_null();
                            continue;
                        };
                        let value = parse_binary(tuples.bytes(range), ty)?;
                        let from = ty.without_modifier();
                        column.push(cast(&statement.eval, value, &from, ty, CastContext::Assignment)?);
                    }
                    Ok::<(), SqlError>(())
                })?;
            }
            if self.batch.len() >= WRITE_ROWS {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn take_records(&mut self, at_end: bool) -> Result<()> {
        while !self.is_ended
            && let Some(range) = self.records.next(at_end)
        {
            if self.records.bytes(range.clone()) == b"\\." {
                self.is_ended = true;
                break;
            }
            if std::mem::replace(&mut self.needs_header, false) {
                continue;
            }
            self.take_record(range)?;
            if self.batch.len() >= WRITE_ROWS {
                Box::pin(self.flush()).await?;
            }
        }
        Ok(())
    }

    fn take_record(&mut self, range: std::ops::Range<usize>) -> Result<()> {
        let p = parts(&self.statement);
        self.fields.split(self.records.bytes(range), p.format)?;
        let wanted = self.types.len();
        if self.fields.len() < wanted {
            let name = &p.insert.table.columns[p.columns[self.fields.len()]].name;
            return Err(bad_format(format!("missing data for column \"{name}\"")));
        }
        if self.fields.len() > wanted && !(wanted == 0 && self.fields.len() == 1) {
            return Err(bad_format("extra data after last expected column".to_owned()));
        }
        if wanted == 0 {
            self.batch.push_empty_row();
            return Ok(());
        }
        let (fields, types, statement) = (&self.fields, &self.types, &self.statement);
        self.batch.push_with(|columns: &mut [Column]| {
            for (at, (column, ty)) in columns.iter_mut().zip(types).enumerate() {
                push_field(statement, column, ty, fields.get(at)?)?;
            }
            Ok(())
        })
    }

    async fn flush(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::replace(&mut self.batch, Batch::with_capacity(&self.types, WRITE_ROWS));
        let p = parts(&self.statement);
        let ctx = self.statement.ctx();
        let target = Target::with_writer(ctx, p.insert, self.writer.clone());
        let rows = ops::project(ctx, p.row, &batch).await?;
        let mut returned = Vec::new();
        let mut inserter = Inserter::new(&target, None);
        for r in 0..rows.len() {
            inserter.push(rows.row(r), &mut returned).await?;
        }
        self.rows += inserter.finish(&mut returned).await?;
        Ok(())
    }
}

/// Parses a field onto a column, without a datum between where the type allows it.
fn push_field(statement: &Statement, column: &mut Column, ty: &DataType, field: Option<&str>) -> Result<()> {
    let Some(text) = field else {
        column.push_null();
        return Ok(());
    };
    match (column, ty) {
        (Column::Int(IntKind::Int, v), DataType::Int4 | DataType::Int8 | DataType::Int2) => {
            let limit = match ty {
                DataType::Int2 => i64::from(i16::MAX),
                DataType::Int4 => i64::from(i32::MAX),
                _ => i64::MAX,
            };
            match text.parse::<i64>() {
                Ok(n) if n <= limit && n >= -limit - 1 => v.push(Some(n)),
                // Blanks around, or an error with its proper words.
                _ => v.push(parse_text(&statement.eval, text, ty)?.as_int()),
            }
        }
        (Column::Text(v), DataType::Text | DataType::Varchar(None)) => v.push(Some(text)),
        (column, _) => {
            let value = parse_text(&statement.eval, text, ty)?;
            column.push(cast(&statement.eval, value, &ty.without_modifier(), ty, CastContext::Assignment)?);
        }
    }
    Ok(())
}

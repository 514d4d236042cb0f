//! Statements of the session.

use meridian_datum::{DataType, Result, SqlError, SqlState};
use sqlparser::ast;

use super::expr::{Clause, Cx};
use super::scope::Scope;
use super::{At, Binder, BoundQuery};
use crate::ddl::{Copy, CopyDirection};
use crate::expr::Expr;
use crate::logical::{LogicalAction, LogicalModify, Rel};
use crate::lower::Lowerer;
use crate::modify::ModifyAction;
use crate::parse::{Command, CopySource, CopySyntax, MaintainedTable, TableName};
use crate::physical::{Operator, Plan};
use crate::planned::AsOf;
use crate::session::SessionStatement;

/// What a command is bound to.
pub(crate) enum BoundCommand {
    Session(SessionStatement),
    Ddl(crate::ddl::Ddl, &'static str),
}

impl Binder<'_> {
    pub(crate) fn command(&mut self, c: &Command, as_of: Option<AsOf>) -> Result<BoundCommand> {
        Ok(BoundCommand::Session(match c {
            Command::Session(s) => with_snapshot(s.clone(), as_of),
            Command::Maintenance { command, analyze, tables } => {
                let tables = tables.iter().map(|t| self.maintained_table(t)).collect::<Result<_>>()?;
                SessionStatement::Maintenance { command, analyze: *analyze, tables }
            }
            Command::Lock { tables, exclusive, nowait } => {
                let tables = tables.iter().map(|t| self.command_table(t)).collect::<Result<_>>()?;
                SessionStatement::LockTable { tables, exclusive: *exclusive, nowait: *nowait }
            }
            Command::Prepare { name, types, statement } => {
                let types = types.iter().map(|t| self.data_type(t)).collect::<Result<Vec<DataType>>>()?;
                SessionStatement::Prepare { name: name.clone(), types, statement: statement.clone() }
            }
            Command::Declare { .. } => panic!("a cursor is planned with its query"),
            Command::Execute { name, args } => {
                let mut bound = Vec::with_capacity(args.len());
                let scope = Scope::default();
                for a in args {
                    let e = self.expr(a, &mut Cx::new(&scope, Clause::Execute))?;
                    bound.push(Lowerer::new(self.ctx.snapshot).expr_alone(&e)?);
                }
                let types = bound.iter().map(Expr::ty).collect();
                SessionStatement::Execute { name: name.clone(), args: bound, types }
            }
            Command::Copy(c) => SessionStatement::Copy(Box::new(self.copy(c)?)),
            Command::AlterTable { table, if_exists, action } => {
                return Ok(BoundCommand::Ddl(self.alter_command(table, *if_exists, action)?, "ALTER TABLE"));
            }
            Command::CreateDatabase { name, position, if_not_exists } => {
                let ddl = self.create_database(name, *if_not_exists).map_err(|e| e.or_position(*position))?;
                return Ok(BoundCommand::Ddl(ddl, "CREATE DATABASE"));
            }
            Command::Unsupported(what, at) => return Err(SqlError::unsupported(what).at(*at)),
            Command::UnsupportedObject { verb, kind, position } => {
                return Err(SqlError::unsupported(format!("{verb} {kind}")).at(*position));
            }
        }))
    }

    fn maintained_table(&mut self, t: &MaintainedTable) -> Result<meridian_catalog::TableRef> {
        let table = self.command_table(&t.name)?;
        self.copy_columns(&table, &t.columns)?;
        Ok(table)
    }

    fn command_table(&mut self, t: &TableName) -> Result<meridian_catalog::TableRef> {
        let table = self.stored_table(&t.parts, t.position)?;
        self.note_table(&table);
        Ok(table)
    }

    fn copy(&mut self, c: &CopySyntax) -> Result<Copy> {
        let direction = match (&c.source, c.from) {
            (CopySource::Query(_), true) => {
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, "COPY FROM needs a table, not a query"));
            }
            (CopySource::Query(s), false) => {
                let scope = Scope::default();
                let bound = match &**s {
                    ast::Statement::Query(q) => self.query(q, &scope)?,
                    other => self.write(other, &scope)?,
                };
                self.copy_to(bound)?
            }
            (CopySource::Table { name, columns }, false) => {
                let table = self.command_table(name)?;
                let ordinals = self.copy_columns(&table, columns)?;
                let get = self.get(&table, meridian_kv_api::Locking::SHARED);
                let columns = ordinals
                    .iter()
                    .map(|o| {
                        super::query::OutCol::typed(
                            table.columns[*o].name.clone(),
                            get.cols[*o],
                            table.columns[*o].ty.clone(),
                            (0, 0),
                        )
                    })
                    .collect();
                self.copy_to(BoundQuery { rel: Rel::Get(Box::new(get)), columns })?
            }
            (CopySource::Table { name, columns }, true) => {
                let table = self.command_table(name)?;
                let ordinals = self.copy_columns(&table, columns)?;
                self.copy_from(table, ordinals)?
            }
        };
        Ok(Copy { direction, format: c.format.clone() })
    }

    fn copy_columns(
        &self,
        table: &meridian_catalog::TableRef,
        names: &[(String, u32)],
    ) -> Result<Vec<usize>> {
        if names.is_empty() {
            return Ok((0..table.columns.len()).filter(|i| !table.columns[*i].hidden).collect());
        }
        let mut out = Vec::with_capacity(names.len());
        for (n, at) in names {
            let ordinal = match table.column_by_name(n) {
                Some((o, c)) if !c.hidden => o,
                _ => {
                    let message = format!("column \"{n}\" of relation \"{}\" does not exist", table.name);
                    return Err(SqlError::new(SqlState::UNDEFINED_COLUMN, message).at(*at));
                }
            };
            if out.contains(&ordinal) {
                let message = format!("column \"{n}\" specified more than once");
                return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message).at(*at));
            }
            out.push(ordinal);
        }
        Ok(out)
    }

    fn copy_to(&mut self, bound: BoundQuery) -> Result<CopyDirection> {
        let cols: Vec<_> = bound.columns.iter().map(|c| c.col).collect();
        let names = bound.columns.iter().map(|c| c.name.clone()).collect();
        let query = Lowerer::new(self.ctx.snapshot).query(bound.rel, &cols)?;
        Ok(CopyDirection::To { query: Box::new(query), names })
    }

    fn copy_from(&mut self, table: meridian_catalog::TableRef, columns: Vec<usize>) -> Result<CopyDirection> {
        let cols = self.new_cols(columns.len());
        let mut row = Vec::with_capacity(table.columns.len());
        for (o, desc) in table.columns.iter().enumerate() {
            row.push(match columns.iter().position(|c| *c == o) {
                Some(at) => Expr::column(cols[at], desc.ty.clone()),
                None => self.default_of(desc)?,
            });
        }
        let new_cols = self.new_cols(table.columns.len());
        let checks = self.checks(&table, &new_cols)?;
        // The input stands for the rows that the client sends: no rows, but types.
        let exprs =
            cols.iter().zip(&columns).map(|(c, o)| (*c, Expr::null(table.columns[*o].ty.clone()))).collect();
        let input =
            Rel::Project { input: Box::new(Rel::Values { cols: Vec::new(), rows: Vec::new() }), exprs };
        let action = LogicalAction::Insert { input, row, on_conflict: None };
        let m = LogicalModify { table: table.clone(), action, new_cols, checks, returning: None };
        let plan = Lowerer::new(self.ctx.snapshot).query(Rel::Modify(Box::new(m)), &[])?;
        let Plan { op: Operator::Modify(insert), .. } = plan else {
            return Err(SqlError::internal("a write is lowered to a write"));
        };
        assert!(matches!(insert.action, ModifyAction::Insert { .. }), "COPY FROM inserts");
        Ok(CopyDirection::From { table, columns, insert })
    }
}

/// `AS OF SYSTEM TIME` of BEGIN and SET TRANSACTION.
fn with_snapshot(mut s: SessionStatement, as_of: Option<AsOf>) -> SessionStatement {
    if let SessionStatement::Begin(m) | SessionStatement::SetTransaction(m) = &mut s {
        m.as_of = as_of;
    }
    s
}

//! What names are visible where.

use std::collections::HashMap;
use std::sync::Arc;

use meridian_datum::{DataType, Result, SqlError, SqlState};

use super::{At, Binder, ColRef};
use crate::expr::Expr;
use crate::logical::{ColId, Rel};

/// A table in FROM, as qualified names see it.
#[derive(Clone, Debug)]
pub(crate) struct ScopeTable {
    /// The alias, or the table's name.
    pub(crate) alias: Arc<str>,
    /// The schema, where there is no alias: `public.t.x` is a name then.
    pub(crate) schema: Option<Arc<str>>,
    pub(crate) columns: Vec<ScopeColumn>,
    /// Not to be seen from here: the left side of a join that is not LATERAL.
    pub(crate) invisible: bool,
}

/// A column of a table in FROM.
#[derive(Clone, Debug)]
pub(crate) struct ScopeColumn {
    pub(crate) name: Arc<str>,
    /// The value: a column, or for the merged column of a full join an expression.
    pub(crate) expr: Expr,
    /// Left out of `*`.
    pub(crate) hidden: bool,
    /// Oid and number of the column in its table.
    pub(crate) origin: (u32, i16),
}

/// What a FROM clause makes visible.
#[derive(Clone, Debug, Default)]
pub(crate) struct FromScope {
    /// For qualified names.
    pub(crate) tables: Vec<ScopeTable>,
    /// For unqualified names and `*`: columns merged by USING stand here once. With the index of their table.
    pub(crate) columns: Vec<(ScopeColumn, usize)>,
}

/// A common table expression by name.
#[derive(Clone, Debug)]
pub(crate) struct CteEntry {
    pub(crate) columns: Vec<(Arc<str>, DataType)>,
    pub(crate) source: CteSource,
}

/// What a reference to a common table expression becomes.
#[derive(Clone, Debug)]
pub(crate) enum CteSource {
    /// Run once, as `ctes[index]`.
    Materialized { index: usize },
    /// Put in place, with fresh identities.
    Inline { rel: Box<Rel>, cols: Vec<ColId> },
    /// The query that is being defined: the rows that its last step added. A reference stands at this depth of subqueries.
    Work { index: usize, depth: usize },
    /// A write without RETURNING, which cannot be read.
    NoRows,
}

/// A level of names; the enclosing query's level is the parent.
#[derive(Debug, Default)]
pub(crate) struct Scope<'p> {
    pub(crate) parent: Option<&'p Scope<'p>>,
    pub(crate) from: FromScope,
    pub(crate) ctes: HashMap<String, CteEntry>,
    /// Named windows.
    pub(crate) windows: HashMap<String, sqlparser::ast::WindowSpec>,
}

impl<'p> Scope<'p> {
    /// A level below another.
    pub(crate) fn child(parent: &'p Scope<'p>) -> Scope<'p> {
        Scope { parent: Some(parent), ..Scope::default() }
    }

    /// The common table expression with this name.
    pub(crate) fn cte(&self, name: &str) -> Option<&CteEntry> {
        self.ctes.get(name).or_else(|| self.parent.and_then(|p| p.cte(name)))
    }
}

impl FromScope {
    /// The scope of one table.
    pub(crate) fn of_table(table: ScopeTable) -> FromScope {
        let columns = table.columns.iter().map(|c| (c.clone(), 0)).collect();
        FromScope { tables: vec![table], columns }
    }

    /// Both scopes side by side. A table alias may be used once only: 42712.
    pub(crate) fn join(mut self, other: FromScope) -> Result<FromScope> {
        let offset = self.tables.len();
        for t in &other.tables {
            let clash = self.tables.iter().any(|s| {
                s.alias == t.alias && !s.alias.is_empty() && (s.schema.is_none() || s.schema == t.schema)
            });
            if clash {
                let message = format!("table name \"{}\" specified more than once", t.alias);
                return Err(SqlError::new(SqlState::DUPLICATE_ALIAS, message));
            }
        }
        self.tables.extend(other.tables);
        self.columns.extend(other.columns.into_iter().map(|(c, t)| (c, t + offset)));
        Ok(self)
    }
}

impl Binder<'_> {
    /// The column that an unqualified name means. `None` where no level has it.
    pub(super) fn find_column(
        &mut self,
        scope: &Scope<'_>,
        name: &str,
        position: u32,
    ) -> Result<Option<Expr>> {
        let mut level = Some(scope);
        while let Some(s) = level {
            let mut found: Option<&(ScopeColumn, usize)> = None;
            for c in s.from.columns.iter().filter(|(c, t)| *c.name == *name && !s.from.tables[*t].invisible) {
                if found.is_some() {
                    let message = format!("column reference \"{name}\" is ambiguous");
                    return Err(SqlError::new(SqlState::AMBIGUOUS_COLUMN, message).at(position));
                }
                found = Some(c);
            }
            if let Some((c, t)) = found {
                let table = s.from.tables[*t].alias.clone();
                self.note_ref(c, &table, position);
                return Ok(Some(c.expr.clone()));
            }
            level = s.parent;
        }
        Ok(None)
    }

    fn note_ref(&mut self, column: &ScopeColumn, table: &Arc<str>, position: u32) {
        if let Expr::Column { index, .. } = column.expr {
            let in_aggregate = self.in_aggregate > 0;
            let name = column.name.clone();
            self.col_refs.push(ColRef { col: index, position, table: table.clone(), name, in_aggregate });
        }
    }

    /// An unqualified column; 42703 where there is none.
    pub(super) fn column(&mut self, scope: &Scope<'_>, name: &str, position: u32) -> Result<Expr> {
        if let Some(e) = self.find_column(scope, name, position)? {
            return Ok(e);
        }
        // A table's name alone is its row.
        if let Some(t) = find_table(scope, None, name) {
            return Ok(Expr::Row(t.columns.iter().filter(|c| !c.hidden).map(|c| c.expr.clone()).collect()));
        }
        let mut e = SqlError::new(SqlState::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist"))
            .at(position);
        if let Some(hint) = similar_column(scope, name) {
            e = e.with_hint(hint);
        }
        Err(e)
    }

    /// `table.column` or `schema.table.column`.
    pub(super) fn qualified_column(
        &mut self,
        scope: &Scope<'_>,
        qualifier: &[String],
        name: &str,
        position: u32,
    ) -> Result<Expr> {
        let (schema, table) = match qualifier {
            [t] => (None, t),
            [s, t] => (Some(s.as_str()), t),
            [_, s, t] => (Some(s.as_str()), t),
            _ => {
                let message =
                    format!("improper qualified name (too many dotted names): {}", qualifier.join("."));
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(position));
            }
        };
        let Some(t) = find_table(scope, schema, table) else {
            return Err(missing_table(scope, table).at(position));
        };
        if t.invisible {
            let message = format!("invalid reference to FROM-clause entry for table \"{table}\"");
            return Err(SqlError::new(SqlState::UNDEFINED_TABLE, message)
                .with_detail(format!(
                    "There is an entry for table \"{table}\", but it cannot be referenced from this part of the query."
                ))
                .at(position));
        }
        let mut found: Option<&ScopeColumn> = None;
        for c in t.columns.iter().filter(|c| *c.name == *name) {
            if found.is_some() {
                let message = format!("column reference \"{name}\" is ambiguous");
                return Err(SqlError::new(SqlState::AMBIGUOUS_COLUMN, message).at(position));
            }
            found = Some(c);
        }
        let Some(c) = found else {
            let message = format!("column {table}.{name} does not exist");
            let mut e = SqlError::new(SqlState::UNDEFINED_COLUMN, message).at(position);
            if let Some(hint) = similar_column(scope, name) {
                e = e.with_hint(hint);
            }
            return Err(e);
        };
        let alias = t.alias.clone();
        self.note_ref(c, &alias, position);
        Ok(c.expr.clone())
    }
}

/// The nearest table with this alias.
pub(super) fn find_table<'s>(
    scope: &'s Scope<'_>,
    schema: Option<&str>,
    name: &str,
) -> Option<&'s ScopeTable> {
    let mut level = Some(scope);
    while let Some(s) = level {
        let matches =
            |t: &&ScopeTable| *t.alias == *name && schema.is_none_or(|s| t.schema.as_deref() == Some(s));
        if let Some(t) = s.from.tables.iter().filter(matches).min_by_key(|t| t.invisible) {
            return Some(t);
        }
        level = s.parent;
    }
    None
}

/// 42P01 for a qualifier that no FROM clause has.
pub(super) fn missing_table(scope: &Scope<'_>, name: &str) -> SqlError {
    let message = format!("missing FROM-clause entry for table \"{name}\"");
    let _ = scope;
    SqlError::new(SqlState::UNDEFINED_TABLE, message)
}

/// PostgreSQL's hint for a misspelt column: the closest name, if it is close.
fn similar_column(scope: &Scope<'_>, name: &str) -> Option<String> {
    let mut best: Option<(usize, &ScopeTable, &ScopeColumn)> = None;
    for t in &scope.from.tables {
        for c in t.columns.iter().filter(|c| !c.hidden) {
            let d = distance(name, &c.name);
            if best.is_none_or(|(b, ..)| d < b) {
                best = Some((d, t, c));
            }
        }
    }
    let (d, t, c) = best?;
    if d > name.chars().count() / 2 || d > 3 {
        return None;
    }
    if d == 0 && t.invisible {
        return Some(format!(
            "There is a column named \"{}\" in table \"{}\", but it cannot be referenced from this part of the query.",
            c.name, t.alias
        ));
    }
    if t.alias.is_empty() {
        return None;
    }
    Some(format!("Perhaps you meant to reference the column \"{}.{}\".", t.alias, c.name))
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

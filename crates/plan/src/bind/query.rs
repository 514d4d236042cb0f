//! Queries: WITH, set operations, VALUES, and what stands around a SELECT.

use std::collections::HashMap;

use meridian_datum::{CastContext, DataType, Result, SqlError, SqlState};
use sqlparser::ast::{self, SetExpr, SetOperator, SetQuantifier};

use super::expr::{Clause, Cx, position};
use super::order::{direction, order_keys, ordinal};
use super::scope::{CteEntry, CteSource, Scope};
use super::types::{needs_equality, needs_order};
use super::{At, Binder, name_of, pos};
use crate::expr::Expr;
use crate::logical::{ColId, LogicalSetOp, Order, Rel};
use crate::physical::SetOpKind;

/// A query with its output.
#[derive(Clone, Debug)]
pub(crate) struct BoundQuery {
    pub(crate) rel: Rel,
    pub(crate) columns: Vec<OutCol>,
}

/// A column of a query's output.
#[derive(Clone, Debug)]
pub(crate) struct OutCol {
    pub(crate) name: String,
    pub(crate) col: ColId,
    pub(crate) ty: DataType,
    pub(crate) origin: (u32, i16),
    /// What a set operation has to give a type: an untyped literal or parameter, and where it stands. Until then the
    /// column is text.
    pub(crate) untyped: Option<(Expr, u32)>,
}

impl OutCol {
    pub(super) fn typed(name: String, col: ColId, ty: DataType, origin: (u32, i16)) -> Self {
        OutCol { name, col, ty, origin, untyped: None }
    }

    /// The type, unknown where a set operation has yet to find it.
    pub(super) fn own_type(&self) -> DataType {
        if self.untyped.is_some() { DataType::Unknown } else { self.ty.clone() }
    }
}

impl Binder<'_> {
    /// Binds a query below a scope. Untyped output columns become text.
    pub(crate) fn query(&mut self, q: &ast::Query, parent: &Scope<'_>) -> Result<BoundQuery> {
        if q.for_clause.is_some()
            || q.settings.is_some()
            || q.format_clause.is_some()
            || !q.pipe_operators.is_empty()
        {
            return Err(SqlError::unsupported("this query clause"));
        }
        let keeps_untyped = std::mem::take(&mut self.keeps_untyped);
        let mut scope = Scope::child(parent);
        if let Some(with) = &q.with {
            self.with(with, &mut scope, q)?;
        }
        self.keeps_untyped = keeps_untyped;
        self.query_body(q, &scope)
    }

    fn query_body(&mut self, q: &ast::Query, scope: &Scope<'_>) -> Result<BoundQuery> {
        let keys = order_keys(q.order_by.as_ref())?;
        if let SetExpr::Select(select) = &*q.body {
            let mut bound = self.select(select, keys, &q.locks, scope)?;
            bound.rel = self.limit(bound.rel, q)?;
            return Ok(bound);
        }
        if !q.locks.is_empty() {
            let what =
                if matches!(&*q.body, SetExpr::Values(_)) { "VALUES" } else { "UNION/INTERSECT/EXCEPT" };
            let message = format!("FOR UPDATE is not allowed with {what}");
            return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
        }
        let mut bound = self.set_expr(&q.body, scope)?;
        if !keys.is_empty() {
            bound.rel = self.sort_output(bound.rel, &bound.columns, keys)?;
        }
        bound.rel = self.limit(bound.rel, q)?;
        Ok(bound)
    }

    pub(super) fn set_expr(&mut self, body: &SetExpr, scope: &Scope<'_>) -> Result<BoundQuery> {
        // Only a select list may leave columns untyped: VALUES and writes give theirs types.
        let keeps_untyped = std::mem::take(&mut self.keeps_untyped);
        match body {
            SetExpr::Select(s) => {
                self.keeps_untyped = keeps_untyped;
                self.select(s, &[], &[], scope)
            }
            SetExpr::Query(q) => {
                self.keeps_untyped = keeps_untyped;
                self.query(q, scope)
            }
            SetExpr::Values(v) => self.values(v, scope),
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                // The operands settle the types among themselves before the target of an INSERT is looked at.
                self.target_types = None;
                self.keeps_untyped = true;
                let l = self.set_expr(left, scope)?;
                self.keeps_untyped = true;
                let r = self.set_expr(right, scope)?;
                let at = set_expr_position(right);
                self.set_operation(l, *op, *set_quantifier, r, at)
            }
            SetExpr::Insert(s) | SetExpr::Update(s) | SetExpr::Delete(s) | SetExpr::Merge(s) => {
                self.write(s, scope)
            }
            SetExpr::Table(t) => {
                let mut parts = Vec::new();
                parts.extend(t.schema_name.iter().map(|n| ast::Ident::new(n.as_str())));
                parts.extend(t.table_name.iter().map(|n| ast::Ident::new(n.as_str())));
                self.whole_table(parts, scope)
            }
        }
    }

    /// `TABLE t`.
    fn whole_table(&mut self, parts: Vec<ast::Ident>, scope: &Scope<'_>) -> Result<BoundQuery> {
        let item = ast::TableWithJoins {
            relation: ast::TableFactor::Table {
                name: ast::ObjectName::from(parts),
                alias: None,
                args: None,
                with_hints: Vec::new(),
                version: None,
                with_ordinality: false,
                partitions: Vec::new(),
                json_path: None,
                sample: None,
                index_hints: Vec::new(),
            },
            joins: Vec::new(),
        };
        let from = self.bind_from_clause(&[item], scope)?;
        let columns = from
            .scope
            .columns
            .iter()
            .filter(|(c, _)| !c.hidden)
            .map(|(c, _)| match &c.expr {
                Expr::Column { index, ty } => OutCol::typed(c.name.to_string(), *index, ty.clone(), c.origin),
                other => OutCol::typed(c.name.to_string(), 0, other.ty(), c.origin),
            })
            .collect();
        Ok(BoundQuery { rel: from.rel, columns })
    }

    /// VALUES: the columns take the common types of their rows.
    pub(super) fn values(&mut self, v: &ast::Values, scope: &Scope<'_>) -> Result<BoundQuery> {
        let width = v.rows.first().map_or(0, |r| r.content.len());
        let mut columns: Vec<Vec<(Expr, u32)>> =
            (0..width).map(|_| Vec::with_capacity(v.rows.len())).collect();
        for row in &v.rows {
            if row.content.len() != width {
                let message = "VALUES lists must all be the same length";
                let at = row.content.first().map_or(0, position);
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(at));
            }
            for (e, column) in row.content.iter().zip(&mut columns) {
                let bound = self.expr(e, &mut Cx::new(scope, Clause::Values))?;
                column.push((bound, position(e)));
            }
        }
        let cols = self.new_cols(width);
        let mut out = Vec::with_capacity(width);
        for (i, (column, id)) in columns.iter_mut().zip(&cols).enumerate() {
            let ty = self.unify("VALUES", column)?;
            out.push(OutCol::typed(format!("column{}", i + 1), *id, ty, (0, 0)));
        }
        let mut rows: Vec<Vec<Expr>> = v.rows.iter().map(|_| Vec::with_capacity(width)).collect();
        for column in columns {
            for (row, (e, _)) in rows.iter_mut().zip(column) {
                row.push(e);
            }
        }
        Ok(BoundQuery { rel: Rel::Values { cols, rows }, columns: out })
    }

    fn set_operation(
        &mut self,
        mut l: BoundQuery,
        op: SetOperator,
        quantifier: SetQuantifier,
        mut r: BoundQuery,
        at: u32,
    ) -> Result<BoundQuery> {
        let (kind, name) = match op {
            SetOperator::Union => (SetOpKind::Union, "UNION"),
            SetOperator::Intersect => (SetOpKind::Intersect, "INTERSECT"),
            SetOperator::Except | SetOperator::Minus => (SetOpKind::Except, "EXCEPT"),
        };
        let all = match quantifier {
            SetQuantifier::All => true,
            SetQuantifier::None | SetQuantifier::Distinct => false,
            other => return Err(SqlError::unsupported(format!("{name} {other}"))),
        };
        if l.columns.len() != r.columns.len() {
            let message = format!("each {name} query must have the same number of columns");
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(at));
        }
        let mut types = Vec::with_capacity(l.columns.len());
        for (a, b) in l.columns.iter().zip(&r.columns) {
            types.push(super::types::common_type(name, &[a.own_type(), b.own_type()]).at(at)?);
        }
        // Only UNION ALL does not compare rows.
        if !(all && kind == SetOpKind::Union) {
            types.iter().try_for_each(|t| needs_equality(t, 0))?;
        }
        let left_cols = self.convert(&mut l, &types, at)?;
        let right_cols = self.convert(&mut r, &types, at)?;
        let cols = self.new_cols(types.len());
        let columns = l
            .columns
            .iter()
            .zip(&cols)
            .zip(&types)
            .map(|((c, id), ty)| OutCol::typed(c.name.clone(), *id, ty.clone(), (0, 0)))
            .collect();
        let rel = Rel::SetOp(Box::new(LogicalSetOp {
            kind,
            all,
            left: l.rel,
            right: r.rel,
            left_cols,
            right_cols,
            cols,
        }));
        Ok(BoundQuery { rel, columns })
    }

    /// Casts a query's output to the given types.
    pub(super) fn convert(&mut self, q: &mut BoundQuery, types: &[DataType], at: u32) -> Result<Vec<ColId>> {
        for (c, t) in q.columns.iter_mut().zip(types) {
            // A literal is text already; only a parameter has yet to become it.
            if *t == DataType::Text && matches!(c.untyped, Some((Expr::Const(..), _))) {
                c.untyped = None;
            }
        }
        let needs = q.columns.iter().zip(types).any(|(c, t)| c.untyped.is_some() || !c.ty.same_type(t));
        if !needs {
            return Ok(q.columns.iter().map(|c| c.col).collect());
        }
        let mut exprs = Vec::with_capacity(types.len());
        let mut cols = Vec::with_capacity(types.len());
        for (c, t) in q.columns.iter_mut().zip(types) {
            let id = self.new_col();
            let (value, at) = c.untyped.take().unwrap_or_else(|| (Expr::column(c.col, c.ty.clone()), at));
            let cast = self.coerce(value, t, CastContext::Implicit, at)?;
            exprs.push((id, cast));
            cols.push(id);
        }
        let rel = std::mem::replace(&mut q.rel, Rel::single_row());
        q.rel = Rel::Project { input: Box::new(rel), exprs };
        Ok(cols)
    }

    /// ORDER BY over the output of a set operation or of VALUES: names and ordinals only.
    fn sort_output(&mut self, rel: Rel, columns: &[OutCol], keys: &[ast::OrderByExpr]) -> Result<Rel> {
        let mut order = Vec::with_capacity(keys.len());
        for k in keys {
            let index = match ordinal(&k.expr, "ORDER BY", columns.len())? {
                Some(i) => Some(i),
                None => match &k.expr {
                    ast::Expr::Identifier(i) => {
                        let name = name_of(i);
                        let found = columns.iter().position(|c| c.name == name);
                        if found.is_none() {
                            let message = format!("column \"{name}\" does not exist");
                            return Err(SqlError::new(SqlState::UNDEFINED_COLUMN, message).at(pos(i.span)));
                        }
                        found
                    }
                    _ => None,
                },
            };
            let Some(index) = index else {
                let message = "invalid UNION/INTERSECT/EXCEPT ORDER BY clause";
                return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message)
                    .with_detail("Only result column names can be used, not expressions or functions.")
                    .with_hint(
                        "Add the expression/function to every SELECT, or move the UNION into a FROM clause.",
                    )
                    .at(position(&k.expr)));
            };
            needs_order(&columns[index].ty, position(&k.expr))?;
            let (descending, nulls_first) = direction(&k.options);
            order.push(Order { col: columns[index].col, descending, nulls_first });
        }
        Ok(Rel::Sort { input: Box::new(rel), keys: order })
    }

    /// Defines the common table expressions of a query.
    pub(super) fn with(&mut self, with: &ast::With, scope: &mut Scope<'_>, q: &ast::Query) -> Result<()> {
        let uses = count_relations(q);
        for cte in &with.cte_tables {
            let name = name_of(&cte.alias.name);
            if scope.ctes.contains_key(&name) {
                let message = format!("WITH query name \"{name}\" specified more than once");
                return Err(SqlError::new(SqlState::DUPLICATE_ALIAS, message).at(pos(cte.alias.name.span)));
            }
            let own = if with.recursive { count_relations(&cte.query).get(&name).copied() } else { None };
            let bound = match own {
                Some(_) => self.recursive_query(cte, &name, scope)?,
                None => self.query(&cte.query, scope)?,
            };
            let columns = cte_columns(&name, &bound, cte)?;
            let uses = uses.get(&name).copied().unwrap_or(0) - own.unwrap_or(0);
            let source = self.cte_source(bound, cte, uses);
            scope.ctes.insert(name, CteEntry { columns, source });
        }
        Ok(())
    }

    /// PostgreSQL's rule: a query that is mentioned once and has no side effects is put in place of its mention, any
    /// other is run once. What depends on an enclosing query's row can't be run once and is put in place always.
    fn cte_source(&mut self, bound: BoundQuery, cte: &ast::Cte, uses: usize) -> CteSource {
        let writes = bound.rel.has_modify();
        let mut volatile = false;
        bound.rel.for_each_expr(&mut |e| volatile |= e.is_volatile());
        let correlated = !bound.rel.free_cols().is_empty() || super::recursive::reads_work(&bound.rel, None);
        let inline = match cte.materialized {
            Some(ast::CteAsMaterialized::Materialized) => false,
            Some(ast::CteAsMaterialized::NotMaterialized) => !volatile,
            None => uses <= 1 && !volatile,
        };
        let cols: Vec<ColId> = bound.columns.iter().map(|c| c.col).collect();
        if !writes && (correlated || inline) {
            return CteSource::Inline { rel: Box::new(bound.rel), cols };
        }
        if writes && bound.columns.is_empty() {
            self.ctes.push(bound.rel);
            return CteSource::NoRows;
        }
        let index = self.ctes.len();
        // The stored rows have exactly the output columns, in order.
        let exprs =
            bound.columns.iter().map(|c| (self.new_col(), Expr::column(c.col, c.ty.clone()))).collect();
        self.ctes.push(Rel::Project { input: Box::new(bound.rel), exprs });
        CteSource::Materialized { index }
    }

    /// A copy of a relation in which every column that it makes has a fresh identity.
    pub(super) fn refresh(&mut self, rel: &Rel, cols: &[ColId]) -> (Rel, Vec<ColId>) {
        let mut copy = rel.clone();
        let mut map: HashMap<ColId, ColId> = HashMap::new();
        for c in rel.deep_cols().iter() {
            map.insert(c, self.new_col());
        }
        copy.rename(&map);
        let cols = cols.iter().map(|c| map.get(c).copied().unwrap_or(*c)).collect();
        (copy, cols)
    }
}

/// The columns of a common table expression: its query's, under the names that it gives them.
pub(super) fn cte_columns(
    name: &str,
    bound: &BoundQuery,
    cte: &ast::Cte,
) -> Result<Vec<(std::sync::Arc<str>, DataType)>> {
    let mut columns: Vec<(std::sync::Arc<str>, DataType)> =
        bound.columns.iter().map(|c| (c.name.as_str().into(), c.ty.clone())).collect();
    if cte.alias.columns.len() > columns.len() {
        let message = format!(
            "WITH query \"{name}\" has {} columns available but {} columns specified",
            columns.len(),
            cte.alias.columns.len()
        );
        let state = SqlState::INVALID_COLUMN_REFERENCE;
        return Err(SqlError::new(state, message).at(pos(cte.alias.name.span)));
    }
    for (c, a) in columns.iter_mut().zip(&cte.alias.columns) {
        c.0 = name_of(&a.name).into();
    }
    Ok(columns)
}

/// How often each unqualified relation name occurs in a query, whatever it means there.
pub(super) fn count_relations<V: ast::Visit>(q: &V) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    let _ = ast::visit_relations(q, |name| {
        if let [part] = name.0.as_slice()
            && let Some(i) = part.as_ident()
        {
            *counts.entry(name_of(i)).or_insert(0) += 1;
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
    counts
}

pub(super) fn set_expr_position(e: &SetExpr) -> u32 {
    let start = ast::Spanned::span(e).start.column as u32;
    match e {
        // The span of a SELECT begins at its first column in PostgreSQL's messages.
        SetExpr::Select(s) => {
            s.projection.first().map_or(start, |p| ast::Spanned::span(p).start.column as u32)
        }
        _ => start,
    }
}

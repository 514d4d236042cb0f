//! Queries: WITH, set operations, VALUES, and what stands around a SELECT.

use std::collections::HashMap;

use meridian_datum::{CastContext, DataType, Result, SqlError, SqlState};
use sqlparser::ast::{self, SetExpr, SetOperator, SetQuantifier};

use super::expr::{Clause, Cx, position, strip_nested};
use super::order::{direction, order_keys, ordinal};
use super::scope::{CteEntry, CteSource, Scope};
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
}

/// One side of a set operation.
struct SetOperand {
    query: BoundQuery,
    /// Which columns are literals that have no type of their own. Empty when none is.
    untyped: Vec<Option<(Expr, u32)>>,
}

impl SetOperand {
    /// The type of a column as the other side's may decide it.
    fn ty(&self, column: usize) -> DataType {
        match self.untyped.get(column) {
            Some(Some(_)) => DataType::Unknown,
            _ => self.query.columns[column].ty.clone(),
        }
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
        let mut scope = Scope::child(parent);
        if let Some(with) = &q.with {
            self.with(with, &mut scope, q)?;
        }
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

    fn set_expr(&mut self, body: &SetExpr, scope: &Scope<'_>) -> Result<BoundQuery> {
        match body {
            SetExpr::Select(s) => self.select(s, &[], &[], scope),
            SetExpr::Query(q) => self.query(q, scope),
            SetExpr::Values(v) => self.values(v, scope),
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let l = self.set_operand(left, scope)?;
                let r = self.set_operand(right, scope)?;
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

    fn set_operand(&mut self, body: &SetExpr, scope: &Scope<'_>) -> Result<SetOperand> {
        let query = self.set_expr(body, scope)?;
        let untyped = match body {
            SetExpr::Select(s) => self.untyped_literals(s, scope)?,
            _ => Vec::new(),
        };
        // A wildcard makes the output wider than the list, and no longer aligned with it.
        let untyped = if untyped.len() == query.columns.len() { untyped } else { Vec::new() };
        Ok(SetOperand { query, untyped })
    }

    /// The literals without a type in a select list, each with its position.
    fn untyped_literals(
        &mut self,
        select: &ast::Select,
        scope: &Scope<'_>,
    ) -> Result<Vec<Option<(Expr, u32)>>> {
        let mut literals = Vec::with_capacity(select.projection.len());
        for item in &select.projection {
            let (ast::SelectItem::UnnamedExpr(e) | ast::SelectItem::ExprWithAlias { expr: e, .. }) = item
            else {
                literals.push(None);
                continue;
            };
            let ast::Expr::Value(v) = strip_nested(e) else {
                literals.push(None);
                continue;
            };
            let bound = match v.value {
                ast::Value::Placeholder(_) => None,
                _ => Some(self.expr(e, &mut Cx::new(scope, Clause::Select))?),
            };
            literals.push(bound.filter(|b| b.ty() == DataType::Unknown).map(|b| (b, position(e))));
        }
        Ok(literals)
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
                Expr::Column { index, ty } => {
                    OutCol { name: c.name.to_string(), col: *index, ty: ty.clone(), origin: c.origin }
                }
                other => OutCol { name: c.name.to_string(), col: 0, ty: other.ty(), origin: c.origin },
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
            out.push(OutCol { name: format!("column{}", i + 1), col: *id, ty, origin: (0, 0) });
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
        mut l: SetOperand,
        op: SetOperator,
        quantifier: SetQuantifier,
        mut r: SetOperand,
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
        if l.query.columns.len() != r.query.columns.len() {
            let message = format!("each {name} query must have the same number of columns");
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(at));
        }
        let width = l.query.columns.len();
        let mut types = Vec::with_capacity(width);
        for i in 0..width {
            types.push(super::types::common_type(name, &[l.ty(i), r.ty(i)]).at(at)?);
        }
        let left_cols = self.convert_operand(&mut l, &types, at)?;
        let right_cols = self.convert_operand(&mut r, &types, at)?;
        let cols = self.new_cols(types.len());
        let (l, r) = (l.query, r.query);
        let columns = l
            .columns
            .iter()
            .zip(&cols)
            .zip(&types)
            .map(|((c, id), ty)| OutCol { name: c.name.clone(), col: *id, ty: ty.clone(), origin: (0, 0) })
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

    /// Casts an operand's output to the common types. A literal without a type is read as the common type instead,
    /// unless it is text, which it has become already.
    fn convert_operand(&mut self, o: &mut SetOperand, types: &[DataType], at: u32) -> Result<Vec<ColId>> {
        let is_settled = o.untyped.iter().zip(types).all(|(u, t)| u.is_none() || *t == DataType::Text);
        if is_settled {
            return self.convert(&mut o.query, types, at);
        }
        let mut exprs = Vec::with_capacity(types.len());
        for (i, t) in types.iter().enumerate() {
            let (value, at) = match o.untyped.get_mut(i).and_then(Option::take) {
                Some(literal) => literal,
                None => (Expr::column(o.query.columns[i].col, o.query.columns[i].ty.clone()), at),
            };
            exprs.push((self.new_col(), self.coerce(value, t, CastContext::Implicit, at)?));
        }
        let cols = exprs.iter().map(|(id, _)| *id).collect();
        let rel = std::mem::replace(&mut o.query.rel, Rel::single_row());
        o.query.rel = Rel::Project { input: Box::new(rel), exprs };
        Ok(cols)
    }

    /// Casts a query's output to the given types.
    pub(super) fn convert(&mut self, q: &mut BoundQuery, types: &[DataType], at: u32) -> Result<Vec<ColId>> {
        let needs = q.columns.iter().zip(types).any(|(c, t)| !c.ty.same_type(t));
        if !needs {
            return Ok(q.columns.iter().map(|c| c.col).collect());
        }
        let mut exprs = Vec::with_capacity(types.len());
        let mut cols = Vec::with_capacity(types.len());
        for (c, t) in q.columns.iter().zip(types) {
            let id = self.new_col();
            let cast = self.coerce(Expr::column(c.col, c.ty.clone()), t, CastContext::Implicit, at)?;
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
            if with.recursive && references(&cte.query, &name) {
                return Err(SqlError::unsupported("WITH RECURSIVE").at(pos(cte.alias.name.span)));
            }
            let bound = self.query(&cte.query, scope)?;
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
            let source = self.cte_source(bound, cte, uses.get(&name).copied().unwrap_or(0));
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
        let correlated = !bound.rel.free_cols().is_empty();
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

/// How often each unqualified relation name occurs in a query, whatever it means there.
fn count_relations(q: &ast::Query) -> HashMap<String, usize> {
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

fn references(q: &ast::Query, name: &str) -> bool {
    count_relations(q).contains_key(name)
}

fn set_expr_position(e: &SetExpr) -> u32 {
    let start = ast::Spanned::span(e).start.column as u32;
    match e {
        // The span of a SELECT begins at its first column in PostgreSQL's messages.
        SetExpr::Select(s) => {
            s.projection.first().map_or(start, |p| ast::Spanned::span(p).start.column as u32)
        }
        _ => start,
    }
}

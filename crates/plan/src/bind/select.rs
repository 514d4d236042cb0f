//! SELECT: its list, WHERE, GROUP BY, HAVING, DISTINCT and ORDER BY.
//!
//! ```text
//!   FROM -> WHERE -> Aggregate -> HAVING -> Window -> set-returning functions -> Project -> DISTINCT -> Sort
//! ```

use std::collections::HashSet;

use meridian_datum::{DataType, Result, SqlError, SqlState};
use sqlparser::ast::{self, Distinct, GroupByExpr, SelectItem, SelectItemQualifiedWildcardKind};

use super::agg::Aggregates;
use super::column_name::column_name;
use super::expr::{Clause, Cx, position, strip_nested};
use super::from::{FromItem, conjuncts, is_set_returning};
use super::func::call_syntax;
use super::order::{direction, ordinal};
use super::query::OutCol;
use super::scope::{Scope, find_table, missing_table};
use super::types::{needs_equality, needs_order};
use super::window::Windows;
use super::{At, Binder, BoundQuery, NamedExpr, name_of, names_of, pos, position_of};
use crate::expr::Expr;
use crate::logical::{ColId, ColSet, LogicalAggregate, Order, Rel};
use crate::parse::is_empty_list;
use crate::physical::{JoinKind, SetFunction};
use crate::same::same_expr;

/// An entry of the select list.
struct Item {
    named: NamedExpr,
    origin: (u32, i16),
    /// See [`OutCol::untyped`].
    untyped: Option<(Expr, u32)>,
}

/// A key of ORDER BY: an output column, or an expression of its own.
struct SortItem {
    expr: Expr,
    descending: bool,
    nulls_first: bool,
    position: u32,
}

/// A select list under construction.
#[derive(Default)]
struct Parts {
    aggregates: Aggregates,
    windows: Windows,
    /// Set-returning functions of the select list.
    functions: Vec<(SetFunction, Vec<Expr>, ColId)>,
    /// Untyped columns are left to a set operation.
    keeps_untyped: bool,
}

/// PostgreSQL's limit.
const GROUPING_SETS_MAX: usize = 4_096;

impl Binder<'_> {
    pub(super) fn select(
        &mut self,
        s: &ast::Select,
        order_by: &[ast::OrderByExpr],
        locks: &[ast::LockClause],
        parent: &Scope<'_>,
    ) -> Result<BoundQuery> {
        unsupported_clauses(s)?;
        let targets = self.target_types.take();
        let keeps_untyped = std::mem::take(&mut self.keeps_untyped);
        let FromItem { mut rel, scope: from } = self.bind_from_clause(&s.from, parent)?;
        let mut scope = Scope::child(parent);
        scope.from = from;
        for w in &s.named_window {
            let ast::NamedWindowExpr::WindowSpec(spec) = &w.1 else {
                return Err(SqlError::unsupported("a window defined as another one"));
            };
            let name = name_of(&w.0);
            if scope.windows.contains_key(&name) {
                let message = format!("window \"{name}\" is already defined");
                return Err(SqlError::new(SqlState::WINDOWING_ERROR, message).at(pos(w.0.span)));
            }
            let spec = super::window::complete(spec, &scope.windows, false)?;
            scope.windows.insert(name, spec);
        }
        let own = rel.all_cols();
        let since = self.col_refs.len();
        let targets = targets.unwrap_or_default();
        let mut parts = Parts { keeps_untyped, ..Parts::default() };
        let mut items = self.select_list(&s.projection, &targets, &scope, &mut parts)?;
        if let Some(w) = &s.selection {
            let condition = self.condition(w, &mut Cx::new(&scope, Clause::Where))?;
            rel = rel.filter(conjuncts(condition));
        }
        let having = match &s.having {
            Some(h) => {
                let mut cx = Cx::new(&scope, Clause::Having);
                cx.aggregates = Some(&mut parts.aggregates);
                Some(self.condition(h, &mut cx)?)
            }
            None => None,
        };
        let mut sort = self.sort_items(order_by, &items, &scope, &mut parts)?;
        let distinct_on = match &s.distinct {
            Some(Distinct::On(exprs)) => Some(self.distinct_on(exprs, &items, &scope, &mut parts)?),
            _ => None,
        };
        let (keys, sets) = self.group_by(&s.group_by, &items, &scope)?;
        let grouped =
            !keys.is_empty() || sets.is_some() || having.is_some() || !parts.aggregates.calls.is_empty();
        if !locks.is_empty() {
            refuse_locks(s, grouped, &parts)?;
            self.lock_rows(&mut rel, locks, &scope)?;
        }
        let mut distinct_on = distinct_on;
        if grouped {
            let g = Grouping { keys, sets, own, since };
            rel = self.aggregate_rel(rel, g, having, &mut items, &mut sort, &mut distinct_on, &mut parts)?;
        }
        rel = self.window_rel(rel, std::mem::take(&mut parts.windows))?;
        rel = Self::lateral_functions(rel, std::mem::take(&mut parts.functions));
        let is_distinct = matches!(s.distinct, Some(Distinct::Distinct));
        if is_distinct {
            // An expansion of * may stand before; then the place is not known.
            let places: Vec<u32> = s.projection.iter().map(item_position).collect();
            for (i, item) in items.iter().enumerate() {
                let at = if places.len() == items.len() { places[i] } else { 0 };
                needs_equality(&item.named.expr.ty(), at)?;
            }
        }
        self.project(rel, items, sort, is_distinct, distinct_on)
    }

    fn select_list(
        &mut self,
        list: &[SelectItem],
        targets: &[DataType],
        scope: &Scope<'_>,
        parts: &mut Parts,
    ) -> Result<Vec<Item>> {
        let mut items = Vec::with_capacity(list.len());
        for item in list.iter().filter(|item| !is_empty_list(item)) {
            match item {
                SelectItem::UnnamedExpr(e) => {
                    let name = column_name(e).unwrap_or("?column?".into());
                    let target = targets.get(items.len());
                    items.push(self.select_item(e, name, target, scope, parts)?);
                }
                SelectItem::ExprWithAlias { alias, .. } if alias.quote_style == Some('\'') => {
                    // sqlparser takes a string for an alias, which PostgreSQL does not.
                    let message = format!("syntax error at or near \"'{}'\"", alias.value);
                    return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(pos(alias.span)));
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let target = targets.get(items.len());
                    items.push(self.select_item(expr, name_of(alias), target, scope, parts)?);
                }
                SelectItem::Wildcard(options) => {
                    plain_wildcard(options)?;
                    if scope.from.tables.is_empty() {
                        let message = "SELECT * with no tables specified is not valid";
                        return Err(SqlError::new(SqlState::SYNTAX_ERROR, message)
                            .at(pos(options.wildcard_token.0.span)));
                    }
                    for (c, t) in scope.from.columns.iter().filter(|(c, _)| !c.hidden) {
                        self.note_star(c, &scope.from.tables[*t].alias, pos(options.wildcard_token.0.span));
                        let named = NamedExpr { expr: c.expr.clone(), name: c.name.to_string() };
                        items.push(Item { named, origin: c.origin, untyped: None });
                    }
                }
                SelectItem::QualifiedWildcard(kind, options) => {
                    plain_wildcard(options)?;
                    let SelectItemQualifiedWildcardKind::ObjectName(name) = kind else {
                        return Err(SqlError::unsupported("expansion of a composite value"));
                    };
                    let parts = names_of(name)?;
                    let (schema, table) = match parts.as_slice() {
                        [t] => (None, t),
                        [s, t] => (Some(s.as_str()), t),
                        _ => return Err(SqlError::unsupported("qualified names of three parts")),
                    };
                    let at = position_of(name);
                    let t =
                        find_table(scope, schema, table).ok_or_else(|| missing_table(scope, table).at(at))?;
                    for c in t.columns.iter().filter(|c| !c.hidden) {
                        self.note_star(c, &t.alias, at);
                        let named = NamedExpr { expr: c.expr.clone(), name: c.name.to_string() };
                        items.push(Item { named, origin: c.origin, untyped: None });
                    }
                }
                SelectItem::ExprWithAliases { .. } => {
                    return Err(SqlError::unsupported("a column with several aliases"));
                }
            }
        }
        Ok(items)
    }

    fn note_star(&mut self, c: &super::scope::ScopeColumn, table: &std::sync::Arc<str>, position: u32) {
        if let Expr::Column { index, .. } = c.expr {
            self.col_refs.push(super::ColRef {
                col: index,
                position,
                table: table.clone(),
                name: c.name.clone(),
                in_aggregate: false,
            });
        }
    }

    fn select_item(
        &mut self,
        e: &ast::Expr,
        name: String,
        target: Option<&DataType>,
        scope: &Scope<'_>,
        parts: &mut Parts,
    ) -> Result<Item> {
        if let ast::Expr::Function(f) = strip_nested(e)
            && f.over.is_none()
            && let Ok(call) = call_syntax(f)
            && is_set_returning(&call.name)
        {
            return self.set_returning_item(&call, name, scope, parts);
        }
        let mut cx = Cx::new(scope, Clause::Select);
        cx.aggregates = Some(&mut parts.aggregates);
        cx.windows = Some(&mut parts.windows);
        let mut expr = self.expr(e, &mut cx)?;
        let mut untyped = None;
        expr = match target {
            Some(t) if expr.ty() == DataType::Unknown => {
                self.coerce(expr, t, meridian_datum::CastContext::Assignment, position(e))?
            }
            _ if parts.keeps_untyped && expr.ty() == DataType::Unknown => {
                untyped = Some((expr.clone(), position(e)));
                match expr {
                    // Its type is not settled here, and it is equal for all rows: grouping and sorting do not care what
                    // it stands for.
                    Expr::Param { .. } => Expr::null(DataType::Text),
                    literal => self.settle(literal)?,
                }
            }
            _ => self.settle(expr)?,
        };
        let origin = origin_of(&expr, scope);
        Ok(Item { named: NamedExpr { expr, name }, origin, untyped })
    }

    /// The expressions of RETURNING.
    pub(super) fn returning_list(
        &mut self,
        list: &[SelectItem],
        scope: &Scope<'_>,
    ) -> Result<Vec<(NamedExpr, (u32, i16))>> {
        let mut out = Vec::with_capacity(list.len());
        let mut parts = Parts::default();
        for item in self.select_list(list, &[], scope, &mut parts)? {
            out.push((item.named, item.origin));
        }
        let misplaced = if !parts.aggregates.calls.is_empty() {
            Some((SqlState::GROUPING_ERROR, "aggregate functions are not allowed in RETURNING"))
        } else if !parts.windows.is_empty() {
            Some((SqlState::WINDOWING_ERROR, "window functions are not allowed in RETURNING"))
        } else if !parts.functions.is_empty() {
            Some((SqlState::FEATURE_NOT_SUPPORTED, "set-returning functions are not allowed in RETURNING"))
        } else {
            None
        };
        match misplaced {
            Some((state, message)) => Err(SqlError::new(state, message)),
            None => Ok(out),
        }
    }

    /// A set-returning function as a whole column of the select list.
    fn set_returning_item(
        &mut self,
        call: &super::func::CallSyntax<'_>,
        name: String,
        scope: &Scope<'_>,
        parts: &mut Parts,
    ) -> Result<Item> {
        let mut args = Vec::with_capacity(call.args.len());
        for a in &call.args {
            let mut cx = Cx::new(scope, Clause::Select);
            cx.aggregates = Some(&mut parts.aggregates);
            args.push((self.expr(a, &mut cx)?, position(a)));
        }
        let (function, args, outputs) = self.set_function(&call.name, args, call.position)?;
        let [(_, ty)] = outputs.as_slice() else {
            return Err(SqlError::unsupported(format!("{} in a select list", call.name)).at(call.position));
        };
        let col = self.new_col();
        parts.functions.push((function, args, col));
        let named = NamedExpr { expr: Expr::column(col, ty.clone()), name };
        Ok(Item { named, origin: (0, 0), untyped: None })
    }

    /// Joins the set-returning functions of the select list to the rows. Several of them step together.
    fn lateral_functions(rel: Rel, mut functions: Vec<(SetFunction, Vec<Expr>, ColId)>) -> Rel {
        let (function, args, cols) = match functions.len() {
            0 => return rel,
            1 => {
                let (function, args, col) = functions.remove(0);
                (function, args, vec![col])
            }
            _ => {
                let cols = functions.iter().map(|(_, _, col)| *col).collect();
                let mut all = Vec::new();
                let mut each = Vec::with_capacity(functions.len());
                for (function, args, _) in functions {
                    each.push((function, args.len()));
                    all.extend(args);
                }
                (SetFunction::Lockstep(each), all, cols)
            }
        };
        let right = Rel::Function { function, args, ordinality: false, cols };
        let lateral = !right.free_cols().is_empty();
        Rel::Join {
            kind: JoinKind::Inner,
            left: Box::new(rel),
            right: Box::new(right),
            on: Vec::new(),
            lateral,
        }
    }

    fn sort_items(
        &mut self,
        keys: &[ast::OrderByExpr],
        items: &[Item],
        scope: &Scope<'_>,
        parts: &mut Parts,
    ) -> Result<Vec<SortItem>> {
        let mut out = Vec::with_capacity(keys.len());
        for k in keys {
            let (descending, nulls_first) = direction(&k.options);
            let expr = self.output_or_expr(&k.expr, items, scope, parts, "ORDER BY")?;
            needs_order(&expr.ty(), position(&k.expr))?;
            out.push(SortItem { expr, descending, nulls_first, position: position(&k.expr) });
        }
        Ok(out)
    }

    /// An ORDER BY or DISTINCT ON key: an ordinal, an output column's name, or an expression.
    fn output_or_expr(
        &mut self,
        e: &ast::Expr,
        items: &[Item],
        scope: &Scope<'_>,
        parts: &mut Parts,
        clause: &str,
    ) -> Result<Expr> {
        if let Some(i) = ordinal(e, clause, items.len())? {
            return Ok(items[i].named.expr.clone());
        }
        if let ast::Expr::Identifier(i) = e {
            let name = name_of(i);
            let mut found: Option<&Item> = None;
            for item in items.iter().filter(|item| item.named.name == name) {
                if let Some(f) = found
                    && !same_expr(&f.named.expr, &item.named.expr)
                {
                    let message = format!("{clause} \"{name}\" is ambiguous");
                    return Err(SqlError::new(SqlState::AMBIGUOUS_COLUMN, message).at(pos(i.span)));
                }
                found = Some(item);
            }
            if let Some(f) = found {
                return Ok(f.named.expr.clone());
            }
        }
        let mut cx = Cx::new(scope, Clause::OrderBy);
        cx.aggregates = Some(&mut parts.aggregates);
        cx.windows = Some(&mut parts.windows);
        self.typed_expr(e, &mut cx)
    }

    fn distinct_on(
        &mut self,
        exprs: &[ast::Expr],
        items: &[Item],
        scope: &Scope<'_>,
        parts: &mut Parts,
    ) -> Result<Vec<Expr>> {
        let mut keys = Vec::with_capacity(exprs.len());
        for e in exprs {
            let key = self.output_or_expr(e, items, scope, parts, "SELECT DISTINCT ON")?;
            needs_equality(&key.ty(), position(e))?;
            keys.push(key);
        }
        Ok(keys)
    }

    /// The keys of GROUP BY, and the grouping sets over them.
    fn group_by(
        &mut self,
        g: &GroupByExpr,
        items: &[Item],
        scope: &Scope<'_>,
    ) -> Result<(Vec<(ColId, Expr)>, Option<Vec<Vec<usize>>>)> {
        let GroupByExpr::Expressions(exprs, modifiers) = g else {
            return Err(SqlError::unsupported("GROUP BY ALL"));
        };
        if !modifiers.is_empty() {
            return Err(SqlError::unsupported("a GROUP BY modifier"));
        }
        let mut keys: Vec<(ColId, Expr)> = Vec::new();
        // Every element of GROUP BY is a list of sets; the clause is their product.
        let mut product: Vec<Vec<usize>> = vec![Vec::new()];
        let mut has_sets = false;
        for e in exprs {
            let sets: Vec<Vec<usize>> = match e {
                ast::Expr::GroupingSets(sets) => {
                    has_sets = true;
                    sets.iter().map(|s| self.group_set(s, items, scope, &mut keys)).collect::<Result<_>>()?
                }
                ast::Expr::Rollup(sets) => {
                    has_sets = true;
                    let parts: Vec<Vec<usize>> = sets
                        .iter()
                        .map(|s| self.group_set(s, items, scope, &mut keys))
                        .collect::<Result<_>>()?;
                    (0..=parts.len()).rev().map(|n| parts[..n].concat()).collect()
                }
                ast::Expr::Cube(sets) => {
                    has_sets = true;
                    let parts: Vec<Vec<usize>> = sets
                        .iter()
                        .map(|s| self.group_set(s, items, scope, &mut keys))
                        .collect::<Result<_>>()?;
                    if parts.len() > 12 {
                        return Err(SqlError::new(
                            SqlState::TOO_MANY_COLUMNS,
                            "CUBE is limited to 12 elements",
                        ));
                    }
                    (0..1usize << parts.len())
                        .rev()
                        .map(|m| {
                            (0..parts.len())
                                .filter(|i| m >> (parts.len() - 1 - i) & 1 == 1)
                                .flat_map(|i| parts[i].clone())
                                .collect()
                        })
                        .collect()
                }
                ast::Expr::Tuple(list) => vec![self.group_set(list, items, scope, &mut keys)?],
                other => vec![self.group_set(std::slice::from_ref(other), items, scope, &mut keys)?],
            };
            if product.len() * sets.len() > GROUPING_SETS_MAX {
                let message = format!("too many grouping sets present (maximum {GROUPING_SETS_MAX})");
                return Err(SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, message));
            }
            product = product
                .iter()
                .flat_map(|p| sets.iter().map(move |s| p.iter().chain(s).copied().collect::<Vec<_>>()))
                .collect();
        }
        Ok((keys, has_sets.then_some(product)))
    }

    fn group_set(
        &mut self,
        exprs: &[ast::Expr],
        items: &[Item],
        scope: &Scope<'_>,
        keys: &mut Vec<(ColId, Expr)>,
    ) -> Result<Vec<usize>> {
        let mut set = Vec::with_capacity(exprs.len());
        for e in exprs {
            if let ast::Expr::Tuple(inner) = e {
                set.extend(self.group_set(inner, items, scope, keys)?);
                continue;
            }
            let expr = self.group_key(e, items, scope)?;
            needs_equality(&expr.ty(), position(e))?;
            let known = keys.iter().position(|(_, k)| same_expr(k, &expr));
            set.push(match known {
                Some(i) => i,
                None => {
                    let id = match &expr {
                        Expr::Column { index, .. } => *index,
                        _ => self.new_col(),
                    };
                    keys.push((id, expr));
                    keys.len() - 1
                }
            });
        }
        Ok(set)
    }

    /// A column of the input comes before an output column's name here, unlike in ORDER BY.
    fn group_key(&mut self, e: &ast::Expr, items: &[Item], scope: &Scope<'_>) -> Result<Expr> {
        if let Some(i) = ordinal(e, "GROUP BY", items.len())? {
            return self.group_output(&items[i], position(e));
        }
        if let ast::Expr::Identifier(i) = e {
            let name = name_of(i);
            let here = Scope { parent: None, from: scope.from.clone(), ..Scope::default() };
            if let Some(found) = self.find_column(&here, &name, pos(i.span))? {
                return Ok(found);
            }
            let mut matches = items.iter().filter(|item| item.named.name == name);
            if let Some(first) = matches.next() {
                if matches.any(|m| !same_expr(&m.named.expr, &first.named.expr)) {
                    let message = format!("GROUP BY \"{name}\" is ambiguous");
                    return Err(SqlError::new(SqlState::AMBIGUOUS_COLUMN, message).at(pos(i.span)));
                }
                return self.group_output(first, pos(i.span));
            }
        }
        self.typed_expr(e, &mut Cx::new(scope, Clause::GroupBy))
    }

    fn group_output(&self, item: &Item, at: u32) -> Result<Expr> {
        let _ = at;
        Ok(item.named.expr.clone())
    }

    /// The output: a projection, duplicates dropped, sorted.
    fn project(
        &mut self,
        rel: Rel,
        items: Vec<Item>,
        sort: Vec<SortItem>,
        is_distinct: bool,
        distinct_on: Option<Vec<Expr>>,
    ) -> Result<BoundQuery> {
        let mut exprs: Vec<(ColId, Expr)> = Vec::with_capacity(items.len());
        let mut columns = Vec::with_capacity(items.len());
        for item in items {
            let ty = item.named.expr.ty();
            let col = self.project_expr(&mut exprs, item.named.expr);
            columns.push(OutCol {
                name: item.named.name,
                col,
                ty,
                origin: item.origin,
                untyped: item.untyped,
            });
        }
        let visible = exprs.len();
        let mut keys: Vec<Order> = Vec::with_capacity(sort.len());
        for s in sort {
            let before = exprs.len();
            let col = self.project_expr(&mut exprs, s.expr);
            if is_distinct && exprs.len() > before {
                let message = "for SELECT DISTINCT, ORDER BY expressions must appear in select list";
                return Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message).at(s.position));
            }
            // A second mention of a column decides nothing.
            if !keys.iter().any(|k| k.col == col) {
                keys.push(Order { col, descending: s.descending, nulls_first: s.nulls_first });
            }
        }
        let mut on_cols = None;
        if let Some(on) = distinct_on {
            let cols: Vec<ColId> = on.into_iter().map(|e| self.project_expr(&mut exprs, e)).collect();
            let set: HashSet<ColId> = cols.iter().copied().collect();
            let prefix = keys.iter().take_while(|k| set.contains(&k.col)).count();
            if prefix < keys.len()
                && keys[..prefix].iter().map(|k| k.col).collect::<HashSet<_>>().len() < set.len()
            {
                let message = "SELECT DISTINCT ON expressions must match initial ORDER BY expressions";
                return Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message));
            }
            on_cols = Some(cols);
        }
        let plain = exprs.iter().all(|(c, e)| matches!(e, Expr::Column { index, .. } if index == c));
        let mut rel = if plain && !is_distinct {
            rel
        } else {
            exprs.truncate(if is_distinct { visible } else { exprs.len() });
            Rel::Project { input: Box::new(rel), exprs }
        };
        if is_distinct {
            rel = Rel::Distinct { input: Box::new(rel) };
        }
        if let Some(cols) = on_cols {
            let mut order = keys.clone();
            for c in &cols {
                if !order.iter().any(|k| k.col == *c) {
                    order.push(Order { col: *c, descending: false, nulls_first: false });
                }
            }
            rel = Rel::DistinctOn { input: Box::new(rel), keys: cols, order };
        } else if !keys.is_empty() {
            rel = Rel::Sort { input: Box::new(rel), keys };
        }
        Ok(BoundQuery { rel, columns })
    }

    /// The column of an expression in a projection: its own identity for a plain column, a known one for an expression
    /// that is there already.
    fn project_expr(&mut self, exprs: &mut Vec<(ColId, Expr)>, e: Expr) -> ColId {
        if let Some((id, _)) = exprs.iter().find(|(_, known)| same_expr(known, &e)) {
            return *id;
        }
        let id = match &e {
            Expr::Column { index, .. } => *index,
            _ => self.new_col(),
        };
        exprs.push((id, e));
        id
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "all that a query level refers to is rewritten over its groups"
    )]
    fn aggregate_rel(
        &mut self,
        rel: Rel,
        g: Grouping,
        having: Option<Expr>,
        items: &mut [Item],
        sort: &mut [SortItem],
        distinct_on: &mut Option<Vec<Expr>>,
        parts: &mut Parts,
    ) -> Result<Rel> {
        let aggs = std::mem::take(&mut parts.aggregates.calls);
        for (_, k) in &g.keys {
            let used = k.cols();
            if aggs.iter().any(|(c, _)| used.contains(*c)) {
                let message = "aggregate functions are not allowed in GROUP BY";
                return Err(SqlError::new(SqlState::GROUPING_ERROR, message));
            }
        }
        let mut keys = g.keys;
        let mut used = ColSet::new();
        items.iter().for_each(|i| i.named.expr.collect_cols(&mut used));
        sort.iter().for_each(|s| s.expr.collect_cols(&mut used));
        having.iter().for_each(|h| h.collect_cols(&mut used));
        if g.sets.is_none() {
            add_dependent_keys(&rel, &mut keys, &used);
        }
        let mut allowed = ColSet::from_cols(keys.iter().map(|(c, _)| *c));
        allowed.extend(aggs.iter().map(|(c, _)| *c));
        let take = |e: &mut Expr| std::mem::replace(e, Expr::null(DataType::Unknown));
        for i in items.iter_mut() {
            i.named.expr = self.grouped(take(&mut i.named.expr), &keys, &allowed, &g.own, g.since)?;
        }
        for s in sort.iter_mut() {
            s.expr = self.grouped(take(&mut s.expr), &keys, &allowed, &g.own, g.since)?;
        }
        for e in distinct_on.iter_mut().flatten() {
            *e = self.grouped(take(e), &keys, &allowed, &g.own, g.since)?;
        }
        for (_, args, _) in &mut parts.functions {
            for a in args {
                *a = self.grouped(take(a), &keys, &allowed, &g.own, g.since)?;
            }
        }
        parts.windows.rewrite(&mut |e| self.grouped(e, &keys, &allowed, &g.own, g.since))?;
        let having = match having {
            Some(h) => Some(self.grouped(h, &keys, &allowed, &g.own, g.since)?),
            None => None,
        };
        let rel = Rel::Aggregate(Box::new(LogicalAggregate { input: rel, keys, sets: g.sets, aggs }));
        Ok(match having {
            Some(h) => rel.filter(conjuncts(h)),
            None => rel,
        })
    }
}

/// What a query level is grouped by.
struct Grouping {
    keys: Vec<(ColId, Expr)>,
    sets: Option<Vec<Vec<usize>>>,
    own: ColSet,
    since: usize,
}

/// A table whose whole primary key is grouped by determines its other columns: those that are used become keys too.
fn add_dependent_keys(rel: &Rel, keys: &mut Vec<(ColId, Expr)>, used: &ColSet) {
    if let Rel::Get(g) = rel {
        let grouped = |ordinal: usize| keys.iter().any(|(c, _)| *c == g.cols[ordinal]);
        let ordinals = g.table.key_ordinals();
        if !g.table.has_row_id() && ordinals.iter().all(|o| grouped(*o)) {
            let more: Vec<(ColId, Expr)> = g
                .cols
                .iter()
                .zip(&g.table.columns)
                .filter(|(c, _)| used.contains(**c) && !keys.iter().any(|(k, _)| k == *c))
                .map(|(c, d)| (*c, Expr::column(*c, d.ty.clone())))
                .collect();
            keys.extend(more);
        }
        return;
    }
    if matches!(rel, Rel::Filter { .. } | Rel::Join { .. }) {
        rel.for_each_input(&mut |r| add_dependent_keys(r, keys, used));
    }
}

fn item_position(item: &SelectItem) -> u32 {
    match item {
        SelectItem::UnnamedExpr(e) | SelectItem::ExprWithAlias { expr: e, .. } => position(e),
        _ => 0,
    }
}

fn refuse_locks(s: &ast::Select, grouped: bool, parts: &Parts) -> Result<()> {
    let what = if s.distinct.is_some() {
        "DISTINCT clause"
    } else if !matches!(&s.group_by, GroupByExpr::Expressions(e, _) if e.is_empty()) {
        "GROUP BY clause"
    } else if s.having.is_some() {
        "HAVING clause"
    } else if grouped {
        "aggregate functions"
    } else if !parts.windows.is_empty() {
        "window functions"
    } else if !parts.functions.is_empty() {
        "set-returning functions in the target list"
    } else {
        return Ok(());
    };
    Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, format!("FOR UPDATE is not allowed with {what}")))
}

fn unsupported_clauses(s: &ast::Select) -> Result<()> {
    let what = if s.top.is_some() {
        "TOP"
    } else if s.into.is_some() {
        "SELECT INTO"
    } else if !s.lateral_views.is_empty() {
        "LATERAL VIEW"
    } else if s.prewhere.is_some() {
        "PREWHERE"
    } else if !s.connect_by.is_empty() {
        "CONNECT BY"
    } else if !s.cluster_by.is_empty() || !s.distribute_by.is_empty() || !s.sort_by.is_empty() {
        "CLUSTER BY"
    } else if s.qualify.is_some() {
        "QUALIFY"
    } else if s.value_table_mode.is_some() {
        "AS STRUCT"
    } else if s.exclude.is_some() {
        "EXCLUDE"
    } else {
        return Ok(());
    };
    Err(SqlError::unsupported(what))
}

fn plain_wildcard(o: &ast::WildcardAdditionalOptions) -> Result<()> {
    if o.opt_ilike.is_some()
        || o.opt_exclude.is_some()
        || o.opt_except.is_some()
        || o.opt_replace.is_some()
        || o.opt_rename.is_some()
        || o.opt_alias.is_some()
    {
        return Err(SqlError::unsupported("an option of *"));
    }
    Ok(())
}

/// The table column that an expression is, for RowDescription.
fn origin_of(e: &Expr, scope: &Scope<'_>) -> (u32, i16) {
    let Expr::Column { index, .. } = e else { return (0, 0) };
    scope
        .from
        .tables
        .iter()
        .flat_map(|t| &t.columns)
        .find(|c| matches!(c.expr, Expr::Column { index: i, .. } if i == *index))
        .map_or((0, 0), |c| c.origin)
}

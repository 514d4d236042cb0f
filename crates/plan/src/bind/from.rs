//! FROM: tables, joins, subqueries, functions.

use std::sync::Arc;

use meridian_catalog::{Relation, TableRef, VirtualSource, VirtualTable, virtual_table};
use meridian_datum::{CastContext, DataType, Datum, Result, SqlError, SqlState, lookup_function};
use meridian_kv_api::{Locking, ReplicaChange};
use sqlparser::ast::{
    self, FunctionArg, FunctionArgExpr, JoinConstraint, JoinOperator, TableFactor, TableWithJoins,
};

use super::expr::{Clause, Cx, position};
use super::scope::{CteSource, FromScope, Scope, ScopeColumn, ScopeTable};
use super::{At, Binder, name_of, names_of, pos, position_of, undefined_table};
use crate::expr::Expr;
use crate::logical::{ColId, Get, Rel};
use crate::physical::{AdvisoryAction, AdvisoryCall, ClusterFunction, JoinKind, SetFunction};

/// A FROM item: its rows and its names.
pub(crate) struct FromItem {
    pub(crate) rel: Rel,
    pub(crate) scope: FromScope,
}

/// Functions that yield rows.
pub(super) fn is_set_returning(name: &str) -> bool {
    matches!(
        name,
        "generate_series"
            | "generate_subscripts"
            | "unnest"
            | "regexp_split_to_table"
            | "string_to_table"
            | "regexp_matches"
            | "pg_get_keywords"
            | "pg_options_to_table"
            | "meridian.truetime"
            | "meridian.split_at"
            | "meridian.check_table"
            | "meridian.merge_at"
            | "meridian.move_replica"
            | "meridian.transfer_leader"
            | "meridian.add_replica"
            | "meridian.add_witness"
            | "meridian.promote_replica"
            | "meridian.demote_replica"
            | "meridian.remove_replica"
    ) || AdvisoryCall::named(name).is_some()
}

impl Binder<'_> {
    /// A FROM clause: its items side by side.
    pub(crate) fn bind_from_clause(
        &mut self,
        items: &[TableWithJoins],
        parent: &Scope<'_>,
    ) -> Result<FromItem> {
        let mut all: Option<FromItem> = None;
        for item in items {
            let left = all.as_ref().map(|i| i.scope.clone()).unwrap_or_default();
            let next = self.table_with_joins(item, &left, parent)?;
            all = Some(match all {
                None => next,
                Some(left) => self.cross(left, next)?,
            });
        }
        Ok(all.unwrap_or_else(|| FromItem { rel: Rel::single_row(), scope: FromScope::default() }))
    }

    fn cross(&mut self, left: FromItem, right: FromItem) -> Result<FromItem> {
        self.size.join()?;
        cross(left, right)
    }

    /// A table and the joins after it. `left` are the items before it, which LATERAL items may see.
    pub(super) fn table_with_joins(
        &mut self,
        item: &TableWithJoins,
        left: &FromScope,
        parent: &Scope<'_>,
    ) -> Result<FromItem> {
        let mut acc = self.table_factor(&item.relation, left, parent)?;
        for join in &item.joins {
            let visible = left.clone().join(acc.scope.clone())?;
            let right = self.table_factor(&join.relation, &visible, parent)?;
            acc = self.join(acc, right, &join.join_operator, left, parent)?;
        }
        Ok(acc)
    }

    fn join(
        &mut self,
        left: FromItem,
        right: FromItem,
        operator: &JoinOperator,
        outside: &FromScope,
        parent: &Scope<'_>,
    ) -> Result<FromItem> {
        use JoinOperator as J;
        self.size.join()?;
        let (kind, constraint) = match operator {
            J::Join(c) | J::Inner(c) => (JoinKind::Inner, c),
            J::Left(c) | J::LeftOuter(c) => (JoinKind::Left, c),
            J::Right(c) | J::RightOuter(c) => (JoinKind::Right, c),
            J::FullOuter(c) => (JoinKind::Full, c),
            J::CrossJoin(_) => return cross(left, right),
            other => return Err(SqlError::unsupported(format!("join {other:?}"))),
        };
        let lateral = is_lateral(&left.rel, &right.rel);
        if lateral && matches!(kind, JoinKind::Right | JoinKind::Full) {
            let message = "invalid reference to FROM-clause entry";
            return Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message)
                .with_detail("The combining JOIN type must be INNER or LEFT for a LATERAL reference."));
        }
        let (on, scope) = match constraint {
            JoinConstraint::On(e) => {
                let both = left.scope.clone().join(right.scope.clone())?;
                let mut scope = Scope::child(parent);
                scope.from = hide(outside.clone()).join(both.clone())?;
                let condition = self.condition(e, &mut Cx::new(&scope, Clause::JoinOn))?;
                (conjuncts(condition), both)
            }
            JoinConstraint::Using(names) => {
                let names = names
                    .iter()
                    .map(|n| Ok((names_of(n)?.pop().unwrap_or_default(), position_of(n))))
                    .collect::<Result<Vec<_>>>()?;
                self.using(&left.scope, &right.scope, &names, kind)?
            }
            JoinConstraint::Natural => {
                let mut names = Vec::new();
                for (c, _) in left.scope.columns.iter().filter(|(c, _)| !c.hidden) {
                    if right.scope.columns.iter().any(|(r, _)| !r.hidden && r.name == c.name) {
                        names.push((c.name.to_string(), 0));
                    }
                }
                self.using(&left.scope, &right.scope, &names, kind)?
            }
            JoinConstraint::None => {
                let message = "syntax error: a join needs ON, USING or NATURAL";
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
            }
        };
        let rel = Rel::Join { kind, left: Box::new(left.rel), right: Box::new(right.rel), on, lateral };
        Ok(FromItem { rel, scope })
    }

    /// `USING (names)`: the condition, and the scope in which the columns are merged.
    fn using(
        &mut self,
        left: &FromScope,
        right: &FromScope,
        names: &[(String, u32)],
        kind: JoinKind,
    ) -> Result<(Vec<Expr>, FromScope)> {
        let mut pairs = Vec::with_capacity(names.len());
        let mut merged = Vec::with_capacity(names.len());
        for (name, at) in names {
            let l = using_column(left, name, "left").at(*at)?;
            let r = using_column(right, name, "right").at(*at)?;
            pairs.push((l.0.expr.clone(), r.0.expr.clone()));
            let expr = match kind {
                JoinKind::Right => r.0.expr.clone(),
                JoinKind::Full => {
                    let mut both = [(l.0.expr.clone(), *at), (r.0.expr.clone(), *at)];
                    let ty = self.unify("JOIN/USING", &mut both)?;
                    Expr::Coalesce { args: both.into_iter().map(|(e, _)| e).collect(), ty }
                }
                _ => l.0.expr.clone(),
            };
            let origin = if kind == JoinKind::Full { (0, 0) } else { l.0.origin };
            merged.push((ScopeColumn { name: l.0.name.clone(), expr, hidden: false, origin }, l.1));
        }
        let condition = self.equal_pairs(pairs, names.first().map_or(0, |n| n.1))?;
        let is_merged = |c: &ScopeColumn| names.iter().any(|(n, _)| **n == *c.name);
        let mut scope = left.clone().join(right.clone())?;
        let rest: Vec<_> = scope.columns.drain(..).filter(|(c, _)| !is_merged(c)).collect();
        scope.columns = merged;
        scope.columns.extend(rest);
        Ok((conjuncts(condition), scope))
    }

    fn table_factor(&mut self, t: &TableFactor, left: &FromScope, parent: &Scope<'_>) -> Result<FromItem> {
        match t {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                sample,
                ..
            } => {
                if !with_hints.is_empty() || version.is_some() || !partitions.is_empty() || sample.is_some() {
                    return Err(SqlError::unsupported("TABLESAMPLE or a table hint").at(position_of(name)));
                }
                match args {
                    Some(a) => {
                        self.table_function(name, &a.args, *with_ordinality, alias.as_ref(), left, parent)
                    }
                    None => self.named_table(name, alias.as_ref(), parent),
                }
            }
            TableFactor::Function { name, args, with_ordinality, alias, .. } => {
                self.table_function(name, args, *with_ordinality, alias.as_ref(), left, parent)
            }
            TableFactor::UNNEST { alias, array_exprs, with_offset, with_ordinality, .. } => {
                if *with_offset {
                    return Err(SqlError::unsupported("UNNEST WITH OFFSET"));
                }
                let exprs: Vec<&ast::Expr> = array_exprs.iter().collect();
                self.function_item("unnest", &exprs, *with_ordinality, alias.as_ref(), left, parent, 0)
            }
            TableFactor::Derived { lateral, subquery, alias, sample } => {
                if sample.is_some() {
                    return Err(SqlError::unsupported("TABLESAMPLE"));
                }
                self.derived(*lateral, subquery, alias.as_ref(), left, parent)
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                let item = self.table_with_joins(table_with_joins, left, parent)?;
                match alias {
                    None => Ok(item),
                    Some(a) => {
                        let columns = item.scope.columns.into_iter().map(|(c, _)| c).collect();
                        named(item.rel, columns, None, a)
                    }
                }
            }
            other => Err(SqlError::unsupported(format!("FROM item {other}"))),
        }
    }

    fn named_table(
        &mut self,
        name: &ast::ObjectName,
        alias: Option<&ast::TableAlias>,
        parent: &Scope<'_>,
    ) -> Result<FromItem> {
        let parts = names_of(name)?;
        let at = position_of(name);
        if let [single] = parts.as_slice()
            && parent.cte(single).is_some()
        {
            return self.cte_item(single, alias, parent, at);
        }
        match self.relation(&parts, at)? {
            Relation::Table(t) => {
                let rel = self.get(&t, Locking::SHARED);
                let schema = self.ctx.snapshot.schema_name(&t).to_owned();
                self.table_item(&t, rel, Some(schema.into()), alias)
            }
            Relation::Virtual(v) => self.virtual_item(&v, alias),
            Relation::Index(t, id) => {
                let _ = (t, id);
                let what = parts.last().map_or("", String::as_str);
                let message = format!("cannot open relation \"{what}\"");
                Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message)
                    .with_detail("This operation is not supported for indexes.")
                    .at(at))
            }
        }
    }

    /// A table with fresh identities.
    pub(super) fn get(&mut self, table: &TableRef, locking: Locking) -> Get {
        self.note_table(table);
        let cols = self.new_cols(table.columns.len());
        let virtuals = self.new_cols(table.expressions().count());
        Get { table: table.clone(), cols, virtuals, locking, for_update: false }
    }

    /// The names of a table.
    pub(super) fn table_item(
        &mut self,
        table: &TableRef,
        get: Get,
        schema: Option<Arc<str>>,
        alias: Option<&ast::TableAlias>,
    ) -> Result<FromItem> {
        let mut columns = table_columns(table, &get.cols);
        let key = table.key_ordinals();
        let witness = key.first().map(|o| columns[*o].expr.clone());
        columns.push(tableoid(table.id.oid(), witness));
        let rel = Rel::Get(Box::new(get));
        match alias {
            Some(a) => named(rel, columns, None, a),
            None => {
                let name: Arc<str> = table.name.as_str().into();
                Ok(FromItem {
                    rel,
                    scope: FromScope::of_table(ScopeTable { alias: name, schema, columns, invisible: false }),
                })
            }
        }
    }

    fn virtual_item(&mut self, v: &Arc<VirtualTable>, alias: Option<&ast::TableAlias>) -> Result<FromItem> {
        let cols = self.new_cols(v.columns.len());
        let mut columns: Vec<ScopeColumn> = v
            .columns
            .iter()
            .zip(&cols)
            .enumerate()
            .map(|(i, (c, id))| ScopeColumn {
                name: c.name.into(),
                expr: Expr::column(*id, c.ty.clone()),
                hidden: false,
                origin: (v.oid, i as i16 + 1),
            })
            .collect();
        let witness = columns.iter().find(|c| &*c.name == "oid").map(|c| c.expr.clone());
        columns.push(tableoid(v.oid, witness));
        let rel = Rel::Virtual { table: v.clone(), cols };
        match alias {
            Some(a) => named(rel, columns, None, a),
            None => Ok(FromItem {
                rel,
                scope: FromScope::of_table(ScopeTable {
                    alias: v.name.into(),
                    schema: Some(v.schema.into()),
                    columns,
                    invisible: false,
                }),
            }),
        }
    }

    fn cte_item(
        &mut self,
        name: &str,
        alias: Option<&ast::TableAlias>,
        parent: &Scope<'_>,
        at: u32,
    ) -> Result<FromItem> {
        let Some(entry) = parent.cte(name) else { return Err(undefined_table(&[name.to_owned()]).at(at)) };
        let (rel, cols) = match &entry.source {
            CteSource::Materialized { index } => {
                let cols = self.new_cols(entry.columns.len());
                let types = entry.columns.iter().map(|(_, t)| t.clone()).collect();
                (Rel::Cte { index: *index, cols: cols.clone(), types }, cols)
            }
            CteSource::Inline { rel, cols } => {
                self.size.inline(rel)?;
                self.refresh(rel, cols)
            }
            CteSource::Work { index, depth } => {
                if *depth != self.subquery_depth {
                    return Err(super::recursive::within(name, "a subquery").at(at));
                }
                let cols = self.new_cols(entry.columns.len());
                let types = entry.columns.iter().map(|(_, t)| t.clone()).collect();
                (Rel::Work { index: *index, cols: cols.clone(), types }, cols)
            }
            CteSource::NoRows => {
                let message = format!("WITH query \"{name}\" does not have a RETURNING clause");
                return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message).at(at));
            }
        };
        let columns = entry
            .columns
            .iter()
            .zip(&cols)
            .map(|((n, ty), id)| ScopeColumn {
                name: n.clone(),
                expr: Expr::column(*id, ty.clone()),
                hidden: false,
                origin: (0, 0),
            })
            .collect();
        match alias {
            Some(a) => named(rel, columns, None, a),
            None => Ok(FromItem {
                rel,
                scope: FromScope::of_table(ScopeTable {
                    alias: name.into(),
                    schema: None,
                    columns,
                    invisible: false,
                }),
            }),
        }
    }

    fn derived(
        &mut self,
        lateral: bool,
        subquery: &ast::Query,
        alias: Option<&ast::TableAlias>,
        left: &FromScope,
        parent: &Scope<'_>,
    ) -> Result<FromItem> {
        let bound = if lateral {
            let mut scope = Scope::child(parent);
            scope.from = left.clone();
            self.query(subquery, &scope)?
        } else {
            // Names of sibling items are known to be there, and may not be used: the error says so.
            let mut scope = Scope::child(parent);
            scope.from = hide(left.clone());
            self.query(subquery, &scope)?
        };
        let columns = bound
            .columns
            .iter()
            .map(|c| ScopeColumn {
                name: c.name.as_str().into(),
                expr: Expr::column(c.col, c.ty.clone()),
                hidden: false,
                origin: c.origin,
            })
            .collect();
        match alias {
            Some(a) => named(bound.rel, columns, None, a),
            None => {
                let message = "subquery in FROM must have an alias";
                Err(SqlError::new(SqlState::SYNTAX_ERROR, message)
                    .with_hint("For example, FROM (SELECT ...) [AS] foo.")
                    .at(pos(ast::Spanned::span(subquery)).saturating_sub(1)))
            }
        }
    }

    fn table_function(
        &mut self,
        name: &ast::ObjectName,
        args: &[FunctionArg],
        ordinality: bool,
        alias: Option<&ast::TableAlias>,
        left: &FromScope,
        parent: &Scope<'_>,
    ) -> Result<FromItem> {
        let parts = names_of(name)?;
        let at = position_of(name);
        let function = match parts.as_slice() {
            [n] => n.clone(),
            [s, n] if s == "pg_catalog" => n.clone(),
            [s, n] if s == "meridian" => format!("meridian.{n}"),
            _ => {
                let message = format!("function {}() does not exist", parts.join("."));
                return Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, message).at(at));
            }
        };
        let mut exprs = Vec::with_capacity(args.len());
        for a in args {
            match a {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => exprs.push(e),
                _ => return Err(SqlError::unsupported("this form of argument").at(at)),
            }
        }
        self.function_item(&function, &exprs, ordinality, alias, left, parent, at)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one grammar rule")]
    fn function_item(
        &mut self,
        name: &str,
        args: &[&ast::Expr],
        ordinality: bool,
        alias: Option<&ast::TableAlias>,
        left: &FromScope,
        parent: &Scope<'_>,
        at: u32,
    ) -> Result<FromItem> {
        let mut scope = Scope::child(parent);
        scope.from = left.clone();
        let mut cx = Cx::new(&scope, Clause::FromFunction);
        let mut bound = Vec::with_capacity(args.len());
        for a in args {
            bound.push((self.expr(a, &mut cx)?, position(a)));
        }
        let short = name.rsplit('.').next().unwrap_or(name);
        let (function, args, mut outputs) = self.set_function(name, bound, at)?;
        if ordinality {
            outputs.push(("ordinality".into(), DataType::Int8));
        }
        let cols = self.new_cols(outputs.len());
        // A function's only column takes the alias of the table.
        let single = outputs.len() == 1 + usize::from(ordinality);
        let columns = outputs
            .iter()
            .zip(&cols)
            .enumerate()
            .map(|(i, ((n, ty), id))| ScopeColumn {
                name: match alias {
                    Some(a) if single && i == 0 => name_of(&a.name).into(),
                    _ => n.clone(),
                },
                expr: Expr::column(*id, ty.clone()),
                hidden: false,
                origin: (0, 0),
            })
            .collect();
        let rel = Rel::Function { function, args, ordinality, cols };
        match alias {
            Some(a) => named(rel, columns, None, a),
            None => Ok(FromItem {
                rel,
                scope: FromScope::of_table(ScopeTable {
                    alias: short.into(),
                    schema: None,
                    columns,
                    invisible: false,
                }),
            }),
        }
    }

    /// A function in FROM: which, its arguments as it takes them, and its columns.
    pub(super) fn set_function(
        &mut self,
        name: &str,
        args: Vec<(Expr, u32)>,
        at: u32,
    ) -> Result<(SetFunction, Vec<Expr>, Vec<(Arc<str>, DataType)>)> {
        let undefined = |args: &[(Expr, u32)]| {
            let types: Vec<String> = args.iter().map(|(a, _)| a.ty().to_string()).collect();
            let message = format!("function {name}({}) does not exist", types.join(", "));
            SqlError::new(SqlState::UNDEFINED_FUNCTION, message)
                .with_hint(
                    "No function matches the given name and argument types. You might need to add explicit type casts.",
                )
                .at(at)
        };
        if let Some(call) = AdvisoryCall::named(name) {
            return self.advisory_function(name, call, args, at);
        }
        match name {
            "generate_series" => {
                if !(2..=3).contains(&args.len()) {
                    return Err(undefined(&args));
                }
                let (function, args, ty) = self.generate_series(args, at)?;
                Ok((function, args, vec![(name.into(), ty)]))
            }
            "generate_subscripts" => {
                let mut exprs = args.into_iter();
                let (Some((array, _)), Some((dim, p)), None) = (exprs.next(), exprs.next(), exprs.next())
                else {
                    return Err(undefined(&[]));
                };
                let dim = self.coerce(dim, &DataType::Int4, CastContext::Implicit, p)?;
                Ok((SetFunction::GenerateSubscripts, vec![array, dim], vec![(name.into(), DataType::Int4)]))
            }
            "unnest" => {
                let mut outputs = Vec::with_capacity(args.len());
                for (a, _) in &args {
                    match a.ty().element() {
                        Some(t) => outputs.push((Arc::<str>::from("unnest"), t)),
                        None => return Err(undefined(&args)),
                    }
                }
                Ok((SetFunction::Unnest, args.into_iter().map(|(a, _)| a).collect(), outputs))
            }
            "regexp_split_to_table" | "string_to_table" | "regexp_matches" => {
                let scalar = match name {
                    "regexp_split_to_table" => "regexp_split_to_array",
                    "string_to_table" => "string_to_array",
                    _ => return Err(SqlError::unsupported("regexp_matches").at(at)),
                };
                let types: Vec<DataType> = args.iter().map(|(a, _)| a.ty()).collect();
                let function = lookup_function(scalar, &types).at(at)?;
                let mut cast = Vec::with_capacity(args.len());
                for ((a, p), t) in args.into_iter().zip(&function.arg_types) {
                    cast.push(self.coerce(a, t, CastContext::Implicit, p)?);
                }
                Ok((SetFunction::UnnestCall(Arc::new(function)), cast, vec![(name.into(), DataType::Text)]))
            }
            "pg_get_keywords" => {
                let columns = ["word", "catcode", "barelabel", "catdesc", "baredesc"];
                let outputs = columns.iter().map(|c| (Arc::<str>::from(*c), DataType::Text)).collect();
                Ok((SetFunction::Empty, Vec::new(), outputs))
            }
            "pg_options_to_table" => {
                let columns = ["option_name", "option_value"];
                let outputs = columns.iter().map(|c| (Arc::<str>::from(*c), DataType::Text)).collect();
                Ok((SetFunction::Empty, Vec::new(), outputs))
            }
            _ => match name.strip_prefix("meridian.") {
                Some(short) => self.cluster_function(short, args, at),
                None => {
                    let exprs: Vec<Expr> = args.into_iter().map(|(a, _)| a).collect();
                    let call = self.call_named(name, exprs, at)?;
                    let call = self.settle(call)?;
                    let ty = call.ty();
                    Ok((SetFunction::Scalar(call), Vec::new(), vec![(name.into(), ty)]))
                }
            },
        }
    }

    fn generate_series(
        &mut self,
        args: Vec<(Expr, u32)>,
        at: u32,
    ) -> Result<(SetFunction, Vec<Expr>, DataType)> {
        let types: Vec<DataType> = args.iter().map(|(a, _)| a.ty()).collect();
        let temporal =
            |t: &DataType| matches!(t, DataType::Date | DataType::Timestamp | DataType::TimestampTz);
        let missing = || {
            let names: Vec<String> = types.iter().map(ToString::to_string).collect();
            let message = format!("function generate_series({}) does not exist", names.join(", "));
            SqlError::new(SqlState::UNDEFINED_FUNCTION, message).at(at)
        };
        let (ty, step_ty) = if types[..2].iter().any(temporal) {
            let zoned = types[..2].iter().any(|t| matches!(t, DataType::TimestampTz | DataType::Date));
            if types.len() != 3 {
                return Err(missing());
            }
            (if zoned { DataType::TimestampTz } else { DataType::Timestamp }, DataType::Interval)
        } else if types.iter().any(|t| matches!(t, DataType::Numeric(_))) {
            (DataType::Numeric(None), DataType::Numeric(None))
        } else if types.contains(&DataType::Int8) {
            (DataType::Int8, DataType::Int8)
        } else if types.iter().all(|t| matches!(t, DataType::Int4 | DataType::Int2 | DataType::Unknown)) {
            (DataType::Int4, DataType::Int4)
        } else {
            return Err(missing());
        };
        let mut out = Vec::with_capacity(3);
        for (i, (a, p)) in args.into_iter().enumerate() {
            let to = if i == 2 { &step_ty } else { &ty };
            out.push(self.coerce(a, to, CastContext::Implicit, p)?);
        }
        if out.len() == 2 {
            let one = Expr::Const(Datum::Int(1), DataType::Int4);
            out.push(self.coerce(one, &step_ty, CastContext::Implicit, at)?);
        }
        Ok((SetFunction::GenerateSeries(ty.clone()), out, ty))
    }

    fn advisory_function(
        &mut self,
        name: &str,
        call: AdvisoryCall,
        args: Vec<(Expr, u32)>,
        at: u32,
    ) -> Result<(SetFunction, Vec<Expr>, Vec<(Arc<str>, DataType)>)> {
        let given: Vec<String> = args.iter().map(|(a, _)| a.ty().to_string()).collect();
        let undefined = || {
            let message = format!("function {name}({}) does not exist", given.join(", "));
            SqlError::new(SqlState::UNDEFINED_FUNCTION, message).at(at)
        };
        let types: &[DataType] = match (args.len(), call.action) {
            (0, AdvisoryAction::UnlockAll) => &[],
            (1, AdvisoryAction::Lock | AdvisoryAction::TryLock | AdvisoryAction::Unlock) => &[DataType::Int8],
            (2, AdvisoryAction::Lock | AdvisoryAction::TryLock | AdvisoryAction::Unlock) => {
                &[DataType::Int4, DataType::Int4]
            }
            _ => return Err(undefined()),
        };
        let mut out = Vec::with_capacity(args.len());
        for ((a, p), ty) in args.into_iter().zip(types) {
            // A literal that is no number says so itself.
            let is_untyped = a.ty() == DataType::Unknown;
            let taken = self.coerce(a, ty, CastContext::Implicit, p);
            out.push(taken.map_err(|e| if is_untyped { e } else { undefined() })?);
        }
        let function = ClusterFunction::Advisory(call);
        Ok((SetFunction::Cluster(function), out, vec![(name.into(), function.result_type())]))
    }

    fn cluster_function(
        &mut self,
        name: &str,
        args: Vec<(Expr, u32)>,
        at: u32,
    ) -> Result<(SetFunction, Vec<Expr>, Vec<(Arc<str>, DataType)>)> {
        if let Some(v) = virtual_table("meridian", name).filter(|_| args.is_empty())
            && matches!(v.source, VirtualSource::Cluster(_))
        {
            let outputs = v.columns.iter().map(|c| (Arc::<str>::from(c.name), c.ty.clone())).collect();
            return Ok((SetFunction::Virtual(v), Vec::new(), outputs));
        }
        let (function, count) = match name {
            "split_at" => (ClusterFunction::SplitAt, None),
            "check_table" => (ClusterFunction::CheckTable, None),
            "merge_at" => (ClusterFunction::MergeAt, None),
            "move_replica" => (ClusterFunction::MoveReplica, Some(3)),
            "add_replica" => (ClusterFunction::ChangeReplica(ReplicaChange::Add), Some(2)),
            "add_witness" => (ClusterFunction::ChangeReplica(ReplicaChange::AddWitness), Some(2)),
            "promote_replica" => (ClusterFunction::ChangeReplica(ReplicaChange::Promote), Some(2)),
            "demote_replica" => (ClusterFunction::ChangeReplica(ReplicaChange::Demote), Some(2)),
            "remove_replica" => (ClusterFunction::ChangeReplica(ReplicaChange::Remove), Some(2)),
            "transfer_leader" => (ClusterFunction::TransferLeader, Some(2)),
            _ => {
                let message = format!("function meridian.{name}() does not exist");
                return Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, message).at(at));
            }
        };
        let is_one = function == ClusterFunction::CheckTable;
        if count.is_some_and(|n| n != args.len())
            || count.is_none() && args.is_empty()
            || is_one && args.len() != 1
        {
            let message = format!("wrong number of arguments for meridian.{name}");
            return Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, message).at(at));
        }
        let mut out = Vec::with_capacity(args.len());
        for (i, (a, p)) in args.into_iter().enumerate() {
            out.push(match (count, i) {
                (Some(_), _) => self.coerce(a, &DataType::Int8, CastContext::Assignment, p)?,
                (None, 0) => self.coerce(a, &DataType::Text, CastContext::Assignment, p)?,
                // Key values stay as they are: the executor casts them to the key's types.
                (None, _) => self.settle(a)?,
            });
        }
        Ok((SetFunction::Cluster(function), out, vec![(name.into(), DataType::Bool)]))
    }
}

/// The names of a stored table's columns.
pub(super) fn table_columns(table: &TableRef, cols: &[ColId]) -> Vec<ScopeColumn> {
    table
        .columns
        .iter()
        .zip(cols)
        .map(|(c, id)| ScopeColumn {
            name: c.name.as_str().into(),
            expr: Expr::column(*id, c.ty.clone()),
            hidden: c.hidden,
            origin: (table.id.oid(), c.id.0 as i16),
        })
        .collect()
}

/// The system column `tableoid`: the table's oid where there is a row. An outer join has rows in which there is none, which
/// a column that is never null tells.
fn tableoid(oid: u32, never_null: Option<Expr>) -> ScopeColumn {
    let value = Expr::Const(Datum::Int(i64::from(oid)), DataType::Oid);
    let expr = match never_null {
        None => value,
        Some(column) => Expr::Case {
            branches: vec![(Expr::IsNull { input: Box::new(column), negated: true }, value)],
            otherwise: Box::new(Expr::null(DataType::Oid)),
            ty: DataType::Oid,
        },
    };
    ScopeColumn { name: "tableoid".into(), expr, hidden: true, origin: (0, 0) }
}

/// A FROM item under an alias, its columns renamed as far as the alias says.
fn named(
    rel: Rel,
    columns: Vec<ScopeColumn>,
    schema: Option<Arc<str>>,
    alias: &ast::TableAlias,
) -> Result<FromItem> {
    let name: Arc<str> = name_of(&alias.name).into();
    let mut columns = columns;
    let visible = columns.iter().filter(|c| !c.hidden).count();
    if alias.columns.len() > visible {
        let message = format!(
            "table \"{name}\" has {visible} columns available but {} columns specified",
            alias.columns.len()
        );
        return Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message).at(pos(alias.name.span)));
    }
    for (c, a) in columns.iter_mut().filter(|c| !c.hidden).zip(&alias.columns) {
        if a.data_type.is_some() {
            return Err(SqlError::unsupported("a column definition list").at(pos(a.name.span)));
        }
        c.name = name_of(&a.name).into();
    }
    Ok(FromItem {
        rel,
        scope: FromScope::of_table(ScopeTable { alias: name, schema, columns, invisible: false }),
    })
}

fn cross(left: FromItem, right: FromItem) -> Result<FromItem> {
    let lateral = is_lateral(&left.rel, &right.rel);
    let scope = left.scope.join(right.scope)?;
    let rel = Rel::Join {
        kind: JoinKind::Inner,
        left: Box::new(left.rel),
        right: Box::new(right.rel),
        on: Vec::new(),
        lateral,
    };
    Ok(FromItem { rel, scope })
}

/// Whether the right side reads columns of the left.
fn is_lateral(left: &Rel, right: &Rel) -> bool {
    let free = right.free_cols();
    !free.is_empty() && free.intersects(&left.all_cols())
}

fn hide(mut scope: FromScope) -> FromScope {
    for t in &mut scope.tables {
        t.invisible = true;
    }
    scope
}

fn using_column<'s>(scope: &'s FromScope, name: &str, side: &str) -> Result<&'s (ScopeColumn, usize)> {
    let mut found = None;
    for c in scope.columns.iter().filter(|(c, _)| *c.name == *name && !c.hidden) {
        if found.is_some() {
            let message = format!("common column name \"{name}\" appears more than once in {side} table");
            return Err(SqlError::new(SqlState::AMBIGUOUS_COLUMN, message));
        }
        found = Some(c);
    }
    found.ok_or_else(|| {
        let message = format!("column \"{name}\" specified in USING clause does not exist in {side} table");
        SqlError::new(SqlState::UNDEFINED_COLUMN, message)
    })
}

/// The parts of a conjunction.
pub(crate) fn conjuncts(e: Expr) -> Vec<Expr> {
    match e {
        Expr::And(parts) => parts,
        Expr::Const(Datum::Bool(true), _) => Vec::new(),
        other => vec![other],
    }
}

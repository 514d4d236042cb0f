//! Plans as text, in the manner of PostgreSQL's EXPLAIN.
//!
//! Columns are shown by name where they have one, so the names of every operator's output are worked out alongside.

mod ddl;
mod show;

use meridian_catalog::{CatalogSnapshot, IndexId};
use meridian_datum::{EvalContext, to_text};

use crate::expr::Expr;
use crate::modify::{ConflictAction, InsertSource, Modify, ModifyAction, PointSelect};
use crate::physical::{JoinKind, Operator, Plan, SetFunction, SetOpKind, SortKey, SpanBound, SpanKey, Spans};
use crate::planned::{PlannedStatement, StatementPlan};
use show::{list, show};

/// The lines of a statement's plan. The snapshot is the one that it was planned on.
pub(crate) fn explain(statement: &PlannedStatement, costs: bool, snapshot: &CatalogSnapshot) -> Vec<String> {
    let mut e = Explainer { lines: Vec::new(), costs, eval: EvalContext::default(), snapshot };
    match &statement.plan {
        StatementPlan::Query(p) => {
            e.plan(p, 0);
        }
        StatementPlan::PointSelect(p) => e.point_select(p),
        StatementPlan::PointUpdate(p) => {
            e.line(0, &format!("Point Update on {}", p.table.name), 1.0);
            e.point(1, &p.table, &p.key, p.filter.as_ref());
        }
        StatementPlan::PointDelete(p) => {
            e.line(0, &format!("Point Delete on {}", p.table.name), 1.0);
            e.point(1, &p.table, &p.key, p.filter.as_ref());
        }
        StatementPlan::PointInsert(m) => {
            let rows = match &m.action {
                ModifyAction::Insert { source: InsertSource::Rows(r), .. } => r.len(),
                _ => 1,
            };
            e.line(0, &format!("Point Insert on {}", m.table.name), rows as f64);
        }
        StatementPlan::Ddl(d) => e.ddl(d),
        StatementPlan::Session(_) => e.line(0, "Utility Statement", 0.0),
        StatementPlan::Explain(inner) => return inner.lines.clone(),
    }
    for (i, cte) in statement.ctes.iter().enumerate() {
        e.detail(0, &format!("CTE {i}"));
        e.plan(cte, 1);
    }
    e.lines
}

pub(super) struct Explainer<'a> {
    lines: Vec<String>,
    costs: bool,
    pub(super) eval: EvalContext,
    snapshot: &'a CatalogSnapshot,
}

impl Explainer<'_> {
    fn line(&mut self, depth: usize, text: &str, rows: f64) {
        let arrow =
            if depth == 0 { String::new() } else { format!("{}->  ", "      ".repeat(depth - 1) + "  ") };
        let cost = if self.costs { format!("  (rows={})", rows.round() as u64) } else { String::new() };
        self.lines.push(format!("{arrow}{text}{cost}"));
    }

    fn detail(&mut self, depth: usize, text: &str) {
        let indent = if depth == 0 { 2 } else { depth * 6 + 2 };
        self.lines.push(format!("{}{text}", " ".repeat(indent)));
    }

    fn point_select(&mut self, p: &PointSelect) {
        self.line(0, &format!("Point Select on {}", p.table.name), 1.0);
        let names: Vec<String> = p.columns.iter().map(|o| p.table.columns[*o].name.clone()).collect();
        let filter = p.filter.as_ref().map(|f| show(self, f, &names));
        self.point(1, &p.table, &p.key, None);
        if let Some(f) = filter {
            self.detail(0, &format!("Filter: {f}"));
        }
    }

    fn point(
        &mut self,
        _depth: usize,
        table: &meridian_catalog::TableDesc,
        key: &[Expr],
        filter: Option<&Expr>,
    ) {
        let parts: Vec<String> = table
            .key_ordinals()
            .iter()
            .zip(key)
            .map(|(o, e)| format!("{} = {}", table.columns[*o].name, show(self, e, &[])))
            .collect();
        self.detail(0, &format!("Key: ({})", parts.join(" AND ")));
        if let Some(f) = filter {
            let names: Vec<String> = table.columns.iter().map(|c| c.name.clone()).collect();
            let f = show(self, f, &names);
            self.detail(0, &format!("Filter: {f}"));
        }
    }

    /// Adds a plan's lines; returns the names of its columns.
    pub(super) fn plan(&mut self, p: &Plan, depth: usize) -> Vec<String> {
        match &p.op {
            Operator::Scan(s) => {
                let names = table_names(&s.table, &s.columns);
                self.line(depth, &scan_title(s), p.rows);
                self.spans(depth, &s.table, s.index, &s.spans);
                self.filter(depth, s.filter.as_ref(), &names);
                if let Some(l) = &s.limit {
                    let l = show(self, l, &[]);
                    self.detail(depth, &format!("Limit: {l}"));
                }
                names
            }
            Operator::IndexJoin(j) => {
                let names = table_names(&j.table, &j.columns);
                self.line(depth, &format!("Index Join on {}", j.table.name), p.rows);
                self.filter(depth, j.filter.as_ref(), &names);
                self.plan(&j.input, depth + 1);
                names
            }
            Operator::LookupJoin(j) => self.lookup_join(p, j, depth),
            Operator::HashJoin(j) => {
                let at = self.lines.len();
                let left = self.plan(&j.left, depth + 1);
                let right = self.plan(&j.right, depth + 1);
                let below = self.lines.split_off(at);
                self.line(depth, &format!("Hash {}", join_name(j.kind)), p.rows);
                let conds: Vec<String> = j
                    .left_keys
                    .iter()
                    .zip(&j.right_keys)
                    .map(|(a, b)| format!("({} = {})", show(self, a, &left), show(self, b, &right)))
                    .collect();
                let cond =
                    if conds.len() == 1 { conds[0].clone() } else { format!("({})", conds.join(" AND ")) };
                self.detail(depth, &format!("Hash Cond: {cond}"));
                let both = [left, right].concat();
                self.join_filter(depth, j.on.as_ref(), &both);
                self.lines.extend(below);
                joined(j.kind, both, j.left.types.len())
            }
            Operator::NestedLoopJoin(j) => {
                let at = self.lines.len();
                let left = self.plan(&j.left, depth + 1);
                let right = self.plan(&j.right, depth + 1);
                let below = self.lines.split_off(at);
                self.line(depth, &nested_name("Nested Loop", j.kind), p.rows);
                let both = [left, right].concat();
                self.join_filter(depth, j.on.as_ref(), &both);
                self.lines.extend(below);
                joined(j.kind, both, j.left.types.len())
            }
            Operator::Apply(a) => {
                let at = self.lines.len();
                let left = self.plan(&a.left, depth + 1);
                let right = self.plan(&a.right, depth + 1);
                let below = self.lines.split_off(at);
                self.line(depth, &nested_name("Apply", a.kind), p.rows);
                let args = list(self, &a.args, &left);
                if !a.args.is_empty() {
                    self.detail(depth, &format!("Args: {args}"));
                }
                let both = [left, right].concat();
                self.join_filter(depth, a.on.as_ref(), &both);
                self.lines.extend(below);
                joined(a.kind, both, a.left.types.len())
            }
            Operator::Filter { input, condition } => {
                let at = self.lines.len();
                let names = self.plan(input, depth + 1);
                let below = self.lines.split_off(at);
                self.line(depth, "Filter", p.rows);
                self.filter(depth, Some(condition), &names);
                self.lines.extend(below);
                names
            }
            Operator::Project { input, exprs } => {
                let at = self.lines.len();
                let names = self.plan(input, depth + 1);
                let below = self.lines.split_off(at);
                self.line(depth, "Project", p.rows);
                let out: Vec<String> = exprs.iter().map(|e| show(self, e, &names)).collect();
                self.detail(depth, &format!("Output: {}", out.join(", ")));
                self.lines.extend(below);
                out
            }
            Operator::Aggregate(a) => self.aggregate(p, a, depth),
            Operator::Distinct { input } => self.simple("Distinct", p, input, depth),
            Operator::DistinctOn { input, keys } => {
                let at = self.lines.len();
                let names = self.plan(input, depth + 1);
                let below = self.lines.split_off(at);
                self.line(depth, "Distinct On", p.rows);
                let keys: Vec<&str> = keys.iter().map(|k| names[*k].as_str()).collect();
                self.detail(depth, &format!("Key: {}", keys.join(", ")));
                self.lines.extend(below);
                names
            }
            Operator::Sort { input, keys } => self.sorted("Sort", p, input, keys, depth),
            Operator::TopN { input, keys, limit, .. } => {
                let title = format!("Top-N Sort (limit {})", show(self, limit, &[]));
                self.sorted(&title, p, input, keys, depth)
            }
            Operator::Limit { input, .. } => self.simple("Limit", p, input, depth),
            Operator::SetOp { kind, all, left, right } => {
                let name = match kind {
                    SetOpKind::Union => "Union",
                    SetOpKind::Intersect => "Intersect",
                    SetOpKind::Except => "Except",
                };
                self.line(depth, &format!("{name}{}", if *all { " All" } else { "" }), p.rows);
                let names = self.plan(left, depth + 1);
                self.plan(right, depth + 1);
                names
            }
            Operator::Window(w) => {
                let mut names = self.simple("WindowAgg", p, &w.input, depth);
                names.extend((0..w.functions.len()).map(|i| format!("window{}", i + 1)));
                names
            }
            Operator::Values { rows } => {
                let width = p.types.len();
                let title = if width == 0 && rows.len() == 1 { "Result" } else { "Values" };
                self.line(depth, title, p.rows);
                (0..width).map(|i| format!("column{}", i + 1)).collect()
            }
            Operator::TableFunction(f) => {
                let name = function_name(&f.function);
                self.line(depth, &format!("Function Scan on {name}"), p.rows);
                match &f.function {
                    // One column each.
                    SetFunction::Lockstep(all) => all.iter().map(|(f, _)| function_name(f)).collect(),
                    _ => p.types.iter().map(|_| name.clone()).collect(),
                }
            }
            Operator::VirtualScan { table, columns, filter } => {
                self.line(depth, &format!("Virtual Scan on {}", table.name), p.rows);
                let names: Vec<String> = columns.iter().map(|c| table.columns[*c].name.to_owned()).collect();
                self.filter(depth, filter.as_ref(), &names);
                names
            }
            Operator::CteScan { index } => {
                self.line(depth, &format!("CTE Scan on {index}"), p.rows);
                (0..p.types.len()).map(|i| format!("cte{index}.{}", i + 1)).collect()
            }
            Operator::RecursiveUnion(u) => {
                let title = if u.all { "Recursive Union All" } else { "Recursive Union" };
                self.line(depth, title, p.rows);
                let names = self.plan(&u.base, depth + 1);
                self.plan(&u.step, depth + 1);
                names
            }
            Operator::WorkScan { index } => {
                self.line(depth, &format!("WorkTable Scan on {index}"), p.rows);
                (0..p.types.len()).map(|i| format!("work{index}.{}", i + 1)).collect()
            }
            Operator::Modify(m) => self.modify(p, m, depth),
        }
    }

    fn simple(&mut self, title: &str, p: &Plan, input: &Plan, depth: usize) -> Vec<String> {
        self.line(depth, title, p.rows);
        self.plan(input, depth + 1)
    }

    fn sorted(&mut self, title: &str, p: &Plan, input: &Plan, keys: &[SortKey], depth: usize) -> Vec<String> {
        let at = self.lines.len();
        let names = self.plan(input, depth + 1);
        let below = self.lines.split_off(at);
        self.line(depth, title, p.rows);
        let keys: Vec<String> = keys.iter().map(|k| sort_key(k, &names)).collect();
        self.detail(depth, &format!("Sort Key: {}", keys.join(", ")));
        self.lines.extend(below);
        names
    }

    fn aggregate(&mut self, p: &Plan, a: &crate::physical::Aggregate, depth: usize) -> Vec<String> {
        let at = self.lines.len();
        let names = self.plan(&a.input, depth + 1);
        let below = self.lines.split_off(at);
        let title = match (a.group_by.is_empty(), a.input_sorted) {
            (true, _) => "Aggregate",
            (false, true) => "GroupAggregate",
            (false, false) => "HashAggregate",
        };
        self.line(depth, title, p.rows);
        let mut out: Vec<String> = a.group_by.iter().map(|e| show(self, e, &names)).collect();
        if !out.is_empty() {
            self.detail(depth, &format!("Group Key: {}", out.join(", ")));
        }
        for c in &a.aggregates {
            let args = if c.args.is_empty() { "*".to_owned() } else { list(self, &c.args, &names) };
            out.push(format!("{}({}{args})", c.name, if c.distinct { "DISTINCT " } else { "" }));
        }
        self.lines.extend(below);
        out
    }

    fn lookup_join(&mut self, p: &Plan, j: &crate::physical::LookupJoin, depth: usize) -> Vec<String> {
        let at = self.lines.len();
        let left = self.plan(&j.input, depth + 1);
        let below = self.lines.split_off(at);
        let index = index_name(&j.table, j.index);
        let title = format!("Lookup {} on {} using {index}", join_name(j.kind), j.table.name);
        self.line(depth, &title, p.rows);
        let ordinals = j.table.index_ordinals(j.table.index(j.index).expect("a plan's index exists"));
        let parts: Vec<String> = ordinals
            .iter()
            .zip(&j.key)
            .map(|(o, e)| format!("({} = {})", j.table.part_name(*o), show(self, e, &left)))
            .collect();
        self.detail(depth, &format!("Lookup Cond: {}", parts.join(" AND ")));
        let width = left.len();
        let both = [left, table_names(&j.table, &j.columns)].concat();
        self.join_filter(depth, j.on.as_ref(), &both);
        self.lines.extend(below);
        joined(j.kind, both, width)
    }

    fn modify(&mut self, p: &Plan, m: &Modify, depth: usize) -> Vec<String> {
        let (verb, input) = match &m.action {
            ModifyAction::Insert { source, .. } => (
                "Insert",
                match source {
                    InsertSource::Query { input, .. } => Some(input),
                    InsertSource::Rows(_) => None,
                },
            ),
            ModifyAction::Update { input, .. } => ("Update", Some(input)),
            ModifyAction::Delete { input } => ("Delete", Some(input)),
        };
        self.line(depth, &format!("{verb} on {}", m.table.name), p.rows);
        if let ModifyAction::Insert { on_conflict: Some(c), .. } = &m.action {
            let what = match c.action {
                ConflictAction::Nothing => "NOTHING",
                ConflictAction::Update { .. } => "UPDATE",
            };
            self.detail(depth, &format!("Conflict Resolution: {what}"));
            if let Some(ids) = &c.arbiters {
                let names: Vec<String> = ids.iter().map(|i| index_name(&m.table, *i)).collect();
                self.detail(depth, &format!("Conflict Arbiter Indexes: {}", names.join(", ")));
            }
        }
        match (input, &m.action) {
            (Some(i), _) => {
                self.plan(i, depth + 1);
            }
            (None, ModifyAction::Insert { source: InsertSource::Rows(rows), .. }) => {
                let title = if rows.len() == 1 { "Result" } else { "Values" };
                self.line(depth + 1, title, rows.len() as f64);
            }
            (None, _) => {}
        }
        p.types.iter().map(|_| "returning".to_owned()).collect()
    }

    fn filter(&mut self, depth: usize, f: Option<&Expr>, names: &[String]) {
        if let Some(f) = f {
            let text = show(self, f, names);
            self.detail(depth, &format!("Filter: {text}"));
        }
    }

    fn join_filter(&mut self, depth: usize, f: Option<&Expr>, names: &[String]) {
        if let Some(f) = f {
            let text = show(self, f, names);
            self.detail(depth, &format!("Join Filter: {text}"));
        }
    }

    fn spans(&mut self, depth: usize, table: &meridian_catalog::TableDesc, index: IndexId, spans: &Spans) {
        let index = table.index(index).expect("a plan's index exists");
        let names: Vec<String> = table.index_ordinals(index).iter().map(|o| table.part_name(*o)).collect();
        let key = |e: &mut Self, i: usize, k: &SpanKey| match k {
            SpanKey::Value(v) => format!("({} = {})", names[i], show(e, v, &[])),
            SpanKey::AnyOf(v) => format!("({} = ANY ({}))", names[i], show(e, v, &[])),
            SpanKey::Null => format!("({} IS NULL)", names[i]),
        };
        let mut parts = Vec::new();
        match spans {
            Spans::All => return,
            Spans::Empty => parts.push("false".to_owned()),
            Spans::Points(points) => {
                for p in points {
                    let one: Vec<String> = p.iter().enumerate().map(|(i, k)| key(self, i, k)).collect();
                    parts.push(one.join(" AND "));
                }
            }
            Spans::Ranges(ranges) => {
                for r in ranges {
                    let mut one: Vec<String> =
                        r.equal.iter().enumerate().map(|(i, k)| key(self, i, k)).collect();
                    for (b, op) in [(&r.lower, ">"), (&r.upper, "<")] {
                        let name = names.get(r.equal.len()).map_or("", String::as_str);
                        match b {
                            SpanBound::Unbounded => {}
                            SpanBound::NotNull => one.push(format!("({name} IS NOT NULL)")),
                            SpanBound::Included(v) => {
                                one.push(format!("({name} {op}= {})", show(self, v, &[])))
                            }
                            SpanBound::Excluded(v) => {
                                one.push(format!("({name} {op} {})", show(self, v, &[])))
                            }
                        }
                    }
                    parts.push(one.join(" AND "));
                }
            }
        }
        const SHOWN: usize = 8;
        let more = parts.len().saturating_sub(SHOWN);
        parts.truncate(SHOWN);
        let mut text = parts.join(" OR ");
        if more > 0 {
            text.push_str(&format!(" OR {more} more"));
        }
        self.detail(depth, &format!("Index Cond: {text}"));
    }

    pub(super) fn constant(&self, d: &meridian_datum::Datum, ty: &meridian_datum::DataType) -> String {
        use meridian_datum::{DataType as T, Datum};
        match d {
            Datum::Null => "NULL".to_owned(),
            Datum::Bool(b) => b.to_string(),
            Datum::Int(i) => i.to_string(),
            _ => {
                let text = to_text(&self.eval, d, ty);
                match ty {
                    T::Numeric(_) => text,
                    T::Unknown => format!("'{text}'"),
                    _ => format!("'{text}'::{ty}"),
                }
            }
        }
    }
}

fn table_names(table: &meridian_catalog::TableDesc, columns: &[usize]) -> Vec<String> {
    let name = |o: &usize| match table.columns.get(*o) {
        Some(column) => format!("{}.{}", table.name, column.name),
        None => table.part_name(*o),
    };
    columns.iter().map(name).collect()
}

fn scan_title(s: &crate::physical::Scan) -> String {
    let index = index_name(&s.table, s.index);
    let primary = s.index == s.table.primary.id;
    let back = if s.reverse { " Backward" } else { "" };
    match (&s.spans, primary) {
        (Spans::All, true) if !s.ordered => format!("Seq Scan on {}", s.table.name),
        (Spans::Points(_), true) => format!("Point Get on {} using {index}", s.table.name),
        (_, true) => format!("Index Scan{back} on {} using {index}", s.table.name),
        (_, false) => format!("Index Only Scan{back} on {} using {index}", s.table.name),
    }
}

fn index_name(table: &meridian_catalog::TableDesc, id: IndexId) -> String {
    table.index(id).map_or_else(|| id.to_string(), |i| i.name.clone())
}

fn join_name(kind: JoinKind) -> &'static str {
    match kind {
        JoinKind::Inner => "Join",
        JoinKind::Left => "Left Join",
        JoinKind::Right => "Right Join",
        JoinKind::Full => "Full Join",
        JoinKind::Semi => "Semi Join",
        JoinKind::Anti => "Anti Join",
        JoinKind::NullAwareAnti => "Anti Join (null-aware)",
    }
}

fn nested_name(base: &str, kind: JoinKind) -> String {
    match kind {
        JoinKind::Inner => base.to_owned(),
        other => format!("{base} {}", join_name(other)),
    }
}

fn joined(kind: JoinKind, mut both: Vec<String>, left: usize) -> Vec<String> {
    if !kind.emits_right() {
        both.truncate(left);
    }
    both
}

fn sort_key(k: &SortKey, names: &[String]) -> String {
    let mut s = names[k.column].clone();
    if k.descending {
        s.push_str(" DESC");
    }
    if k.nulls_first != k.descending {
        s.push_str(if k.nulls_first { " NULLS FIRST" } else { " NULLS LAST" });
    }
    s
}

fn function_name(f: &SetFunction) -> String {
    match f {
        SetFunction::GenerateSeries(_) => "generate_series".into(),
        SetFunction::GenerateSubscripts => "generate_subscripts".into(),
        SetFunction::Unnest => "unnest".into(),
        SetFunction::UnnestCall(f) => f.def.name.into(),
        SetFunction::Scalar(_) => "function".into(),
        SetFunction::Empty => "empty".into(),
        SetFunction::Virtual(v) => v.name.into(),
        SetFunction::Cluster(c) => format!("{c:?}"),
        SetFunction::Lockstep(functions) => {
            functions.iter().map(|(f, _)| function_name(f)).collect::<Vec<_>>().join(", ")
        }
    }
}

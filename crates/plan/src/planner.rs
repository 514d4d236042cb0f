//! From a parsed statement to a plan.

use std::sync::Arc;

use meridian_datum::{DataType, Result, SqlError, SqlState};
use sqlparser::ast::{self, Statement};

use crate::bind::{Binder, BoundCommand, BoundQuery, Scope};
use crate::ddl::Ddl;
use crate::lower::{Lowerer, is_single_operation, shorten};
use crate::parse::{Command, ParsedStatement, Syntax};
use crate::physical::{ClusterFunction, Operator, Plan, SetFunction};
use crate::planned::{CommandTag, Explain, OutputColumn, PlannedStatement, StatementPlan};
use crate::session::SessionStatement;
use crate::{Expr, PlanContext};

/// Stack for planning a deep statement: the limits of nesting times what a level takes without optimisation, and room.
pub(crate) const DEEP_STACK: usize = 128 << 20;

/// Columns of a result, as in PostgreSQL. The protocol counts them in 16 bits.
const OUTPUT_COLUMNS_MAX: usize = 1_664;

/// Plans one statement.
pub fn plan_statement(ctx: &PlanContext<'_>, statement: &ParsedStatement) -> Result<PlannedStatement> {
    let planned = contain(|| {
        if statement.is_deep {
            return stacker::grow(DEEP_STACK, || plan(ctx, statement));
        }
        plan(ctx, statement)
    });
    // What is missing is shown where it stands, or else with its statement.
    planned.map_err(|e| match e.state {
        SqlState::FEATURE_NOT_SUPPORTED => e.or_position(statement.position),
        _ => e,
    })
}

/// Turns a panic into an error of this statement. Planning changes nothing but what it returns, so nothing is left in
/// between, and a bug in one rule need not cost the client its connection. The panic hook has reported the place.
fn contain<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f))
        .unwrap_or_else(|_| Err(SqlError::internal("this statement could not be planned")))
}

fn plan(ctx: &PlanContext<'_>, statement: &ParsedStatement) -> Result<PlannedStatement> {
    let as_of = match &statement.hooks.as_of {
        Some(a) => Some(a.resolve(ctx.eval)?),
        None => None,
    };
    match &*statement.syntax {
        Syntax::Command(Command::Declare { name, scroll, hold, query }) => {
            declare(ctx, name, (*scroll, *hold), query)
        }
        Syntax::Command(c) => {
            let mut binder = Binder::new(ctx, &statement.source);
            let bound = binder.command(c, as_of)?;
            let planned = match bound {
                BoundCommand::Session(s) => session_statement(s),
                BoundCommand::Ddl(ddl, tag) => ddl_statement(ddl, tag),
            };
            finish(ctx, planned, binder)
        }
        Syntax::Ast(s) => {
            let mut planned = plan_ast(ctx, statement, s)?;
            if as_of.is_some() && !planned.is_read_only {
                let message = "AS OF SYSTEM TIME is only allowed in read-only statements";
                return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
            }
            planned.as_of = as_of;
            // Relative times are resolved when the statement runs, literal times never change.
            Ok(planned)
        }
    }
}

/// Binds the text of a check over the columns of its table, by their ordinals.
pub fn plan_check(ctx: &PlanContext<'_>, table: &meridian_catalog::TableRef, text: &str) -> Result<Expr> {
    let ast = crate::parse::parse_expression(text)?;
    Binder::new(ctx, text).table_condition(table, &ast)
}

fn plan_ast(ctx: &PlanContext<'_>, parsed: &ParsedStatement, s: &Statement) -> Result<PlannedStatement> {
    let mut binder = Binder::new(ctx, &parsed.source);
    binder.conflict_targets = &parsed.hooks.conflict_targets;
    match s {
        Statement::Query(_) | Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) => {
            let scope = Scope::default();
            let (bound, tag) = match s {
                Statement::Query(q) => (binder.query(q, &scope)?, query_tag(q)),
                Statement::Insert(_) => (binder.write(s, &scope)?, CommandTag::Insert),
                Statement::Update(_) => (binder.write(s, &scope)?, CommandTag::Update),
                _ => (binder.write(s, &scope)?, CommandTag::Delete),
            };
            let planned = query_statement(ctx, &mut binder, bound, tag)?;
            finish(ctx, planned, binder)
        }
        Statement::Explain { analyze, verbose, statement, options, format, .. } => {
            if format.is_some() {
                return Err(SqlError::unsupported("EXPLAIN FORMAT"));
            }
            explain(ctx, parsed, statement, (*analyze, *verbose), options.as_deref().unwrap_or(&[]))
        }
        other => match binder.ddl(other, &parsed.hooks)? {
            Some((ddl, tag)) => finish(ctx, ddl_statement(ddl, tag), binder),
            None => Err(unsupported(other)),
        },
    }
}

fn query_tag(q: &ast::Query) -> CommandTag {
    match &*q.body {
        ast::SetExpr::Insert(_) => CommandTag::Insert,
        ast::SetExpr::Update(_) => CommandTag::Update,
        ast::SetExpr::Delete(_) => CommandTag::Delete,
        _ => CommandTag::Select,
    }
}

/// A query or write.
fn query_statement(
    ctx: &PlanContext<'_>,
    binder: &mut Binder<'_>,
    mut bound: BoundQuery,
    tag: CommandTag,
) -> Result<PlannedStatement> {
    if bound.columns.len() > OUTPUT_COLUMNS_MAX {
        let message = format!("target lists can have at most {OUTPUT_COLUMNS_MAX} entries");
        return Err(SqlError::new(SqlState::TOO_MANY_COLUMNS, message));
    }
    binder.name_objects(&mut bound)?;
    let mut lowerer = Lowerer::new(ctx.snapshot);
    let mut ctes = Vec::new();
    for rel in std::mem::take(&mut binder.ctes) {
        ctes.push(lowerer.cte(rel)?);
    }
    let cols: Vec<_> = bound.columns.iter().map(|c| c.col).collect();
    let plan = lowerer.query(bound.rel, &cols)?;
    let is_write = !matches!(tag, CommandTag::Select);
    let columns: Option<Arc<[OutputColumn]>> = if is_write && bound.columns.is_empty() {
        None
    } else {
        Some(
            bound
                .columns
                .into_iter()
                .map(|c| OutputColumn { name: c.name, ty: c.ty, origin: c.origin })
                .collect(),
        )
    };
    let is_read_only = !is_write && is_read(&plan) && ctes.iter().all(is_read);
    let plan = shorten(plan);
    let single_operation = is_read_only && ctes.is_empty() && is_single_operation(&plan);
    Ok(PlannedStatement {
        plan,
        param_types: Vec::new(),
        columns,
        tag,
        ctes,
        tables: Vec::new(),
        is_read_only,
        single_operation,
        cacheable: true,
        as_of: None,
        notices: Vec::new(),
    })
}

/// Settles what the binder has gathered besides the plan.
fn finish(
    ctx: &PlanContext<'_>,
    mut planned: PlannedStatement,
    mut binder: Binder<'_>,
) -> Result<PlannedStatement> {
    // A query takes its own; these belong to the query of a COPY or of a CREATE TABLE AS.
    let mut lowerer = Lowerer::new(ctx.snapshot);
    for rel in std::mem::take(&mut binder.ctes) {
        planned.ctes.push(lowerer.cte(rel)?);
    }
    planned.param_types = binder.finish_params()?;
    planned.tables = std::mem::take(&mut binder.tables);
    planned.notices = std::mem::take(&mut binder.notices);
    planned.cacheable &= !binder.time_dependent;
    Ok(planned)
}

fn plain(plan: StatementPlan, tag: CommandTag) -> PlannedStatement {
    PlannedStatement {
        plan,
        param_types: Vec::new(),
        columns: None,
        tag,
        ctes: Vec::new(),
        tables: Vec::new(),
        is_read_only: false,
        single_operation: false,
        cacheable: false,
        as_of: None,
        notices: Vec::new(),
    }
}

fn ddl_statement(ddl: Ddl, tag: &'static str) -> PlannedStatement {
    plain(StatementPlan::Ddl(Box::new(ddl)), CommandTag::Plain(tag))
}

fn session_statement(s: SessionStatement) -> PlannedStatement {
    let tag = session_tag(&s);
    let text = |name: &str| OutputColumn { name: name.to_owned(), ty: DataType::Text, origin: (0, 0) };
    let columns: Option<Arc<[OutputColumn]>> = match &s {
        SessionStatement::Show(name) => Some(Arc::from([text(show_name(name))])),
        SessionStatement::ShowCluster(name) => Some(Arc::from([text(name)])),
        SessionStatement::ShowAll => Some(Arc::from([text("name"), text("setting"), text("description")])),
        _ => None,
    };
    PlannedStatement { columns, ..plain(StatementPlan::Session(Box::new(s)), tag) }
}

/// The column of `SHOW name`: the setting's name as PostgreSQL spells it.
fn show_name(name: &str) -> &str {
    match name {
        "timezone" => "TimeZone",
        "datestyle" => "DateStyle",
        "intervalstyle" => "IntervalStyle",
        other => other,
    }
}

fn session_tag(s: &SessionStatement) -> CommandTag {
    use crate::session::{Discard, JobAction, RoleChange};
    use SessionStatement as S;
    CommandTag::Plain(match s {
        S::Begin(_) => "BEGIN",
        S::Commit { .. } => "COMMIT",
        S::Rollback { .. } | S::RollbackTo(_) => "ROLLBACK",
        S::Savepoint(_) => "SAVEPOINT",
        S::Release(_) => "RELEASE",
        S::SetTransaction(_) | S::SetSessionCharacteristics(_) | S::Set { .. } | S::SetCluster { .. } => {
            "SET"
        }
        S::Role(change) => match change {
            RoleChange::Create { .. } => "CREATE ROLE",
            RoleChange::Alter { .. } => "ALTER ROLE",
            RoleChange::Drop { .. } => "DROP ROLE",
        },
        S::Reset(_) => "RESET",
        S::Show(_) | S::ShowCluster(_) | S::ShowAll => "SHOW",
        S::Prepare { .. } => "PREPARE",
        S::Execute { .. } => "EXECUTE",
        S::Declare { .. } => "DECLARE CURSOR",
        S::Fetch { is_move: false, .. } => "FETCH",
        S::Fetch { is_move: true, .. } => "MOVE",
        S::Close(Some(_)) => "CLOSE CURSOR",
        S::Close(None) => "CLOSE CURSOR ALL",
        S::Deallocate(Some(_)) => "DEALLOCATE",
        S::Deallocate(None) => "DEALLOCATE ALL",
        S::Discard(d) => match d {
            Discard::All => "DISCARD ALL",
            Discard::Plans => "DISCARD PLANS",
            Discard::Sequences => "DISCARD SEQUENCES",
            Discard::Temp => "DISCARD TEMP",
        },
        S::LockTable { .. } => "LOCK TABLE",
        S::Maintenance { command, .. } => command,
        S::Copy(_) => return CommandTag::Copy,
        S::Job { action, .. } => match action {
            JobAction::Pause => "PAUSE JOB",
            JobAction::Resume => "RESUME JOB",
            JobAction::Cancel => "CANCEL JOB",
        },
        S::Unlisten => "UNLISTEN",
        S::Empty => "",
    })
}

fn explain(
    ctx: &PlanContext<'_>,
    parsed: &ParsedStatement,
    statement: &Statement,
    (analyze, verbose): (bool, bool),
    options: &[ast::UtilityOption],
) -> Result<PlannedStatement> {
    let (mut analyze, mut verbose, mut costs) = (analyze, verbose, true);
    for o in options {
        let name = o.name.value.to_lowercase();
        let on = match &o.arg {
            None => true,
            Some(v) => match v.to_string().to_lowercase().trim_matches('\'') {
                "true" | "on" | "1" => true,
                "false" | "off" | "0" => false,
                "text" if name == "format" => true,
                other => {
                    if name == "format" {
                        return Err(SqlError::unsupported(format!("EXPLAIN (FORMAT {other})")));
                    }
                    let message = format!("{name} requires a Boolean value");
                    return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
                }
            },
        };
        match name.as_str() {
            "analyze" => analyze = on,
            "verbose" => verbose = on,
            "costs" => costs = on,
            // What these show (timing, summary) is shown with ANALYZE always.
            "timing" | "summary" | "format" => {}
            "buffers" | "settings" | "wal" if !on => {}
            "buffers" | "settings" | "wal" => {
                return Err(SqlError::unsupported(format!("EXPLAIN ({})", name.to_uppercase())));
            }
            _ => {
                let message = format!("unrecognized EXPLAIN option \"{name}\"");
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
            }
        }
    }
    let mut inner = plan_ast(ctx, parsed, statement)?;
    if analyze && matches!(inner.plan, StatementPlan::Ddl(_)) {
        return Err(SqlError::unsupported("EXPLAIN ANALYZE of a schema change"));
    }
    let lines = crate::explain::explain(&inner, costs, ctx.snapshot);
    let column = OutputColumn { name: "QUERY PLAN".to_owned(), ty: DataType::Text, origin: (0, 0) };
    let planned = PlannedStatement {
        param_types: inner.param_types.clone(),
        columns: Some(Arc::from([column])),
        tables: inner.tables.clone(),
        is_read_only: !analyze || inner.is_read_only,
        notices: std::mem::take(&mut inner.notices),
        ..plain(StatementPlan::Ddl(Box::new(Ddl::Nothing)), CommandTag::Plain("EXPLAIN"))
    };
    let explain = Explain { statement: inner, analyze, verbose, costs, lines };
    Ok(PlannedStatement { plan: StatementPlan::Explain(Box::new(explain)), ..planned })
}

/// Whether a common table expression writes; only those of the outermost query may.
fn has_writes(syntax: &Syntax) -> bool {
    use ast::SetExpr as E;
    let Syntax::Ast(Statement::Query(q)) = syntax else { return false };
    let mut ctes = q.with.iter().flat_map(|w| &w.cte_tables);
    ctes.any(|c| matches!(*c.query.body, E::Insert(_) | E::Update(_) | E::Delete(_) | E::Merge(_)))
}

/// `DECLARE CURSOR`: the query's plan, to be run as rows are fetched.
fn declare(
    ctx: &PlanContext<'_>,
    name: &str,
    (scroll, hold): (bool, bool),
    query: &ParsedStatement,
) -> Result<PlannedStatement> {
    let inner = plan(ctx, query)?;
    if inner.as_of.is_some() {
        return Err(SqlError::unsupported("AS OF SYSTEM TIME in the query of a cursor"));
    }
    if inner.tag != CommandTag::Select || has_writes(&query.syntax) {
        let message = "DECLARE CURSOR must not contain data-modifying statements in WITH";
        return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
    }
    if (scroll || hold) && !inner.is_read_only {
        let how = if hold {
            "DECLARE CURSOR WITH HOLD ... FOR UPDATE/SHARE"
        } else {
            "DECLARE SCROLL CURSOR ... FOR UPDATE/SHARE"
        };
        return Err(SqlError::unsupported(how));
    }
    let planned = PlannedStatement {
        param_types: inner.param_types.clone(),
        tables: inner.tables.clone(),
        is_read_only: inner.is_read_only,
        notices: inner.notices.clone(),
        ..plain(StatementPlan::Ddl(Box::new(Ddl::Nothing)), CommandTag::Plain("DECLARE CURSOR"))
    };
    let declare = SessionStatement::Declare { name: name.to_owned(), scroll, hold, query: Arc::new(inner) };
    Ok(PlannedStatement { plan: StatementPlan::Session(Box::new(declare)), ..planned })
}

/// Whether a plan only reads, without locks.
fn is_read(p: &Plan) -> bool {
    all(p, &|op| match op {
        Operator::Scan(s) => !s.for_update,
        Operator::IndexJoin(j) => !j.for_update,
        Operator::LookupJoin(j) => !j.for_update,
        Operator::TableFunction(f) => !changes(&f.function),
        Operator::Modify(_) => false,
        _ => true,
    })
}

/// Whether an operator of the tree is a function that changes the cluster.
pub(crate) fn changes_cluster(p: &Plan) -> bool {
    !all(p, &|op| !matches!(op, Operator::TableFunction(f) if changes(&f.function)))
}

fn changes(function: &SetFunction) -> bool {
    // Advisory locks are no part of the transaction that runs the statement.
    let is_other = |f| !matches!(f, ClusterFunction::CheckTable | ClusterFunction::Advisory(_));
    function.any(&|f| matches!(f, SetFunction::Cluster(f) if is_other(*f)))
}

/// Whether an operator of the tree is a function on advisory locks that the transaction's end does not undo.
pub(crate) fn locks_for_session(p: &Plan) -> bool {
    let outlives = |f: &SetFunction| matches!(f, SetFunction::Cluster(ClusterFunction::Advisory(call)) if !call.is_of_transaction);
    !all(p, &|op| match op {
        Operator::TableFunction(f) => !f.function.any(&outlives),
        _ => true,
    })
}

/// Whether something holds of every operator of a tree, as far as it yields rows to the one above.
fn all(p: &Plan, holds: &dyn Fn(&Operator) -> bool) -> bool {
    let below = match &p.op {
        Operator::IndexJoin(j) => all(&j.input, holds),
        Operator::LookupJoin(j) => all(&j.input, holds),
        Operator::HashJoin(j) => all(&j.left, holds) && all(&j.right, holds),
        Operator::NestedLoopJoin(j) => all(&j.left, holds) && all(&j.right, holds),
        Operator::Apply(a) => all(&a.left, holds) && all(&a.right, holds),
        Operator::Filter { input, .. }
        | Operator::Project { input, .. }
        | Operator::Distinct { input }
        | Operator::DistinctOn { input, .. }
        | Operator::Sort { input, .. }
        | Operator::TopN { input, .. }
        | Operator::Limit { input, .. } => all(input, holds),
        Operator::Aggregate(a) => all(&a.input, holds),
        Operator::Window(w) => all(&w.input, holds),
        Operator::SetOp { left, right, .. } => all(left, holds) && all(right, holds),
        Operator::RecursiveUnion(u) => all(&u.base, holds) && all(&u.step, holds),
        Operator::Scan(_)
        | Operator::TableFunction(_)
        | Operator::Values { .. }
        | Operator::VirtualScan { .. }
        | Operator::CteScan { .. }
        | Operator::WorkScan { .. }
        | Operator::Modify(_) => true,
    };
    below && holds(&p.op)
}

/// The error for a statement that there is no plan for.
fn unsupported(s: &Statement) -> SqlError {
    let text = s.to_string();
    let words: Vec<&str> = text
        .split_whitespace()
        .take(3)
        .take_while(|w| w.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
        .collect();
    let what = if words.is_empty() {
        text.split_whitespace().next().unwrap_or("statement").to_owned()
    } else {
        words.join(" ")
    };
    SqlError::unsupported(what)
}

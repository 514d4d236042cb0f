//! A catalog to plan on, and plans in words.

use std::sync::Arc;

use meridian_catalog::{
    CatalogSnapshot, CheckDesc, ColumnDesc, ColumnId, DatabaseDesc, DatabaseId, Direction, ExpressionDesc,
    IndexColumn, IndexDesc, IndexId, IndexState, Interleave, SchemaDesc, SchemaId, TableDesc, TableId,
    TableStatistics,
};
use meridian_datum::{DataType, EvalContext, SqlError};
use meridian_types::Timestamp;

use crate::ddl::Ddl;
use crate::{PlanContext, PlannedStatement, parse, plan_statement};

pub(super) struct Fixture {
    pub(super) snapshot: Arc<CatalogSnapshot>,
    pub(super) eval: EvalContext,
    path: Vec<String>,
}

fn column(id: u32, name: &str, ty: DataType, nullable: bool) -> ColumnDesc {
    ColumnDesc {
        id: ColumnId(id),
        name: name.into(),
        ty,
        nullable,
        refuses_null: false,
        default: None,
        identity: None,
        missing: None,
        hidden: false,
    }
}

fn index(id: u32, name: &str, columns: &[u32], unique: bool) -> IndexDesc {
    IndexDesc {
        id: IndexId(id),
        oid: 20_000 + id,
        name: name.into(),
        unique,
        constraint_oid: (id == 1).then_some(30_000),
        columns: columns
            .iter()
            .map(|c| IndexColumn { column: ColumnId(*c), direction: Direction::Ascending })
            .collect(),
        storing: Vec::new(),
        predicate: None,
        expressions: Vec::new(),
        state: IndexState::Public,
        memo: Default::default(),
    }
}

/// `name type [!]`, comma-separated; `!` is NOT NULL.
fn table(id: u32, name: &str, columns: &str, key: &[u32], indexes: Vec<IndexDesc>) -> TableDesc {
    let columns: Vec<ColumnDesc> = columns
        .split(", ")
        .enumerate()
        .map(|(i, c)| {
            let mut words = c.split(' ');
            let name = words.next().unwrap();
            let ty = DataType::from_name(words.next().unwrap()).unwrap();
            column(i as u32 + 1, name, ty, words.next().is_none())
        })
        .collect();
    TableDesc {
        id: TableId(id),
        storage: TableId(id),
        schema: SchemaId(2200),
        name: name.into(),
        owner: "root".into(),
        next_column: columns.len() as u32 + 1,
        columns,
        primary: index(1, &format!("{name}_pkey"), key, true),
        indexes,
        checks: Vec::new(),
        interleave: None,
        storage_parameters: Vec::new(),
        next_index: 10,
        version: 1,
        valid_from: Timestamp::from_nanos(1),
        dropped_at: None,
    }
}

impl Fixture {
    pub(super) fn new() -> Fixture {
        let mut accounts = table(
            16_400,
            "accounts",
            "aid int4 !, bid int4, abalance int4, filler text",
            &[1],
            vec![index(2, "accounts_bid_idx", &[2], false)],
        );
        accounts.checks.push(CheckDesc {
            oid: 31_000,
            name: "accounts_check".into(),
            expr: "abalance > - 1000000".into(),
            validated: true,
        });
        let mut orders = table(
            16_410,
            "orders",
            "id int8 !, customer int4 !, placed timestamptz, total numeric, state text",
            &[1],
            vec![
                index(2, "orders_customer_placed_idx", &[2, 3], false),
                index(3, "orders_state_key", &[5], true),
            ],
        );
        orders.columns[4].default = Some("'new'".into());
        orders.columns[0].default = Some("unique_rowid()".into());
        let customers =
            table(16_420, "customers", "id int4 !, name text !, city varchar, vip bool", &[1], Vec::new());
        let mut items =
            table(16_430, "items", "id int8 !, line int4 !, sku text, qty int4", &[1, 2], Vec::new());
        items.interleave = Some(Interleave { parent: TableId(16_410), shared_columns: 1, cascade: true });
        let mut log = table(16_440, "log", "at timestamptz, note text, rowid int8 !", &[3], Vec::new());
        log.columns[2].hidden = true;
        log.columns[2].default = Some("unique_rowid()".into());
        log.primary.constraint_oid = None;
        let partial = |id: u32, name: &str, columns: &[u32], unique: bool, predicate: &str| IndexDesc {
            predicate: Some(predicate.into()),
            ..index(id, name, columns, unique)
        };
        let mut tickets = table(
            16_450,
            "tickets",
            "id int8 !, state text, prio int4, who int4, urgent bool, due date",
            &[1],
            vec![
                partial(2, "tickets_open_idx", &[4], false, "(state = 'open')"),
                partial(3, "tickets_high_idx", &[6], false, "(prio > 5)"),
                partial(4, "tickets_due_idx", &[6, 4], false, "(who IS NOT NULL)"),
                partial(5, "tickets_urgent_key", &[4], true, "(urgent AND (prio >= 9))"),
            ],
        );
        for i in &mut tickets.indexes {
            i.oid += 100;
        }
        let expression = |id: u32, name: &str, text: &str, ty: DataType| ExpressionDesc {
            id: ColumnId(id),
            name: name.into(),
            text: text.into(),
            ty,
            is_call: name != "expr",
        };
        let people = table(
            16_460,
            "people",
            "id int4 !, name text, city varchar, a int4, b int4",
            &[1],
            vec![
                IndexDesc {
                    expressions: vec![expression(6, "lower", "lower(name)", DataType::Text)],
                    ..index(2, "people_lower_key", &[6], true)
                },
                IndexDesc {
                    columns: vec![
                        IndexColumn { column: ColumnId(3), direction: Direction::Ascending },
                        IndexColumn { column: ColumnId(7), direction: Direction::Descending },
                    ],
                    expressions: vec![expression(7, "expr", "(a + b)", DataType::Int4)],
                    ..index(3, "people_city_expr_idx", &[3], false)
                },
                IndexDesc {
                    expressions: vec![expression(8, "upper", "upper(city)", DataType::Text)],
                    predicate: Some("(a > 0)".into()),
                    ..index(4, "people_upper_key", &[8], true)
                },
            ],
        );
        let people = TableDesc { next_column: 9, ..people };
        let snapshot = CatalogSnapshot::new(
            1,
            Timestamp::from_nanos(1),
            [DatabaseDesc { id: DatabaseId(5), name: "defaultdb".into(), owner: "root".into() }],
            [SchemaDesc {
                id: SchemaId(2200),
                database: DatabaseId(5),
                name: "public".into(),
                owner: "root".into(),
            }],
            [accounts, orders, customers, items, log, tickets, people],
        )
        .with_statistics([
            (TableId(16_400), TableStatistics { rows: 1_000_000.0 }),
            (TableId(16_410), TableStatistics { rows: 100_000.0 }),
            (TableId(16_420), TableStatistics { rows: 1_000.0 }),
        ]);
        Fixture {
            snapshot: Arc::new(snapshot),
            eval: EvalContext::default(),
            path: vec!["$user".into(), "public".into()],
        }
    }

    pub(super) fn ctx(&self) -> PlanContext<'_> {
        PlanContext {
            snapshot: &self.snapshot,
            database: "defaultdb",
            user: "root",
            search_path: &self.path,
            param_types: &[],
            eval: &self.eval,
        }
    }

    pub(super) fn plan(&self, sql: &str) -> Result<PlannedStatement, SqlError> {
        let parsed = parse(sql)?;
        assert_eq!(parsed.len(), 1, "one statement: {sql}");
        plan_statement(&self.ctx(), &parsed[0])
    }
}

/// What a plan says besides its operators.
pub(super) fn footer(p: &PlannedStatement) -> String {
    let mut parts = Vec::new();
    if let Some(c) = &p.columns {
        let list: Vec<String> = c.iter().map(|c| format!("{} {}", c.name, c.ty)).collect();
        parts.push(format!("=> {}", list.join(", ")));
    }
    if !p.param_types.is_empty() {
        let list: Vec<String> = p.param_types.iter().map(ToString::to_string).collect();
        parts.push(format!("params {}", list.join(", ")));
    }
    if p.single_operation {
        parts.push("single".into());
    } else if p.is_read_only {
        parts.push("read".into());
    }
    if !p.cacheable {
        parts.push("once".into());
    }
    parts.join("; ")
}

pub(super) fn error(e: &SqlError) -> String {
    let mut out = format!("ERROR {}: {}", e.state, e.message);
    if let Some(p) = e.position {
        out.push_str(&format!("\nPOSITION {p}"));
    }
    if let Some(d) = &e.detail {
        out.push_str(&format!("\nDETAIL {d}"));
    }
    if let Some(h) = &e.hint {
        out.push_str(&format!("\nHINT {h}"));
    }
    out
}

/// A schema change, shortly: descriptors it refers to are left to their names.
pub(super) fn ddl(d: &Ddl) -> String {
    let mut text = match d {
        Ddl::CreateTable(t) => format!("{t:#?}"),
        Ddl::AlterTable { table, actions } => format!("AlterTable {} {actions:#?}", table.name),
        Ddl::DropTable { tables } => {
            format!("DropTable {}", tables.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", "))
        }
        Ddl::Truncate { tables } => {
            format!("Truncate {}", tables.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", "))
        }
        Ddl::CreateIndex { table, index, .. } => format!("CreateIndex on {} {index:#?}", table.name),
        Ddl::DropIndex { indexes } => {
            format!("DropIndex {:?}", indexes.iter().map(|(t, i)| (t.name.as_str(), i.0)).collect::<Vec<_>>())
        }
        Ddl::CreateTableAs { table, .. } => format!("CreateTableAs {table:#?}"),
        other => format!("{other:?}"),
    };
    // Blank lines divide the blocks of a golden file.
    while text.contains("\n\n") {
        text = text.replace("\n\n", "\n");
    }
    text
}

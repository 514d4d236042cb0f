//! Constraints, wherever a descriptor keeps them.

use meridian_datum::{DataType, Datum};

use super::maker::{Maker, flag, ints, oid, text};
use super::{Context, Rows};
use crate::descriptor::{CheckDesc, IndexDesc, TableRef};
use crate::ids::{ColumnId, IndexId};
use crate::objects::{derived_oid, is_listed};
use crate::snapshot::CatalogSnapshot;
use crate::virtual_table::VirtualTable;

/// One constraint of a table.
#[derive(Clone, Debug)]
pub(crate) enum Kind<'a> {
    Primary(&'a IndexDesc),
    Unique(&'a IndexDesc),
    Check(&'a CheckDesc),
    /// Interleaving: a child's key begins with that of an existing parent, which is what a foreign key says.
    Parent {
        parent: &'a TableRef,
        columns: Vec<ColumnId>,
        referenced: Vec<ColumnId>,
        cascade: bool,
    },
}

/// A constraint with what all kinds have.
#[derive(Clone, Debug)]
pub(crate) struct Constraint<'a> {
    pub(crate) oid: u32,
    pub(crate) name: String,
    pub(crate) kind: Kind<'a>,
}

impl Kind<'_> {
    /// `pg_constraint.contype`.
    pub(crate) fn letter(&self) -> &'static str {
        match self {
            Kind::Primary(_) => "p",
            Kind::Unique(_) => "u",
            Kind::Check(_) => "c",
            Kind::Parent { .. } => "f",
        }
    }

    /// The columns of `table` that it is about.
    pub(crate) fn columns(&self, table: &TableRef) -> Vec<ColumnId> {
        match self {
            Kind::Primary(i) | Kind::Unique(i) => i.columns.iter().map(|c| c.column).collect(),
            Kind::Check(check) => mentioned(&check.expr, table),
            Kind::Parent { columns, .. } => columns.clone(),
        }
    }
}

/// The constraints of a table.
pub(crate) fn of<'a>(snapshot: &'a CatalogSnapshot, table: &'a TableRef) -> Vec<Constraint<'a>> {
    let mut out = Vec::new();
    for index in table.all_indexes().filter(|i| is_listed(table, i)) {
        let primary = index.id == IndexId::PRIMARY;
        let oid = match (index.constraint_oid, primary) {
            (Some(oid), _) => oid,
            (None, true) => derived_oid("primary key", &[&table.id.0.to_be_bytes()]),
            (None, false) => continue,
        };
        let kind = if primary { Kind::Primary(index) } else { Kind::Unique(index) };
        out.push(Constraint { oid, name: index.name.clone(), kind });
    }
    out.extend(table.checks.iter().map(|c| Constraint {
        oid: c.oid,
        name: c.name.clone(),
        kind: Kind::Check(c),
    }));
    if let Some(i) = table.interleave
        && let Some(parent) = snapshot.table(i.parent)
    {
        let key = |t: &TableRef| t.primary.columns.iter().take(i.shared_columns).map(|c| c.column).collect();
        out.push(Constraint {
            oid: derived_oid("interleave", &[&table.id.0.to_be_bytes()]),
            name: format!("{}_parent_fkey", table.name),
            kind: Kind::Parent { parent, columns: key(table), referenced: key(parent), cascade: i.cascade },
        });
    }
    out
}

/// The constraint with this oid and its table.
pub(crate) fn by_oid(snapshot: &CatalogSnapshot, oid: u32) -> Option<(&TableRef, Kind<'_>)> {
    snapshot.tables().find_map(|t| of(snapshot, t).into_iter().find(|c| c.oid == oid).map(|c| (t, c.kind)))
}

pub(super) fn pg_constraint(ctx: Context<'_>, table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(
        table,
        "oid conname connamespace contype convalidated conrelid conindid confrelid confupdtype confdeltype \
         confmatchtype conislocal connoinherit conkey confkey conbin",
    );
    let numbers = |ids: &[ColumnId]| ints(DataType::Int2, ids.iter().map(|c| i64::from(c.0)));
    for (t, schema) in ctx.tables() {
        for c in of(ctx.scope.snapshot, t) {
            let (mut validated, mut index, mut parent_oid) = (true, 0, 0);
            let (mut update, mut delete, mut matching) = (" ", " ", " ");
            let (mut referenced, mut condition) = (Datum::Null, Datum::Null);
            match &c.kind {
                Kind::Primary(i) | Kind::Unique(i) => index = i.oid,
                Kind::Check(check) => {
                    validated = check.validated;
                    condition = text(&*check.expr);
                }
                Kind::Parent { parent, referenced: to, cascade, .. } => {
                    (index, parent_oid) = (parent.primary.oid, parent.id.oid());
                    (update, delete, matching) = ("a", if *cascade { "c" } else { "a" }, "s");
                    referenced = numbers(to);
                }
            }
            rows.push([
                oid(c.oid),
                text(&*c.name),
                oid(schema.id.oid()),
                text(c.kind.letter()),
                flag(validated),
                oid(t.id.oid()),
                oid(index),
                oid(parent_oid),
                text(update),
                text(delete),
                text(matching),
                flag(true),
                flag(!matches!(c.kind, Kind::Check(_))),
                numbers(&c.kind.columns(t)),
                referenced,
                condition,
            ]);
        }
    }
    rows.finish()
}

/// The columns that an expression's text mentions, in order of their number.
fn mentioned(expr: &str, table: &TableRef) -> Vec<ColumnId> {
    let mut words: Vec<String> = Vec::new();
    let mut chars = expr.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => while chars.next().is_some_and(|c| c != '\'') {},
            '"' => words.push(chars.by_ref().take_while(|c| *c != '"').collect()),
            c if c.is_alphabetic() || c == '_' => {
                let mut word: String = c.to_lowercase().collect();
                while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || *c == '_' || *c == '$') {
                    word.extend(c.to_lowercase());
                }
                words.push(word);
            }
            _ => {}
        }
    }
    table.columns.iter().filter(|c| words.contains(&c.name)).map(|c| c.id).collect()
}

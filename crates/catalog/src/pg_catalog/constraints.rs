//! Constraints, wherever a descriptor keeps them.

use crate::descriptor::{CheckDesc, IndexDesc, TableRef};
use crate::ids::{ColumnId, IndexId};
use crate::objects::{derived_oid, is_listed};
use crate::snapshot::CatalogSnapshot;

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

    /// The columns that it is about; not known of a check, whose text is not parsed here.
    pub(crate) fn columns(&self) -> Option<Vec<ColumnId>> {
        match self {
            Kind::Primary(i) | Kind::Unique(i) => Some(i.columns.iter().map(|c| c.column).collect()),
            Kind::Check(_) => None,
            Kind::Parent { columns, .. } => Some(columns.clone()),
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

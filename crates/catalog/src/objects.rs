//! Relations by oid, whatever they are.

use crate::descriptor::{IndexDesc, TableDesc, TableRef};
use crate::ids::{IndexId, TableId};
use crate::snapshot::CatalogSnapshot;
use crate::virtual_table::{VirtualTable, virtual_tables};

/// A relation that an oid names.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Object<'a> {
    Table(&'a TableRef),
    Index(&'a TableRef, &'a IndexDesc),
    Virtual(&'a VirtualTable),
}

impl<'a> Object<'a> {
    pub(crate) fn name(&self) -> &'a str {
        match self {
            Object::Table(t) => &t.name,
            Object::Index(_, i) => &i.name,
            Object::Virtual(v) => v.name,
        }
    }

    pub(crate) fn schema_name(&self, snapshot: &'a CatalogSnapshot) -> &'a str {
        match self {
            Object::Table(t) | Object::Index(t, _) => snapshot.schema_name(t),
            Object::Virtual(v) => v.schema,
        }
    }
}

/// The relation with this oid.
pub(crate) fn relation(snapshot: &CatalogSnapshot, oid: u32) -> Option<Object<'_>> {
    if let Some(t) = snapshot.table(TableId(oid)) {
        return Some(Object::Table(t));
    }
    if let Some((t, i)) = snapshot.index_by_oid(oid) {
        return is_listed(t, i).then_some(Object::Index(t, i));
    }
    virtual_tables().find(|v| v.oid == oid).map(|v| Object::Virtual(v))
}

/// Whether an index shows in the catalog's listings: the primary index over a hidden row id does not.
pub(crate) fn is_listed(table: &TableDesc, index: &IndexDesc) -> bool {
    index.id != IndexId::PRIMARY || !table.has_row_id()
}

/// An oid for what the catalog derives from a descriptor and numbers nowhere (a column's default, a role): a hash in
/// the upper half of the range, which the counter of descriptors does not reach.
pub(crate) fn derived_oid(kind: &str, parts: &[&[u8]]) -> u32 {
    const OFFSET: u32 = 0x811c_9dc5;
    const PRIME: u32 = 0x0100_0193;
    let mut hash = OFFSET;
    for bytes in std::iter::once(kind.as_bytes()).chain(parts.iter().copied()) {
        for b in bytes.iter().chain(&[0xff]) {
            hash = (hash ^ u32::from(*b)).wrapping_mul(PRIME);
        }
    }
    hash | 0x8000_0000
}

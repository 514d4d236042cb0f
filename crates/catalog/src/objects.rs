//! Relations by oid, whatever they are.

use crate::descriptor::{ColumnDesc, IndexDesc, TableDesc, TableRef};
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

/// The generator of an identity column, as tools ask for it: by a name and a row of `pg_sequence`. There is no relation
/// behind it, and so none is listed: values are drawn at random, and nothing is counted.
pub(crate) struct IdentitySequence<'a> {
    pub(crate) oid: u32,
    pub(crate) name: String,
    pub(crate) column: &'a ColumnDesc,
}

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// The generators of a table's identity columns.
pub(crate) fn identity_sequences(table: &TableDesc) -> impl Iterator<Item = IdentitySequence<'_>> {
    table.columns.iter().filter(|c| c.identity.is_some()).map(|column| {
        const LABEL: &str = "_seq";
        let mut name = format!("{}_{}", table.name, column.name);
        name.truncate(name.floor_char_boundary(NAME_BYTES_MAX - LABEL.len()));
        name.push_str(LABEL);
        let key = [&table.id.0.to_be_bytes()[..], &column.id.0.to_be_bytes()];
        IdentitySequence { oid: derived_oid("sequence", &key), name, column }
    })
}

/// The table and the generator with this oid.
pub(crate) fn identity_sequence(
    snapshot: &CatalogSnapshot,
    oid: u32,
) -> Option<(&TableRef, IdentitySequence<'_>)> {
    snapshot.tables().find_map(|t| identity_sequences(t).find(|s| s.oid == oid).map(|s| (t, s)))
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

//! Types and what hangs on them: `pg_type`, `pg_cast`, `pg_collation`, `pg_opclass`, `pg_opfamily`.

use std::sync::OnceLock;

use meridian_datum::{CastContext, DataType, Datum, can_cast};

use super::maker::{Maker, flag, int, oid, text};
use super::relations::BTREE;
use super::{PG_CATALOG, ROOT_OID, Rows};
use crate::functions::UTF8;
use crate::objects::derived_oid;
use crate::virtual_table::VirtualTable;

/// `default`, `C` and `POSIX` in `pg_collation`.
const DEFAULT_COLLATION: u32 = 100;
const C_COLLATION: u32 = 950;
const POSIX_COLLATION: u32 = 951;

/// A line of `types.txt`.
struct TypeRow {
    oid: u32,
    name: &'static str,
    kind: &'static str,
    /// input, output, receive, send, modifier input, modifier output, analyze, subscript
    functions: [u32; 8],
    collation: u32,
}

struct OpclassRow {
    oid: u32,
    name: &'static str,
    family: u32,
    family_name: &'static str,
    ty: u32,
    is_default: bool,
    key: u32,
}

fn lines(file: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    file.lines().filter(|l| !l.starts_with('#')).map(|l| l.split(' ').collect())
}

fn number(word: &str) -> u32 {
    word.parse().expect("an oid is a number")
}

fn type_rows() -> &'static [TypeRow] {
    static ROWS: OnceLock<Vec<TypeRow>> = OnceLock::new();
    ROWS.get_or_init(|| {
        let mut rows: Vec<TypeRow> = lines(include_str!("types.txt"))
            .map(|w| TypeRow {
                oid: number(w[0]),
                name: w[1],
                kind: w[2],
                functions: std::array::from_fn(|i| number(w[3 + i])),
                collation: number(w[11]),
            })
            .collect();
        rows.sort_by_key(|r| r.oid);
        rows
    })
}

fn opclass_rows() -> &'static [OpclassRow] {
    static ROWS: OnceLock<Vec<OpclassRow>> = OnceLock::new();
    ROWS.get_or_init(|| {
        lines(include_str!("opclasses.txt"))
            .map(|w| OpclassRow {
                oid: number(w[0]),
                name: w[1],
                family: number(w[2]),
                family_name: w[3],
                ty: number(w[4]),
                is_default: w[5] == "t",
                key: number(w[6]),
            })
            .collect()
    })
}

/// The collation of a column of this type, 0 where it has none.
pub(super) fn collation_of(ty: &DataType) -> u32 {
    let oid = ty.oid();
    let rows = type_rows();
    rows.binary_search_by_key(&oid, |r| r.oid).map_or(0, |at| rows[at].collation)
}

/// The operator class that orders a column of this type in an index, 0 where there is none.
pub(super) fn opclass_of(ty: &DataType) -> u32 {
    const ANY_ARRAY: u32 = 2277;
    const TEXT: u32 = 25;
    let wanted = match ty {
        DataType::Array(_) => ANY_ARRAY,
        // As in PostgreSQL, varchar has no class of its own that is the default.
        DataType::Varchar(_) => TEXT,
        other => other.oid(),
    };
    opclass_rows().iter().find(|r| r.is_default && r.ty == wanted).map_or(0, |r| r.oid)
}

pub(super) fn pg_type(table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(
        table,
        "oid typname typnamespace typowner typlen typbyval typtype typcategory typispreferred typisdefined typdelim \
         typelem typarray typinput typoutput typreceive typsend typmodin typmodout typanalyze typsubscript typalign \
         typstorage typtypmod typcollation",
    );
    for r in type_rows() {
        let ty = DataType::from_oid(r.oid, -1);
        // Pseudo-types that only signatures mention are passed like C strings or words.
        let info = ty.as_ref().map(DataType::info);
        let is_array = matches!(ty, Some(DataType::Array(_)));
        let align = match info {
            Some(i) if is_array && i.align != 'd' => 'i',
            Some(i) => i.align,
            None => 'i',
        };
        let storage = if is_array { 'x' } else { info.map_or('p', |i| i.storage) };
        let element = ty.as_ref().and_then(DataType::element).map_or(0, |e| e.oid());
        let array = if is_array { 0 } else { info.map_or(0, |i| i.array_oid) };
        let [input, output, receive, send, modin, modout, analyze, subscript] = r.functions.map(oid);
        rows.push([
            oid(r.oid),
            text(r.name),
            oid(PG_CATALOG),
            oid(ROOT_OID),
            int(ty.as_ref().map_or(4, DataType::len)),
            flag(!is_array && info.is_none_or(|i| i.by_value)),
            text(r.kind),
            text(ty.as_ref().map_or('P', |t| t.category().letter()).to_string()),
            flag(ty.as_ref().is_some_and(DataType::is_preferred)),
            flag(true),
            text(","),
            oid(element),
            oid(array),
            input,
            output,
            receive,
            send,
            modin,
            modout,
            analyze,
            subscript,
            text(align.to_string()),
            text(storage.to_string()),
            int(-1),
            oid(r.collation),
        ]);
    }
    rows.finish()
}

/// Casts, but for those through the text form, which PostgreSQL does not list either.
pub(super) fn pg_cast(table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(table, "oid castsource casttarget castcontext castmethod");
    let allowed = |from: &DataType, to: &DataType| {
        [(CastContext::Implicit, "i"), (CastContext::Assignment, "a"), (CastContext::Explicit, "e")]
            .into_iter()
            .find(|(context, _)| can_cast(from, to, *context))
            .map(|(_, letter)| letter)
    };
    for from in DataType::all_scalars() {
        for to in DataType::all_scalars() {
            let pseudo =
                [from, to].iter().any(|t| matches!(t, DataType::Unknown | DataType::Record | DataType::Void));
            if from == to || pseudo || from.is_string() != to.is_string() {
                continue;
            }
            let Some(letter) = allowed(from, to) else { continue };
            let binary = from.is_oid_like() && to.is_oid_like();
            let id = derived_oid("cast", &[&from.oid().to_be_bytes(), &to.oid().to_be_bytes()]);
            let method = text(if binary { "b" } else { "i" });
            rows.push([oid(id), oid(from.oid()), oid(to.oid()), text(letter), method]);
        }
    }
    rows.finish()
}

pub(super) fn pg_collation(table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(
        table,
        "oid collname collnamespace collowner collprovider collisdeterministic collencoding collcollate collctype",
    );
    for (id, name, provider) in
        [(DEFAULT_COLLATION, "default", "d"), (C_COLLATION, "C", "c"), (POSIX_COLLATION, "POSIX", "c")]
    {
        let locale = || if provider == "d" { Datum::Null } else { text(name) };
        let (schema, owner) = (oid(PG_CATALOG), oid(ROOT_OID));
        rows.push([
            oid(id),
            text(name),
            schema,
            owner,
            text(provider),
            flag(true),
            int(-1),
            locale(),
            locale(),
        ]);
    }
    rows.finish()
}

pub(super) fn pg_opclass(table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(
        table,
        "oid opcmethod opcname opcnamespace opcowner opcfamily opcintype opcdefault opckeytype",
    );
    for r in opclass_rows() {
        rows.push([
            oid(r.oid),
            oid(BTREE),
            text(r.name),
            oid(PG_CATALOG),
            oid(ROOT_OID),
            oid(r.family),
            oid(r.ty),
            flag(r.is_default),
            oid(r.key),
        ]);
    }
    rows.finish()
}

pub(super) fn pg_opfamily(table: &VirtualTable) -> Rows {
    let mut rows = Maker::new(table, "oid opfmethod opfname opfnamespace opfowner");
    let mut families: Vec<(u32, &str)> = opclass_rows().iter().map(|r| (r.family, r.family_name)).collect();
    families.sort_unstable();
    families.dedup();
    for (id, name) in families {
        rows.push([oid(id), oid(BTREE), text(name), oid(PG_CATALOG), oid(ROOT_OID)]);
    }
    rows.finish()
}

/// The encoding of every database.
pub(super) fn encoding() -> Datum {
    Datum::Int(UTF8)
}

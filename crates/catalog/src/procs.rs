//! Functions as `pg_proc` lists them: the registry of scalar functions, aggregates, the catalog's functions, and those
//! input and output functions that drivers ask for by name.

use std::sync::OnceLock;

use meridian_datum::func::{all_functions, all_operators};
use meridian_datum::{DataType, FunctionDef, Ty, Volatility, lookup_aggregate};

use crate::functions::signatures;
use crate::objects::derived_oid;
use crate::pg_catalog::type_text;

/// A function.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Proc {
    pub(crate) oid: u32,
    pub(crate) name: &'static str,
    /// Oids of types.
    pub(crate) args: Vec<u32>,
    pub(crate) result: u32,
    /// `i`, `s` or `v`.
    pub(crate) volatility: &'static str,
    pub(crate) strict: bool,
    /// `f` function, `a` aggregate.
    pub(crate) kind: &'static str,
    /// The type of a repeated last argument, or 0.
    pub(crate) variadic: u32,
}

/// An operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Operator {
    pub(crate) name: &'static str,
    /// Oids of one type or two.
    pub(crate) args: Vec<u32>,
    pub(crate) result: u32,
}

impl Proc {
    /// The types of the arguments, as `\df` shows them.
    pub(crate) fn arguments(&self) -> String {
        self.args.iter().map(|t| type_text(*t)).collect::<Vec<_>>().join(", ")
    }
}

const IO_FUNCTIONS: &str = include_str!("pg_catalog/io_functions.txt");

/// All functions, by name.
pub(crate) fn all() -> &'static [Proc] {
    static ALL: OnceLock<Vec<Proc>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all: Vec<Proc> = IO_FUNCTIONS.lines().filter(|l| !l.starts_with('#')).map(parse).collect();
        all.extend(signatures().map(|(name, args, result)| {
            let args = args.iter().map(DataType::oid).collect();
            derived(Proc { result: result.oid(), volatility: "s", ..plain(name, args) })
        }));
        all.extend(all_functions().map(scalar));
        all.extend(aggregates());
        all.sort_by(|a, b| (a.name, &a.args).cmp(&(b.name, &b.args)));
        all.dedup_by(|a, b| a.name == b.name && a.args == b.args);
        all
    })
}

/// All operators.
pub(crate) fn operators() -> impl Iterator<Item = Operator> {
    all_operators().map(|def| Operator {
        name: def.name,
        args: def.args.iter().map(|t| type_oid(*t)).collect(),
        result: type_oid(def.result),
    })
}

fn plain(name: &'static str, args: Vec<u32>) -> Proc {
    Proc { oid: 0, name, args, result: 0, volatility: "i", strict: true, kind: "f", variadic: 0 }
}

fn type_oid(ty: Ty) -> u32 {
    ty.data_type().map_or_else(
        || match ty {
            Ty::AnyElement => 2283,
            Ty::AnyArray => 2277,
            Ty::AnyNonArray => 2776,
            // `"any"`
            _ => 2276,
        },
        |t| t.oid(),
    )
}

fn scalar(def: &'static FunctionDef) -> Proc {
    let args: Vec<u32> = def.args.iter().map(|t| type_oid(*t)).collect();
    let variadic = if def.variadic { args.last().copied().unwrap_or(0) } else { 0 };
    let volatility = match def.volatility {
        Volatility::Immutable => "i",
        Volatility::Stable => "s",
        Volatility::Volatile => "v",
    };
    let result = type_oid(def.result);
    derived(Proc { result, volatility, strict: def.strict, variadic, ..plain(def.name, args) })
}

/// Aggregates are not a table of signatures, so every type is tried.
fn aggregates() -> impl Iterator<Item = Proc> {
    const NAMES: [&str; 18] = [
        "count",
        "sum",
        "avg",
        "min",
        "max",
        "bool_and",
        "bool_or",
        "every",
        "bit_and",
        "bit_or",
        "bit_xor",
        "array_agg",
        "variance",
        "var_samp",
        "var_pop",
        "stddev",
        "stddev_samp",
        "stddev_pop",
    ];
    NAMES.into_iter().flat_map(|name| {
        DataType::all_scalars().iter().filter(|t| **t != DataType::Unknown).filter_map(move |ty| {
            let found = lookup_aggregate(name, std::slice::from_ref(ty)).ok()?;
            let proc = plain(name, vec![ty.oid()]);
            Some(derived(Proc { result: found.result_type.oid(), kind: "a", strict: false, ..proc }))
        })
    })
}

/// The function with this oid.
pub(crate) fn by_oid(oid: u32) -> Option<&'static Proc> {
    all().iter().find(|p| p.oid == oid)
}

/// The functions of this name.
pub(crate) fn by_name(name: &str) -> impl Iterator<Item = &'static Proc> + use<> {
    let from = all().partition_point(|p| p.name < name);
    let to = from + all()[from..].partition_point(|p| p.name == name);
    all()[from..to].iter()
}

fn derived(proc: Proc) -> Proc {
    let signature: Vec<u8> = proc.args.iter().flat_map(|a| a.to_be_bytes()).collect();
    Proc { oid: derived_oid("function", &[proc.name.as_bytes(), &signature]), ..proc }
}

fn parse(line: &'static str) -> Proc {
    let mut words = line.split(' ');
    let mut word = || words.next().expect("a function's line is complete");
    let number = |w: &str| w.parse().expect("an oid is a number");
    let (oid, name, result) = (number(word()), word(), number(word()));
    let volatility = word();
    let args = words.filter(|w| !w.is_empty()).map(number).collect();
    Proc { oid, result, volatility, ..plain(name, args) }
}

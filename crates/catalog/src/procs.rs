//! Functions as `pg_proc` lists them: the registry of scalar functions, aggregates, the catalog's functions, and those
//! input and output functions that drivers ask for by name.

use std::sync::OnceLock;

use meridian_datum::DataType;

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
        all.extend(signatures().map(|(name, args, result)| derived(name, &args, &result, "s", true)));
        all.sort_by(|a, b| (a.name, &a.args).cmp(&(b.name, &b.args)));
        all.dedup_by(|a, b| a.name == b.name && a.args == b.args);
        all
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

fn derived(
    name: &'static str,
    args: &[DataType],
    result: &DataType,
    volatility: &'static str,
    strict: bool,
) -> Proc {
    let args: Vec<u32> = args.iter().map(DataType::oid).collect();
    let signature: Vec<u8> = args.iter().flat_map(|a| a.to_be_bytes()).collect();
    let oid = derived_oid("function", &[name.as_bytes(), &signature]);
    Proc { oid, name, args, result: result.oid(), volatility, strict }
}

fn parse(line: &'static str) -> Proc {
    let mut words = line.split(' ');
    let mut word = || words.next().expect("a function's line is complete");
    let number = |w: &str| w.parse().expect("an oid is a number");
    let (oid, name, result) = (number(word()), word(), number(word()));
    let volatility = word();
    let args = words.filter(|w| !w.is_empty()).map(number).collect();
    Proc { oid, name, args, result, volatility, strict: true }
}

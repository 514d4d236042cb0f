//! Overload resolution (PostgreSQL manual, chapter 10; `func_select_candidate` in `parse_func.c`).

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::cast::{CastContext, can_cast};
use crate::error::{Result, SqlError};
use crate::func::registry::{FunctionDef, ResolvedFunction, Ty};
use crate::func::{FUNCTION_TABLES, OPERATOR_TABLES};
use crate::state::SqlState;
use crate::types::{DataType, TypeCategory};

type Index = BTreeMap<&'static str, Vec<&'static FunctionDef>>;

fn index(tables: &'static [&'static [FunctionDef]]) -> Index {
    let mut index = Index::new();
    for def in tables.iter().flat_map(|t| t.iter()) {
        index.entry(def.name).or_default().push(def);
    }
    index
}

fn functions() -> &'static Index {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| index(FUNCTION_TABLES))
}

fn operators() -> &'static Index {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| index(OPERATOR_TABLES))
}

/// Every scalar function, by name: for `pg_proc`.
pub fn all_functions() -> impl Iterator<Item = &'static FunctionDef> {
    functions().values().flatten().copied()
}

/// Every operator, by symbol: for `pg_operator`.
pub fn all_operators() -> impl Iterator<Item = &'static FunctionDef> {
    operators().values().flatten().copied()
}

/// Whether a scalar function of this name exists with any arguments.
pub fn is_function(name: &str) -> bool {
    functions().contains_key(name)
}

fn list(types: &[DataType]) -> String {
    let mut out = String::new();
    for (i, t) in types.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        out.push_str(&t.without_modifier().to_string());
    }
    out
}

/// The function that a call means. Untyped literals have [`DataType::Unknown`].
pub fn lookup_function(name: &str, args: &[DataType]) -> Result<ResolvedFunction> {
    let all = functions().get(name).map_or(&[][..], Vec::as_slice);
    match select(all, args) {
        Selection::One(def) => resolve_comparable(def, args),
        Selection::None => Err(SqlError::new(
            SqlState::UNDEFINED_FUNCTION,
            format!("function {name}({}) does not exist", list(args)),
        )
        .with_hint(
            "No function matches the given name and argument types. You might need to add explicit type casts.",
        )),
        Selection::Ambiguous => Err(SqlError::new(
            SqlState::AMBIGUOUS_FUNCTION,
            format!("function {name}({}) is not unique", list(args)),
        )
        .with_hint("Could not choose a best candidate function. You might need to add explicit type casts.")),
    }
}

/// The operator that an expression means; `left` is `None` for a prefix operator. Comparisons, arithmetic, `||`, `~~`
/// (LIKE), `!~~`, `~~*`, `!~~*`, `~`, `!~`, `~*`, `!~*`, `&`, `|`, `#`, `<<`, `>>`, `@>`, `<@`, `&&`.
pub fn lookup_operator(symbol: &str, left: Option<&DataType>, right: &DataType) -> Result<ResolvedFunction> {
    let symbol = if symbol == "!=" { "<>" } else { symbol };
    let all = operators().get(symbol).map_or(&[][..], Vec::as_slice);
    let args: Vec<DataType> = left.into_iter().chain([right]).cloned().collect();
    // An untyped literal beside a typed operand is taken to be of that type, where such an operator exists.
    if let [l, r] = args.as_slice()
        && (*l == DataType::Unknown) != (*r == DataType::Unknown)
    {
        let known = if *l == DataType::Unknown { r } else { l };
        let both = [known.clone(), known.clone()];
        if let Some(def) = all.iter().find(|d| is_exact(d, &both)) {
            return resolve_comparable(def, &both);
        }
    }
    let shown = || match args.as_slice() {
        [l, r] => format!("{} {symbol} {}", l.without_modifier(), r.without_modifier()),
        _ => format!("{symbol} {}", right.without_modifier()),
    };
    match select(all, &args) {
        Selection::One(def) => resolve_comparable(def, &args),
        Selection::None => {
            Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("operator does not exist: {}", shown()))
                .with_hint(if args.len() == 2 {
                    "No operator matches the given name and argument types. You might need to add explicit type casts."
                } else {
                    "No operator matches the given name and argument type. You might need to add an explicit type cast."
                }))
        }
        Selection::Ambiguous => {
            Err(SqlError::new(SqlState::AMBIGUOUS_FUNCTION, format!("operator is not unique: {}", shown()))
                .with_hint(
                    "Could not choose a best candidate operator. You might need to add explicit type casts.",
                ))
        }
    }
}

enum Selection {
    One(&'static FunctionDef),
    None,
    Ambiguous,
}

/// The signature's type of an actual argument, with a variadic last one repeated.
fn formal(def: &FunctionDef, arg: usize) -> Ty {
    def.args[arg.min(def.args.len() - 1)]
}

fn accepts_count(def: &FunctionDef, count: usize) -> bool {
    if def.variadic { count >= def.args.len() } else { count == def.args.len() }
}

fn is_exact(def: &FunctionDef, args: &[DataType]) -> bool {
    accepts_count(def, args.len())
        && args.iter().enumerate().all(|(i, t)| formal(def, i).data_type().is_some_and(|f| f.same_type(t)))
}

/// Whether implicit casts take the arguments to the signature.
fn is_applicable(def: &FunctionDef, args: &[DataType]) -> bool {
    let castable = args.iter().enumerate().all(|(i, t)| match formal(def, i).data_type() {
        Some(f) => can_cast(t, &f, CastContext::Implicit),
        None => match formal(def, i) {
            Ty::AnyArray => t.is_array() || *t == DataType::Unknown,
            Ty::AnyNonArray => !t.is_array(),
            _ => true,
        },
    });
    castable && element_type(def, args).is_ok()
}

/// The element type that the polymorphic arguments agree on; `None` when there are no such arguments.
fn element_type(def: &FunctionDef, args: &[DataType]) -> Result<Option<DataType>, ()> {
    let mut known: Vec<DataType> = Vec::new();
    let mut polymorphic = false;
    for (i, t) in args.iter().enumerate() {
        let kind = formal(def, i);
        if !matches!(kind, Ty::AnyElement | Ty::AnyNonArray | Ty::AnyArray) {
            continue;
        }
        polymorphic = true;
        match kind {
            _ if *t == DataType::Unknown => {}
            Ty::AnyArray => known.push(t.element().ok_or(())?),
            _ => known.push(t.clone()),
        }
    }
    if !polymorphic {
        return Ok(None);
    }
    if known.is_empty() {
        // Only untyped literals: an element is text, an array cannot be guessed.
        let array = args.iter().enumerate().any(|(i, _)| formal(def, i) == Ty::AnyArray);
        return if array { Err(()) } else { Ok(Some(DataType::Text)) };
    }
    resolve_common_type("", &known).map(Some).map_err(|_| ())
}

fn select(all: &[&'static FunctionDef], args: &[DataType]) -> Selection {
    let counted: Vec<&FunctionDef> = all.iter().filter(|d| accepts_count(d, args.len())).copied().collect();
    if let Some(def) = counted.iter().find(|d| is_exact(d, args)) {
        return Selection::One(def);
    }
    let mut candidates: Vec<&FunctionDef> = counted.into_iter().filter(|d| is_applicable(d, args)).collect();
    if candidates.is_empty() {
        return Selection::None;
    }
    let exact = |d: &FunctionDef, i: usize| formal(d, i).data_type().is_some_and(|f| f.same_type(&args[i]));
    let known: Vec<usize> = (0..args.len()).filter(|i| args[*i] != DataType::Unknown).collect();
    keep_best(&mut candidates, |d| known.iter().filter(|i| exact(d, **i)).count());
    if candidates.len() > 1 {
        keep_best(&mut candidates, |d| {
            let preferred = |i: usize| {
                formal(d, i)
                    .data_type()
                    .is_some_and(|f| f.is_preferred() && f.category() == args[i].category())
            };
            known.iter().filter(|i| exact(d, **i) || preferred(**i)).count()
        });
    }
    if candidates.len() > 1 && known.len() < args.len() {
        resolve_unknowns(&mut candidates, args);
        if candidates.len() > 1 {
            assume_same_type(&mut candidates, args, &known);
        }
    }
    match candidates.as_slice() {
        [one] => Selection::One(one),
        _ => Selection::Ambiguous,
    }
}

fn keep_best(candidates: &mut Vec<&'static FunctionDef>, score: impl Fn(&FunctionDef) -> usize) {
    let best = candidates.iter().map(|d| score(d)).max().unwrap_or(0);
    candidates.retain(|d| score(d) == best);
}

/// Picks a category for every untyped literal: string where any candidate takes one, else the one all agree on.
fn resolve_unknowns(candidates: &mut Vec<&'static FunctionDef>, args: &[DataType]) {
    let mut wanted: Vec<(usize, TypeCategory, bool)> = Vec::new();
    for i in (0..args.len()).filter(|i| args[*i] == DataType::Unknown) {
        let mut chosen: Option<(TypeCategory, bool)> = None;
        let mut conflict = false;
        for d in candidates.iter() {
            let (category, preferred) = formal(d, i)
                .data_type()
                .map_or((TypeCategory::Pseudo, false), |f| (f.category(), f.is_preferred()));
            match &mut chosen {
                None => chosen = Some((category, preferred)),
                Some((c, p)) if *c == category => *p |= preferred,
                Some(c) if category == TypeCategory::String => *c = (category, preferred),
                Some(_) => conflict = true,
            }
        }
        let (category, preferred) = chosen.expect("there are candidates");
        if conflict && category != TypeCategory::String {
            return;
        }
        wanted.push((i, category, preferred));
    }
    let matches = |d: &FunctionDef| {
        wanted.iter().all(|(i, category, preferred)| {
            formal(d, *i).data_type().map_or(*category == TypeCategory::Pseudo, |f| {
                f.category() == *category && (!preferred || f.is_preferred())
            })
        })
    };
    if candidates.iter().any(|d| matches(d)) {
        candidates.retain(|d| matches(d));
    }
}

/// Where the typed arguments are all of one type, the untyped ones are taken to be of it too.
fn assume_same_type(candidates: &mut Vec<&'static FunctionDef>, args: &[DataType], known: &[usize]) {
    let Some(first) = known.first().map(|i| &args[*i]) else { return };
    if !known.iter().all(|i| args[*i].same_type(first)) {
        return;
    }
    let same = vec![first.clone(); args.len()];
    let fitting: Vec<&'static FunctionDef> =
        candidates.iter().filter(|d| is_applicable(d, &same)).copied().collect();
    if fitting.len() == 1 {
        *candidates = fitting;
    }
}

/// Functions of arrays that look for elements, and operators that compare them.
const COMPARING: &[&str] = &[
    "=",
    "<>",
    "<",
    "<=",
    ">",
    ">=",
    "@>",
    "<@",
    "&&",
    "array_position",
    "array_positions",
    "array_remove",
    "array_replace",
];

/// Resolves the call, unless it compares elements of a type that has no equality.
fn resolve_comparable(def: &'static FunctionDef, args: &[DataType]) -> Result<ResolvedFunction> {
    let polymorphic = |i: usize| matches!(formal(def, i), Ty::AnyElement | Ty::AnyNonArray | Ty::AnyArray);
    let odd = args.iter().enumerate().find(|(i, t)| polymorphic(*i) && !t.is_comparable());
    match odd {
        Some((_, t)) if COMPARING.contains(&def.name) => {
            let element = t.element().unwrap_or_else(|| t.clone());
            let message = format!("could not identify an equality operator for type {element}");
            Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, message))
        }
        _ => Ok(resolve(def, args)),
    }
}

fn resolve(def: &'static FunctionDef, args: &[DataType]) -> ResolvedFunction {
    let element = element_type(def, args).expect("the candidate was applicable");
    let of = |ty: Ty, actual: Option<&DataType>| match ty.data_type() {
        Some(t) => match actual {
            Some(a) if a.same_type(&t) => a.clone(),
            _ => t,
        },
        None => match ty {
            Ty::AnyElement | Ty::AnyNonArray => {
                element.clone().expect("a polymorphic signature has an element type")
            }
            Ty::AnyArray => match actual {
                Some(a @ (DataType::Int2Vector | DataType::OidVector)) => a.clone(),
                _ => DataType::array(element.clone().expect("a polymorphic signature has an element type")),
            },
            _ => match actual {
                None | Some(DataType::Unknown) => DataType::Text,
                Some(a) => a.clone(),
            },
        },
    };
    ResolvedFunction {
        def,
        arg_types: args.iter().enumerate().map(|(i, t)| of(formal(def, i), Some(t))).collect(),
        result_type: of(def.result, None),
    }
}

/// The one type of the branches of a CASE, COALESCE, GREATEST, VALUES, ARRAY or UNION (manual, 10.5). `context` is the
/// word of the error message: "CASE types integer and text cannot be matched".
pub fn resolve_common_type(context: &str, types: &[DataType]) -> Result<DataType> {
    let Some(first) = types.iter().find(|t| **t != DataType::Unknown) else { return Ok(DataType::Text) };
    if types.iter().all(|t| t == first) {
        return Ok(first.clone());
    }
    let mut chosen = first.clone();
    let mut mixed_modifiers = false;
    for t in types.iter().filter(|t| **t != DataType::Unknown) {
        if t.same_type(&chosen) {
            mixed_modifiers |= *t != chosen;
            continue;
        }
        let castable = |a: &DataType, b: &DataType| can_cast(a, b, CastContext::Implicit);
        if t.category() != chosen.category() {
            return Err(SqlError::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "{context} types {} and {} cannot be matched",
                    chosen.without_modifier(),
                    t.without_modifier()
                ),
            ));
        }
        if !chosen.is_preferred() && castable(&chosen, t) && !castable(t, &chosen) {
            chosen = t.clone();
            mixed_modifiers = true;
        }
    }
    // A modifier survives only where every branch has it; untyped literals take what the others have.
    let uniform = types.iter().all(|t| *t == DataType::Unknown || *t == chosen);
    if mixed_modifiers || !uniform {
        chosen = chosen.without_modifier();
    }
    for t in types {
        if !can_cast(t, &chosen, CastContext::Implicit) {
            return Err(SqlError::new(
                SqlState::CANNOT_COERCE,
                format!("{context} could not convert type {} to {chosen}", t.without_modifier()),
            ));
        }
    }
    Ok(chosen)
}

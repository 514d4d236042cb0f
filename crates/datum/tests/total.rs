//! Nothing that a client sends makes the process panic: every function, every cast, every input function either answers
//! or gives an error. (The test profile checks arithmetic for overflow, so that a wrap shows here.)

#![allow(clippy::unwrap_used)]

use meridian_datum::func::{all_functions, all_operators};
use meridian_datum::{
    ArrayValue, CastContext, DataType, Datum, EvalContext, FunctionDef, Interval, TimeZone, Ty, can_cast,
    cast, parse_binary, parse_text, to_text,
};
use meridian_types::SeededRng;

fn pick<'a, T>(rng: &mut SeededRng, from: &'a [T]) -> &'a T {
    &from[rng.below(from.len() as u64) as usize]
}

const TEXTS: &[&str] = &[
    "",
    "a",
    "abc",
    "\u{e9}t\u{e9} \u{65e5}\u{672c}",
    "%",
    "a_%\\",
    "(",
    "[a-",
    "\\1",
    "12",
    "-1.5e3",
    "2020-02-29",
    "YYYY-MM-DD HH24:MI:SS.US",
    "FM999,990.00S",
    "\"x\"9PR",
    "FMDay, DDth",
    "1 day",
    "hex",
    "base64",
    "escape",
    "UTC",
    "Europe/Berlin",
    "year",
    "epoch",
    "timezone",
    "week",
    "%s %I %L",
    "%1$s",
    "%-5s",
    "g",
    "i",
    ",",
    "99999999999999999999",
    "J RM TZH:TZM",
    "FM",
    "\"",
    "th",
    "Y,YYY BC a.m.",
    "+05:30",
    "infinity",
];
const INTS: &[i64] =
    &[0, 1, -1, 2, 7, 100, 32_767, -32_768, 2_147_483_647, -2_147_483_648, i64::MAX, i64::MIN];
const FLOATS: &[f64] = &[
    0.0,
    -0.0,
    1.0,
    -1.5,
    0.1,
    1e300,
    -1e300,
    5e-324,
    f64::MAX,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    1e18,
];
const NUMERICS: &[&str] = &[
    "0",
    "1",
    "-1.50",
    "0.000000000000000000001",
    "99999999999999999999.999",
    "NaN",
    "Infinity",
    "-Infinity",
    "1e100",
];
const TIMESTAMPS: &[i64] =
    &[0, 1, -1, i64::MIN, i64::MAX, -211_813_488_000_000_000, 9_223_371_331_199_999_999, 631_152_000_123_456];

fn interval(rng: &mut SeededRng) -> Interval {
    const PARTS: &[i32] = &[0, 1, -1, 30, i32::MAX, i32::MIN];
    Interval::new(*pick(rng, PARTS), *pick(rng, PARTS), *pick(rng, INTS))
}

fn value(rng: &mut SeededRng, data_type: &DataType) -> Datum {
    use DataType as D;
    if rng.chance(1, 20) {
        return Datum::Null;
    }
    let int = |rng: &mut SeededRng, min: i64, max: i64| Datum::Int((*pick(rng, INTS)).clamp(min, max));
    match data_type {
        D::Bool => Datum::Bool(rng.chance(1, 2)),
        D::Int2 => int(rng, -32_768, 32_767),
        D::Int4 => int(rng, i64::from(i32::MIN), i64::from(i32::MAX)),
        D::Int8 => int(rng, i64::MIN, i64::MAX),
        t if t.is_oid_like() => int(rng, 0, i64::from(u32::MAX)),
        D::Float4 => Datum::Float4(*pick(rng, FLOATS) as f32),
        D::Float8 => Datum::Float8(*pick(rng, FLOATS)),
        D::Numeric(_) => Datum::Numeric(pick(rng, NUMERICS).parse().unwrap()),
        D::Char(_) => Datum::Char((*pick(rng, TEXTS)).into()),
        D::Bytea => Datum::bytea(pick(rng, TEXTS).as_bytes()),
        D::Date => Datum::Date(*pick(rng, &[0, 1, i32::MIN, i32::MAX, -2_451_545, 2_145_031_948, 7305])),
        D::Time => Datum::Time(*pick(rng, &[0, 1, 86_400_000_000, 45_296_789_000])),
        D::Timestamp => Datum::Timestamp(*pick(rng, TIMESTAMPS)),
        D::TimestampTz => Datum::TimestampTz(*pick(rng, TIMESTAMPS)),
        D::Interval => Datum::Interval(interval(rng)),
        D::Uuid => Datum::Uuid([7; 16]),
        D::InternalChar => Datum::from("x"),
        D::Array(e) => {
            let n = rng.below(4);
            let elements = (0..n).map(|_| value(rng, e)).collect();
            Datum::Array(ArrayValue::new((**e).clone(), elements).into())
        }
        D::Int2Vector => Datum::Array(ArrayValue::vector(D::Int2, vec![Datum::Int(1)]).into()),
        D::OidVector => Datum::Array(ArrayValue::vector(D::Oid, vec![Datum::Int(25)]).into()),
        D::Record => Datum::Record([Datum::Int(1), Datum::Null].into()),
        D::Void => Datum::Null,
        _ => Datum::from(*pick(rng, TEXTS)),
    }
}

fn types() -> Vec<DataType> {
    let mut all: Vec<DataType> = DataType::all_scalars().to_vec();
    all.extend([DataType::array(DataType::Int4), DataType::array(DataType::Text)]);
    all.extend([DataType::numeric(5, 2), DataType::Varchar(Some(2)), DataType::Char(Some(2))]);
    all
}

fn contexts() -> Vec<EvalContext> {
    let zone = |name| EvalContext::new(TimeZone::parse(name).unwrap(), 0, 1);
    vec![EvalContext::default(), zone("America/New_York"), zone("-12")]
}

/// Arguments that fit the signature, polymorphic places all of one element type.
fn arguments(rng: &mut SeededRng, def: &FunctionDef) -> (Vec<DataType>, Vec<Datum>) {
    let element = pick(rng, &[DataType::Int4, DataType::Text, DataType::Timestamp]).clone();
    let extra = if def.variadic { rng.below(3) as usize } else { 0 };
    let places =
        def.args.iter().copied().chain(std::iter::repeat_n(*def.args.last().unwrap_or(&Ty::Any), extra));
    let types: Vec<DataType> = places
        .map(|ty| match ty {
            Ty::AnyArray => DataType::array(element.clone()),
            other => other.data_type().unwrap_or_else(|| element.clone()),
        })
        .collect();
    let values = types.iter().map(|t| value(rng, t)).collect();
    (types, values)
}

#[test]
fn every_function_answers_or_fails() {
    const CALLS: usize = 120;
    let mut rng = SeededRng::new(42);
    let contexts = contexts();
    for def in all_functions().chain(all_operators()) {
        for _ in 0..CALLS {
            let (types, mut values) = arguments(&mut rng, def);
            // A gigabyte of blanks is an answer too, but takes its time.
            if matches!(def.name, "repeat" | "lpad" | "rpad") && values[1] > Datum::Int(1000) {
                values[1] = Datum::Int(1000);
            }
            if def.strict && values.iter().any(Datum::is_null) {
                continue;
            }
            let ctx = pick(&mut rng, &contexts);
            if let Ok(result) = (def.eval)(ctx, &values) {
                let shown_as = def.result.data_type().unwrap_or(DataType::Text);
                to_text(ctx, &result, &shown_as);
            }
            assert_eq!(types.len(), values.len());
        }
    }
}

#[test]
fn every_cast_answers_or_fails() {
    let mut rng = SeededRng::new(43);
    let contexts = contexts();
    for from in types() {
        for to in types() {
            for context in [CastContext::Implicit, CastContext::Assignment, CastContext::Explicit] {
                if !can_cast(&from, &to, context) {
                    continue;
                }
                for _ in 0..12 {
                    let ctx = pick(&mut rng, &contexts);
                    if let Ok(v) = cast(ctx, value(&mut rng, &from), &from, &to, context) {
                        to_text(ctx, &v, &to);
                    }
                }
            }
        }
    }
}

#[test]
fn every_input_is_read_or_refused() {
    const ALPHABET: &[&str] = &[
        "0",
        "1",
        "9",
        "59",
        "2020",
        "99999999999",
        "-",
        "+",
        ".",
        ":",
        "/",
        " ",
        ",",
        "e",
        "T",
        "Z",
        "P",
        "M",
        "D",
        "jan",
        "bc",
        "am",
        "day",
        "mon",
        "ago",
        "{",
        "}",
        "[",
        "]",
        "=",
        "\"",
        "\\",
        "\\x",
        "null",
        "inf",
        "nan",
        "utc",
        "j",
        "\u{e9}",
        "\u{65e5}",
        "@",
        "year",
        "1e400",
        "(",
        ")",
        "epoch",
        "2147483647",
    ];
    let mut rng = SeededRng::new(44);
    let contexts = contexts();
    for data_type in types() {
        for _ in 0..3000 {
            let n = rng.below(9);
            let text: String = (0..n).map(|_| *pick(&mut rng, ALPHABET)).collect();
            let ctx = pick(&mut rng, &contexts);
            if let Ok(v) = parse_text(ctx, &text, &data_type) {
                let shown = to_text(ctx, &v, &data_type);
                if !matches!(data_type, DataType::Void) {
                    assert_eq!(parse_text(ctx, &shown, &data_type).unwrap(), v, "{text:?} as {data_type}");
                }
            }
            let bytes: Vec<u8> =
                (0..rng.below(24)).map(|_| *pick(&mut rng, &[0, 0, 0, 1, 2, 4, 23, 255])).collect();
            if let Ok(v) = parse_binary(&bytes, &data_type) {
                to_text(ctx, &v, &data_type);
            }
        }
    }
}

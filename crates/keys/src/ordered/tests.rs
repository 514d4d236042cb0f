use std::cmp::Ordering;

use proptest::prelude::*;

use super::*;
use crate::KeyError;

const ASC: Direction = Direction::Ascending;
const DESC: Direction = Direction::Descending;

fn encode(value: &KeyValue, direction: Direction, nulls: Nulls) -> Vec<u8> {
    let mut key = KeyBuilder::new();
    key.push_value(value, direction, nulls);
    key.as_bytes().to_vec()
}

fn asc(value: KeyValue) -> Vec<u8> {
    encode(&value, ASC, Nulls::Last)
}

#[test]
fn golden_bytes() {
    let decimal =
        |negative, digits: &[u8], scale| KeyValue::Decimal(Decimal::finite(negative, digits, scale));
    let cases: Vec<(KeyValue, &[u8])> = vec![
        (KeyValue::Bool(false), b"\x11"),
        (KeyValue::Bool(true), b"\x12"),
        (KeyValue::Int(i64::MIN), b"\x17\x80\0\0\0\0\0\0\0"),
        (KeyValue::Int(-257), b"\x1d\xfe\xff"),
        (KeyValue::Int(-256), b"\x1e\x00"),
        (KeyValue::Int(-2), b"\x1e\xfe"),
        (KeyValue::Int(-1), b"\x1f"),
        (KeyValue::Int(0), b"\x20"),
        (KeyValue::Int(1), b"\x21\x01"),
        (KeyValue::Int(255), b"\x21\xff"),
        (KeyValue::Int(256), b"\x22\x01\x00"),
        (KeyValue::Int(i64::MAX), b"\x28\x7f\xff\xff\xff\xff\xff\xff\xff"),
        (KeyValue::Float(f64::NEG_INFINITY), b"\x30\x00\x0f\xff\xff\xff\xff\xff\xff"),
        (KeyValue::Float(0.0), b"\x30\x80\0\0\0\0\0\0\0"),
        (KeyValue::Float(1.0), b"\x30\xbf\xf0\0\0\0\0\0\0"),
        (KeyValue::Float(f64::NAN), b"\x30\xff\xf8\0\0\0\0\0\0"),
        (KeyValue::Decimal(Decimal::NegInfinity), b"\x34"),
        (decimal(true, &[1, 2, 3], 2), b"\x35\xde\xfe\xf1\xdf\xfe"),
        (decimal(false, &[0, 0], 2), b"\x36"),
        (decimal(false, &[1, 2, 3], 2), b"\x37\x21\x01\x0e\x20\x01"),
        (KeyValue::Decimal(Decimal::PosInfinity), b"\x38"),
        (KeyValue::Decimal(Decimal::NaN), b"\x39"),
        (KeyValue::Bytes(vec![]), b"\x40\x00"),
        (KeyValue::Bytes(b"\x00\x01\x02\xff".to_vec()), b"\x40\x01\x01\x01\x02\x02\xff\x00"),
        (KeyValue::Uuid(1), b"\x48\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01"),
        (KeyValue::Int128(-1), b"\x49\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        (KeyValue::Null, b"\x70"),
    ];
    for (value, golden) in &cases {
        assert_eq!(asc(value.clone()), *golden, "{value:?}");
        let inverted: Vec<u8> = golden.iter().map(|b| !b).collect();
        // A descending column has its NULLs first by default, and the greatest tag inverted is the least one.
        assert_eq!(encode(value, DESC, Nulls::First), inverted, "{value:?} descending");
    }
    assert!(cases.iter().map(|(v, _)| asc(v.clone())).is_sorted());
}

#[test]
fn nulls_go_where_they_are_told() {
    for direction in [ASC, DESC] {
        let values: Vec<Vec<u8>> = [KeyValue::Bool(false), KeyValue::Int(7), KeyValue::Uuid(u128::MAX)]
            .iter()
            .map(|v| encode(v, direction, Nulls::Last))
            .collect();
        let first = encode(&KeyValue::Null, direction, Nulls::First);
        let last = encode(&KeyValue::Null, direction, Nulls::Last);
        assert!(values.iter().all(|v| first < *v && *v < last), "{direction:?}");
        for null in [first, last] {
            assert_eq!(KeyReader::new(&null).read_null(direction), Ok(true));
        }
    }
    assert_eq!(Nulls::default_for(ASC), Nulls::Last);
    assert_eq!(Nulls::default_for(DESC), Nulls::First);
}

#[test]
fn equal_decimals_of_different_scale_are_one_key() {
    let cases = [(&[1u8, 0][..], 1), (&[1, 0, 0], 2), (&[0, 1], 0), (&[1], 0)];
    let keys: Vec<Vec<u8>> =
        cases.iter().map(|(d, s)| asc(KeyValue::Decimal(Decimal::finite(false, d, *s)))).collect();
    assert!(keys.windows(2).all(|w| w[0] == w[1]), "{keys:?}");
    assert_eq!(Decimal::finite(false, &[1, 2, 0, 0], 0).scale(), Some(-2));
    assert_eq!(Decimal::finite(true, &[0], 5), Decimal::ZERO);
}

#[test]
fn floats_are_postgres_floats() {
    assert_eq!(asc(KeyValue::Float(-0.0)), asc(KeyValue::Float(0.0)));
    let other_nan = f64::from_bits(f64::NAN.to_bits() | 1 << 63 | 7);
    assert_eq!(asc(KeyValue::Float(other_nan)), asc(KeyValue::Float(f64::NAN)));
    assert!(asc(KeyValue::Float(f64::NAN)) > asc(KeyValue::Float(f64::INFINITY)));
}

#[test]
fn what_no_encoder_writes_is_refused() {
    let int = |b: &[u8]| KeyReader::new(b).read_int(ASC);
    assert_eq!(int(b""), Err(KeyError::Truncated { at: 0 }));
    assert_eq!(int(b"\x22\x01"), Err(KeyError::Truncated { at: 1 }));
    assert_eq!(int(b"\x22\x00\x01"), Err(KeyError::Malformed { at: 0 }), "not minimal");
    assert_eq!(int(b"\x1e\xff"), Err(KeyError::Malformed { at: 0 }), "not minimal");
    assert_eq!(int(b"\x28\x80\0\0\0\0\0\0\0"), Err(KeyError::Malformed { at: 0 }), "above the maximum");
    assert_eq!(int(b"\x12"), Err(KeyError::UnexpectedTag { at: 0, tag: 0x12 }));
    let bytes = |b: &[u8]| KeyReader::new(b).read_bytes(ASC);
    assert_eq!(bytes(b"\x40ab"), Err(KeyError::Truncated { at: 3 }));
    assert_eq!(bytes(b"\x40\x01\x03\x00"), Err(KeyError::Malformed { at: 1 }));
    let decimal = |b: &[u8]| KeyReader::new(b).read_decimal(ASC);
    assert_eq!(decimal(b"\x37\x20\x01"), Err(KeyError::Malformed { at: 0 }), "no digits");
    assert_eq!(decimal(b"\x37\x20\xf0\x01"), Err(KeyError::Malformed { at: 0 }), "not a digit pair");
    let id = |b: &[u8]| KeyReader::new(b).read_id();
    assert_eq!(id(b"\xf8\x07"), Err(KeyError::Malformed { at: 0 }), "not minimal");
    assert_eq!(id(b"\xf9\x00\xff"), Err(KeyError::Malformed { at: 0 }), "not minimal");
    assert!(KeyReader::new(b"\x05").peek(ASC).is_err(), "the child marker is no column");
}

/// The order that the bytes must have, from arithmetic on the values alone.
fn compare(a: &KeyValue, b: &KeyValue) -> Ordering {
    match (a, b) {
        (KeyValue::Null, KeyValue::Null) => Ordering::Equal,
        (KeyValue::Null, _) => Ordering::Greater,
        (_, KeyValue::Null) => Ordering::Less,
        (KeyValue::Bool(a), KeyValue::Bool(b)) => a.cmp(b),
        (KeyValue::Int(a), KeyValue::Int(b)) => a.cmp(b),
        (KeyValue::Float(a), KeyValue::Float(b)) => match (a.is_nan(), b.is_nan()) {
            (false, false) => a.partial_cmp(b).unwrap(),
            (a, b) => a.cmp(&b),
        },
        (KeyValue::Decimal(a), KeyValue::Decimal(b)) => compare_decimals(a, b),
        (KeyValue::Bytes(a), KeyValue::Bytes(b)) => a.cmp(b),
        (KeyValue::Uuid(a), KeyValue::Uuid(b)) => a.cmp(b),
        (KeyValue::Int128(a), KeyValue::Int128(b)) => a.cmp(b),
        (a, b) => panic!("a column has one type: {a:?} and {b:?}"),
    }
}

fn compare_decimals(a: &Decimal, b: &Decimal) -> Ordering {
    let rank = |d: &Decimal| match d {
        Decimal::NegInfinity => 0,
        Decimal::Finite { .. } => 1,
        Decimal::PosInfinity => 2,
        Decimal::NaN => 3,
    };
    // The strategy keeps scales within 0..=8 and digits within 12, so that a common scale fits.
    let scaled = |d: &Decimal| match d {
        Decimal::Finite { negative, digits, .. } => {
            let digits_value = digits.iter().fold(0i128, |n, d| n * 10 + i128::from(*d));
            let n = digits_value * 10i128.pow((8 - d.scale().unwrap()) as u32);
            if *negative { -n } else { n }
        }
        _ => 0,
    };
    rank(a).cmp(&rank(b)).then(scaled(a).cmp(&scaled(b)))
}

fn decimals() -> impl Strategy<Value = Decimal> {
    prop_oneof![
        1 => Just(Decimal::NegInfinity),
        1 => Just(Decimal::PosInfinity),
        1 => Just(Decimal::NaN),
        20 => (any::<bool>(), proptest::collection::vec(0u8..10, 0..12), 0i64..=8)
            .prop_map(|(n, d, s)| Decimal::finite(n, &d, s)),
    ]
}

fn column(kind: u8) -> BoxedStrategy<KeyValue> {
    let tricky = prop_oneof![Just(0u8), Just(1), Just(2), Just(0xfe), Just(0xff), any::<u8>()];
    let values = match kind {
        0 => any::<bool>().prop_map(KeyValue::Bool).boxed(),
        1 => prop_oneof![any::<i64>(), -70_000i64..70_000, (0u32..63).prop_map(|s| 1 << s)]
            .prop_map(KeyValue::Int)
            .boxed(),
        2 => prop_oneof![any::<f64>(), -2.0..2.0f64, Just(f64::NAN), Just(-0.0)]
            .prop_map(KeyValue::Float)
            .boxed(),
        3 => decimals().prop_map(KeyValue::Decimal).boxed(),
        4 => proptest::collection::vec(tricky, 0..5).prop_map(KeyValue::Bytes).boxed(),
        5 => any::<u128>().prop_map(KeyValue::Uuid).boxed(),
        _ => any::<i128>().prop_map(KeyValue::Int128).boxed(),
    };
    prop_oneof![1 => Just(KeyValue::Null), 9 => values].boxed()
}

/// Two rows of the same columns, with each column's direction.
fn rows() -> impl Strategy<Value = Vec<(KeyValue, KeyValue, Direction)>> {
    let direction = prop_oneof![Just(ASC), Just(DESC)];
    let one = (0u8..7, direction).prop_flat_map(|(kind, direction)| {
        let pair = (column(kind), column(kind));
        (pair, any::<bool>()).prop_map(move |((a, b), same)| {
            let b = if same { a.clone() } else { b };
            (a, b, direction)
        })
    });
    proptest::collection::vec(one, 1..4)
}

fn row_key(columns: impl Iterator<Item = (KeyValue, Direction)>) -> Vec<u8> {
    let mut key = KeyBuilder::new();
    for (value, direction) in columns {
        key.push_value(&value, direction, Nulls::default_for(direction));
    }
    key.as_bytes().to_vec()
}

proptest! {
    #[test]
    fn rows_sort_as_their_columns(columns in rows()) {
        let a = row_key(columns.iter().map(|(a, _, d)| (a.clone(), *d)));
        let b = row_key(columns.iter().map(|(_, b, d)| (b.clone(), *d)));
        let expected = columns.iter().fold(Ordering::Equal, |so_far, (a, b, direction)| {
            so_far.then(match direction {
                Direction::Ascending => compare(a, b),
                Direction::Descending => compare(b, a),
            })
        });
        prop_assert_eq!(a.cmp(&b), expected);
    }

    #[test]
    fn rows_are_read_back(columns in rows()) {
        let bytes = row_key(columns.iter().map(|(a, _, d)| (a.clone(), *d)));
        let mut reader = KeyReader::new(&bytes);
        let mut skipper = KeyReader::new(&bytes);
        for (value, _, direction) in &columns {
            let read = reader.read_value(*direction).unwrap();
            prop_assert_eq!(compare(&read, value), Ordering::Equal);
            skipper.skip_value(*direction).unwrap();
            prop_assert_eq!(skipper.position(), reader.position());
        }
        prop_assert!(reader.expect_end().is_ok());
    }

    #[test]
    fn ids_keep_their_order(a in any::<u64>(), shift in 0u32..64, b in any::<u64>()) {
        let a = a >> shift;
        let encode = |id| {
            let mut key = KeyBuilder::new();
            key.push_id(id);
            key.as_bytes().to_vec()
        };
        prop_assert_eq!(encode(a).cmp(&encode(b)), a.cmp(&b));
        prop_assert_eq!(encode(a).cmp(&encode(a + (a < u64::MAX) as u64)), a.cmp(&(a + (a < u64::MAX) as u64)));
        prop_assert_eq!(KeyReader::new(&encode(a)).read_id(), Ok(a));
    }

    #[test]
    fn readers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..24), descending in any::<bool>()) {
        let direction = if descending { DESC } else { ASC };
        let mut reader = KeyReader::new(&bytes);
        while !reader.is_at_end() {
            if reader.read_value(direction).is_err() {
                break;
            }
        }
        prop_assert!(reader.position() <= bytes.len());
    }
}

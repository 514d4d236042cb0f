//! Laws that hold for all values: round trips, orders, equality and hashing, columns against plain vectors.

#![allow(clippy::unwrap_used)]

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use meridian_datum::{
    ArrayValue, Batch, Column, DataType, Datum, Decimal, EvalContext, Interval, RowDecoder, decode_values,
    encode_row, encode_values, is_key_type, parse_binary, parse_text, push_key, read_key, to_text,
    write_binary,
};
use meridian_keys::{Direction, KeyBuilder, KeyReader, Nulls};
use proptest::prelude::*;

fn decimal() -> impl Strategy<Value = Decimal> {
    prop_oneof![
        8 => (any::<i64>(), 0u32..20).prop_map(|(c, s)| Decimal::from_parts(i128::from(c), s)),
        4 => (-200i64..200, 0u32..4).prop_map(|(c, s)| Decimal::from_parts(i128::from(c), s)),
        4 => (any::<i128>(), 0u32..60).prop_map(|(c, s)| Decimal::from_parts(c, s)),
        1 => Just(Decimal::NAN),
        1 => Just(Decimal::INFINITY),
        1 => Just(Decimal::NEGATIVE_INFINITY),
    ]
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), (-5i32..5).prop_map(f64::from), Just(-0.0), Just(f64::NAN), Just(f64::INFINITY)]
}

fn interval() -> impl Strategy<Value = Interval> {
    let any_parts = (any::<i32>(), any::<i32>(), -4_000_000_000_000_000_000i64..4_000_000_000_000_000_000);
    prop_oneof![
        any_parts.prop_map(|(m, d, us)| Interval::new(m, d, us)),
        (-2i32..3, -31i32..61, -2i64..3).prop_map(|(m, d, us)| Interval::new(m, d, us * 86_400_000_000)),
    ]
}

/// The types under test with values of each.
fn typed(data_type: &DataType) -> BoxedStrategy<Datum> {
    let timestamps = -211_813_488_000_000_000i64..9_223_371_331_200_000_000;
    match data_type {
        DataType::Bool => any::<bool>().prop_map(Datum::Bool).boxed(),
        DataType::Int2 => any::<i16>().prop_map(|v| Datum::Int(i64::from(v))).boxed(),
        DataType::Int4 => prop_oneof![any::<i32>(), -3..3i32].prop_map(|v| Datum::Int(i64::from(v))).boxed(),
        DataType::Int8 => any::<i64>().prop_map(Datum::Int).boxed(),
        DataType::Oid => any::<u32>().prop_map(|v| Datum::Int(i64::from(v))).boxed(),
        DataType::Float4 => any::<f32>().prop_map(Datum::Float4).boxed(),
        DataType::Float8 => float().prop_map(Datum::Float8).boxed(),
        DataType::Numeric(_) => decimal().prop_map(Datum::Numeric).boxed(),
        DataType::Text => "[a-c \\x01\u{e9}]{0,5}".prop_map(Datum::from).boxed(),
        DataType::Char(_) => "[ab ]{0,4}".prop_map(|s: String| Datum::Char(s.into())).boxed(),
        DataType::Bytea => prop::collection::vec(0u8..3, 0..5).prop_map(Datum::bytea).boxed(),
        DataType::Date => (-2_451_545i32..2_145_031_949).prop_map(Datum::Date).boxed(),
        DataType::Time => (0i64..=86_400_000_000).prop_map(Datum::Time).boxed(),
        DataType::Timestamp => timestamps.prop_map(Datum::Timestamp).boxed(),
        DataType::TimestampTz => timestamps.prop_map(Datum::TimestampTz).boxed(),
        DataType::Interval => interval().prop_map(Datum::Interval).boxed(),
        DataType::Uuid => any::<[u8; 16]>().prop_map(Datum::Uuid).boxed(),
        DataType::Array(e) => {
            let element = (**e).clone();
            let values = prop::collection::vec(prop_oneof![4 => typed(e), 1 => Just(Datum::Null)], 0..4);
            values.prop_map(move |v| Datum::Array(ArrayValue::new(element.clone(), v).into())).boxed()
        }
        other => panic!("no values of {other}"),
    }
}

fn types() -> Vec<DataType> {
    use DataType as D;
    let mut all = vec![
        D::Bool,
        D::Int2,
        D::Int4,
        D::Int8,
        D::Oid,
        D::Float4,
        D::Float8,
        D::Numeric(None),
        D::Text,
        D::Char(None),
        D::Bytea,
        D::Date,
        D::Time,
        D::Timestamp,
        D::TimestampTz,
        D::Interval,
        D::Uuid,
    ];
    all.push(D::array(D::Text));
    all.push(D::array(D::Int4));
    all
}

fn values() -> impl Strategy<Value = (DataType, Vec<Datum>)> {
    prop::sample::select(types()).prop_flat_map(|t| {
        let value = prop_oneof![6 => typed(&t), 1 => Just(Datum::Null)];
        (Just(t), prop::collection::vec(value, 3..12))
    })
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn order_is_total_and_equality_hashes((_, v) in values()) {
        for a in &v {
            prop_assert_eq!(a.cmp(a), std::cmp::Ordering::Equal);
            for b in &v {
                prop_assert_eq!(a.cmp(b), b.cmp(a).reverse());
                prop_assert_eq!(a == b, a.cmp(b).is_eq());
                if a == b {
                    prop_assert_eq!(hash_of(a), hash_of(b));
                }
                for c in &v {
                    if a <= b && b <= c {
                        prop_assert!(a <= c);
                    }
                }
            }
        }
    }

    #[test]
    fn keys_sort_as_values_do((t, v) in values()) {
        prop_assume!(is_key_type(&t));
        let key = |d: &Datum, direction| {
            let mut b = KeyBuilder::new();
            push_key(d, direction, Nulls::default_for(direction), &mut b).unwrap();
            b
        };
        for a in &v {
            for direction in [Direction::Ascending, Direction::Descending] {
                let ka = key(a, direction);
                let back = read_key(&mut KeyReader::new(ka.as_bytes()), &t, direction).unwrap();
                prop_assert_eq!(&back, a);
                for b in &v {
                    let order = ka.as_bytes().cmp(key(b, direction).as_bytes());
                    let expected = if direction == Direction::Ascending { a.cmp(b) } else { b.cmp(a) };
                    prop_assert_eq!(order, expected, "{:?} {:?}", a, b);
                }
            }
        }
    }

    #[test]
    fn formats_read_back((t, v) in values()) {
        let ctx = EvalContext::default();
        for d in v.iter().filter(|d| !d.is_null()) {
            let text = to_text(&ctx, d, &t);
            let from_text = parse_text(&ctx, &text, &t).unwrap();
            prop_assert_eq!(&from_text, d);
            prop_assert_eq!(to_text(&ctx, &from_text, &t), text.clone());
            let mut binary = Vec::new();
            write_binary(d, &t, &mut binary);
            let from_binary = parse_binary(&binary, &t).unwrap();
            prop_assert_eq!(to_text(&ctx, &from_binary, &t), text);
        }
    }

    #[test]
    fn rows_read_back_in_parts((t, v) in values(), keep in any::<u16>()) {
        let ctx = EvalContext::default();
        let ids: Vec<u32> = (0..v.len() as u32).map(|i| 1 + i * 37).collect();
        let mut row = Vec::new();
        encode_row(ids.iter().copied().zip(&v), &mut row);
        let wanted: Vec<usize> = (0..v.len()).filter(|i| keep >> i & 1 == 1).collect();
        let decoder = RowDecoder::new(wanted.iter().enumerate().map(|(at, i)| (ids[*i], t.clone(), at)));
        let mut columns: Vec<Column> = wanted.iter().map(|_| Column::new(&t)).collect();
        decoder.decode_columns(&row, &mut columns).unwrap();
        for (at, i) in wanted.iter().enumerate() {
            prop_assert_eq!(columns[at].len(), 1);
            let back = columns[at].get(0);
            prop_assert_eq!(to_text(&ctx, &back, &t), to_text(&ctx, &v[*i], &t));
            prop_assert_eq!(back.is_null(), v[*i].is_null());
        }
        let mut list = Vec::new();
        encode_values(&v, &mut list);
        prop_assert_eq!(decode_values(&list, &vec![t.clone(); v.len()]).unwrap(), v);
    }

    #[test]
    fn damaged_rows_are_errors_not_panics((t, v) in values(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut row = Vec::new();
        encode_row((1u32..).zip(&v), &mut row);
        let i = at.index(row.len());
        row[i] = byte;
        let decoder = RowDecoder::new((1u32..).zip(0..v.len()).map(|(id, at)| (id, t.clone(), at)));
        let mut out = vec![Datum::Null; v.len()];
        let _ = decoder.decode_datums(&row, &mut out);
        row.truncate(i);
        let _ = decoder.decode_datums(&row, &mut out);
        let _ = parse_binary(&row, &t);
    }

    #[test]
    fn columns_behave_as_vectors((t, v) in values(), picks in prop::collection::vec(any::<prop::sample::Index>(), 0..20)) {
        let column = Column::from_datums(&t, v.iter().cloned());
        let all = |c: &Column| (0..c.len()).map(|i| c.get(i)).collect::<Vec<_>>();
        prop_assert_eq!(all(&column), v.clone());
        let rows: Vec<u32> = picks.iter().map(|i| i.index(v.len()) as u32).collect();
        let picked: Vec<Datum> = rows.iter().map(|r| v[*r as usize].clone()).collect();
        prop_assert_eq!(all(&column.gather(&rows)), picked.clone());
        let optional: Vec<Option<u32>> = rows.iter().map(|r| (r % 3 != 0).then_some(*r)).collect();
        let with_nulls: Vec<Datum> =
            optional.iter().map(|r| r.map_or(Datum::Null, |r| v[r as usize].clone())).collect();
        prop_assert_eq!(all(&column.gather_optional(&optional)), with_nulls);
        prop_assert_eq!(all(&column.slice(1..v.len())), v[1..].to_vec());
        let joined = Column::concat(&[&column, &column.gather(&rows)]);
        prop_assert_eq!(all(&joined), [v.clone(), picked].concat());
        let mut cut = joined;
        cut.truncate(2);
        cut.append(&column);
        prop_assert_eq!(all(&cut), [v[..2].to_vec(), v.clone()].concat());
        for i in 0..v.len() {
            for j in 0..v.len() {
                prop_assert_eq!(column.cmp_rows(i, &column, j), v[i].cmp(&v[j]));
                if v[i] == v[j] {
                    let hash = |row| {
                        let mut h = DefaultHasher::new();
                        column.hash_row(row, &mut h);
                        h.finish()
                    };
                    prop_assert_eq!(hash(i), hash(j));
                }
            }
        }
    }

    #[test]
    fn numeric_laws(a in decimal(), b in decimal()) {
        prop_assert_eq!(a.add(&b).unwrap(), b.add(&a).unwrap());
        prop_assert_eq!(a.mul(&b).unwrap(), b.mul(&a).unwrap());
        if a.is_finite() && b.is_finite() {
            let sum = a.add(&b).unwrap();
            prop_assert_eq!(sum.scale(), a.scale().max(b.scale()));
            prop_assert_eq!(sum.sub(&b).unwrap(), a.clone());
            if !b.is_zero() {
                // a = (a div b) * b + a mod b
                let whole = a.div_trunc(&b).unwrap().mul(&b).unwrap();
                prop_assert_eq!(whole.add(&a.rem(&b).unwrap()).unwrap(), a.clone());
            }
        }
        prop_assert_eq!(a.to_string().parse::<Decimal>().unwrap(), a);
    }
}

#[test]
fn batches_keep_their_length_without_columns() {
    let mut batch = Batch::with_capacity([], 4);
    batch.push_empty_row();
    batch.push_empty_row();
    assert_eq!(batch.gather(&[0, 1, 1]).len(), 3);
    let mut batch = Batch::with_capacity([&DataType::Int4, &DataType::Text], 4);
    batch.push_row(&[Datum::Int(1), Datum::Null]);
    batch.push_row(&[Datum::Null, Datum::from("b")]);
    let mut twice = batch.clone();
    twice.append(&batch.gather(&[1]));
    assert_eq!(twice.row(2), vec![Datum::Null, Datum::from("b")]);
    assert_eq!(twice.project(&[1]).get(0, 1), Datum::from("b"));
}

/// The bytes of rows are on disk: a change of them is a change of the disk format.
#[test]
fn stored_rows_have_these_bytes() {
    let values = [
        Datum::Bool(true),
        Datum::Int(-3),
        Datum::Null,
        Datum::Float8(1.5),
        Datum::from("ab"),
        Datum::Numeric("12.50".parse().unwrap()),
        Datum::Numeric(Decimal::NAN),
        Datum::Interval(Interval::new(1, -1, 300)),
        Datum::Char("x  ".into()),
        Datum::Array(ArrayValue::new(DataType::Int4, vec![Datum::Int(7), Datum::Null]).into()),
    ];
    let mut row = Vec::new();
    encode_row((1u32..).zip(&values), &mut row);
    let hex: String = row.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(
        hex,
        "0111120523080000000000 00f83f14026162150 2c41316016e17020 1d8041a020178190601040202120e"
            .replace(' ', "")
    );
}

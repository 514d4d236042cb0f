//! Expressions with PostgreSQL 15's answers.
//!
//! Setup: every line of `golden/*.txt` is `expression => answer`, the answer taken from a PostgreSQL 15 server (UTC, C
//! locale, or the zone that the file names in its first line, `# TimeZone: ...`). An expression is a literal `'...'`
//! (quotes doubled), `NULL`, a call `name(a, b)`, an operator `(a + b)` or `(- a)`, an aggregate over literal rows
//! `sum[a, b]`, each optionally followed by casts `::type`. The answer is `value | type`, `NULL type`, or
//! `ERR sqlstate message`.
//!
//! Expect: the same answer, from the code for rows and from the code for columns; and that every value survives its text
//! form, its binary form, a stored row and, where its type has one, a key.

#![allow(clippy::unwrap_used)]

use meridian_datum::{
    CastContext, Column, DataType, Datum, EvalContext, Operand, ResolvedFunction, Result, RowDecoder,
    SqlError, TimeZone, Volatility, can_cast, cast, encode_row, is_aggregate, is_key_type, key_is_exact,
    lookup_aggregate, lookup_function, lookup_operator, parse_binary, parse_text, push_key, read_key,
    to_text, write_binary,
};
use meridian_keys::{Direction, KeyBuilder, KeyReader, Nulls};

type Typed = (Datum, DataType);

struct Parser<'a> {
    ctx: &'a EvalContext,
    rest: &'a str,
}

fn named_type(name: &str) -> DataType {
    if let Some(element) = name.strip_suffix("[]") {
        return DataType::array(named_type(element));
    }
    let (bare, modifier) = match name.split_once('(') {
        Some((bare, m)) => {
            (bare, m.trim_end_matches(')').split(',').map(|n| n.parse::<i32>().unwrap()).collect())
        }
        None => (name, Vec::new()),
    };
    let plain = DataType::from_name(bare).unwrap_or_else(|| panic!("no type {bare}"));
    match (plain, modifier.as_slice()) {
        (t, []) => t,
        (DataType::Numeric(_), [p]) => DataType::numeric(*p as u16, 0),
        (DataType::Numeric(_), [p, s]) => DataType::numeric(*p as u16, *s as i16),
        (DataType::Varchar(_), [n]) => DataType::Varchar(Some(*n as u32)),
        (DataType::Char(_), [n]) => DataType::Char(Some(*n as u32)),
        (t, m) => panic!("{t} with {m:?}"),
    }
}

impl Parser<'_> {
    fn eat(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn take(&mut self, keep: impl Fn(char) -> bool) -> &str {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c| !keep(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn list(&mut self, close: &str) -> Vec<Result<Typed>> {
        let mut out = Vec::new();
        while !self.eat(close) {
            out.push(self.expression());
            self.eat(",");
        }
        out
    }

    fn expression(&mut self) -> Result<Typed> {
        let mut value = self.primary();
        while self.eat("::") {
            let name = if self.rest.starts_with("\"char\"") {
                self.rest = &self.rest[6..];
                "\"char\"".to_owned()
            } else {
                let mut name = self.take(|c| c.is_ascii_alphanumeric() || c == '_').to_owned();
                if self.rest.starts_with('(') {
                    let end = self.rest.find(')').unwrap() + 1;
                    name.push_str(&self.rest[..end]);
                    self.rest = &self.rest[end..];
                }
                if self.eat("[]") {
                    name.push_str("[]");
                }
                name
            };
            let to = named_type(&name);
            value = value.and_then(|(d, from)| {
                if !can_cast(&from, &to, CastContext::Explicit) {
                    let (from, to) = (from.without_modifier().to_string(), to.without_modifier().to_string());
                    return Err(SqlError::cannot_cast(&from, &to));
                }
                Ok((cast(self.ctx, d, &from, &to, CastContext::Explicit)?, to))
            });
        }
        value
    }

    fn primary(&mut self) -> Result<Typed> {
        if self.eat("'") {
            let mut text = String::new();
            loop {
                let end = self.rest.find('\'').expect("a literal ends");
                text.push_str(&self.rest[..end]);
                self.rest = &self.rest[end + 1..];
                if !self.rest.starts_with('\'') {
                    return Ok((Datum::from(text), DataType::Unknown));
                }
                text.push('\'');
                self.rest = &self.rest[1..];
            }
        }
        if self.eat("(") {
            return self.operation();
        }
        let name = self.take(|c| c.is_ascii_alphanumeric() || c == '_').to_owned();
        if name == "NULL" {
            return Ok((Datum::Null, DataType::Unknown));
        }
        if self.eat("[") {
            assert!(is_aggregate(&name), "{name} is no aggregate");
            let rows: Result<Vec<Typed>> = self.list("]").into_iter().collect();
            return self.aggregate(&name, rows?);
        }
        assert!(self.eat("("), "unreadable: {}", self.rest);
        let args: Vec<Result<Typed>> = self.list(")");
        let args: Result<Vec<Typed>> = args.into_iter().collect();
        let args = args?;
        let types: Vec<DataType> = args.iter().map(|a| a.1.clone()).collect();
        self.call(&lookup_function(&name, &types)?, args)
    }

    fn operation(&mut self) -> Result<Typed> {
        let symbol = |c: char| "+-*/%^=<>|&#~!@".contains(c);
        if self.rest.trim_start().starts_with(symbol) {
            let op = self.take(symbol).to_owned();
            let operand = self.expression();
            assert!(self.eat(")"));
            let operand = operand?;
            return self.call(&lookup_operator(&op, None, &operand.1)?, vec![operand]);
        }
        let left = self.expression();
        if self.eat(")") {
            return left;
        }
        let op = self.take(symbol).to_owned();
        let right = self.expression();
        assert!(self.eat(")"), "unreadable: {}", self.rest);
        let (left, right) = (left?, right?);
        self.call(&lookup_operator(&op, Some(&left.1), &right.1)?, vec![left, right])
    }

    fn call(&self, f: &ResolvedFunction, args: Vec<Typed>) -> Result<Typed> {
        let mut values = Vec::new();
        for ((value, from), to) in args.into_iter().zip(&f.arg_types) {
            values.push(cast(self.ctx, value, &from, to, CastContext::Implicit)?);
        }
        let by_row = f.call(self.ctx, &values);
        if f.def.volatility != Volatility::Volatile {
            const ROWS: usize = 3;
            let columns: Vec<Column> =
                values.iter().zip(&f.arg_types).map(|(v, t)| Column::constant(t, v, ROWS)).collect();
            for mask in 0..1u32 << values.len().min(2) {
                let operands: Vec<Operand<'_>> = (0..values.len())
                    .map(|i| {
                        if mask >> i & 1 == 1 {
                            Operand::Constant(&values[i])
                        } else {
                            Operand::Column(&columns[i])
                        }
                    })
                    .collect();
                let by_column = f.call_columns(self.ctx, &operands, ROWS).map(|c| c.get(ROWS - 1));
                assert_eq!(by_column, by_row, "{} over columns", f.def.name);
            }
        }
        Ok((by_row?, f.result_type.clone()))
    }

    /// The aggregate over all rows must equal the merge of two halves, one fed by columns and one shipped.
    fn aggregate(&self, name: &str, rows: Vec<Typed>) -> Result<Typed> {
        let f = lookup_aggregate(name, &[rows[0].1.clone()])?;
        let values: Result<Vec<Datum>> = rows
            .into_iter()
            .map(|(v, t)| cast(self.ctx, v, &t, &f.arg_types[0], CastContext::Implicit))
            .collect();
        let values = values?;
        let mut whole = f.init();
        for v in &values {
            f.update(&mut whole, std::slice::from_ref(v))?;
        }
        let result = f.finish(self.ctx, &whole)?;
        let (front, back) = values.split_at(values.len() / 2);
        let (mut a, mut b) = (f.init(), f.init());
        let column = Column::from_datums(&f.arg_types[0], front.iter().cloned());
        f.update_batch(&mut a, &[&column], None, front.len())?;
        for v in back {
            f.update(&mut b, std::slice::from_ref(v))?;
        }
        f.merge(&mut a, &f.import(&f.export(&b))?)?;
        let merged = f.finish(self.ctx, &a)?;
        match (&result, &merged) {
            // The order of additions shows in floats.
            (Datum::Float8(x), Datum::Float8(y)) => {
                assert!((x - y).abs() <= x.abs() * 1e-12, "{name}: {x} {y}")
            }
            (Datum::Float4(x), Datum::Float4(y)) => {
                assert!((x - y).abs() <= x.abs() * 1e-5, "{name}: {x} {y}")
            }
            _ => assert_eq!(result, merged, "{name} merged"),
        }
        Ok((result, f.result_type))
    }
}

fn check_round_trips(ctx: &EvalContext, value: &Datum, data_type: &DataType, text: &str) {
    let same = |back: Datum, how: &str| {
        assert_eq!(&back, value, "{how} of {data_type} {text}");
        assert_eq!(to_text(ctx, &back, data_type), text, "{how} of {data_type}");
    };
    same(parse_text(ctx, text, data_type).unwrap(), "text");
    let mut binary = Vec::new();
    write_binary(value, data_type, &mut binary);
    same(parse_binary(&binary, data_type).unwrap(), "binary");
    let mut row = Vec::new();
    encode_row([(2, &Datum::Bool(true)), (7, value), (9, &Datum::from("after"))], &mut row);
    let mut out = [Datum::Null];
    RowDecoder::new([(7, data_type.clone(), 0)]).decode_datums(&row, &mut out).unwrap();
    same(out[0].clone(), "row");
    let mut columns = [Column::new(data_type), Column::new(&DataType::Text)];
    RowDecoder::new([(9, DataType::Text, 1), (7, data_type.clone(), 0)])
        .decode_columns(&row, &mut columns)
        .unwrap();
    same(columns[0].get(0), "row in columns");
    assert_eq!(columns[1].get(0), Datum::from("after"));
    if is_key_type(data_type) {
        for direction in [Direction::Ascending, Direction::Descending] {
            let mut key = KeyBuilder::new();
            push_key(value, direction, Nulls::Last, &mut key).unwrap();
            let back = read_key(&mut KeyReader::new(key.as_bytes()), data_type, direction).unwrap();
            assert_eq!(&back, value, "key of {data_type} {text}");
            if key_is_exact(data_type) {
                assert_eq!(to_text(ctx, &back, data_type), text, "key of {data_type}");
            }
        }
    }
}

fn answer(ctx: &EvalContext, expression: &str) -> String {
    let mut parser = Parser { ctx, rest: expression };
    let result = parser.expression();
    assert!(parser.rest.trim().is_empty(), "unread: {}", parser.rest);
    match result {
        Err(e) => format!("ERR {} {}", e.state, e.message),
        Ok((Datum::Null, t)) => format!("NULL {}", t.without_modifier()),
        Ok((value, t)) => {
            let t = if t == DataType::Unknown { DataType::Text } else { t };
            let text = to_text(ctx, &value, &t);
            check_round_trips(ctx, &value, &t, &text);
            format!("{text} | {}", t.without_modifier())
        }
    }
}

fn run(name: &str) {
    let path = format!("{}/tests/golden/{name}.txt", std::env::var("CARGO_MANIFEST_DIR").unwrap());
    let file = std::fs::read_to_string(&path).unwrap();
    let mut ctx = EvalContext::default();
    let (mut checked, mut wrong) = (0, Vec::new());
    for line in file.lines() {
        if let Some(zone) = line.strip_prefix("# TimeZone: ") {
            ctx.time_zone = TimeZone::parse(zone).unwrap();
        }
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        let (expression, expected) = line.split_once(" => ").expect("a line is `expression => answer`");
        let found = answer(&ctx, expression);
        checked += 1;
        if found != expected {
            wrong.push(format!("{expression}\n  expected {expected}\n  found    {found}"));
        }
    }
    assert!(checked > 0, "{path} holds nothing");
    assert!(wrong.is_empty(), "{} of {checked} differ:\n{}", wrong.len(), wrong.join("\n"));
}

macro_rules! golden {
    ($($name:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                run(stringify!($name));
            }
        )+
    };
}

golden!(input, operators, casts, functions, numeric, transcendental, aggregates, zones, formatting);

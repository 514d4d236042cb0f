//! From the planner's spans to spans of keys.

use meridian_catalog::{CatalogSnapshot, Direction, IndexDesc, TableDesc};
use meridian_datum::{Datum, Result};
use meridian_keys::KeyBuilder;
use meridian_plan::Expr;
use meridian_plan::physical::{SpanBound, SpanKey, SpanRange, Spans};
use meridian_types::{Key, Span};

use super::key::{Prefix, key_direction, push_datum};
use crate::context::Ctx;

/// What is to be read of an index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum KeySpans {
    /// Single keys, ascending, distinct.
    Points(Vec<Key>),
    /// Ranges, ascending, disjoint.
    Ranges(Vec<Span>),
}

/// Evaluates a scan's spans.
pub(crate) async fn evaluate(
    ctx: Ctx<'_>,
    catalog: &CatalogSnapshot,
    table: &TableDesc,
    index: &IndexDesc,
    spans: &Spans,
) -> Result<KeySpans> {
    let builder = Builder { ctx, prefix: Prefix::of(catalog, table, index)?, index };
    match spans {
        Spans::Empty => Ok(KeySpans::Ranges(Vec::new())),
        Spans::All => Ok(KeySpans::Ranges(vec![Span::prefix(&builder.prefix.start().finish())])),
        Spans::Points(points) => {
            let mut keys = Vec::with_capacity(points.len());
            for point in points {
                keys.extend(builder.prefixes(point).await?.into_iter().map(KeyBuilder::finish));
            }
            keys.sort_unstable();
            keys.dedup();
            Ok(KeySpans::Points(keys))
        }
        Spans::Ranges(ranges) => {
            let mut out = Vec::with_capacity(ranges.len());
            for range in ranges {
                builder.range(range, &mut out).await?;
            }
            Ok(KeySpans::Ranges(merge(out)))
        }
    }
}

/// Sorts spans and joins those that touch.
fn merge(mut spans: Vec<Span>) -> Vec<Span> {
    spans.retain(|s| !s.is_empty());
    spans.sort_unstable_by(|a, b| a.start.cmp(&b.start));
    let mut out: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        if let Some(last) = out.last_mut()
            && last.end.as_ref().is_none_or(|end| *end >= span.start)
        {
            if last.end.as_ref().is_some_and(|a| span.end.as_ref().is_none_or(|b| b > a)) {
                last.end = span.end;
            }
            continue;
        }
        out.push(span);
    }
    out
}

struct Builder<'a> {
    ctx: Ctx<'a>,
    prefix: Prefix,
    index: &'a IndexDesc,
}

/// An evaluated bound of a range.
enum Bound {
    Open { nulls: bool },
    Included(Datum),
    Excluded(Datum),
}

impl Builder<'_> {
    /// Every combination of the values of leading key columns; none where one of them can match nothing.
    async fn prefixes(&self, columns: &[SpanKey]) -> Result<Vec<KeyBuilder>> {
        let mut keys = vec![self.prefix.start()];
        for (position, column) in columns.iter().enumerate() {
            let direction = self.direction(position);
            for key in &mut keys {
                self.prefix.before_column(key, position);
            }
            match column {
                SpanKey::Value(e) => {
                    let value = self.ctx.constant(e).await?;
                    if value.is_null() {
                        return Ok(Vec::new());
                    }
                    for key in &mut keys {
                        push_datum(key, &value, direction)?;
                    }
                }
                SpanKey::Null => {
                    for key in &mut keys {
                        push_datum(key, &Datum::Null, direction)?;
                    }
                }
                SpanKey::AnyOf(e) => {
                    let array = self.ctx.constant(e).await?;
                    let Some(array) = array.as_array() else { return Ok(Vec::new()) };
                    let mut next = Vec::with_capacity(keys.len() * array.len());
                    for value in array.elements().iter().filter(|v| !v.is_null()) {
                        for key in &keys {
                            let mut key = key.clone();
                            push_datum(&mut key, value, direction)?;
                            next.push(key);
                        }
                    }
                    keys = next;
                }
            }
        }
        Ok(keys)
    }

    fn direction(&self, position: usize) -> Direction {
        // Beyond the index's own columns comes the primary key, ascending.
        self.index.columns.get(position).map_or(Direction::Ascending, |c| c.direction)
    }

    async fn bound(&self, b: &SpanBound) -> Result<Option<Bound>> {
        let value = |e: &Expr| {
            let e = e.clone();
            async move { self.ctx.constant(&e).await }
        };
        Ok(match b {
            SpanBound::Unbounded => Some(Bound::Open { nulls: true }),
            SpanBound::NotNull => Some(Bound::Open { nulls: false }),
            SpanBound::Included(e) => Some(value(e).await?).filter(|d| !d.is_null()).map(Bound::Included),
            SpanBound::Excluded(e) => Some(value(e).await?).filter(|d| !d.is_null()).map(Bound::Excluded),
        })
    }

    async fn range(&self, range: &SpanRange, out: &mut Vec<Span>) -> Result<()> {
        let (Some(lower), Some(upper)) = (self.bound(&range.lower).await?, self.bound(&range.upper).await?)
        else {
            return Ok(());
        };
        let position = range.equal.len();
        let direction = self.direction(position);
        for mut prefix in self.prefixes(&range.equal).await? {
            if matches!((&lower, &upper), (Bound::Open { nulls: true }, Bound::Open { nulls: true })) {
                out.push(Span::prefix(&prefix.finish()));
                continue;
            }
            let whole = Span::prefix(&prefix.to_key());
            self.prefix.before_column(&mut prefix, position);
            // In key order: where the range starts and ends, and on which side the NULLs lie.
            let (first, last) = match direction {
                Direction::Ascending => (&lower, &upper),
                Direction::Descending => (&upper, &lower),
            };
            let nulls_first = key_direction(direction).1 == meridian_keys::Nulls::First;
            let with = |d: &Datum| -> Result<Key> {
                let mut key = prefix.clone();
                push_datum(&mut key, d, direction)?;
                Ok(key.finish())
            };
            let start = match first {
                Bound::Included(d) => Some(with(d)?),
                Bound::Excluded(d) => with(d)?.prefix_end(),
                Bound::Open { .. } if nulls_first => with(&Datum::Null)?.prefix_end(),
                Bound::Open { .. } => Some(prefix.to_key()),
            };
            let end = match last {
                Bound::Included(d) => with(d)?.prefix_end(),
                Bound::Excluded(d) => Some(with(d)?),
                Bound::Open { .. } if nulls_first => whole.end.clone(),
                Bound::Open { .. } => Some(with(&Datum::Null)?),
            };
            let start = start.expect("a key of the user keyspace has a successor");
            out.push(Span::new(start, end));
        }
        Ok(())
    }
}

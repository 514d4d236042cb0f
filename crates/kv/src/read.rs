//! Reads that may touch several shards, for both kinds of transaction.
//!
//! Keys are grouped by shard, each shard gets one message, all of them at once; whatever turns out to be elsewhere is
//! grouped again. A page of a scan comes from one shard and ends at its border at the latest.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use meridian_kv_api::{KvError, ScanPage, ScanRequest};
use meridian_shard::{ReadOp, ReadResult};
use meridian_types::{Key, Span, limits};

use crate::call::{Failure, Tries, unexpected};
use crate::gateway::Core;
use crate::router::Shard;

/// How a transaction reads from one shard.
pub(crate) trait Reader: Sync {
    fn core(&self) -> &Core;

    /// Called before the shards are asked, with whether all of the operation lies in one shard.
    fn before_round(&self, is_one_shard: bool) -> Result<(), KvError>;

    /// Reads from one shard that holds all of `ops`. `is_point` tells single keys from scans.
    fn read_shard(
        &self,
        shard: &Arc<Shard>,
        ops: Vec<ReadOp>,
        is_point: bool,
        tries: &mut Tries,
    ) -> impl Future<Output = Result<Vec<ReadResult>, Failure>> + Send;
}

/// The keys of one operation that lie in one shard, by their position in it.
struct Group {
    shard: Arc<Shard>,
    positions: Vec<usize>,
}

/// Reads single keys; the answers are in the order of the keys.
pub(crate) async fn points<R: Reader>(reader: &R, keys: &[Key]) -> Result<Vec<Option<Bytes>>, KvError> {
    let mut values = vec![None; keys.len()];
    let mut missing: Vec<usize> = (0..keys.len()).collect();
    let mut tries = Tries::new();
    while !missing.is_empty() {
        let groups = group(reader.core(), keys, &missing, &mut tries).await?;
        reader.before_round(groups.len() == 1 && missing.len() == keys.len())?;
        let asks = groups.iter().map(|group| async {
            let ops = group.positions.iter().map(|&i| ReadOp::Get(keys[i].clone())).collect();
            reader.read_shard(&group.shard, ops, true, &mut Tries::new()).await
        });
        let answers = join_all(asks).await;
        missing.clear();
        for (group, answer) in groups.iter().zip(answers) {
            match answer {
                Ok(results) => fill(&mut values, &group.positions, results)?,
                Err(Failure::Moved) => missing.extend(&group.positions),
                Err(failure) => return Err(failure.into()),
            }
        }
        if !missing.is_empty() {
            tries.pause(reader.core(), "the shards of a read keep moving").await?;
        }
    }
    Ok(values)
}

async fn group(
    core: &Core,
    keys: &[Key],
    wanted: &[usize],
    tries: &mut Tries,
) -> Result<Vec<Group>, KvError> {
    let mut groups: Vec<Group> = Vec::new();
    for &i in wanted {
        let shard = match core.router.shard(&keys[i]) {
            Some(shard) => shard,
            None => core.route(&keys[i], tries).await?.shard,
        };
        // Lists are mostly sorted: the shard of the key before is the likeliest.
        match groups.iter_mut().rev().find(|g| g.shard.group() == shard.group()) {
            Some(group) => group.positions.push(i),
            None => groups.push(Group { shard, positions: vec![i] }),
        }
    }
    Ok(groups)
}

fn fill(values: &mut [Option<Bytes>], positions: &[usize], results: Vec<ReadResult>) -> Result<(), KvError> {
    if results.len() != positions.len() {
        return Err(unexpected("Read of several keys", &results));
    }
    for (&i, result) in positions.iter().zip(results) {
        values[i] = value_of(result)?;
    }
    Ok(())
}

/// The value in the answer to a `Get`.
pub(crate) fn value_of(result: ReadResult) -> Result<Option<Bytes>, KvError> {
    match result {
        ReadResult::Value(value) => Ok(value),
        other @ ReadResult::Rows { .. } => Err(unexpected("Get", &other)),
    }
}

/// Reads one page of a span as it is stored.
pub(crate) async fn page<R: Reader>(reader: &R, request: &ScanRequest) -> Result<ScanPage, KvError> {
    let (span, reverse) = (&request.span, request.reverse);
    if span.is_empty() || request.limit == 0 {
        let resume = (!span.is_empty()).then(|| span.clone());
        return Ok(ScanPage { rows: Vec::new(), resume });
    }
    let mut tries = Tries::new();
    loop {
        let route = if reverse {
            reader.core().route_before(span.end.as_ref(), &mut tries).await?
        } else {
            reader.core().route(&span.start, &mut tries).await?
        };
        let part = span.intersect(&route.span);
        assert!(!part.is_empty(), "a shard was found for a span that it does not touch");
        reader.before_round(part == *span)?;
        let op = ReadOp::Scan {
            span: part.clone(),
            reverse,
            limit_rows: request.limit.min(limits::SCAN_PAGE_ROWS),
            limit_bytes: limits::SCAN_PAGE_BYTES,
        };
        match reader.read_shard(&route.shard, vec![op], false, &mut tries).await {
            Ok(results) => return page_of(results, span, part, reverse),
            Err(Failure::Moved) => tries.pause(reader.core(), "the shard of a scan keeps moving").await?,
            Err(failure) => return Err(failure.into()),
        }
    }
}

/// Extends what a shard left over of its part by what lies in other shards.
fn page_of(results: Vec<ReadResult>, span: &Span, part: Span, reverse: bool) -> Result<ScanPage, KvError> {
    let mut results = results.into_iter();
    let (Some(ReadResult::Rows { rows, resume }), None) = (results.next(), results.next()) else {
        return Err(unexpected("Scan", &part));
    };
    let rest = match (resume, reverse) {
        (Some(rest), false) => Span::new(rest.start, span.end.clone()),
        (Some(rest), true) => Span::new(span.start.clone(), rest.end),
        (None, false) => match part.end {
            Some(end) => Span::new(end, span.end.clone()),
            None => return Ok(ScanPage { rows, resume: None }),
        },
        (None, true) => Span::new(span.start.clone(), Some(part.start)),
    };
    Ok(ScanPage { rows, resume: (!rest.is_empty()).then_some(rest) })
}

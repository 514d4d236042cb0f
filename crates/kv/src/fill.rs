//! Versions beneath newer ones, written to many shards: the backfill of an index.
//!
//! Nothing is atomic here and nothing has to be: each piece is idempotent, so whatever was not answered is sent again.

use std::sync::Arc;

use futures::future::join_all;
use meridian_kv_api::{KvError, KvWrite};
use meridian_shard::{Request, Response, Write};
use meridian_types::{Span, Timestamp};

use crate::call::{Failure, Resend, Tries, unexpected};
use crate::gateway::Core;
use crate::limits::FILL_BYTES;
use crate::router::Shard;

/// Writes for one shard, in one message.
struct Piece {
    shard: Arc<Shard>,
    writes: Vec<Write>,
}

impl Core {
    /// Writes versions at `at`; see [`Kv::fill`](meridian_kv_api::Kv::fill).
    pub(crate) async fn fill(
        &self,
        at: Timestamp,
        until: Timestamp,
        writes: Vec<KvWrite>,
    ) -> Result<Timestamp, KvError> {
        let mut left: Vec<Write> =
            writes.into_iter().map(|KvWrite { key, value }| Write { key, value }).collect();
        left.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let mut tries = Tries::new();
        let mut closed = Timestamp::ZERO;
        while !left.is_empty() {
            let pieces = self.pieces(std::mem::take(&mut left), &mut tries).await?;
            let asked = join_all(pieces.iter().map(|piece| self.fill_piece(at, until, piece))).await;
            for (piece, answer) in pieces.into_iter().zip(asked) {
                match answer {
                    Ok(told) => closed = closed.max(told),
                    Err(Failure::Moved) => left.extend(piece.writes),
                    Err(failure) => return Err(failure.into()),
                }
            }
            if !left.is_empty() {
                tries.pause(self, "the shards of a backfill keep moving").await?;
            }
        }
        Ok(closed)
    }

    async fn pieces(&self, writes: Vec<Write>, tries: &mut Tries) -> Result<Vec<Piece>, KvError> {
        let mut pieces: Vec<Piece> = Vec::new();
        let (mut span, mut bytes): (Option<Span>, usize) = (None, 0);
        for write in writes {
            let size = write.key.as_bytes().len() + write.value.as_ref().map_or(0, bytes::Bytes::len);
            let inside = span.as_ref().is_some_and(|s| s.contains(write.key.as_bytes()));
            let shard = match pieces.last() {
                Some(_) if inside && bytes + size <= FILL_BYTES => None,
                Some(piece) if inside => Some(Arc::clone(&piece.shard)),
                _ => {
                    let route = self.route(&write.key, tries).await?;
                    span = Some(route.span);
                    Some(route.shard)
                }
            };
            if let Some(shard) = shard {
                pieces.push(Piece { shard, writes: Vec::new() });
                bytes = 0;
            }
            bytes += size;
            pieces.last_mut().expect("there is one").writes.push(write);
        }
        Ok(pieces)
    }

    async fn fill_piece(&self, at: Timestamp, until: Timestamp, piece: &Piece) -> Result<Timestamp, Failure> {
        let make = || Request::Fill { at, until, writes: piece.writes.clone() };
        match self.ask(&piece.shard, &mut Tries::new(), Resend::Always, &make).await? {
            Response::Closed { closed, .. } => Ok(closed),
            other => Err(Failure::GaveUp(unexpected("Fill", &other))),
        }
    }
}

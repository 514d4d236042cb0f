//! A gateway's schema lease: looks at the store again and again, and answers announcements.

use meridian_catalog::{CatalogGuard, CatalogState, CatalogVersion, CommitPermit, Look, SchemaLease};
use meridian_shard::{ReadMode, ReadOp, ReadResult, Request, Response, ShardError};
use meridian_types::{Duration, Timestamp};

use super::super::client::{Route, World};
use super::super::planted::SchemaBug;
use super::{LEASE, Mail, Record, TABLE, fence_key, record_key, word};

/// A look that is not answered is begun again.
const LOOK_TIMEOUT: Duration = Duration::from_millis(120);

/// How often a fence is asked whether commits from before it are still under way.
const FENCE_PAUSE: Duration = Duration::from_millis(4);

/// A look under way.
#[derive(Debug)]
struct Looking {
    call: u64,
    earliest: Timestamp,
    at: Timestamp,
    due: Timestamp,
}

/// Somebody waits for a look that begins from here on, and for the fences then.
#[derive(Clone, Copy, Debug)]
struct Announced {
    by: usize,
    change: u64,
    /// Looks that had begun before.
    looks: u64,
}

#[derive(Debug, Default)]
pub(in super::super) struct Gateway {
    lease: SchemaLease,
    looking: Option<Looking>,
    /// Begun so far.
    looks: u64,
    /// The last look that was answered.
    seen: u64,
    next_look: Timestamp,
    announced: Vec<Announced>,
}

impl Gateway {
    /// The version to plan on, if there is one at this moment.
    pub(in super::super) fn guard(&mut self, w: &World<'_>) -> Option<CatalogGuard> {
        w.tt.and_then(|tt| self.lease.usable(tt))
    }

    /// Begins a commit of what was planned on a version.
    pub(in super::super) fn permit(&mut self, guard: &CatalogGuard, w: &World<'_>) -> Option<CommitPermit> {
        w.tt.and_then(|tt| self.lease.permit(guard, &[TABLE], tt))
    }

    pub(in super::super) fn wake(&mut self, w: &mut World<'_>) {
        if self.looking.as_ref().is_some_and(|l| l.due <= w.now) {
            self.looking = None;
            self.next_look = w.now;
        }
        let is_asked = self.announced.iter().any(|a| a.looks >= self.looks);
        if self.looking.is_none() && (self.next_look <= w.now || is_asked) {
            self.look(w);
        }
        self.answer_announcements(w);
        let next = self.looking.as_ref().map_or(self.next_look, |l| l.due);
        w.sleep(next.since(w.now));
        if !self.announced.is_empty() {
            w.sleep(FENCE_PAUSE);
        }
    }

    fn look(&mut self, w: &mut World<'_>) {
        self.next_look = w.now + Duration::from_nanos(LEASE.as_nanos() / 3);
        let Some(tt) = w.tt else { return };
        self.looks += 1;
        let ops = vec![ReadOp::Get(record_key()), ReadOp::Get(fence_key())];
        let request = Request::Read { mode: ReadMode::At(tt.latest()), ops };
        let call = w.send(&record_key(), Route::Leader, request);
        let due = w.now + LOOK_TIMEOUT;
        self.looking = Some(Looking { call, earliest: tt.earliest(), at: tt.latest(), due });
    }

    /// True when the answer was to a look.
    pub(in super::super) fn answer(
        &mut self,
        call: u64,
        answer: &Result<Response, ShardError>,
        w: &mut World<'_>,
    ) -> bool {
        let Some(looking) = self.looking.take_if(|l| l.call == call) else { return false };
        if let (Ok(Response::Read { results, .. }), Some(tt)) = (answer, w.tt) {
            let value = |i: usize| match &results[i] {
                ReadResult::Value(value) => value.as_deref(),
                ReadResult::Rows { .. } => panic!("a get found rows"),
            };
            let record = Record::decode(value(0));
            let stored = CatalogVersion {
                version: record.version,
                valid_from: record.valid_from,
                before: Timestamp::ZERO,
            };
            let fence = value(1).map(|bytes| Timestamp::from_nanos(word(bytes, 0)));
            let is_new = record.version != self.lease.newest_version();
            let look = Look {
                found: CatalogState { stored, fence },
                next: is_new.then(|| record.snapshot(looking.at)),
                read_at: looking.at,
                lease_end: Some(looking.earliest + LEASE),
            };
            self.lease.take_in(look, tt);
            self.seen = self.looks;
        } else {
            // Soon again, at whoever leads by then.
            self.next_look = w.now + Duration::from_millis(10);
        }
        self.wake(w);
        true
    }

    pub(in super::super) fn publish(&mut self, by: usize, change: u64, w: &mut World<'_>) {
        if w.has_bug(SchemaBug::SkippedBarrier) {
            return w.post(by, Mail::Published { change });
        }
        if !self.announced.iter().any(|a| a.by == by && a.change == change) {
            self.announced.push(Announced { by, change, looks: self.looks });
        }
        self.wake(w);
    }

    fn answer_announcements(&mut self, w: &mut World<'_>) {
        let Some(tt) = w.tt else { return };
        let is_clear = self.lease.fences().iter().all(|fence| {
            !fence.has_commits_before() && fence.abandoned().is_none_or(|at| tt.earliest() > at)
        });
        if !is_clear {
            return;
        }
        let seen = self.seen;
        for answered in self.announced.extract_if(.., |a| seen > a.looks) {
            w.post(answered.by, Mail::Published { change: answered.change });
        }
    }
}

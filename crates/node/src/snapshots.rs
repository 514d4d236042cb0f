//! Snapshots between nodes: a replica that needs what the log no longer holds gets the group's rows.
//!
//! ```text
//!   sender (a stream each)                           receiver
//!     offer(descriptor, applied) ------------------->  wanted? refused or received(0)
//!     chunk 0..n, at most WINDOW unanswered -------->  kept aside, received(k)
//!     last chunk ----------------------------------->  install, installed
//! ```
//! The rows are read from one engine snapshot, which holds the applied slot with the effects up to it. The receiver
//! refuses what it has already, and a span that another of its replicas still covers, or has given up without having
//! created its new replica yet: that one is in or behind a split and will create the replica itself. Of installations whose
//! spans overlap only one goes on.
//!
//! A connection that breaks does not end a stream. Both ends keep what they have for [`PATIENCE`]; the sender offers it again
//! under its number, the receiver answers with the chunk that it waits for, and the sender goes on from there, out of the
//! same engine snapshot. A receiver that has restarted knows nothing of it and gets it from the beginning.
//!
//! A snapshot may pass a split: then the receiver's replica would give up a part of its span, and nobody would create
//! the replica of the group that has it now. If that happened to a majority, that group would never have a quorum. So
//! the receiver answers with its span, the sender offers once more, with all that it has in there, and the receiver puts
//! everything in place at once:
//! ```text
//!     offer(left half) ----------------------------->  narrows(span)
//!     offer(left half, beside: right half) --------->  received(0), and on as above
//! ```
//! A witness has no data: its snapshot is where the log stands and who the members are. It drops no entry for it that a
//! voter may lack, so the sender waits until what the snapshot covers is settled.
//!
//! Invariant: a replica gives up a part of its span only together with the creation of the replicas that have it now,
//! except for those of which the sender has none. Those have a quorum without the receiver: the sender left them by
//! a change of members, and the receiver, which is behind the split, never took part in them. For that reason its
//! copies may come from a sender that leads nothing, too: there is no promise or accept that they could forget (I-3).
//! A node that took part once, was removed and has forgotten what it accepted takes no snapshot from before (`removal`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use meridian_paxos::MemberKind;
use meridian_rpc::peer::{PeerMessage, SnapshotBeside, SnapshotPart, SnapshotRow, SnapshotVerdict};
use meridian_shard::Input;
use meridian_storage::{Durability, Family, Reader, StorageError, WriteBatch};
use meridian_types::{GroupId, NodeId, Slot, Span, Timestamp};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::cell::{Cell, Core, Phase};
use crate::inner::Inner;
use crate::node::groups;
use crate::snapshot_rows::{Chunks, Contents, Place};
use crate::{log_store, snapshot_rows};

/// Chunks under way that the receiver has not answered: 4 MiB, which fills a link of 100 ms at 40 MB/s.
const WINDOW: u32 = 16;

/// Streams that one node sends at a time.
const STREAMS_MAX: usize = 4;

/// A receiver that is silent for this long is given up; installing a large shard takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a sender whose connection broke looks whether there is one again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// How often a sender looks whether what a witness's snapshot covers is settled.
const SETTLED_PAUSE: Duration = Duration::from_millis(5);

/// A node tells that it does not know a group at most this often.
const REPORT_INTERVAL_NS: u64 = 1_000_000_000;

/// Reports that are remembered.
const REPORTS_MAX: usize = 4_096;

/// What the sender of a stream hears.
enum Heard {
    Reply(SnapshotVerdict),
    /// The connection broke.
    PeerLost,
}

struct Sending {
    to: NodeId,
    group: GroupId,
    heard: mpsc::UnboundedSender<Heard>,
}

struct Receiving {
    from: NodeId,
    id: u64,
    main: SnapshotPart,
    /// What comes along.
    heirs: Vec<SnapshotPart>,
    /// The span of the replica here, when the offer was taken.
    had: Option<Span>,
    next: u32,
    /// When it was heard of last, by the oscillator.
    heard: Timestamp,
}

impl Receiving {
    fn groups(&self) -> Vec<(GroupId, Span)> {
        std::iter::once(&self.main).chain(&self.heirs).map(place_of).collect()
    }
}

fn place_of(part: &SnapshotPart) -> (GroupId, Span) {
    (part.descriptor.group, part.descriptor.span.clone())
}

#[derive(Default)]
pub(crate) struct Snapshots {
    sending: Mutex<BTreeMap<u64, Sending>>,
    /// Chunks are kept and dropped under its lock, so that none of one stream is taken for another's.
    receiving: Mutex<BTreeMap<GroupId, Receiving>>,
    /// What is being put in place, and where.
    installing: Mutex<BTreeMap<GroupId, Vec<Span>>>,
    /// When each unknown group was reported last, by the oscillator.
    reported: Mutex<BTreeMap<GroupId, u64>>,
}

impl Snapshots {
    /// Tells the streams to a peer that the connection broke.
    pub(crate) fn peer_lost(&self, peer: NodeId) {
        for stream in self.sending.lock().values().filter(|s| s.to == peer) {
            // The stream may have ended meanwhile.
            stream.heard.send(Heard::PeerLost).ok();
        }
    }

    pub(crate) fn stop(&self) {
        self.sending.lock().clear();
        self.receiving.lock().clear();
    }

    /// True while snapshots are being put in place.
    pub(crate) fn is_installing(&self) -> bool {
        !self.installing.lock().is_empty()
    }
}

/// Why a stream ended without an installed snapshot.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("receiver does not want it")]
    Refused,
    #[error("receiver is gone or silent")]
    Lost,
    #[error("no replica of the group lives here any more")]
    NoReplica,
    #[error("other snapshots are being put in place here")]
    Busy,
    #[error("the replica here has no data")]
    NoData,
    #[error("voters lack what the witness would drop")]
    Unsettled,
}

impl Inner {
    /// Drops what was received of streams that have not been heard of for long.
    pub(crate) fn give_up_silent_streams(self: &Arc<Self>) {
        let now = self.clock.mono();
        let is_silent = |stream: &Receiving| now.since(stream.heard) > PATIENCE.into();
        let mut receiving = self.snapshots.receiving.lock();
        for (group, _) in receiving.extract_if(.., |_, stream| is_silent(stream)) {
            self.discard(group);
        }
    }

    /// Drops what was received for a group. False where the disk fails.
    fn discard(self: &Arc<Self>, group: GroupId) -> bool {
        let discarded = snapshot_rows::discard(&*self.data, group);
        discarded.inspect_err(|error| self.disk_failed(error)).is_ok()
    }

    /// Tells a peer that it talks to a replica that is not here. It will offer a snapshot, unless a split that has not
    /// been applied yet creates the replica first.
    pub(crate) fn report_unknown(&self, to: NodeId, group: GroupId) {
        let now = self.clock.mono().as_nanos();
        let mut reported = self.snapshots.reported.lock();
        if reported.get(&group).is_some_and(|at| now.saturating_sub(*at) < REPORT_INTERVAL_NS) {
            return;
        }
        if reported.len() >= REPORTS_MAX {
            reported.clear();
        }
        reported.insert(group, now);
        drop(reported);
        self.send(to, PeerMessage::UnknownGroup { group });
    }

    pub(crate) fn on_unknown_group(self: &Arc<Self>, from: NodeId, group: GroupId) {
        let Some(cell) = self.cell(group) else { return };
        // Whether this node leads does not matter: where the group never lived on the other node, it may be what the
        // quorum lacks to have a leader; where it did, the descriptor has to be newer than the removal.
        let core = cell.core.lock();
        let is_member = core.replica.descriptor().replicas.iter().any(|(node, _)| *node == from);
        drop(core);
        if is_member {
            self.start_snapshot(group, from);
        }
    }

    /// Streams a snapshot of `group` to `to`, unless one is under way.
    pub(crate) fn start_snapshot(self: &Arc<Self>, group: GroupId, to: NodeId) {
        if self.is_stopped() {
            return;
        }
        let id = self.next_call.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // Bounded by the chunks under way.
        let (sender, heard) = mpsc::unbounded_channel();
        {
            let mut sending = self.snapshots.sending.lock();
            let is_under_way = sending.values().any(|s| s.to == to && s.group == group);
            if is_under_way || sending.len() >= STREAMS_MAX {
                return;
            }
            sending.insert(id, Sending { to, group, heard: sender });
        }
        let inner = self.clone();
        // Ends when the peer is lost for too long or the node stops.
        self.in_background(format!("snapshot-{group}-{to}"), async move {
            match inner.stream(id, group, to, heard).await {
                Ok(()) => inner.counters.snapshots_sent.add(1),
                Err(error) => {
                    tracing::info!(group = group.get(), to = to.get(), %error, "snapshot not installed");
                }
            }
            inner.snapshots.sending.lock().remove(&id);
        });
    }

    async fn stream(
        &self,
        id: u64,
        group: GroupId,
        to: NodeId,
        mut heard: Hearing,
    ) -> Result<(), StreamError> {
        let (snapshot, is_quiet) = {
            let installing = self.snapshots.installing.lock();
            (self.data.snapshot(), installing.is_empty())
        };
        let main = part_of(&*snapshot, group)?.ok_or(StreamError::NoReplica)?;
        let mut parts = vec![Contents::of(&*snapshot, &main, to)?];
        self.until_settled(&main, to).await?;
        let mut beside = None;
        self.offer(to, id, main.clone(), None);
        // Where each chunk begins that the receiver may ask for again: those that it has not answered, and the first.
        let mut begins: BTreeMap<u32, Place> = BTreeMap::from([(0, Place::default())]);
        let mut received = match hear(&mut heard).await? {
            Heard::Reply(SnapshotVerdict::Received(next)) => next,
            Heard::Reply(SnapshotVerdict::Narrows(_)) if !is_quiet => return Err(StreamError::Busy),
            Heard::Reply(SnapshotVerdict::Narrows(span)) => {
                let heirs = heirs(&*snapshot, group, &span, to)?;
                for heir in &heirs {
                    parts.push(Contents::of(&*snapshot, heir, to)?);
                }
                beside = Some(SnapshotBeside { span, parts: heirs });
                self.offer(to, id, main.clone(), beside.clone());
                0
            }
            Heard::Reply(SnapshotVerdict::Refused) => return Err(StreamError::Refused),
            Heard::Reply(SnapshotVerdict::Installed) | Heard::PeerLost => return Err(StreamError::Lost),
        };
        let mut chunks = Chunks::new(&*snapshot, parts);
        let mut sequence = 0;
        let mut is_waiting = beside.is_some();
        loop {
            let is_open = !is_waiting && sequence - received < WINDOW;
            let begin = chunks.at.clone();
            if is_open && let Some((rows, last)) = chunks.next()? {
                begins.insert(sequence, begin);
                self.send(to, PeerMessage::SnapshotChunk { id, group, sequence, rows, last });
                sequence += 1;
                continue;
            }
            match hear(&mut heard).await? {
                Heard::Reply(SnapshotVerdict::Received(next)) if is_waiting => {
                    is_waiting = false;
                    chunks.at = begins.get(&next).ok_or(StreamError::Lost)?.clone();
                    (sequence, received) = (next, next);
                }
                Heard::Reply(SnapshotVerdict::Received(next)) => {
                    received = received.max(next);
                    begins.retain(|sequence, _| *sequence == 0 || *sequence >= received);
                }
                Heard::Reply(SnapshotVerdict::Installed) => return Ok(()),
                Heard::Reply(SnapshotVerdict::Refused | SnapshotVerdict::Narrows(_)) => {
                    return Err(StreamError::Refused);
                }
                Heard::PeerLost => {
                    self.connected(to).await?;
                    // What was heard before says nothing of the new connection.
                    while heard.try_recv().is_ok() {}
                    self.counters.snapshots_resumed.add(1);
                    is_waiting = true;
                    self.offer(to, id, main.clone(), beside.clone());
                }
            }
        }
    }

    /// A witness that is there already drops nothing that a voter may lack. It refuses the snapshot until it has heard so; this
    /// is for as long as the answer is sure to be no.
    async fn until_settled(&self, main: &SnapshotPart, to: NodeId) -> Result<(), StreamError> {
        if !main.descriptor.replicas.contains(&(to, MemberKind::Witness)) {
            return Ok(());
        }
        let begun = self.clock.mono();
        loop {
            let cell = self.cell(main.descriptor.group).ok_or(StreamError::NoReplica)?;
            let (settled, leads) = {
                let core = cell.core.lock();
                (core.replica.settled(), core.is_leading)
            };
            if settled >= main.applied || !leads {
                return Ok(());
            }
            if self.is_stopped() || self.clock.mono().since(begun) > PATIENCE.into() {
                return Err(StreamError::Unsettled);
            }
            tokio::time::sleep(SETTLED_PAUSE).await;
        }
    }

    /// Waits until there is a connection again.
    async fn connected(&self, to: NodeId) -> Result<(), StreamError> {
        let begun = self.clock.mono();
        while !self.transport.is_live(to) {
            if self.is_stopped() || self.clock.mono().since(begun) > PATIENCE.into() {
                return Err(StreamError::Lost);
            }
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
        Ok(())
    }

    fn offer(&self, to: NodeId, id: u64, main: SnapshotPart, beside: Option<SnapshotBeside>) {
        let SnapshotPart { descriptor, applied } = main;
        self.send(to, PeerMessage::SnapshotOffer { id, descriptor, applied, beside });
    }

    pub(crate) fn on_snapshot_reply(&self, from: NodeId, id: u64, verdict: SnapshotVerdict) {
        let sending = self.snapshots.sending.lock();
        if let Some(stream) = sending.get(&id).filter(|s| s.to == from) {
            // The stream may have ended meanwhile.
            stream.heard.send(Heard::Reply(verdict)).ok();
        }
    }

    fn reply(&self, to: NodeId, id: u64, verdict: SnapshotVerdict) {
        self.send(to, PeerMessage::SnapshotReply { id, verdict });
    }

    fn refuse(&self, to: NodeId, id: u64) {
        self.counters.snapshots_refused.add(1);
        self.reply(to, id, SnapshotVerdict::Refused);
    }

    pub(crate) fn on_snapshot_offer(
        self: &Arc<Self>,
        from: NodeId,
        id: u64,
        main: SnapshotPart,
        beside: Option<SnapshotBeside>,
    ) {
        let group = main.descriptor.group;
        if !self.wants(&main) {
            return self.refuse(from, id);
        }
        let heard = self.clock.mono();
        if let Some(stream) = self.snapshots.receiving.lock().get_mut(&group)
            && (stream.from, stream.id) == (from, id)
            && stream.main == main
        {
            stream.heard = heard;
            return self.reply(from, id, SnapshotVerdict::Received(stream.next));
        }
        let had = self.cell(group).map(|cell| cell.core.lock().replica.descriptor().span.clone());
        let mut heirs = Vec::new();
        if let Some(had) = had.as_ref().filter(|had| !main.descriptor.span.contains_span(had)) {
            let Some(beside) = beside.filter(|beside| beside.span == *had) else {
                return self.reply(from, id, SnapshotVerdict::Narrows(had.clone()));
            };
            heirs = beside.parts;
            let is_inside = |part: &SnapshotPart| {
                let span = &part.descriptor.span;
                had.contains_span(span) && !span.overlaps(&main.descriptor.span) && self.covers_log(part)
            };
            if !heirs.iter().all(|part| is_inside(part) && self.is_free(part, group) && self.may_come(part)) {
                return self.refuse(from, id);
            }
        }
        let mut receiving = self.snapshots.receiving.lock();
        // Another stream of the group may have ended since it was found to be wanted: then its chunks are in use.
        let is_installing = self.snapshots.installing.lock().contains_key(&group);
        if is_installing || !self.discard(group) {
            return self.refuse(from, id);
        }
        receiving.insert(group, Receiving { from, id, main, heirs, had, next: 0, heard });
        self.reply(from, id, SnapshotVerdict::Received(0));
    }

    /// True unless a replica that is created from this part would lack what the log here has dropped. The log may be ahead:
    /// its replica's data was lost and it was not. What was dropped was accepted here, and must not be forgotten (I-3).
    fn covers_log(&self, part: &SnapshotPart) -> bool {
        let group = part.descriptor.group;
        match log_store::truncated(&*self.log, group) {
            Ok(truncated) => self.cell(group).is_some() || truncated <= part.applied,
            Err(_) => false,
        }
    }

    fn wants(self: &Arc<Self>, main: &SnapshotPart) -> bool {
        let group = main.descriptor.group;
        let is_installing = self.snapshots.installing.lock().contains_key(&group);
        let is_behind = |core: &Core| core.replica.wants_snapshot(&main.descriptor, main.applied);
        !is_installing
            && !self.is_disk_failed()
            && self.covers_log(main)
            && self.is_free(main, group)
            && match self.cell(group) {
                Some(cell) => is_behind(&cell.core.lock()),
                None => self.may_come(main),
            }
    }

    /// False for what must not begin here: see `removal`.
    fn may_come(self: &Arc<Self>, part: &SnapshotPart) -> bool {
        match self.may_begin(&part.descriptor) {
            Ok(may_begin) => may_begin,
            Err(error) => {
                self.disk_failed(&error);
                false
            }
        }
    }

    /// True when this node is a member, and no replica here but `group`'s has any of the span, or is about to.
    fn is_free(&self, part: &SnapshotPart, group: GroupId) -> bool {
        let span = &part.descriptor.span;
        let is_member = part.descriptor.replicas.iter().any(|(node, _)| *node == self.node);
        let has_some = |cell: &Cell| cell.core.lock().replica.descriptor().span.overlaps(span);
        let is_had = || self.cells().iter().any(|cell| cell.group != group && has_some(cell));
        let is_coming = || self.coming.lock().values().any(|coming| coming.overlaps(span));
        // Whoever was seen to have given it up in a split has noted before who gets it; that one is listed before the note goes.
        is_member && !is_had() && !is_coming() && !is_had()
    }

    pub(crate) fn on_snapshot_chunk(
        self: &Arc<Self>,
        from: NodeId,
        id: u64,
        group: GroupId,
        sequence: u32,
        rows: &[SnapshotRow],
        last: bool,
    ) {
        let mut receiving = self.snapshots.receiving.lock();
        let Some(stream) = receiving.get_mut(&group).filter(|r| r.from == from && r.id == id) else {
            return self.refuse(from, id);
        };
        if stream.next != sequence {
            // What was under way when a connection broke; the sender will ask where to go on.
            return;
        }
        if !snapshot_rows::are_sound(rows, &stream.groups()) {
            receiving.remove(&group);
            return self.refuse(from, id);
        }
        if let Err(error) = snapshot_rows::keep_chunk(&*self.data, group, sequence, rows) {
            receiving.remove(&group);
            if matches!(error, StorageError::NoSpace { .. }) {
                // Nothing here depends on it: it is offered again, and what was kept makes room.
                tracing::warn!(group = group.get(), %error, "no room for a snapshot");
                self.discard(group);
            } else {
                self.disk_failed(&error);
            }
            return self.refuse(from, id);
        }
        stream.next += 1;
        stream.heard = self.clock.mono();
        if !last {
            let next = stream.next;
            return self.reply(from, id, SnapshotVerdict::Received(next));
        }
        let complete = receiving.remove(&group).expect("its last chunk was just taken");
        // Before another stream of the group can begin.
        let Some(installing) = self.claim(&complete) else {
            self.discard(group);
            return self.refuse(from, id);
        };
        drop(receiving);
        // Ends with the installation, which is bounded by the size of a shard.
        self.in_background(format!("install-{group}"), async move {
            let inner = installing.inner.clone();
            let is_installed = inner.install(&complete).await.unwrap_or_else(|error| {
                inner.disk_failed(&error);
                false
            });
            drop(installing);
            if is_installed {
                inner.reply(complete.from, complete.id, SnapshotVerdict::Installed);
            } else {
                inner.refuse(complete.from, complete.id);
            }
        });
    }

    /// Takes the place that a snapshot is for. `None` where another one is being put into some of it.
    fn claim(self: &Arc<Self>, complete: &Receiving) -> Option<Installing> {
        let group = complete.main.descriptor.group;
        let spans: Vec<Span> = complete.groups().into_iter().map(|(_, span)| span).collect();
        let mut installing = self.snapshots.installing.lock();
        if installing.values().flatten().any(|taken| spans.iter().any(|span| span.overlaps(taken))) {
            return None;
        }
        installing.insert(group, spans);
        Some(Installing { inner: self.clone(), group })
    }

    /// Puts a complete snapshot in place. False when it is not wanted any more.
    async fn install(self: &Arc<Self>, snapshot: &Receiving) -> Result<bool, StorageError> {
        let (group, applied) = (snapshot.main.descriptor.group, snapshot.main.applied);
        // A split may have been about to create this replica, and have done so meanwhile: the list is looked at last.
        let is_free = self.is_free(&snapshot.main, group);
        let existing = self.cell(group);
        let mut erase = snapshot.groups();
        if let Some(cell) = &existing {
            let Some(span) = self.close_for(cell, snapshot) else {
                snapshot_rows::discard(&*self.data, group)?;
                return Ok(false);
            };
            erase.push((group, span));
            // Big batches on their way are older than the snapshot and must not come after it.
            self.until(|| cell.core.lock().applies_queued == 0).await;
        } else if snapshot.had.is_some() || !is_free || !self.may_begin(&snapshot.main.descriptor)? {
            // The replica that was to be brought forward is gone, or another one has come since the offer.
            snapshot_rows::discard(&*self.data, group)?;
            return Ok(false);
        }
        if self.is_stopped() {
            return Ok(false);
        }
        // The last reads end; others do not begin in this phase.
        existing.iter().for_each(|cell| drop(cell.data.write()));
        let write = |batch: &WriteBatch| {
            let write = || self.data.write_kept(batch, Durability::Buffered);
            self.room.wait(|| self.is_stopped(), write)
        };
        snapshot_rows::install(&*self.data, group, &erase, &write)?;
        self.counters.snapshots_installed.add(1);
        match existing {
            Some(cell) => {
                let mut core = cell.core.lock();
                if core.phase == Phase::Installing {
                    core.phase = Phase::Serving;
                    core.applied = applied;
                }
                drop(core);
                self.step(&cell, Input::SnapshotInstalled { applied });
            }
            None => self.begin_with(&snapshot.main)?,
        }
        snapshot.heirs.iter().try_for_each(|heir| self.begin_with(heir))?;
        Ok(true)
    }

    /// Lets a replica serve no more until the snapshot is in its place, and says what span it had; `None` where it has come
    /// so far, or does not serve already.
    fn close_for(&self, cell: &Cell, snapshot: &Receiving) -> Option<Span> {
        let mut core = cell.core.lock();
        let has_it = !core.replica.wants_snapshot(&snapshot.main.descriptor, snapshot.main.applied);
        let span = core.replica.descriptor().span.clone();
        // A split that it has come to since has created what the offer was to bring.
        let has_split = snapshot.had.as_ref() != Some(&span);
        if core.phase != Phase::Serving || has_it || has_split {
            return None;
        }
        core.phase = Phase::Installing;
        Some(span)
    }

    /// Creates a replica, whose rows are in place.
    fn begin_with(self: &Arc<Self>, part: &SnapshotPart) -> Result<(), StorageError> {
        let group = part.descriptor.group;
        self.truncate_log(group, part.applied)?;
        let cell = self.load(group)?.expect("a snapshot holds the group's state");
        self.insert(&cell);
        Ok(())
    }

    /// A replica that begins with a snapshot has no log below it.
    fn truncate_log(&self, group: GroupId, applied: Slot) -> Result<(), StorageError> {
        let mut batch = WriteBatch::new();
        log_store::push(&mut batch, group, vec![meridian_paxos::Persist::Truncate(applied)]);
        self.room.wait(|| self.is_stopped(), || self.log.write_kept(&batch, Durability::Synced))
    }
}

/// A snapshot that is being put in place. However that ends, others may come and the node may stop afterwards.
struct Installing {
    inner: Arc<Inner>,
    group: GroupId,
}

impl Drop for Installing {
    fn drop(&mut self) {
        self.inner.snapshots.installing.lock().remove(&self.group);
    }
}

type Hearing = mpsc::UnboundedReceiver<Heard>;

async fn hear(heard: &mut Hearing) -> Result<Heard, StreamError> {
    let next = tokio::time::timeout(PATIENCE, heard.recv()).await;
    next.ok().flatten().ok_or(StreamError::Lost)
}

impl Contents {
    /// What `to` is sent of a group: its rows, or, where it has no data, its position. Whoever has no data here gives none.
    fn of(reader: &dyn Reader, part: &SnapshotPart, to: NodeId) -> Result<Contents, StreamError> {
        let (group, span) = place_of(part);
        let has_data = |(node, kind): &(NodeId, MemberKind)| *node == to && kind.holds_data();
        let recovered = meridian_shard::recover(reader, group)?;
        match (part.descriptor.replicas.iter().any(has_data), recovered.is_some_and(|r| r.holds_data)) {
            (_, false) => Err(StreamError::NoData),
            (true, true) => Ok(Contents::Rows(group, span)),
            (false, true) => {
                let row =
                    |(family, key, value): (Family, _, _)| SnapshotRow { family: family as u32, key, value };
                let rows = meridian_shard::dataless_rows(reader, group)?;
                Ok(Contents::Given(rows.into_iter().map(row).collect()))
            }
        }
    }
}

fn part_of(reader: &dyn Reader, group: GroupId) -> Result<Option<SnapshotPart>, StorageError> {
    let recovered = meridian_shard::recover(reader, group)?;
    Ok(recovered.map(|r| SnapshotPart { descriptor: r.descriptor, applied: r.applied }))
}

/// What else has its span within this one, of all groups that have `to` as a member.
fn heirs(
    reader: &dyn Reader,
    group: GroupId,
    span: &Span,
    to: NodeId,
) -> Result<Vec<SnapshotPart>, StorageError> {
    let mut found = Vec::new();
    for other in groups(reader)?.into_iter().filter(|other| *other != group) {
        let Some(part) = part_of(reader, other)? else { continue };
        let is_member = part.descriptor.replicas.iter().any(|(node, _)| *node == to);
        if is_member && span.contains_span(&part.descriptor.span) {
            found.push(part);
        }
    }
    Ok(found)
}

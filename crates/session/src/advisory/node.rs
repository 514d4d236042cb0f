//! The node's side: its incarnation as a holder, and the transactions on locks' rows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use meridian_catalog::advisory::{
    AdvisoryLock, Holder, LockOwner, LockRequest, UnreadableLock, decode_lease, encode_lease, must_give_up,
};
use meridian_keys::{AdvisoryKey, SystemKey};
use meridian_kv_api::{
    Kv, KvError, KvTxn, KvWrite, Locking, ReadBound, ReadOnlyOptions, ReadWriteOptions, ScanRequest,
};
use meridian_types::{Duration, Key, NodeId, Span, Timestamp, limits};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::factory::SessionFactory;

/// How long a node has its sessions' locks without a word: so long that a change of leadership of the system's shard (3 s)
/// does not cost them.
const LEASE: Duration = Duration::from_secs(8);
/// How often the lease is extended.
const EXTEND: std::time::Duration = std::time::Duration::from_secs(1);
/// How long a statement waits for its request to be withdrawn. After that the node does it.
const WITHDRAW: std::time::Duration = std::time::Duration::from_secs(2);
/// Attempts of a change of one row; each of them can be made again.
const ATTEMPTS: usize = 50;

/// An incarnation of this node as a holder of locks.
pub(super) struct Incarnation {
    pub(super) holder: Holder,
    lease_end: AtomicU64,
}

impl Incarnation {
    /// Until when it has its locks for certain.
    pub(super) fn lease_end(&self) -> Timestamp {
        Timestamp::from_nanos(self.lease_end.load(Ordering::SeqCst))
    }
}

/// A request that nobody waits for any more.
pub(super) type Left = (AdvisoryKey, LockRequest);

/// What the sessions of a node share.
pub(crate) struct NodeLocks {
    kv: Arc<dyn Kv>,
    node: NodeId,
    current: Mutex<Option<Arc<Incarnation>>>,
    /// Makes beginnings serial.
    begin: tokio::sync::Mutex<()>,
    left: Mutex<Vec<Left>>,
    /// A lock was given up here.
    pub(super) given_up: Notify,
}

/// What becomes of an attempt: its result, or another one.
async fn ended<T>(txn: &dyn KvTxn, step: Result<T, KvError>, attempt: usize) -> Option<Result<T, KvError>> {
    match step {
        Err(KvError::Retry { .. } | KvError::Ambiguous) if attempt < ATTEMPTS => {
            txn.rollback().await;
            let pause = rand::random_range(0..=attempt as u64);
            tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
            None
        }
        Err(error) => {
            txn.rollback().await;
            Some(Err(error))
        }
        Ok(result) => Some(Ok(result)),
    }
}

fn corrupt(error: UnreadableLock) -> KvError {
    KvError::Internal { detail: error.to_string() }
}

/// Reads all rows of a span.
async fn rows(txn: &dyn KvTxn, span: Span) -> Result<Vec<(Key, Bytes)>, KvError> {
    let mut rest = Some(span);
    let mut all = Vec::new();
    while let Some(span) = rest {
        let limit = limits::SCAN_PAGE_ROWS;
        let page = txn.scan(ScanRequest { span, reverse: false, limit, locking: Locking::SHARED }).await?;
        all.extend(page.rows);
        rest = page.resume;
    }
    Ok(all)
}

fn lease_key(holder: &Holder) -> Key {
    SystemKey::LockHolder { node: holder.node, start: holder.start }.encode()
}

/// All locks and all holders at one moment.
struct Seen {
    locks: Vec<(Key, AdvisoryLock)>,
    /// Leases with their ends.
    leases: Vec<(Key, Timestamp)>,
}

impl Seen {
    /// The leases of those who seemed alive.
    fn alive(&self, now: Timestamp) -> BTreeSet<&Key> {
        self.leases.iter().filter(|(_, end)| *end >= now).map(|(key, _)| key).collect()
    }
}

impl NodeLocks {
    pub(crate) fn new(kv: Arc<dyn Kv>, node: NodeId) -> Arc<Self> {
        Arc::new(NodeLocks {
            kv,
            node,
            current: Mutex::default(),
            begin: tokio::sync::Mutex::default(),
            left: Mutex::default(),
            given_up: Notify::new(),
        })
    }

    /// Whether an incarnation's lease may be over.
    pub(super) fn is_over(&self, incarnation: &Incarnation) -> Result<bool, KvError> {
        Ok(self.kv.now()?.latest() > incarnation.lease_end())
    }

    /// The incarnation that sessions take locks as.
    pub(super) async fn incarnation(&self) -> Result<Arc<Incarnation>, KvError> {
        let _serial = self.begin.lock().await;
        let known = self.current.lock().clone();
        if let Some(known) = known
            && !self.is_over(&known)?
        {
            return Ok(known);
        }
        let now = self.kv.now()?.latest();
        let holder = Holder { node: self.node, start: now };
        let end = now + LEASE;
        self.set_lease(lease_key(&holder), Some(end), |_| Some(end)).await?;
        let lease_end = AtomicU64::new(end.as_nanos());
        let incarnation = Arc::new(Incarnation { holder, lease_end });
        *self.current.lock() = Some(incarnation.clone());
        self.sweep().await?;
        Ok(incarnation)
    }

    /// Changes a lease, within a bound: what it is then.
    async fn set_lease(
        &self,
        key: Key,
        until: Option<Timestamp>,
        set: impl Fn(Option<Timestamp>) -> Option<Timestamp>,
    ) -> Result<Option<Timestamp>, KvError> {
        let mut retry_of = None;
        for attempt in 1.. {
            let txn = self.kv.begin(ReadWriteOptions { retry_of });
            retry_of = txn.id().or(retry_of);
            let step = async {
                let old = txn.get(key.clone(), Locking::EXCLUSIVE).await?.map(|row| decode_lease(&row));
                let new = set(old);
                if new == old {
                    txn.rollback().await;
                    return Ok(new);
                }
                txn.write(vec![KvWrite { key: key.clone(), value: new.map(encode_lease) }]).await?;
                until.into_iter().for_each(|until| txn.limit_commit_timestamp(until));
                txn.commit().await?;
                Ok(new)
            };
            let step = step.await;
            if let Some(result) = ended(&*txn, step, attempt).await {
                return result;
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Changes a lock, within a bound. Whoever is dead is forgotten first.
    async fn change<T>(
        &self,
        key: &Key,
        until: Option<Timestamp>,
        change: impl Fn(&mut AdvisoryLock) -> T,
    ) -> Result<T, KvError> {
        let mut retry_of = None;
        for attempt in 1.. {
            let txn = self.kv.begin(ReadWriteOptions { retry_of });
            retry_of = txn.id().or(retry_of);
            let step = async {
                let row = txn.get(key.clone(), Locking::EXCLUSIVE).await?;
                let mut lock = AdvisoryLock::decode(row.as_deref()).map_err(corrupt)?;
                self.forget_dead(&*txn, &mut lock).await?;
                let result = change(&mut lock);
                let value = lock.encode();
                if value == row {
                    txn.rollback().await;
                    return Ok(result);
                }
                txn.write(vec![KvWrite { key: key.clone(), value }]).await?;
                until.into_iter().for_each(|until| txn.limit_commit_timestamp(until));
                txn.commit().await?;
                Ok(result)
            };
            let step = step.await;
            if let Some(result) = ended(&*txn, step, attempt).await {
                return result;
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Forgets the requests of holders whose lease is surely over. The lock on the lease's row makes it sure: an extension
    /// that is under way has come before, or its bound has passed when it comes.
    async fn forget_dead(&self, txn: &dyn KvTxn, lock: &mut AdvisoryLock) -> Result<(), KvError> {
        let mut dead = Vec::new();
        for holder in lock.holders() {
            let lease = txn.get(lease_key(&holder), Locking::SHARED).await?;
            let now = self.kv.now()?.earliest();
            if lease.is_none_or(|row| decode_lease(&row) < now) {
                dead.push(holder);
            }
        }
        lock.retain(|holder| !dead.contains(holder));
        Ok(())
    }

    /// What there is. It may change at once, so that whoever acts on it has to look again under locks.
    async fn look(&self) -> Result<Seen, KvError> {
        let options = ReadOnlyOptions { bound: ReadBound::Strong, single_operation: false };
        let txn = self.kv.begin_read_only(options);
        let mut locks = Vec::new();
        for (key, row) in rows(&*txn, SystemKey::advisory_locks()).await? {
            locks.push((key, AdvisoryLock::decode(Some(&row)).map_err(corrupt)?));
        }
        let leases = rows(&*txn, SystemKey::lock_holders()).await?;
        let leases = leases.into_iter().map(|(key, row)| (key, decode_lease(&row))).collect();
        Ok(Seen { locks, leases })
    }

    /// Forgets what holders have left that are over, so that it does not lie about where nobody asks for it any more.
    async fn sweep(&self) -> Result<(), KvError> {
        let seen = self.look().await?;
        let now = self.kv.now()?.earliest();
        let alive = seen.alive(now);
        for (key, lock) in &seen.locks {
            if lock.holders().iter().any(|holder| !alive.contains(&lease_key(holder))) {
                self.change(key, None, |_| ()).await?;
            }
        }
        for (key, _) in seen.leases.iter().filter(|(_, end)| *end < now) {
            self.set_lease(key.clone(), None, |end| end.filter(|end| *end >= now)).await?;
        }
        Ok(())
    }

    /// Asks for a lock, or looks again. False when others are in the way; then the request stays where it `waits`.
    pub(super) async fn request(
        &self,
        key: AdvisoryKey,
        request: LockRequest,
        waits: bool,
        until: Timestamp,
    ) -> Result<bool, KvError> {
        let key = SystemKey::AdvisoryLock(key).encode();
        let change = |lock: &mut AdvisoryLock| {
            let is_granted = lock.request(request);
            if !is_granted && !waits {
                lock.withdraw(&request);
            }
            is_granted
        };
        self.change(&key, Some(until), change).await
    }

    async fn withdraw(&self, key: AdvisoryKey, request: &LockRequest) -> Result<(), KvError> {
        let key = SystemKey::AdvisoryLock(key).encode();
        self.change(&key, None, |lock| lock.withdraw(request)).await?;
        self.given_up.notify_waiters();
        Ok(())
    }

    /// Gives requests up; what can't be told to the store soon is told later.
    pub(super) async fn give_up(&self, left: Vec<Left>) {
        for (key, request) in left {
            match tokio::time::timeout(WITHDRAW, self.withdraw(key, &request)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(%error, "an advisory lock is given up later");
                    self.leave((key, request));
                }
                Err(_) => self.leave((key, request)),
            }
        }
    }

    /// Leaves a request to be given up by the node.
    pub(super) fn leave(&self, left: Left) {
        self.left.lock().push(left);
    }

    /// Whether a request that waits has been granted.
    pub(super) async fn is_granted(&self, key: AdvisoryKey, request: &LockRequest) -> Result<bool, KvError> {
        let options = ReadOnlyOptions { bound: ReadBound::Strong, single_operation: true };
        let txn = self.kv.begin_read_only(options);
        let row = txn.get(SystemKey::AdvisoryLock(key).encode(), Locking::SHARED).await?;
        Ok(AdvisoryLock::decode(row.as_deref()).map_err(corrupt)?.grants(request))
    }

    /// Whether a session waits in a circle of which it is the one to give up.
    pub(super) async fn must_give_up(&self, owner: LockOwner) -> Result<bool, KvError> {
        let mut seen = self.look().await?;
        let alive: BTreeSet<Key> = seen.alive(self.kv.now()?.earliest()).into_iter().cloned().collect();
        seen.locks.iter_mut().for_each(|(_, lock)| lock.retain(|holder| alive.contains(&lease_key(holder))));
        Ok(must_give_up(owner, seen.locks.iter().map(|(_, lock)| lock)))
    }

    /// Extends the lease while there are sessions with locks, and gives up what is left.
    pub(crate) async fn tend(&self) {
        let left = std::mem::take(&mut *self.left.lock());
        let (current, is_used) = {
            let mut current = self.current.lock();
            // Sessions take it under this lock, and others than they have none.
            let is_used = !left.is_empty() || current.as_ref().is_some_and(|c| Arc::strong_count(c) > 1);
            (if is_used { current.clone() } else { current.take() }, is_used)
        };
        if let Some(current) = &current
            && !is_used
        {
            // What can't be deleted ends by itself.
            let _ = self.set_lease(lease_key(&current.holder), None, |_| None).await;
            return;
        }
        // A lease must not wait for what takes long.
        let extend = async {
            if let Some(current) = &current
                && let Err(error) = self.extend(current).await
            {
                tracing::debug!(%error, "the lease of advisory locks could not be extended");
            }
        };
        tokio::join!(extend, self.give_up(left));
    }

    async fn extend(&self, incarnation: &Incarnation) -> Result<(), KvError> {
        let (old, end) = (incarnation.lease_end(), self.kv.now()?.latest() + LEASE);
        // One that somebody has deleted was over.
        let set = |lease: Option<Timestamp>| lease.map(|lease| lease.max(end));
        if self.set_lease(lease_key(&incarnation.holder), Some(old), set).await?.is_some() {
            incarnation.lease_end.fetch_max(end.as_nanos(), Ordering::SeqCst);
        }
        Ok(())
    }
}

impl SessionFactory {
    /// Keeps the advisory locks of this node's sessions until `shutdown` resolves. The server spawns it once per node.
    pub async fn keep_advisory_locks(self, shutdown: impl Future<Output = ()> + Send) {
        tokio::pin!(shutdown);
        let locks = self.shared.locks.clone();
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                () = tokio::time::sleep(EXTEND) => {}
            }
            tokio::select! {
                () = &mut shutdown => return,
                () = locks.tend() => {}
            }
        }
    }
}

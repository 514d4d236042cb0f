//! Limits of the gateway, each with its unit and the reason for the number.

use std::time::Duration;

use meridian_types::limits;

/// How long a request that finds no leader is tried before the client hears of it. Longer than a lease plus an
/// election, so that the loss of a node shows as a pause and not as an error.
pub(crate) const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

/// How long the outcome of a commit is asked for before the client hears that it is unknown.
pub(crate) const OUTCOME_WITHIN: Duration = Duration::from_secs(10);

/// How long background work (telling participants) is tried; after that the shards' own recovery takes over.
pub(crate) const BACKGROUND_WITHIN: Duration = Duration::from_secs(60);

/// Pauses between attempts double from the first to the second. The second bounds how late a new leader is found; one
/// search per shard is under way at a time, so short pauses do not add up.
pub(crate) const PAUSE_MIN: Duration = Duration::from_millis(2);
/// See [`PAUSE_MIN`].
pub(crate) const PAUSE_MAX: Duration = Duration::from_millis(16);

/// The pause after `Overloaded`; longer, since asking again is what overloads.
pub(crate) const OVERLOAD_PAUSE: Duration = Duration::from_millis(40);

/// Redirects followed without a pause. Two replicas may name each other for a moment during a hand-over.
pub(crate) const REDIRECTS_MAX: u32 = 3;

/// How often a pending call looks whether its node still lives.
pub(crate) const LIVENESS_CHECK: Duration = Duration::from_millis(250);

/// How long a probe for the leader may take.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a follower may take to serve a snapshot read before the leader is asked instead.
pub(crate) const FOLLOWER_TIMEOUT: Duration = Duration::from_millis(250);

/// Leaders close timestamps at least this long ago on every replica, so that a snapshot that old waits for nothing.
pub(crate) const CLOSED_LAG: meridian_types::Duration = meridian_types::Duration::from_millis(200);

/// Descriptors in one page of the shard map: a miss also learns of the neighbours, whose turn is likely next.
pub(crate) const META_PAGE_ROWS: usize = 64;

/// Cached pieces of the shard map, about 300 bytes each. Beyond it the cache starts again from nothing.
pub(crate) const CACHED_PIECES_MAX: usize = 1 << 20;

/// Chunks of one transaction under way to one shard: enough to overlap round trips with fsyncs.
pub(crate) const STAGES_IN_FLIGHT: usize = 4;

/// Bytes of writes in one message of a commit. Beyond it they are staged in chunks of this size first.
pub(crate) const CHUNK_BYTES: usize = limits::ENTRY_BYTES_MAX;

/// Bytes of a backfill in one log entry: small enough that a commit behind it on the disk is not held up noticeably.
pub(crate) const FILL_BYTES: usize = 128 << 10;

/// Ids taken from a counter at once; a restart loses the rest.
pub(crate) const ID_BLOCK: u64 = 16;

/// Rows asked of each node for status tables.
pub(crate) const STATUS_ROWS: u64 = 4_096;

const _: () = assert!(GIVE_UP_AFTER.as_nanos() as u64 > 2 * limits::LEASE.as_nanos());
const _: () = assert!(PAUSE_MIN.as_nanos() <= PAUSE_MAX.as_nanos());
const _: () = assert!(CHUNK_BYTES <= limits::ENTRY_BYTES_MAX);
const _: () = assert!(FILL_BYTES <= limits::ENTRY_BYTES_MAX);

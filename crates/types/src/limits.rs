//! Limits of queues, batches and messages, each with its unit and the reason for the number.

use crate::Duration;

/// The lease of a leader (DESIGN section 3). The paper has 10 s; 3 s loses less time when a leader dies, and renewals
/// are cheap because they are coalesced.
pub const LEASE: Duration = Duration::from_secs(3);

/// A leader asks for an extension when less than this is left, so that two rounds may be lost without losing it.
pub const LEASE_RENEW_BELOW: Duration = Duration::from_millis(2_000);

/// The drift that a node's oscillator is assumed never to exceed (Spanner, section 3: 200 us/s).
pub const DRIFT_BOUND_PPM: u64 = 200;

/// A node whose epsilon is above this stops taking leases and timestamps.
pub const EPSILON_MAX: Duration = Duration::from_millis(250);

/// Bytes of writes in one log entry; larger transactions are staged in several entries, so that one of them does not
/// hold up the log, the network or a follower's memory.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;

/// Bytes of one key. Longer keys are refused with 54000.
pub const KEY_BYTES_MAX: usize = 16 << 10;

/// Bytes of one value. Larger values are refused with 54000.
pub const VALUE_BYTES_MAX: usize = 16 << 20;

/// Log entries that a leader may have proposed and not yet seen chosen; further proposals wait in its queue.
pub const PIPELINE_SLOTS_MAX: u64 = 1_024;

/// Rows in one page of a scan.
pub const SCAN_PAGE_ROWS: usize = 4_096;

/// Bytes in one page of a scan.
pub const SCAN_PAGE_BYTES: usize = 4 << 20;

/// A gateway tells the leaders that hold its locks that it lives once in this time.
pub const TXN_HEARTBEAT: Duration = Duration::from_millis(1_000);

/// A leader drops the locks of an unprepared transaction that was silent for this long.
pub const TXN_EXPIRY: Duration = Duration::from_millis(5_000);

const _: () = assert!(LEASE_RENEW_BELOW.as_nanos() < LEASE.as_nanos());
const _: () = assert!(TXN_EXPIRY.as_nanos() > 2 * TXN_HEARTBEAT.as_nanos());
const _: () = assert!(EPSILON_MAX.as_nanos() * 4 < LEASE.as_nanos());
const _: () = assert!(VALUE_BYTES_MAX > ENTRY_BYTES_MAX);

//! Tells a torn tail of the write-ahead log from damage inside of it.
//!
//! RocksDB stops replaying at the first record that does not check out and takes what follows for the remains of a crash.
//! That is right after a loss of power, and it would silently forget synced writes where a sector in the middle has gone
//! bad. An engine whose every write is synced begins a record only when the one before is durable, and so:
//!
//! ```text
//!   file N   | sound | sound | bad | rest of its fragments ...        a torn tail: replay ends here
//!   file N   | sound | bad   | ... | sound beginning of a record      damage: `bad` was durable
//!   file N   | sound | bad         file N+1 begins beyond the next    damage: what is missing was durable
//!                                  sequence number
//! ```
//! Files are recycled, so a record carries the number of the log that it belongs to; what is left of an earlier log ends
//! a file like its end does. The format is RocksDB's (`db/log_format.h`): blocks of 32 KiB, in each fragments with a header
//! of checksum, length, type and log number; a record begins with its sequence number and its count of changes.

use std::path::{Path, PathBuf};

use meridian_storage::StorageError;

const BLOCK: usize = 32 << 10;

/// Checksum, length, type, log number.
const HEADER: usize = 4 + 2 + 1 + 4;

const FULL: u8 = 5;
const FIRST: u8 = 6;
const MIDDLE: u8 = 7;
const LAST: u8 = 8;

/// A fragment that checks out.
struct Fragment<'a> {
    kind: u8,
    payload: &'a [u8],
}

/// What a bad place may be.
enum Read<'a> {
    Sound(Fragment<'a>),
    /// It claims to be of this log, and its checksum is wrong.
    Bad,
    /// Nothing of this log.
    Foreign,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// RocksDB stores checksums rotated, since it also checksums files that hold checksums.
fn masked(sum: u32) -> u32 {
    sum.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Reads the fragment at the start of `block`, which is what is left of a block.
fn read(block: &[u8], log: u32) -> Read<'_> {
    let Some(header) = block.get(..HEADER) else { return Read::Foreign };
    let kind = header[6];
    if !matches!(kind, FULL | FIRST | MIDDLE | LAST) || u32_at(header, 7) != log {
        return Read::Foreign;
    }
    let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
    let Some(covered) = block.get(6..HEADER + length) else { return Read::Bad };
    if masked(crc32c::crc32c(covered)) != u32_at(header, 0) {
        return Read::Bad;
    }
    Read::Sound(Fragment { kind, payload: &block[HEADER..HEADER + length] })
}

/// What is known of one file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Scan {
    /// Sequence number of its first record.
    first: Option<u64>,
    /// The sequence number that follows its last sound record, before anything bad.
    next: Option<u64>,
    /// Where a fragment of this log is bad.
    bad: Option<usize>,
    /// Where another record begins behind that.
    beyond: Option<usize>,
}

/// The sequence number and the count of changes at the start of a record.
fn numbers(record: &[u8]) -> Option<(u64, u64)> {
    let sequence = u64::from_le_bytes(record.get(..8)?.try_into().ok()?);
    Some((sequence, u64::from(u32::from_le_bytes(record.get(8..12)?.try_into().ok()?))))
}

fn scan(bytes: &[u8], log: u32) -> Scan {
    let mut scan = Scan::default();
    // Of a record that goes on in the next fragment.
    let mut begun: Option<(u64, u64)> = None;
    for (i, block) in bytes.chunks(BLOCK).enumerate() {
        let mut at = 0;
        while at + HEADER <= block.len() {
            let here = i * BLOCK + at;
            match read(&block[at..], log) {
                Read::Sound(fragment) if scan.bad.is_some() => {
                    if matches!(fragment.kind, FULL | FIRST) {
                        scan.beyond = Some(here);
                        return scan;
                    }
                    at += HEADER + fragment.payload.len();
                }
                Read::Sound(fragment) => {
                    if matches!(fragment.kind, FULL | FIRST) {
                        begun = numbers(fragment.payload);
                        scan.first = scan.first.or(begun.map(|(sequence, _)| sequence));
                    }
                    if matches!(fragment.kind, FULL | LAST) {
                        scan.next = begun.take().map(|(sequence, count)| sequence + count).or(scan.next);
                    }
                    at += HEADER + fragment.payload.len();
                }
                // The length may be what is wrong, so the next fragment is looked for byte by byte.
                Read::Bad => {
                    scan.bad.get_or_insert(here);
                    at += 1;
                }
                Read::Foreign if scan.bad.is_some() => at += 1,
                Read::Foreign => {
                    // A damaged type or log number looks like the end. It is one unless more of this log follows.
                    scan.bad = Some(here);
                    let rest = scan_beyond(&bytes[here..], here, log);
                    scan.beyond = rest;
                    if rest.is_none() {
                        scan.bad = None;
                    }
                    return scan;
                }
            }
        }
    }
    scan
}

/// Where a record of this log begins in what lies behind its apparent end at `start`.
fn scan_beyond(rest: &[u8], start: usize, log: u32) -> Option<usize> {
    (1..rest.len().saturating_sub(HEADER)).find_map(|i| {
        let at = start + i;
        let room = BLOCK - at % BLOCK;
        let block = &rest[i..rest.len().min(i + room)];
        matches!(read(block, log), Read::Sound(Fragment { kind: FULL | FIRST, .. })).then_some(at)
    })
}

/// Finds damage in the write-ahead log of an engine in `folder` that is not open and whose every write was synced.
pub(crate) fn check(folder: &Path) -> Result<(), StorageError> {
    let io = |e: std::io::Error| StorageError::Io { detail: format!("{}: {e}", folder.display()) };
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        if let Some(number) = number.filter(|_: &u64| path.extension().is_some_and(|e| e == "log")) {
            logs.push((number, path));
        }
    }
    logs.sort();
    let damaged = |path: &Path, at: usize| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let detail = format!("write-ahead log {name} is damaged at byte {at}: sound records follow");
        Err(StorageError::Corruption { detail })
    };
    let mut ended_badly: Option<(PathBuf, usize, u64)> = None;
    for (number, path) in logs {
        let bytes = std::fs::read(&path).map_err(io)?;
        // Records carry the lower half.
        let scan = scan(&bytes, number as u32);
        if let (Some(at), Some(_)) = (scan.bad, scan.beyond) {
            return damaged(&path, at);
        }
        if let (Some((before, at, next)), Some(first)) = (&ended_badly, scan.first)
            && first > *next
        {
            return damaged(before, *at);
        }
        ended_badly = match (scan.bad, scan.next.or(scan.first)) {
            (Some(at), Some(next)) => Some((path, at, next)),
            (None, _) | (_, None) => None,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: u32 = 7;

    /// A log file made of records with one change each.
    #[derive(Default)]
    struct File {
        bytes: Vec<u8>,
        starts: Vec<usize>,
        sequence: u64,
    }

    impl File {
        fn with(records: &[usize]) -> File {
            let mut file = File { sequence: 1, ..File::default() };
            records.iter().for_each(|len| file.record(*len));
            file
        }

        fn record(&mut self, len: usize) {
            let mut payload = self.sequence.to_le_bytes().to_vec();
            payload.extend_from_slice(&1u32.to_le_bytes());
            payload.resize(len.max(12), self.sequence as u8);
            self.sequence += 1;
            let (mut rest, mut is_first) = (&payload[..], true);
            loop {
                let room = BLOCK - self.bytes.len() % BLOCK;
                if room < HEADER {
                    self.bytes.resize(self.bytes.len() + room, 0);
                    continue;
                }
                if is_first {
                    self.starts.push(self.bytes.len());
                }
                let (part, left) = rest.split_at(rest.len().min(room - HEADER));
                let kind = match (is_first, left.is_empty()) {
                    (true, true) => FULL,
                    (true, false) => FIRST,
                    (false, false) => MIDDLE,
                    (false, true) => LAST,
                };
                let mut covered = vec![kind];
                covered.extend_from_slice(&LOG.to_le_bytes());
                covered.extend_from_slice(part);
                self.bytes.extend_from_slice(&masked(crc32c::crc32c(&covered)).to_le_bytes());
                self.bytes.extend_from_slice(&(part.len() as u16).to_le_bytes());
                self.bytes.extend_from_slice(&covered);
                (rest, is_first) = (left, false);
                if rest.is_empty() {
                    return;
                }
            }
        }

        fn is_damaged(&self) -> bool {
            scan(&self.bytes, LOG).beyond.is_some()
        }
    }

    #[test]
    fn a_sound_log_and_every_torn_tail_are_not_damage() {
        let file = File::with(&[100, 50_000, 20, 70_000]);
        assert_eq!(scan(&file.bytes, LOG), Scan { first: Some(1), next: Some(5), bad: None, beyond: None });
        let last = file.starts[3];
        for cut in (last..file.bytes.len()).step_by(997).chain([last, last + 1, last + HEADER]) {
            // Cut off, zeroed and overwritten with the remains of an earlier log.
            let torn = |fill: &[u8]| {
                let mut bytes = file.bytes[..cut].to_vec();
                bytes.extend(fill.iter().cycle().take(file.bytes.len() - cut));
                File { bytes, ..File::default() }
            };
            for fill in [&b""[..], b"\0", b"\x05\x06\0\0\0"] {
                assert!(!torn(fill).is_damaged(), "cut at {cut}");
            }
        }
        // The pages of the last record came to the disk in another order.
        let mut reordered = file.bytes.clone();
        reordered[last..last + 100].fill(0);
        assert!(!File { bytes: reordered, ..File::default() }.is_damaged());
    }

    #[test]
    fn a_flipped_bit_anywhere_before_the_last_record_is_damage() {
        let file = File::with(&[100, 50_000, 20, 20, 70_000, 30]);
        let last = file.starts[5];
        let near = file.starts.iter().flat_map(|start| (0..HEADER + 3).map(move |i| start + i));
        for at in near.chain((0..last).step_by(1_009)).filter(|at| *at < last) {
            let mut bytes = file.bytes.clone();
            bytes[at] ^= 0x10;
            if bytes == file.bytes || is_padding(&file, at) {
                continue;
            }
            assert!(File { bytes, ..File::default() }.is_damaged(), "byte {at} of {last}");
        }
    }

    /// True for the bytes at a block's end that hold no fragment.
    fn is_padding(file: &File, at: usize) -> bool {
        let end = (at / BLOCK + 1) * BLOCK;
        let start = file.starts.iter().find(|start| **start > at);
        start.is_some_and(|start| *start >= end)
            && end - at < HEADER
            && file.bytes[at..end.min(file.bytes.len())].iter().all(|b| *b == 0)
    }
}

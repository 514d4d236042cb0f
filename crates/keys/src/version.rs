//! Keys of versions: `(user key, descending commit timestamp)` in the storage family Data.
//!
//! ```text
//!   escape(user key)  00 01  !commit_timestamp, 8 bytes big-endian
//!   \___ row prefix ______/
//! ```
//! `escape` writes `00` as `00 ff`. So terminated, no row prefix is a prefix of another one, and row prefixes sort as
//! their user keys do. Without the terminator they would not: a parent's row key *is* a prefix of its children's, and
//! the parent's versions would lie scattered among its children. User keys are made to hold few `00` bytes (integers are
//! minimal), so the escape costs little, and a key without them is read back as a plain slice.
//!
//! The timestamp is inverted, so the newest version comes first and one forward seek to `(key, t)` lands on the newest
//! version at or below `t`. It has a fixed size at the end, so the row prefix, which bloom filters are built over, is
//! all but the last [`SUFFIX_LEN`] bytes.

use meridian_types::{Key, Span, Timestamp};

use crate::KeyError;

/// Bytes of the timestamp at the end of a version key.
pub const SUFFIX_LEN: usize = 8;

const TERMINATOR: [u8; 2] = [0x00, 0x01];
const ESCAPED_ZERO: [u8; 2] = [0x00, 0xff];

/// Appends the row prefix of a user key to `out`.
pub fn push_row_prefix(out: &mut Vec<u8>, key: &[u8]) {
    out.reserve(key.len() + TERMINATOR.len() + SUFFIX_LEN);
    let mut rest = key;
    while let Some(zero) = rest.iter().position(|&b| b == 0) {
        out.extend_from_slice(&rest[..zero]);
        out.extend_from_slice(&ESCAPED_ZERO);
        rest = &rest[zero + 1..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(&TERMINATOR);
}

/// Appends a version's timestamp to its row prefix.
pub fn push_timestamp(out: &mut Vec<u8>, at: Timestamp) {
    out.extend_from_slice(&(!at.as_nanos()).to_be_bytes());
}

/// The key of the version of `key` at `at`.
pub fn encode(key: &[u8], at: Timestamp) -> Vec<u8> {
    let mut out = Vec::new();
    push_row_prefix(&mut out, key);
    push_timestamp(&mut out, at);
    out
}

/// Splits a version key into its row prefix and its timestamp.
pub fn split(version: &[u8]) -> Result<(&[u8], Timestamp), KeyError> {
    let at = version.len();
    let (prefix, suffix) = version.split_last_chunk::<SUFFIX_LEN>().ok_or(KeyError::Truncated { at })?;
    if !prefix.ends_with(&TERMINATOR) {
        return Err(KeyError::Malformed { at: prefix.len() });
    }
    Ok((prefix, Timestamp::from_nanos(!u64::from_be_bytes(*suffix))))
}

/// The row prefix of a version key or of a bare row prefix's seek target: all but the timestamp. `None` for bytes that
/// are too short to be a version key.
pub fn row_prefix(version: &[u8]) -> Option<&[u8]> {
    version.split_last_chunk::<SUFFIX_LEN>().map(|(prefix, _)| prefix)
}

/// Appends the user key of a row prefix to `out`.
pub fn push_user_key(out: &mut Vec<u8>, row_prefix: &[u8]) -> Result<(), KeyError> {
    let at = row_prefix.len();
    let mut rest = row_prefix.strip_suffix(&TERMINATOR).ok_or(KeyError::Malformed { at })?;
    while let Some(zero) = rest.iter().position(|&b| b == 0) {
        if rest.get(zero + 1) != Some(&0xff) {
            return Err(KeyError::Malformed { at: at - rest.len() + zero });
        }
        out.extend_from_slice(&rest[..=zero]);
        rest = &rest[zero + 2..];
    }
    out.extend_from_slice(rest);
    Ok(())
}

/// The user key of a row prefix.
pub fn user_key(row_prefix: &[u8]) -> Result<Key, KeyError> {
    let mut out = Vec::with_capacity(row_prefix.len());
    push_user_key(&mut out, row_prefix)?;
    Ok(Key::new(out))
}

/// Turns a row prefix into the first bytes beyond all of its versions, in place.
pub fn make_row_end(row_prefix: &mut [u8]) {
    let last = row_prefix.last_mut().expect("a row prefix ends with its terminator");
    assert!(*last == TERMINATOR[1], "a row prefix does not end with its terminator");
    *last += 1;
}

/// The versions of `key` at or below `at`, newest first. Cursors over such a span can use the bloom filter.
pub fn versions_from(key: &[u8], at: Timestamp) -> Span {
    let mut start = Vec::new();
    push_row_prefix(&mut start, key);
    let mut end = start.clone();
    make_row_end(&mut end);
    push_timestamp(&mut start, at);
    Span::new(Key::new(start), Some(Key::new(end)))
}

/// True when `span` is one of [`versions_from`]: all its keys have one row prefix.
pub fn is_one_row(span: &Span) -> bool {
    let (Some(prefix), Some(end)) = (row_prefix(span.start.as_bytes()), &span.end) else {
        return false;
    };
    let end = end.as_bytes();
    let n = prefix.len();
    prefix.ends_with(&TERMINATOR)
        && end.len() == n
        && end[..n - 1] == prefix[..n - 1]
        && end[n - 1] == TERMINATOR[1] + 1
}

/// The versions of all user keys in `span`.
pub fn versions_in(span: &Span) -> Span {
    let prefix = |key: &Key| {
        let mut out = Vec::new();
        push_row_prefix(&mut out, key.as_bytes());
        Key::new(out)
    };
    Span::new(prefix(&span.start), span.end.as_ref().map(prefix))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ts(ns: u64) -> Timestamp {
        Timestamp::from_nanos(ns)
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(encode(b"a\x00b\x01", ts(1)), b"a\x00\xffb\x01\x00\x01\xff\xff\xff\xff\xff\xff\xff\xfe");
        assert_eq!(encode(b"", Timestamp::MAX), b"\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00");
    }

    #[test]
    fn malformed_versions_are_refused() {
        assert!(split(b"short").is_err());
        assert!(split(b"a\x00\x0212345678").is_err());
        assert!(user_key(b"a\x00\x05b\x00\x01").is_err());
        assert!(user_key(b"a").is_err());
    }

    fn keys() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(2), Just(0xff), any::<u8>()], 0..6)
    }

    proptest! {
        #[test]
        fn versions_sort_by_key_then_newest_first(a in keys(), b in keys(), s in any::<u64>(), t in any::<u64>()) {
            let by_bytes = encode(&a, ts(s)).cmp(&encode(&b, ts(t)));
            prop_assert_eq!(by_bytes, a.cmp(&b).then(t.cmp(&s)));
        }

        #[test]
        fn round_trip(key in keys(), t in any::<u64>()) {
            let version = encode(&key, ts(t));
            let (prefix, at) = split(&version).unwrap();
            prop_assert_eq!(at, ts(t));
            let decoded = user_key(prefix).unwrap();
            prop_assert_eq!(decoded.as_bytes(), &key[..]);
            prop_assert_eq!(row_prefix(&version), Some(prefix));
        }

        #[test]
        fn spans_hold_exactly_their_versions(a in keys(), b in keys(), k in keys(), s in any::<u64>(), t in any::<u64>()) {
            let version = encode(&k, ts(t));
            let span = Span::new(Key::copy_from(&a), Some(Key::copy_from(&b)));
            prop_assert_eq!(versions_in(&span).contains(&version), span.contains(&k));
            prop_assert_eq!(versions_from(&a, ts(s)).contains(&version), a == k && t <= s);
            prop_assert!(is_one_row(&versions_from(&a, ts(s))));
            prop_assert!(!is_one_row(&versions_in(&span)));
        }
    }
}

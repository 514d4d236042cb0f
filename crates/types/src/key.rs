//! Keys and spans of keys.

use std::fmt;

use bytes::Bytes;

/// An encoded key. Ordered as bytes; what the bytes mean is the business of `meridian-keys` alone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(Bytes);

impl Key {
    /// The smallest key.
    pub const MIN: Key = Key(Bytes::new());

    /// Wraps encoded bytes without copying.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Key(bytes.into())
    }

    /// Copies encoded bytes.
    pub fn copy_from(bytes: &[u8]) -> Self {
        Key(Bytes::copy_from_slice(bytes))
    }

    /// The encoded bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The encoded bytes, shared.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// The smallest key that is greater than this one.
    pub fn next(&self) -> Key {
        let mut b = Vec::with_capacity(self.0.len() + 1);
        b.extend_from_slice(&self.0);
        b.push(0);
        Key(b.into())
    }

    /// The smallest key that is greater than every key with this prefix, or `None` where there is none (the prefix is
    /// empty or all `0xff`).
    pub fn prefix_end(&self) -> Option<Key> {
        let last = self.0.iter().rposition(|&b| b != 0xff)?;
        let mut b = self.0[..=last].to_vec();
        b[last] += 1;
        Some(Key(b.into()))
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::borrow::Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "k'{}'", self.0.escape_ascii())
    }
}

/// A half-open span of keys `[start, end)`; `end = None` means "to the end of the keyspace".
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first key inside.
    pub start: Key,
    /// The first key beyond.
    pub end: Option<Key>,
}

impl Span {
    /// Every key.
    pub const ALL: Span = Span { start: Key::MIN, end: None };

    /// `[start, end)`.
    pub fn new(start: Key, end: Option<Key>) -> Self {
        Span { start, end }
    }

    /// The span that holds just one key.
    pub fn point(key: &Key) -> Self {
        Span { start: key.clone(), end: Some(key.next()) }
    }

    /// The span of all keys with a prefix.
    pub fn prefix(prefix: &Key) -> Self {
        Span { start: prefix.clone(), end: prefix.prefix_end() }
    }

    /// True when no key lies inside.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    /// True when `key` lies inside.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_bytes() <= key && self.end.as_ref().is_none_or(|end| key < end.as_bytes())
    }

    /// True when every key of `other` lies inside. An empty `other` is inside everything.
    pub fn contains_span(&self, other: &Span) -> bool {
        if other.is_empty() {
            return true;
        }
        let end_fits = match (&self.end, &other.end) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(mine), Some(theirs)) => theirs <= mine,
        };
        self.start <= other.start && end_fits
    }

    /// True when some key lies in both.
    pub fn overlaps(&self, other: &Span) -> bool {
        !self.is_empty()
            && !other.is_empty()
            && other.end.as_ref().is_none_or(|end| self.start < *end)
            && self.end.as_ref().is_none_or(|end| other.start < *end)
    }

    /// The keys that lie in both; may be empty.
    pub fn intersect(&self, other: &Span) -> Span {
        let start = self.start.clone().max(other.start.clone());
        let end = match (&self.end, &other.end) {
            (None, e) | (e, None) => e.clone(),
            (Some(a), Some(b)) => Some(a.min(b).clone()),
        };
        Span { start, end }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.end {
            Some(end) => write!(f, "[{:?}, {:?})", self.start, end),
            None => write!(f, "[{:?}, inf)", self.start),
        }
    }
}

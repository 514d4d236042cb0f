//! Which versions nobody can read any more.

use meridian_keys::version;
use meridian_types::Timestamp;

/// Decides, version by version in key order, what is garbage below a horizon.
///
/// Reads below the horizon are refused, so of each row only the versions above the horizon and the newest one at or
/// below it can be read: every older one is *shadowed*. A tombstone that is the newest at or below the horizon is kept
/// all the same, because whoever feeds this filter (a compaction of some of an engine's files) does not necessarily see
/// all versions of a row: without the tombstone an older one, elsewhere, would come back to life.
///
/// Invariant: what is dropped is older than a version that is kept.
#[derive(Debug)]
pub struct Garbage {
    horizon: Timestamp,
    /// The row of the last version at or below the horizon that was kept.
    row: Vec<u8>,
    kept_below: bool,
}

impl Garbage {
    /// A filter that drops what reads at or above `horizon` can't see.
    pub fn new(horizon: Timestamp) -> Self {
        Garbage { horizon, row: Vec::new(), kept_below: false }
    }

    /// True when the version with this key may be dropped. Versions must come in ascending order of key; bytes that
    /// are no version key are never garbage.
    pub fn is_garbage(&mut self, version_key: &[u8]) -> bool {
        let Ok((row, commit)) = version::split(version_key) else {
            return false;
        };
        if commit > self.horizon {
            return false;
        }
        if self.kept_below && self.row == row {
            return true;
        }
        self.row.clear();
        self.row.extend_from_slice(row);
        self.kept_below = true;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shadowed_versions_are_garbage() {
        let mut garbage = Garbage::new(Timestamp::from_nanos(50));
        let mut ask = |key: &[u8], at| garbage.is_garbage(&version::encode(key, Timestamp::from_nanos(at)));
        assert!(!ask(b"a", 90), "above the horizon");
        assert!(!ask(b"a", 51), "above the horizon");
        assert!(!ask(b"a", 50), "the newest at or below it");
        assert!(ask(b"a", 49));
        assert!(ask(b"a", 1));
        assert!(!ask(b"a\0", 40), "another row");
        assert!(ask(b"a\0", 39));
        assert!(!ask(b"b", 60));
        assert!(!garbage.is_garbage(b"?"));
    }
}

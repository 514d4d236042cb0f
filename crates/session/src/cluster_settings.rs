//! Settings of the whole cluster: `SET CLUSTER SETTING`, `SHOW CLUSTER SETTING`, `meridian.settings`.
//!
//! Each is a row of the system keyspace, written in a transaction of its own. Nodes read all of them every second, at the
//! nearest replica, so that a change reaches every node within moments and costs nobody a wait.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use meridian_datum::{SqlError, SqlState};
use meridian_exec::ddl::Pace;
use meridian_keys::SystemKey;
use meridian_kv_api::{Kv, KvError, TXN_BYTES_MAX};
use meridian_types::Duration;
use parking_lot::RwLock;

use crate::settings::staleness::parse_duration;
use crate::settings::value::{Unit, parse_bool, parse_int};
use crate::system_rows::{self, Change};

/// A setting that there is.
struct Known {
    name: &'static str,
    default: &'static str,
    range: Range,
    description: &'static str,
}

/// What values a setting has, with the least and the most of them.
#[derive(Clone, Copy)]
enum Range {
    Durations(Duration, Duration),
    /// In kilobytes.
    Sizes(i64, i64),
    /// On or off.
    Switch,
}

/// A value of a setting.
#[derive(Clone, Copy)]
enum Value {
    Duration(Duration),
    Kilobytes(i64),
    Switch(bool),
}

const GC_TTL: &str = "gc.ttl";

const FOLLOW_CLIENTS: &str = "leaders.follow_clients";

const REST: &str = "schema_changes.rest";

const TRANSACTION_BYTES_MAX: &str = "transactions.bytes_max";

const KNOWN: &[Known] = &[
    Known {
        name: GC_TTL,
        default: "25h",
        // Well above the schema lease: plans read the catalog as of its start.
        range: Range::Durations(Duration::from_secs(10), Duration::from_secs(10 * 366 * 86_400)),
        description: "For how long versions that were overwritten or deleted can be read AS OF SYSTEM TIME.",
    },
    Known {
        name: FOLLOW_CLIENTS,
        default: "on",
        range: Range::Switch,
        description: "Whether a shard's leadership goes to the node that asks for nearly all that the shard does.",
    },
    Known {
        name: REST,
        default: "0s",
        range: Range::Durations(Duration::from_nanos(0), Duration::from_secs(10)),
        description: "How long jobs of schema changes rest after each page of rows, in favour of other work.",
    },
    Known {
        name: TRANSACTION_BYTES_MAX,
        default: "256MB",
        // More than a row may have, and what a gateway of some gigabytes can hold.
        range: Range::Sizes(16 << 10, 16 << 20),
        description: "How much one transaction may write, keys, values and 64 bytes for each row and index entry.",
    },
];

fn known(name: &str) -> Result<&'static Known, SqlError> {
    KNOWN.iter().find(|k| k.name == name).ok_or_else(|| {
        let names: Vec<&str> = KNOWN.iter().map(|k| k.name).collect();
        let message = format!("unrecognized cluster setting \"{name}\"");
        SqlError::new(SqlState::UNDEFINED_OBJECT, message)
            .with_hint(format!("Cluster settings are: {}.", names.join(", ")))
    })
}

impl Known {
    fn parse(&self, value: &str) -> Result<Value, SqlError> {
        let parsed = match self.range {
            Range::Durations(..) => parse_duration(value).map(Value::Duration),
            Range::Sizes(..) => parse_int(value, Unit::Kilobytes).map(Value::Kilobytes),
            Range::Switch => parse_bool(value).map(Value::Switch),
        };
        let parsed = parsed.ok_or_else(|| {
            let message = format!("invalid value for cluster setting \"{}\": \"{value}\"", self.name);
            SqlError::invalid_parameter(message).with_hint(match self.range {
                Range::Durations(..) => "Use a duration such as 90s, 15m, 25h or 7d.",
                Range::Sizes(..) => "Use a size such as 65536kB, 256MB or 1GB.",
                Range::Switch => "Use on or off.",
            })
        })?;
        let range = match (self.range, parsed) {
            (Range::Durations(least, most), Value::Duration(d)) if d < least || d > most => {
                let seconds = |d: Duration| d.as_nanos() / 1_000_000_000;
                format!("{} s to {} s", seconds(least), seconds(most))
            }
            (Range::Sizes(least, most), Value::Kilobytes(n)) if n < least || n > most => {
                format!("{least}kB to {most}kB")
            }
            _ => return Ok(parsed),
        };
        let message = format!("{value} is outside the range of \"{}\" ({range})", self.name);
        Err(SqlError::invalid_parameter(message))
    }
}

/// The settings as this node knows them.
#[derive(Debug)]
pub struct ClusterSettings {
    /// Those that were set.
    values: RwLock<BTreeMap<String, String>>,
    pace: Pace,
    transaction_bytes_max: AtomicUsize,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        ClusterSettings {
            values: RwLock::default(),
            pace: Pace::default(),
            transaction_bytes_max: AtomicUsize::new(TXN_BYTES_MAX),
        }
    }
}

impl ClusterSettings {
    /// For how long old versions are kept.
    pub fn gc_ttl(&self) -> Duration {
        self.duration(GC_TTL)
    }

    /// How much one transaction may write.
    pub(crate) fn transaction_bytes_max(&self) -> usize {
        self.transaction_bytes_max.load(Ordering::Relaxed)
    }

    /// Whether leadership goes where a shard's clients are.
    pub fn leaders_follow_clients(&self) -> bool {
        matches!(self.parsed(FOLLOW_CLIENTS), Value::Switch(true))
    }

    /// How fast schema changes go; follows the setting.
    pub(crate) fn pace(&self) -> Pace {
        self.pace.clone()
    }

    fn duration(&self, name: &str) -> Duration {
        match self.parsed(name) {
            Value::Duration(duration) => duration,
            Value::Kilobytes(_) | Value::Switch(_) => panic!("{name} is no duration"),
        }
    }

    fn parsed(&self, name: &str) -> Value {
        let known = known(name).expect("it is a setting");
        known.parse(&self.value(known)).expect("only values that can be parsed are kept")
    }

    /// Hands on what others look at without a lock.
    fn hand_on(&self) {
        self.pace.set(self.duration(REST));
        if let Value::Kilobytes(n) = self.parsed(TRANSACTION_BYTES_MAX) {
            let bytes = usize::try_from(n).unwrap_or(usize::MAX).saturating_mul(1024);
            self.transaction_bytes_max.store(bytes, Ordering::Relaxed);
        }
    }

    /// Reads them from the system keyspace.
    ///
    /// # Errors
    /// No replica of it can be read.
    pub async fn refresh(&self, kv: &dyn Kv) -> Result<(), KvError> {
        let mut found = BTreeMap::new();
        for (key, value) in system_rows::read_all(kv, SystemKey::all_settings()).await? {
            if let Ok(SystemKey::Setting(name)) = SystemKey::decode(key.as_bytes())
                && let Ok(known) = known(&name)
                && let Ok(value) = std::str::from_utf8(&value)
                && known.parse(value).is_ok()
            {
                found.insert(name, value.to_owned());
            }
        }
        *self.values.write() = found;
        self.hand_on();
        Ok(())
    }

    fn value(&self, known: &Known) -> String {
        self.values.read().get(known.name).cloned().unwrap_or_else(|| known.default.to_owned())
    }

    /// `SHOW CLUSTER SETTING`
    pub(crate) fn show(&self, name: &str) -> Result<String, SqlError> {
        known(name).map(|known| self.value(known))
    }

    /// `meridian.settings`: name, value, default, description.
    pub(crate) fn all(&self) -> Vec<[String; 4]> {
        let row = |k: &Known| [k.name.into(), self.value(k), k.default.into(), k.description.into()];
        KNOWN.iter().map(row).collect()
    }

    /// `SET CLUSTER SETTING`; `None` is DEFAULT.
    pub(crate) async fn set(&self, kv: &dyn Kv, name: &str, value: Option<&str>) -> Result<(), SqlError> {
        let known = known(name)?;
        if let Some(value) = value {
            known.parse(value)?;
        }
        let row = |value: &str| Change::Put(Bytes::copy_from_slice(value.as_bytes()));
        let becomes = value.map_or(Change::Delete, row);
        system_rows::change(kv, &SystemKey::Setting(name.to_owned()), |_| Ok(becomes.clone())).await?;
        match value {
            Some(value) => self.values.write().insert(name.to_owned(), value.to_owned()),
            None => self.values.write().remove(name),
        };
        self.hand_on();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use meridian_kv_api::MemoryKv;

    use super::*;

    #[tokio::test]
    async fn a_setting_reaches_other_nodes_and_bad_values_change_nothing() {
        let kv = MemoryKv::new();
        let (here, there) = (ClusterSettings::default(), ClusterSettings::default());
        assert_eq!(here.gc_ttl(), Duration::from_secs(25 * 3_600));
        here.set(&kv, GC_TTL, Some("90s")).await.unwrap();
        assert_eq!(here.gc_ttl(), Duration::from_secs(90));
        for bad in ["soon", "9s", "-1s", "100000d"] {
            let error = here.set(&kv, GC_TTL, Some(bad)).await.unwrap_err();
            assert_eq!(error.state, SqlState::INVALID_PARAMETER_VALUE, "{bad}");
        }
        assert_eq!(here.set(&kv, "gc.tll", Some("1s")).await.unwrap_err().state, SqlState::UNDEFINED_OBJECT);
        there.refresh(&kv).await.unwrap();
        assert_eq!(there.show(GC_TTL).unwrap(), "90s");
        here.set(&kv, GC_TTL, None).await.unwrap();
        there.refresh(&kv).await.unwrap();
        assert_eq!(there.show(GC_TTL).unwrap(), "25h");
    }
}

//! The session's settings (PostgreSQL's GUC): values, scopes and what depends on them.
//!
//! # Scopes
//! A value is looked up in three layers: `SET LOCAL` (ends with the transaction), `SET` (undone when its transaction or
//! savepoint rolls back), the default (the start-up packet's value, or the server's). The layers are shared maps, so
//! that a savepoint is two pointers.
//!
//! The few settings that statements consult are kept decoded in [`Effective`], recomputed when a layer changes.

pub(crate) mod staleness;
mod table;
pub(crate) mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_datum::{DateStyle, SqlError, SqlState, TimeZone};

pub use table::SERVER_VERSION;
use table::{Access, SETTINGS, Setting};
use value::Unit;
pub(crate) use value::parse_bool;

use staleness::Staleness;

type Layer = BTreeMap<String, Arc<str>>;

/// The values of a session.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    defaults: Arc<Layer>,
    session: Arc<Layer>,
    local: Arc<Layer>,
    effective: Arc<Effective>,
    /// Counts changes.
    generation: u64,
    /// Values that the client was last told.
    told: BTreeMap<&'static str, Arc<str>>,
    /// The generation at which it was told.
    told_generation: u64,
}

/// A point to go back to.
#[derive(Clone, Debug)]
pub(crate) struct SettingsMark {
    session: Arc<Layer>,
    local: Arc<Layer>,
}

/// The settings that statements consult, decoded.
#[derive(Clone, Debug)]
pub(crate) struct Effective {
    /// `TimeZone`
    pub(crate) time_zone: TimeZone,
    /// `DateStyle`
    pub(crate) date_style: DateStyle,
    /// `search_path`, `$user` left in.
    pub(crate) search_path: Vec<String>,
    /// `statement_timeout`; `None` when 0.
    pub(crate) statement_timeout: Option<std::time::Duration>,
    /// `lock_timeout`; `None` when 0.
    pub(crate) lock_timeout: Option<std::time::Duration>,
    /// `idle_in_transaction_session_timeout`; `None` when 0.
    pub(crate) idle_in_transaction_timeout: Option<std::time::Duration>,
    /// `idle_session_timeout`; `None` when 0.
    pub(crate) idle_session_timeout: Option<std::time::Duration>,
    /// `statement_memory_limit` in bytes.
    pub(crate) memory_limit: usize,
    /// `hedged_reads`
    pub(crate) hedged_reads: bool,
    /// `transparent_retries`
    pub(crate) transparent_retries: bool,
    /// `transparent_retry_limit` in bytes.
    pub(crate) transparent_retry_limit: usize,
    /// `copy_retry_limit` in bytes.
    pub(crate) copy_retry_limit: usize,
    /// `default_transaction_read_only`
    pub(crate) default_read_only: bool,
    /// `default_transaction_isolation`
    pub(crate) default_isolation: Arc<str>,
    /// `read_staleness` or `spanner.read_only_staleness`, whichever is not strong.
    pub(crate) staleness: Staleness,
    /// `shards_per_table`
    pub(crate) shards_per_table: usize,
    /// `schema_change_mode` is `async`.
    pub(crate) defers_schema_changes: bool,
    /// `client_min_messages` lets NOTICE through.
    pub(crate) sends_notices: bool,
    /// `client_min_messages` lets WARNING through.
    pub(crate) sends_warnings: bool,
}

fn unknown(name: &str) -> SqlError {
    SqlError::new(SqlState::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""))
}

/// Placeholders: any two-part name may be set, as in PostgreSQL.
fn is_custom(name: &str) -> bool {
    let Some((class, rest)) = name.split_once('.') else { return false };
    let is_word = |s: &str| {
        s.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'$')
    };
    is_word(class) && rest.split('.').all(is_word)
}

fn refuse(setting: &Setting) -> SqlError {
    let message = match setting.access {
        Access::Internal => format!("parameter \"{}\" cannot be changed", setting.name),
        _ => format!("parameter \"{}\" cannot be changed without restarting the server", setting.name),
    };
    SqlError::new(SqlState::CANT_CHANGE_RUNTIME_PARAM, message)
}

impl Settings {
    /// The settings of a session whose start-up packet said `startup`; names not known there are ignored, since
    /// drivers send their own.
    pub(crate) fn new(
        user: &str,
        server: &[(String, String)],
        startup: &[(String, String)],
    ) -> Result<Self, SqlError> {
        let mut defaults = Layer::new();
        defaults.insert("session_authorization".to_owned(), user.into());
        for (name, value) in server {
            let setting = table::find(name).ok_or_else(|| unknown(name))?;
            let normal = setting.kind.normalise(setting.name, value, setting.default)?;
            defaults.insert(setting.name.to_owned(), normal.into());
        }
        for (name, value) in startup {
            Self::start_value(&mut defaults, name, value)?;
        }
        let empty: Arc<Layer> = Arc::default();
        let mut settings = Settings {
            defaults: Arc::new(defaults),
            session: empty.clone(),
            local: empty,
            effective: Arc::new(Effective::initial()),
            generation: 0,
            told: BTreeMap::new(),
            told_generation: 0,
        };
        settings.recompute();
        settings.changed_reports();
        Ok(settings)
    }

    fn start_value(defaults: &mut Layer, name: &str, value: &str) -> Result<(), SqlError> {
        if name.eq_ignore_ascii_case("options") {
            for (name, value) in parse_options(value) {
                Self::start_value(defaults, &name, &value)?;
            }
            return Ok(());
        }
        match table::find(name) {
            Some(s) if s.access != Access::User => Err(refuse(s)),
            Some(s) => {
                let current = defaults.get(s.name).map_or(s.default, |v| &**v);
                let normal = s.kind.normalise(s.name, value, current)?;
                defaults.insert(s.name.to_owned(), normal.into());
                Ok(())
            }
            None if is_custom(name) => {
                defaults.insert(name.to_ascii_lowercase(), value.into());
                Ok(())
            }
            None => Err(unknown(name)),
        }
    }

    /// The decoded values.
    pub(crate) fn effective(&self) -> &Arc<Effective> {
        &self.effective
    }

    fn lookup(&self, name: &str) -> Option<&Arc<str>> {
        self.local.get(name).or_else(|| self.session.get(name)).or_else(|| self.defaults.get(name))
    }

    /// The value that `SHOW` prints, and the name in its canonical spelling.
    pub(crate) fn show(&self, name: &str) -> Result<(String, Arc<str>), SqlError> {
        if let Some(s) = table::find(name) {
            let value = self.lookup(s.name).cloned().unwrap_or_else(|| s.default.into());
            return Ok((s.name.to_owned(), value));
        }
        let lower = name.to_ascii_lowercase();
        match self.lookup(&lower) {
            Some(v) => Ok((lower, v.clone())),
            None => Err(unknown(name)),
        }
    }

    /// The value of a setting of the table.
    fn value(&self, name: &'static str) -> Arc<str> {
        self.show(name).expect("a setting of the table").1
    }

    /// All settings with their values, for `SHOW ALL` and `pg_settings`.
    pub(crate) fn all(&self) -> Vec<(String, String)> {
        SETTINGS.iter().map(|s| (s.name.to_owned(), self.value(s.name).to_string())).collect()
    }

    /// `SET [LOCAL] name = value`; `None` is `TO DEFAULT`, which is RESET.
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>, is_local: bool) -> Result<(), SqlError> {
        let (key, normal) = match table::find(name) {
            Some(s) if s.access != Access::User => return Err(refuse(s)),
            Some(s) => {
                let normal = match value {
                    Some(v) => Some(s.kind.normalise(s.name, v, &self.value(s.name))?),
                    None => None,
                };
                (s.name.to_owned(), normal)
            }
            None if is_custom(name) => (name.to_ascii_lowercase(), value.map(str::to_owned)),
            None => return Err(unknown(name)),
        };
        let default = || -> Arc<str> {
            let initial = table::find(&key).map_or("", |s| s.default);
            self.defaults.get(&key).cloned().unwrap_or_else(|| initial.into())
        };
        if is_local {
            let value = normal.map_or_else(default, Into::into);
            Arc::make_mut(&mut self.local).insert(key, value);
        } else {
            if self.local.contains_key(&key) {
                Arc::make_mut(&mut self.local).remove(&key);
            }
            match normal {
                Some(v) => Arc::make_mut(&mut self.session).insert(key, v.into()),
                None => Arc::make_mut(&mut self.session).remove(&key),
            };
        }
        self.recompute();
        Ok(())
    }

    /// `RESET ALL`.
    pub(crate) fn reset_all(&mut self) {
        self.session = Arc::default();
        self.local = Arc::default();
        self.recompute();
    }

    /// Where a transaction or savepoint begins.
    pub(crate) fn mark(&self) -> SettingsMark {
        SettingsMark { session: self.session.clone(), local: self.local.clone() }
    }

    /// Goes back to a mark.
    pub(crate) fn restore(&mut self, mark: &SettingsMark) {
        if Arc::ptr_eq(&self.session, &mark.session) && Arc::ptr_eq(&self.local, &mark.local) {
            return;
        }
        self.session = mark.session.clone();
        self.local = mark.local.clone();
        self.recompute();
    }

    /// A transaction ends: `SET LOCAL` is forgotten.
    pub(crate) fn end_transaction(&mut self) {
        if !self.local.is_empty() {
            self.local = Arc::default();
            self.recompute();
        }
    }

    /// The reported settings, for start-up.
    pub(crate) fn reported(&self) -> Vec<(&'static str, Arc<str>)> {
        SETTINGS.iter().filter(|s| s.reported).map(|s| (s.name, self.value(s.name))).collect()
    }

    /// Reported settings that changed since this was last called.
    pub(crate) fn changed_reports(&mut self) -> Vec<(&'static str, Arc<str>)> {
        if self.told_generation == self.generation {
            return Vec::new();
        }
        self.told_generation = self.generation;
        let mut changed = self.reported();
        changed.retain(|(name, value)| self.told.get(name) != Some(value));
        for (name, value) in &changed {
            self.told.insert(name, value.clone());
        }
        changed
    }

    /// Counts changes: equal generations of one session mean equal values.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    fn recompute(&mut self) {
        self.generation += 1;
        let timeout = |name| {
            let millis = value::parse_int(&self.value(name), Unit::Milliseconds).unwrap_or(0).max(0) as u64;
            (millis > 0).then(|| std::time::Duration::from_millis(millis))
        };
        let mut staleness = staleness::parse(&self.value("read_staleness")).unwrap_or_default();
        if staleness == Staleness::Strong {
            staleness =
                staleness::parse_spanner(&self.value("spanner.read_only_staleness")).unwrap_or_default();
        }
        let bytes = |name| {
            let kilobytes = value::parse_int(&self.value(name), Unit::Kilobytes).unwrap_or(0);
            usize::try_from(kilobytes).unwrap_or(0).saturating_mul(1024)
        };
        let level = self.value("client_min_messages");
        self.effective = Arc::new(Effective {
            time_zone: value::time_zone(&self.value("TimeZone")).unwrap_or_default(),
            date_style: value::date_style(&self.value("DateStyle")),
            search_path: split_list(&self.value("search_path")),
            statement_timeout: timeout("statement_timeout"),
            lock_timeout: timeout("lock_timeout"),
            idle_in_transaction_timeout: timeout("idle_in_transaction_session_timeout"),
            idle_session_timeout: timeout("idle_session_timeout"),
            memory_limit: bytes("statement_memory_limit"),
            hedged_reads: &*self.value("hedged_reads") == "on",
            transparent_retries: &*self.value("transparent_retries") == "on",
            transparent_retry_limit: bytes("transparent_retry_limit"),
            copy_retry_limit: bytes("copy_retry_limit"),
            default_read_only: &*self.value("default_transaction_read_only") == "on",
            default_isolation: self.value("default_transaction_isolation"),
            staleness,
            shards_per_table: self.value("shards_per_table").parse().unwrap_or(0),
            defers_schema_changes: &*self.value("schema_change_mode") == "async",
            sends_notices: !matches!(&*level, "warning" | "error" | "fatal" | "panic"),
            sends_warnings: !matches!(&*level, "error" | "fatal" | "panic"),
        });
    }
}

impl Effective {
    fn initial() -> Self {
        Effective {
            time_zone: TimeZone::Utc,
            date_style: DateStyle::default(),
            search_path: Vec::new(),
            statement_timeout: None,
            lock_timeout: None,
            idle_in_transaction_timeout: None,
            idle_session_timeout: None,
            memory_limit: 0,
            hedged_reads: true,
            transparent_retries: true,
            transparent_retry_limit: 0,
            copy_retry_limit: 0,
            default_read_only: false,
            default_isolation: "serializable".into(),
            staleness: Staleness::Strong,
            shards_per_table: 0,
            defers_schema_changes: false,
            sends_notices: true,
            sends_warnings: true,
        }
    }
}

/// The elements of a list of identifiers: `"$user", public`.
pub(crate) fn split_list(list: &str) -> Vec<String> {
    list.split(',')
        .map(|s| {
            let s = s.trim();
            match s.strip_prefix('"').and_then(|s| s.strip_suffix('"')) {
                Some(quoted) => quoted.replace("\"\"", "\""),
                None => s.trim_matches('\'').to_ascii_lowercase(),
            }
        })
        .filter(|s| !s.is_empty())
        .collect()
}

/// `-c name=value --name=value`, as libpq's `options` has them; a backslash quotes a blank.
fn parse_options(options: &str) -> Vec<(String, String)> {
    let mut words: Vec<String> = vec![String::new()];
    let mut chars = options.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => words.last_mut().expect("never empty").extend(chars.next()),
            c if c.is_whitespace() => words.push(String::new()),
            c => words.last_mut().expect("never empty").push(c),
        }
    }
    let mut out = Vec::new();
    let mut words = words.into_iter().filter(|w| !w.is_empty());
    while let Some(word) = words.next() {
        let assignment = if word == "-c" {
            words.next().unwrap_or_default()
        } else if let Some(rest) = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            rest.to_owned()
        } else {
            continue;
        };
        if let Some((name, value)) = assignment.split_once('=') {
            out.push((name.replace('-', "_"), value.to_owned()));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::new("root", &[], &[("application_name".into(), "psql".into())]).unwrap()
    }

    #[test]
    fn values_are_normalised_as_postgresql_shows_them() {
        let mut s = settings();
        for (name, value, shown) in [
            ("statement_timeout", "1500", "1500ms"),
            ("statement_timeout", "2000", "2s"),
            ("statement_timeout", "1min", "1min"),
            ("statement_timeout", "0", "0"),
            ("work_mem", "8192", "8MB"),
            ("effective_cache_size", "524288", "4GB"),
            ("enable_seqscan", "FALSE", "off"),
            ("enable_seqscan", "y", "on"),
            ("DATESTYLE", "iso, mdy", "ISO, MDY"),
            ("DateStyle", "sql, dmy", "SQL, DMY"),
            ("DateStyle", "postgres", "Postgres, DMY"),
            ("extra_float_digits", "3", "3"),
            ("myapp.user_id", "42", "42"),
            ("client_min_messages", "WARNING", "warning"),
        ] {
            s.set(name, Some(value), false).unwrap();
            assert_eq!(&*s.show(name).unwrap().1, shown, "{name} = {value}");
        }
    }

    #[test]
    fn wrong_names_and_values_are_refused() {
        let mut s = settings();
        for (name, value, code) in [
            ("nonsense", "1", "42704"),
            ("server_version", "16", "55P02"),
            ("max_connections", "16", "55P02"),
            ("work_mem", "1 lightyear", "22023"),
            ("extra_float_digits", "9", "22023"),
            ("enable_seqscan", "maybe", "22023"),
            ("standard_conforming_strings", "off", "0A000"),
            ("TimeZone", "Mars/Olympus", "22023"),
            ("DateStyle", "mdy, dmy", "22023"),
        ] {
            let e = s.set(name, Some(value), false).unwrap_err();
            assert_eq!(e.state.code(), code, "{name} = {value}: {e}");
        }
    }

    #[test]
    fn local_ends_with_the_transaction_and_set_is_undone_by_rollback() {
        let mut s = settings();
        let begin = s.mark();
        s.set("work_mem", Some("1MB"), false).unwrap();
        s.set("work_mem", Some("2MB"), true).unwrap();
        assert_eq!(&*s.show("work_mem").unwrap().1, "2MB");
        s.end_transaction();
        assert_eq!(&*s.show("work_mem").unwrap().1, "1MB");
        s.restore(&begin);
        assert_eq!(&*s.show("work_mem").unwrap().1, "4MB");
    }

    #[test]
    fn the_startup_packet_gives_defaults() {
        let startup = [("options".to_owned(), r"-c search_path=a\ b,public --enable-seqscan=off".to_owned())];
        let mut s = Settings::new("app", &[], &startup).unwrap();
        assert_eq!(s.effective().search_path, ["a b", "public"]);
        s.set("enable_seqscan", Some("on"), false).unwrap();
        s.set("enable_seqscan", None, false).unwrap();
        assert_eq!(&*s.show("enable_seqscan").unwrap().1, "off");
        assert_eq!(&*s.show("session_authorization").unwrap().1, "app");
    }

    #[test]
    fn only_changes_are_reported() {
        let mut s = settings();
        assert!(s.changed_reports().is_empty());
        s.set("application_name", Some("x"), false).unwrap();
        s.set("work_mem", Some("1MB"), false).unwrap();
        assert_eq!(s.changed_reports(), [("application_name", Arc::from("x"))]);
    }
}

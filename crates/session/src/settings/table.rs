//! Every setting that the database knows, with its default.
//!
//! Most exist because drivers, poolers and dump tools send them before their first statement and give up on an error.
//! Those that change what this database does are marked [`Effect::Typed`] or handled by name in the session; the
//! others are remembered and shown, which is all that PostgreSQL's clients observe of them too.

use super::value::{Kind, Unit};

/// Who may change a setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// `SET` at any time.
    User,
    /// Never (55P02): a property of the server.
    Internal,
    /// Not after the server has started (55P02).
    Server,
}

/// A setting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// The name as `SHOW ALL` spells it.
    pub name: &'static str,
    /// Its initial value, normalised.
    pub default: &'static str,
    /// Which values it takes.
    pub kind: Kind,
    /// Who may change it.
    pub access: Access,
    /// Told to the client in ParameterStatus when it changes.
    pub reported: bool,
}

const fn user(name: &'static str, default: &'static str, kind: Kind) -> Setting {
    Setting { name, default, kind, access: Access::User, reported: false }
}

const fn reported(name: &'static str, default: &'static str, kind: Kind) -> Setting {
    Setting { name, default, kind, access: Access::User, reported: true }
}

const fn internal(name: &'static str, default: &'static str) -> Setting {
    Setting { name, default, kind: Kind::Text, access: Access::Internal, reported: false }
}

const fn internal_reported(name: &'static str, default: &'static str) -> Setting {
    Setting { name, default, kind: Kind::Text, access: Access::Internal, reported: true }
}

const fn server(name: &'static str, default: &'static str) -> Setting {
    Setting { name, default, kind: Kind::Text, access: Access::Server, reported: false }
}

const B: Kind = Kind::Bool;
const T: Kind = Kind::Text;
const R: Kind = Kind::Real;
const N: Kind = Kind::Int { min: i64::MIN, max: i64::MAX, unit: Unit::None };
const MS: Kind = Kind::Int { min: 0, max: i32::MAX as i64, unit: Unit::Milliseconds };
const SIGNED_MS: Kind = Kind::Int { min: -1, max: i32::MAX as i64, unit: Unit::Milliseconds };
const SECONDS: Kind = Kind::Int { min: 0, max: i32::MAX as i64, unit: Unit::Seconds };
const KB: Kind = Kind::Int { min: 0, max: i32::MAX as i64, unit: Unit::Kilobytes };
const PAGES: Kind = Kind::Int { min: 0, max: i32::MAX as i64, unit: Unit::Pages };

const LEVELS: Kind = Kind::Enum(&[
    "debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error", "fatal", "panic",
    "info",
]);
const ISOLATION: Kind =
    Kind::Enum(&["serializable", "repeatable read", "read committed", "read uncommitted"]);

/// The version that clients are told: the wire protocol, catalog and dialect are PostgreSQL 15's.
pub const SERVER_VERSION: &str = "15.0";

/// All settings, sorted by name without regard to case.
pub(crate) static SETTINGS: &[Setting] = &[
    user("allow_in_place_tablespaces", "off", B),
    reported("application_name", "", T),
    user("array_nulls", "on", B),
    user("backend_flush_after", "0", PAGES),
    user("backslash_quote", "safe_encoding", Kind::Enum(&["safe_encoding", "on", "off"])),
    internal("block_size", "8192"),
    user("bytea_output", "hex", Kind::Enum(&["hex", "escape"])),
    user("check_function_bodies", "on", B),
    reported("client_encoding", "UTF8", Kind::Encoding),
    user("client_min_messages", "notice", LEVELS),
    user("commit_delay", "0", N),
    user("commit_siblings", "5", N),
    user("compute_query_id", "auto", Kind::Enum(&["auto", "on", "off", "regress"])),
    user("constraint_exclusion", "partition", Kind::Enum(&["partition", "on", "off"])),
    user("copy_retry_limit", "64MB", KB),
    user("cpu_index_tuple_cost", "0.005", R),
    user("cpu_operator_cost", "0.0025", R),
    user("cpu_tuple_cost", "0.01", R),
    user("cursor_tuple_fraction", "0.1", R),
    internal("data_checksums", "on"),
    reported("DateStyle", "ISO, MDY", Kind::DateStyle),
    user("deadlock_timeout", "1s", MS),
    internal("debug_assertions", "off"),
    user("debug_print_parse", "off", B),
    user("debug_print_plan", "off", B),
    user("debug_print_rewritten", "off", B),
    user("default_statistics_target", "100", N),
    user("default_table_access_method", "heap", T),
    user("default_tablespace", "", T),
    user("default_text_search_config", "pg_catalog.english", T),
    user("default_toast_compression", "pglz", T),
    user("default_transaction_deferrable", "off", B),
    user("default_transaction_isolation", "serializable", ISOLATION),
    reported("default_transaction_read_only", "off", B),
    user("default_with_oids", "off", B),
    user("effective_cache_size", "4GB", PAGES),
    user("effective_io_concurrency", "1", N),
    user("enable_async_append", "on", B),
    user("enable_bitmapscan", "on", B),
    user("enable_gathermerge", "on", B),
    user("enable_hashagg", "on", B),
    user("enable_hashjoin", "on", B),
    user("enable_incremental_sort", "on", B),
    user("enable_indexonlyscan", "on", B),
    user("enable_indexscan", "on", B),
    user("enable_material", "on", B),
    user("enable_memoize", "on", B),
    user("enable_mergejoin", "on", B),
    user("enable_nestloop", "on", B),
    user("enable_parallel_append", "on", B),
    user("enable_parallel_hash", "on", B),
    user("enable_partition_pruning", "on", B),
    user("enable_partitionwise_aggregate", "off", B),
    user("enable_partitionwise_join", "off", B),
    user("enable_seqscan", "on", B),
    user("enable_sort", "on", B),
    user("enable_tidscan", "on", B),
    user("escape_string_warning", "on", B),
    user("exit_on_error", "off", B),
    user("extra_float_digits", "1", Kind::Int { min: -15, max: 3, unit: Unit::None }),
    user("force_parallel_mode", "off", Kind::Enum(&["off", "on", "regress"])),
    user("from_collapse_limit", "8", N),
    user("geqo", "on", B),
    user("geqo_threshold", "12", N),
    user("gin_fuzzy_search_limit", "0", N),
    user("hash_mem_multiplier", "2", R),
    user("hedged_reads", "on", B),
    user("idle_in_transaction_session_timeout", "0", MS),
    user("idle_session_timeout", "0", MS),
    internal_reported("in_hot_standby", "off"),
    internal_reported("integer_datetimes", "on"),
    reported(
        "IntervalStyle",
        "postgres",
        Kind::Enum(&["postgres", "postgres_verbose", "sql_standard", "iso_8601"]),
    ),
    internal_reported("is_superuser", "on"),
    user("jit", "off", B),
    user("join_collapse_limit", "8", N),
    internal("lc_collate", "C"),
    internal("lc_ctype", "C.UTF-8"),
    user("lc_messages", "C", T),
    user("lc_monetary", "C", T),
    user("lc_numeric", "C", T),
    user("lc_time", "C", T),
    server("listen_addresses", "*"),
    user("lo_compat_privileges", "off", B),
    user("lock_timeout", "0", MS),
    user("log_duration", "off", B),
    user("log_error_verbosity", "default", Kind::Enum(&["terse", "default", "verbose"])),
    user("log_lock_waits", "off", B),
    user("log_min_duration_statement", "-1", SIGNED_MS),
    user("log_min_error_statement", "error", LEVELS),
    user("log_min_messages", "warning", LEVELS),
    user("log_statement", "none", Kind::Enum(&["none", "ddl", "mod", "all"])),
    user("log_temp_files", "-1", N),
    user("logical_decoding_work_mem", "64MB", KB),
    user("maintenance_io_concurrency", "10", N),
    user("maintenance_work_mem", "64MB", KB),
    server("max_connections", "10000"),
    internal("max_function_args", "100"),
    internal("max_identifier_length", "63"),
    internal("max_index_keys", "32"),
    user("max_parallel_maintenance_workers", "2", N),
    user("max_parallel_workers", "8", N),
    user("max_parallel_workers_per_gather", "2", N),
    server("max_prepared_transactions", "0"),
    user("max_stack_depth", "2MB", KB),
    user("min_parallel_index_scan_size", "512kB", PAGES),
    user("min_parallel_table_scan_size", "8MB", PAGES),
    user("parallel_leader_participation", "on", B),
    user("parallel_setup_cost", "1000", R),
    user("parallel_tuple_cost", "0.1", R),
    user("password_encryption", "scram-sha-256", Kind::Enum(&["scram-sha-256", "md5"])),
    user("plan_cache_mode", "auto", Kind::Enum(&["auto", "force_generic_plan", "force_custom_plan"])),
    server("port", "5432"),
    user("quote_all_identifiers", "off", B),
    user("random_page_cost", "4", R),
    user("read_staleness", "strong", Kind::Staleness),
    user("role", "none", T),
    user("row_security", "on", B),
    user("schema_change_mode", "sync", Kind::Enum(&["sync", "async"])),
    user("schema_change_mode", "blocking", Kind::Enum(&["blocking", "async"])),
    user("search_path", "\"$user\", public", Kind::List),
    user("seed", "unavailable", T),
    user("seq_page_cost", "1", R),
    internal_reported("server_encoding", "UTF8"),
    internal_reported("server_version", SERVER_VERSION),
    internal("server_version_num", "150000"),
    reported("session_authorization", "root", T),
    user("session_replication_role", "origin", Kind::Enum(&["origin", "replica", "local"])),
    user("shards_per_table", "0", Kind::Int { min: 0, max: 1024, unit: Unit::None }),
    user("spanner.read_only_staleness", "STRONG", Kind::SpannerStaleness),
    server("ssl", "off"),
    reported("standard_conforming_strings", "on", Kind::OnlyOn),
    user("statement_memory_limit", "256MB", KB),
    user("statement_timeout", "0", MS),
    user("synchronize_seqscans", "on", B),
    user("synchronous_commit", "on", Kind::Enum(&["local", "remote_write", "remote_apply", "on", "off"])),
    user("tcp_keepalives_count", "0", N),
    user("tcp_keepalives_idle", "0", SECONDS),
    user("tcp_keepalives_interval", "0", SECONDS),
    user("tcp_user_timeout", "0", MS),
    user("temp_buffers", "8MB", PAGES),
    user("temp_tablespaces", "", T),
    reported("TimeZone", "UTC", Kind::TimeZone),
    user("timezone_abbreviations", "Default", T),
    user("trace_notify", "off", B),
    user("track_activities", "on", B),
    user("track_counts", "on", B),
    user("track_functions", "none", Kind::Enum(&["none", "pl", "all"])),
    user("track_io_timing", "off", B),
    user("transaction_deferrable", "off", B),
    user("transaction_isolation", "serializable", ISOLATION),
    user("transaction_read_only", "off", B),
    user("transform_null_equals", "off", Kind::OnlyOff),
    user("transparent_retries", "on", B),
    user("transparent_retry_limit", "1MB", KB),
    user("vacuum_cost_delay", "0", N),
    user("vacuum_cost_limit", "200", N),
    user("vacuum_freeze_min_age", "50000000", N),
    user("vacuum_freeze_table_age", "150000000", N),
    server("wal_level", "replica"),
    user("work_mem", "4MB", KB),
    user("xmlbinary", "base64", Kind::Enum(&["base64", "hex"])),
    user("xmloption", "content", Kind::Enum(&["content", "document"])),
];

/// The setting of this name, without regard to case.
pub(crate) fn find(name: &str) -> Option<&'static Setting> {
    // Old spellings that clients still send.
    let name = if name.eq_ignore_ascii_case("time zone") { "TimeZone" } else { name };
    SETTINGS.iter().find(|s| s.name.eq_ignore_ascii_case(name))
}

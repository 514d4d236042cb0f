//! The configuration file: a TOML table whose keys are flags.
//!
//! Precedence is flag, then `MERIDIAN_*` variable, then file. The file's keys become flags in front of the user's own,
//! unless the variable is set; later flags win over earlier ones.

use std::ffi::OsString;
use std::path::PathBuf;

/// Why a configuration file is of no use.
#[derive(Debug)]
pub(crate) enum ConfigError {
    Unreadable { path: PathBuf, error: std::io::Error },
    Malformed { path: PathBuf, error: String },
    BadValue { path: PathBuf, key: String },
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ConfigError::Unreadable { path, error } => write!(f, "cannot read {}: {error}", path.display()),
            ConfigError::Malformed { path, error } => write!(f, "{}: {error}", path.display()),
            ConfigError::BadValue { path, key } => {
                write!(
                    f,
                    "{}: {key} must be a string, a number, a boolean or a list of strings",
                    path.display()
                )
            }
        }
    }
}

/// The command line with the file's flags put in.
pub(crate) fn expand(args: Vec<OsString>) -> Result<Vec<OsString>, ConfigError> {
    let Some(path) = config_path(&args) else { return Ok(args) };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => return Err(ConfigError::Unreadable { path, error }),
    };
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => {
            let error: toml::de::Error = error;
            return Err(ConfigError::Malformed { path, error: error.message().to_string() });
        }
    };
    let mut flags = Vec::new();
    for (key, value) in table {
        let variable = format!("MERIDIAN_{}", key.to_uppercase().replace('-', "_"));
        if std::env::var_os(&variable).is_some() {
            continue;
        }
        let flag = format!("--{}", key.replace('_', "-"));
        match flag_value(&value) {
            Some(None) => flags.push(flag.into()),
            Some(Some(text)) if text == "false" && value.is_bool() => {}
            Some(Some(text)) => flags.extend([flag.into(), OsString::from(text)]),
            None => return Err(ConfigError::BadValue { path, key }),
        }
    }
    // After the program and the subcommand, before the user's flags.
    let at = args.len().min(2);
    let mut expanded = args[..at].to_vec();
    expanded.extend(flags);
    expanded.extend_from_slice(&args[at..]);
    Ok(expanded)
}

/// `None` for a value no flag can have; `Some(None)` for a switch that is on.
fn flag_value(value: &toml::Value) -> Option<Option<String>> {
    match value {
        toml::Value::String(text) => Some(Some(text.clone())),
        toml::Value::Integer(n) => Some(Some(n.to_string())),
        toml::Value::Float(x) => Some(Some(x.to_string())),
        toml::Value::Boolean(true) => Some(None),
        toml::Value::Boolean(false) => Some(Some("false".into())),
        toml::Value::Array(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
            Some(Some(texts?.join(",")))
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

fn config_path(args: &[OsString]) -> Option<PathBuf> {
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--config" {
            return rest.next().map(PathBuf::from);
        }
        if let Some(path) = arg.to_str().and_then(|a| a.strip_prefix("--config=")) {
            return Some(path.into());
        }
    }
    std::env::var_os("MERIDIAN_CONFIG").map(PathBuf::from)
}

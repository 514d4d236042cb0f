//! Latency tables: round trips between regions for the demo.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use meridian_rpc::LatencyTable;
use serde::Deserialize;

use crate::ServerError;

/// The built-in table of `--latency world`.
const WORLD: &str = include_str!("../../../deploy/latency-world.toml");

/// Which latencies a demo has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Latency {
    /// Those of the machine.
    None,
    /// Those of the world.
    World,
    /// Those of a file.
    File(PathBuf),
}

impl FromStr for Latency {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "none" => Latency::None,
            "world" => Latency::World,
            path => Latency::File(path.into()),
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    regions: Vec<String>,
    #[serde(default)]
    local_ms: f64,
    #[serde(default)]
    pair: Vec<Pair>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    between: [String; 2],
    ms: f64,
}

impl Latency {
    /// The table, and the regions that it names.
    ///
    /// # Errors
    /// The file can't be read, or is no such table.
    pub(crate) fn load(&self) -> Result<(LatencyTable, Vec<String>), ServerError> {
        let (name, text) = match self {
            Latency::None => return Ok((LatencyTable::none(), vec!["local".into()])),
            Latency::World => ("world".to_string(), WORLD.to_string()),
            Latency::File(path) => {
                let name = path.display().to_string();
                match std::fs::read_to_string(path) {
                    Ok(text) => (name, text),
                    Err(error) => return Err(ServerError::Latency { name, detail: error.to_string() }),
                }
            }
        };
        parse(&text).map_err(|detail| ServerError::Latency { name, detail })
    }
}

fn parse(text: &str) -> Result<(LatencyTable, Vec<String>), String> {
    let table: Table = toml::from_str(text).map_err(|e| e.message().to_string())?;
    let mut latencies = LatencyTable::none();
    for region in &table.regions {
        latencies.set(region, region, one_way(table.local_ms)?);
    }
    for Pair { between: [a, b], ms } in &table.pair {
        for region in [a, b] {
            if !table.regions.contains(region) {
                return Err(format!("region '{region}' is not listed"));
            }
        }
        latencies.set(a, b, one_way(*ms)?);
    }
    Ok((latencies, table.regions))
}

/// Half of a round trip.
fn one_way(ms: f64) -> Result<Duration, String> {
    if (0.0..=10_000.0).contains(&ms) {
        Ok(Duration::from_secs_f64(ms / 2_000.0))
    } else {
        Err(format!("{ms} ms is not a round trip"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_world_is_complete() {
        let (table, regions) = Latency::World.load().unwrap();
        assert!(regions.len() >= 3);
        for a in &regions {
            for b in &regions {
                assert!(table.get(a, b) > Duration::ZERO, "no latency between {a} and {b}");
            }
        }
        assert_eq!(table.get("us-east", "europe-west"), Duration::from_millis(43));
    }

    #[test]
    fn mistakes_are_named() {
        assert!(
            parse("regions = ['a']\n[[pair]]\nbetween = ['a', 'b']\nms = 1").unwrap_err().contains("'b'")
        );
        assert!(parse("regions = ['a']\nlocal_ms = -1").is_err());
        assert!(parse("regions = ['a']\nspeed = 1").is_err());
    }
}

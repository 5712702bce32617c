//! The Hive metastore that is told of the archive's hours.

use std::fmt;

use serde::Deserialize;

use super::location::is_host;
use super::problems::Problems;

/// `[hive]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HiveSettings {
    /// Where it serves; nothing is registered without it.
    pub metastore: Option<MetastoreLocation>,
    /// The database of the tables.
    pub database: String,
}

/// `thrift://host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct MetastoreLocation {
    /// `host:port`.
    pub address: String,
}

const METASTORES: &str = "allowed: thrift://HOST:PORT";

impl TryFrom<String> for MetastoreLocation {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let host = text.strip_prefix("thrift://").ok_or(METASTORES)?.trim_end_matches('/');
        if is_host(host, true) { Ok(Self { address: host.to_owned() }) } else { Err(METASTORES) }
    }
}

impl fmt::Display for MetastoreLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thrift://{}", self.address)
    }
}

impl Default for HiveSettings {
    fn default() -> Self {
        Self { metastore: None, database: "traffic".to_owned() }
    }
}

impl HiveSettings {
    pub(super) fn validate(&self, problems: &mut Problems) {
        let name = &self.database;
        let fits = (1..=128).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        problems.require(fits, "hive.database", name, "1 to 128 of the characters a-z 0-9 _");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metastore_is_one_host_and_port() {
        let location = |text: &str| MetastoreLocation::try_from(text.to_owned());
        assert_eq!(location("thrift://hive:9083").map(|l| l.address), Ok("hive:9083".to_owned()));
        assert_eq!(location("thrift://hive:9083/").map(|l| l.to_string()), Ok("thrift://hive:9083".to_owned()));
        for text in ["hive:9083", "thrift://hive", "thrift://a:1,thrift://b:1", "http://hive:9083", "thrift://"] {
            assert_eq!(location(text), Err(METASTORES), "{text}");
        }
    }
}

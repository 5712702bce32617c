//! Where the topics and the files live. A location is taken literally: it never becomes another kind.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

/// Where the topics live.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum LogLocation {
    /// One file on this host: `sqlite:traffic.db`, `sqlite:///var/lib/traffic.db`.
    Sqlite(PathBuf),
    /// `kafka://host:9092,host2:9092`: bootstrap servers, `host:port` each.
    Kafka(Vec<String>),
}

/// Where files live.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum StoreLocation {
    /// A directory on this host: `file:traffic-store`, `file:///var/lib/traffic`.
    Directory(PathBuf),
    /// `hdfs://namenode:9000`, or the name of an HA service.
    Hdfs(String),
}

impl Default for LogLocation {
    fn default() -> Self {
        Self::Sqlite(PathBuf::from("traffic.db"))
    }
}

impl Default for StoreLocation {
    fn default() -> Self {
        Self::Directory(PathBuf::from("traffic-store"))
    }
}

const LOGS: &str = "allowed: sqlite:FILE, or kafka://HOST:PORT[,HOST:PORT…]";
const STORES: &str = "allowed: file:DIRECTORY, file:///DIRECTORY, or hdfs://HOST:PORT";

impl TryFrom<String> for LogLocation {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if let Some(file) = text.strip_prefix("sqlite:") {
            return path(file).map(Self::Sqlite).ok_or(LOGS);
        }
        let servers = text.strip_prefix("kafka://").ok_or(LOGS)?.trim_end_matches('/');
        let servers: Vec<String> = servers.split(',').map(|s| s.trim().to_owned()).collect();
        if servers.iter().all(|server| is_host(server, true)) { Ok(Self::Kafka(servers)) } else { Err(LOGS) }
    }
}

impl TryFrom<String> for StoreLocation {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if let Some(directory) = text.strip_prefix("file:") {
            return path(directory).map(Self::Directory).ok_or(STORES);
        }
        let host = text.strip_prefix("hdfs://").ok_or(STORES)?.trim_end_matches('/');
        if is_host(host, false) { Ok(Self::Hdfs(format!("hdfs://{host}"))) } else { Err(STORES) }
    }
}

/// `REL`, `/ABS` or `///ABS`. `//X` is refused: in a URL X would be a host, and people mean either.
pub(super) fn path(text: &str) -> Option<PathBuf> {
    let text = text.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(text);
    (!text.is_empty() && !text.starts_with("//")).then(|| PathBuf::from(text))
}

/// `HOST`, `HOST:PORT` or `[IPv6]:PORT`, with no path and no user.
pub(super) fn is_host(text: &str, needs_port: bool) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host_fits = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')),
    };
    host_fits && port.map_or(!needs_port, |port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

impl fmt::Display for LogLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => write!(f, "sqlite:{}", file.display()),
            Self::Kafka(servers) => write!(f, "kafka://{}", servers.join(",")),
        }
    }
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(directory) => write!(f, "file:{}", directory.display()),
            Self::Hdfs(url) => f.write_str(url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs() {
        let sqlite = |p: &str| Ok(LogLocation::Sqlite(PathBuf::from(p)));
        let kafka = |s: &[&str]| Ok(LogLocation::Kafka(s.iter().map(|s| (*s).to_owned()).collect()));
        for (text, expected) in [
            ("sqlite:traffic.db", sqlite("traffic.db")),
            ("sqlite:/var/t.db", sqlite("/var/t.db")),
            ("sqlite:///var/t.db", sqlite("/var/t.db")),
            ("sqlite://var/t.db", Err(LOGS)),
            ("sqlite:", Err(LOGS)),
            ("kafka://a:9092", kafka(&["a:9092"])),
            ("kafka://a:9092,[::1]:9093", kafka(&["a:9092", "[::1]:9093"])),
            ("kafka://a", Err(LOGS)),
            ("kafka://a:9092,", Err(LOGS)),
            ("kafka://a:port", Err(LOGS)),
            ("kafka://user@a:9092", Err(LOGS)),
            ("a:9092", Err(LOGS)),
            ("postgres://x", Err(LOGS)),
        ] {
            assert_eq!(LogLocation::try_from(text.to_owned()), expected, "{text}");
        }
    }

    #[test]
    fn stores() {
        let directory = |p: &str| Ok(StoreLocation::Directory(PathBuf::from(p)));
        let hdfs = |u: &str| Ok(StoreLocation::Hdfs(u.to_owned()));
        for (text, expected) in [
            ("file:data", directory("data")),
            ("file:///srv/data", directory("/srv/data")),
            ("file:/srv/data", directory("/srv/data")),
            ("file://srv/data", Err(STORES)),
            ("file:", Err(STORES)),
            ("hdfs://namenode:9000", hdfs("hdfs://namenode:9000")),
            ("hdfs://namenode:9000/", hdfs("hdfs://namenode:9000")),
            ("hdfs://nameservice1", hdfs("hdfs://nameservice1")),
            ("hdfs://namenode:9000/path", Err(STORES)),
            ("hdfs://", Err(STORES)),
            ("s3://bucket", Err(STORES)),
        ] {
            assert_eq!(StoreLocation::try_from(text.to_owned()), expected, "{text}");
        }
    }

    #[test]
    fn display_reads_back() {
        for text in ["sqlite:a.db", "sqlite:/a/b.db", "kafka://a:1,b:2"] {
            let location = LogLocation::try_from(text.to_owned()).expect("a valid location");
            assert_eq!(location.to_string(), text);
        }
        for text in ["file:a", "file:/a/b", "hdfs://n:9000"] {
            let location = StoreLocation::try_from(text.to_owned()).expect("a valid location");
            assert_eq!(location.to_string(), text);
        }
    }
}

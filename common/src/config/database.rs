//! Where rows for people and programs go that do not read topics, and for how long they stay.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

use super::location::{is_host, path};
use super::problems::Problems;
use super::units;
use super::{Config, LogLocation};

/// Where the database is. A location is taken literally: it never becomes another one.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub enum DatabaseLocation {
    /// `none`: no database is kept.
    None,
    /// One file on this host: `sqlite:traffic-database.db`, `sqlite:///var/lib/traffic-database.db`.
    Sqlite(PathBuf),
    /// `postgres://user[:password]@host[:port]/name`.
    Postgres(PostgresLocation),
}

/// A PostgreSQL database.
#[derive(Debug, Clone)]
pub struct PostgresLocation {
    /// A name, an IPv4 address or an IPv6 address without brackets.
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub password: Option<SecretString>,
}

/// Where the database is if nothing says so and the log is embedded too.
const EMBEDDED: &str = "traffic-database.db";
const PORT: u16 = 5432;

/// Never quotes the value, which may hold a password.
const DATABASES: &str = "allowed: none, sqlite:FILE, or postgres://USER[:PASSWORD]@HOST[:PORT]/NAME with everything \
                         else than a-z A-Z 0-9 - . _ ~ in user, password and name percent-encoded (@ is %40), and \
                         nothing after the name";

impl TryFrom<String> for DatabaseLocation {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text == "none" {
            return Ok(Self::None);
        }
        if let Some(file) = text.strip_prefix("sqlite:") {
            return path(file).map(Self::Sqlite).ok_or(DATABASES);
        }
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")).ok_or(DATABASES)?;
        postgres(rest).map(Self::Postgres).ok_or(DATABASES)
    }
}

/// `USER[:PASSWORD]@HOST[:PORT]/NAME`.
fn postgres(text: &str) -> Option<PostgresLocation> {
    let (credentials, place) = text.rsplit_once('@')?;
    let (user, password) = match credentials.split_once(':') {
        Some((user, password)) => (user, Some(decode(password)?)),
        None => (credentials, None),
    };
    let (host, database) = place.split_once('/')?;
    if !is_host(host, false) || database.contains(['/', '?', '#']) {
        return None;
    }
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (host, PORT),
    };
    let (user, database) = (decode(user)?, decode(database)?);
    (!user.is_empty() && !database.is_empty()).then(|| PostgresLocation {
        host: host.trim_matches(['[', ']']).to_owned(),
        port,
        database,
        user,
        password: password.filter(|password| !password.is_empty()).map(SecretString::from),
    })
}

/// The location that the guide's variables name.
pub(super) fn postgres_url(host: &str, port: &str, database: &str, user: &str) -> String {
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    format!("postgres://{}@{host}:{port}/{}", encode(user), encode(database))
}

fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Percent-decodes; `None` if it is not encoded rightly, or holds what PostgreSQL's texts cannot.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (code, tail) = rest.split_at_checked(2)?;
        let code = std::str::from_utf8(code).ok().filter(|code| code.bytes().all(|b| b.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(code, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

/// Without the password.
impl fmt::Display for PostgresLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&postgres_url(&self.host, &self.port.to_string(), &self.database, &self.user))
    }
}

/// Without the password.
impl fmt::Display for DatabaseLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Sqlite(file) => write!(f, "sqlite:{}", file.display()),
            Self::Postgres(location) => location.fmt(f),
        }
    }
}

impl Config {
    /// The database, with the password that is set apart; if none is set, a file beside an embedded log, and
    /// none with Kafka, since nobody could guess where it is.
    #[must_use]
    pub fn database(&self) -> DatabaseLocation {
        match (&self.database, &self.log) {
            (Some(DatabaseLocation::Postgres(location)), _) => {
                let password = location.password.clone().or_else(|| self.database_password.clone());
                DatabaseLocation::Postgres(PostgresLocation { password, ..location.clone() })
            }
            (Some(location), _) => location.clone(),
            (None, LogLocation::Sqlite(_)) => DatabaseLocation::Sqlite(PathBuf::from(EMBEDDED)),
            (None, LogLocation::Kafka(_)) => DatabaseLocation::None,
        }
    }

    pub(super) fn validate_database(&self, problems: &mut Problems) {
        if let (DatabaseLocation::Sqlite(database), LogLocation::Sqlite(log)) = (self.database(), &self.log) {
            let both = database == *log;
            if both {
                problems
                    .add(format!("database and log are both sqlite:{}: each needs a file of its own", log.display()));
            }
        }
    }
}

/// `[projection]`: how topics become rows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProjectionSettings {
    /// Rows become visible after this long at the latest, while the database keeps up.
    #[serde(deserialize_with = "units::duration")]
    pub commit_interval: Duration,
    /// Rows that are written in one transaction at most.
    pub batch_rows: u32,
    pub retention: ProjectionRetention,
}

/// `[projection.retention]`: for how long rows are kept, in whole days counted back from the newest; `None`
/// ("forever") is for ever.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProjectionRetention {
    #[serde(deserialize_with = "units::duration_or_forever")]
    pub aggregates: Option<Duration>,
    #[serde(deserialize_with = "units::duration_or_forever")]
    pub predictions: Option<Duration>,
    /// Of alerts that have ended, and of every alert's history.
    #[serde(deserialize_with = "units::duration_or_forever")]
    pub alerts: Option<Duration>,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Default for ProjectionSettings {
    fn default() -> Self {
        Self {
            commit_interval: Duration::from_millis(500),
            batch_rows: 5_000,
            retention: ProjectionRetention::default(),
        }
    }
}

impl Default for ProjectionRetention {
    fn default() -> Self {
        Self { aggregates: Some(30 * DAY), predictions: Some(30 * DAY), alerts: Some(365 * DAY) }
    }
}

impl ProjectionSettings {
    pub(super) fn validate(&self, problems: &mut Problems) {
        let interval = self.commit_interval;
        let fits = interval >= Duration::from_millis(10) && interval <= Duration::from_secs(60);
        problems.require(fits, "projection.commit_interval", units::shown(interval), "10ms to 1m");
        let rows_fit = (1..=100_000).contains(&self.batch_rows);
        problems.require(rows_fit, "projection.batch_rows", self.batch_rows, "1 to 100000");
        let retention = &self.retention;
        for (rows, kept) in
            [("aggregates", retention.aggregates), ("predictions", retention.predictions), ("alerts", retention.alerts)]
        {
            let kept = kept.unwrap_or(DAY);
            let setting = format!("projection.retention.{rows}");
            problems.require(
                kept >= DAY && kept <= 36_500 * DAY,
                &setting,
                units::shown(kept),
                "1d to 36500d, or forever",
            );
        }
    }
}

pub(super) fn password<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Some(SecretString::from(String::deserialize(deserializer)?)))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use secrecy::ExposeSecret as _;

    use super::*;

    fn load(toml: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(toml.as_bytes()).expect("a temporary file takes text");
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load(Some(file.path()), variables, &[]).map_err(|error| error.to_string())
    }

    fn database(toml: &str, variables: &[(&str, &str)]) -> DatabaseLocation {
        load(toml, variables).expect("valid settings").database()
    }

    fn password(location: &DatabaseLocation) -> Option<&str> {
        match location {
            DatabaseLocation::Postgres(location) => location.password.as_ref().map(|p| p.expose_secret()),
            _ => None,
        }
    }

    #[test]
    fn locations() {
        for (text, shown, secret) in [
            ("none", "none", None),
            ("sqlite:a.db", "sqlite:a.db", None),
            ("sqlite:///srv/a.db", "sqlite:/srv/a.db", None),
            ("postgres://u@h:1/d", "postgres://u@h:1/d", None),
            ("postgresql://u@h/d", "postgres://u@h:5432/d", None),
            ("postgres://u:p@h/d", "postgres://u@h:5432/d", Some("p")),
            ("postgres://u:@h/d", "postgres://u@h:5432/d", None),
            ("postgres://u:a%40b%3a%2F@h/d", "postgres://u@h:5432/d", Some("a@b:/")),
            ("postgres://a%40b:p@x@h/d%20e", "postgres://a%40b@h:5432/d%20e", Some("p@x")),
            ("postgres://u@[::1]:5/d", "postgres://u@[::1]:5/d", None),
        ] {
            let location = DatabaseLocation::try_from(text.to_owned()).expect(text);
            assert_eq!(location.to_string(), shown, "{text}");
            assert_eq!(password(&location), secret, "{text}");
            if let Some(secret) = secret.filter(|secret| secret.len() > 1) {
                assert!(!format!("{location:?}").contains(secret), "{location:?}");
            }
        }
        for text in [
            "",
            "None",
            "mysql://u@h/d",
            "postgres://h/d",
            "postgres://u@/d",
            "postgres://u@h",
            "postgres://u@h/",
            "postgres://u@h/d?sslmode=require",
            "postgres://u@h:port/d",
            "postgres://@h/d",
            "postgres://u:%4@h/d",
            "postgres://u:%+4@h/d",
            "postgres://u:%00@h/d",
            "sqlite:",
        ] {
            assert!(DatabaseLocation::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn nothing_set_follows_the_log() {
        assert_eq!(database("", &[]).to_string(), "sqlite:traffic-database.db");
        assert_eq!(database("log = \"kafka://k:9092\"", &[]).to_string(), "none");
        let error = load("database = \"sqlite:traffic.db\"", &[]).expect_err("the log is there");
        assert!(error.contains("database and log are both sqlite:traffic.db"), "{error}");
    }

    #[test]
    fn the_guides_variables() {
        let guide = [
            ("POSTGRES_HOST", "postgres"),
            ("POSTGRES_PORT", "5433"),
            ("POSTGRES_DB", "traffic_db"),
            ("POSTGRES_USER", "post@gres"),
            ("POSTGRES_PASSWORD", "s3cret/@:"),
        ];
        let location = database("database = \"none\"", &guide);
        assert_eq!(location.to_string(), "postgres://post%40gres@postgres:5433/traffic_db");
        assert_eq!(password(&location), Some("s3cret/@:"));

        let over = [&guide[..], &[("TRAFFIC_DATABASE", "sqlite:x.db")]].concat();
        assert_eq!(database("", &over).to_string(), "sqlite:x.db");
        let over = [&guide[..], &[("TRAFFIC_DATABASE", "postgres://u@h/d")]].concat();
        let location = database("", &over);
        assert_eq!((location.to_string().as_str(), password(&location)), ("postgres://u@h:5432/d", Some("s3cret/@:")));
        let over = [&guide[..], &[("TRAFFIC_DATABASE", "postgres://u:own@h/d")]].concat();
        assert_eq!(password(&database("", &over)), Some("own"));

        assert_eq!(database("", &[("POSTGRES_HOST", "h")]).to_string(), "postgres://postgres@h:5432/postgres");
        let user = [("POSTGRES_HOST", "::1"), ("POSTGRES_USER", "u")];
        assert_eq!(database("", &user).to_string(), "postgres://u@[::1]:5432/u");
    }

    #[test]
    fn the_guides_variables_are_not_half_used() {
        let half = [("POSTGRES_DB", "traffic_db"), ("POSTGRES_PASSWORD", "s3cret")];
        let error = load("", &half).expect_err("no host");
        assert!(error.contains("POSTGRES_DB is set, but POSTGRES_HOST is not"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
        assert_eq!(database("database = \"none\"", &half).to_string(), "none");

        let error = load("", &[("POSTGRES_HOST", "h"), ("POSTGRES_PORT", "many")]).expect_err("no port");
        assert!(error.contains("POSTGRES_HOST, POSTGRES_PORT, POSTGRES_DB and POSTGRES_USER"), "{error}");
        let error = load("", &[("POSTGRES_PASWORD", "x")]).expect_err("misspelt");
        assert!(
            error.contains("POSTGRES_PASWORD: there is no such variable; the nearest is POSTGRES_PASSWORD"),
            "{error}"
        );
        assert!(load("", &[("POSTGRES_HOST_AUTH_METHOD", "trust"), ("POSTGRES_INITDB_ARGS", "-k")]).is_ok());
    }

    #[test]
    fn a_wrong_location_is_explained_without_its_password() {
        let error = load("", &[("TRAFFIC_DATABASE", "postgres://u:hunter2@h")]).expect_err("no name");
        assert!(error.contains("database = (hidden), from TRAFFIC_DATABASE: allowed: none, sqlite:FILE"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        let error = load("database = 987654", &[]).expect_err("no text");
        assert!(error.contains("database = (hidden)") && !error.contains("987654"), "{error}");
        let config = load("database = \"postgres://u:hunter2@h/d\"", &[]).expect("valid");
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn retention_is_in_range() {
        let toml = "[projection]\ncommit_interval = \"100ms\"\n[projection.retention]\nalerts = \"forever\"\naggregates = \"7d\"";
        let projection = load(toml, &[]).expect("valid").projection;
        assert_eq!((projection.retention.alerts, projection.retention.aggregates), (None, Some(7 * DAY)));
        let error = load("[projection]\nbatch_rows = 0\n[projection.retention]\npredictions = \"1h\"", &[]);
        let error = error.expect_err("too little");
        assert!(error.contains("projection.retention.predictions = \"3600s\""), "{error}");
        assert!(error.contains("projection.batch_rows = \"0\""), "{error}");
    }
}

//! Environment variables: which setting each one overrides.
//!
//! An empty variable counts as not set, because compose files pass `NAME=${NAME:-}`.

use std::collections::BTreeMap;

use super::database::postgres_url;
use super::layers::Layers;
use super::problems::Problems;

struct Variable {
    name: &'static str,
    setting: &'static str,
    /// Never printed, and also taken from the file that `NAME_FILE` names.
    secret: bool,
}

const fn plain(name: &'static str, setting: &'static str) -> Variable {
    Variable { name, setting, secret: false }
}

const fn secret(name: &'static str, setting: &'static str) -> Variable {
    Variable { name, setting, secret: true }
}

/// Sets the store, unless `TRAFFIC_STORE` does.
const HDFS_NAMENODE_URL: &str = "HDFS_NAMENODE_URL";

/// A database by its parts, as the deployment guide names them: sets the database, unless `TRAFFIC_DATABASE` does.
const POSTGRES_HOST: &str = "POSTGRES_HOST";
const POSTGRES_PARTS: [&str; 4] = [POSTGRES_HOST, "POSTGRES_PORT", "POSTGRES_DB", "POSTGRES_USER"];

/// A later one wins where two override the same setting.
const VARIABLES: [Variable; 26] = [
    plain("TRAFFIC_LOG", "log"),
    plain(HDFS_NAMENODE_URL, "store"),
    plain("TRAFFIC_STORE", "store"),
    secret("TRAFFIC_DATABASE", "database"),
    secret("POSTGRES_PASSWORD", "database_password"),
    plain("TRAFFIC_INSTANCE", "instance"),
    plain("TRAFFIC_APPLICATION_ID", "application_id"),
    plain("TRAFFIC_FAILPOINT", "failpoint"),
    plain("TRAFFIC_TOPIC_PREFIX", "topics.prefix"),
    plain("TRAFFIC_SPEED_UNIT", "speed_unit"),
    plain("TRAFFIC_TIME_ZONE", "time_zone"),
    plain("TRAFFIC_ARCHIVE_ENABLED", "archive.enabled"),
    plain("TRAFFIC_HIVE_METASTORE", "hive.metastore"),
    plain("TRAFFIC_HIVE_DATABASE", "hive.database"),
    plain("TRAFFIC_HTTP_LISTEN", "http.listen"),
    plain("TRAFFIC_LOG_FORMAT", "telemetry.format"),
    plain("TRAFFIC_LOG_LEVEL", "telemetry.level"),
    plain("KAFKA_SECURITY_PROTOCOL", "kafka.security_protocol"),
    plain("KAFKA_SASL_MECHANISM", "kafka.sasl_mechanism"),
    plain("KAFKA_SASL_USERNAME", "kafka.sasl_username"),
    secret("KAFKA_SASL_PASSWORD", "kafka.sasl_password"),
    plain("KAFKA_SSL_CA_LOCATION", "kafka.ssl_ca_location"),
    plain("KAFKA_SSL_CERTIFICATE_LOCATION", "kafka.ssl_certificate_location"),
    plain("KAFKA_SSL_KEY_LOCATION", "kafka.ssl_key_location"),
    secret("KAFKA_SSL_KEY_PASSWORD", "kafka.ssl_key_password"),
    plain("HDFS_REPLICATION_FACTOR", "hdfs.replication_factor"),
];

/// Of one `.env` for the whole deployment, what these processes do not use, with the part that does.
/// A name that ends in `*` stands for all that begin so.
const OF_OTHERS: [(&str, &str); 11] = [
    ("JWT_*", "the API's tokens"),
    ("ACCESS_TOKEN_EXPIRE_MINUTES", "the API's tokens"),
    ("REFRESH_TOKEN_EXPIRE_DAYS", "the API's tokens"),
    ("RATE_LIMIT_*", "the API's rate limit"),
    ("CORS_ORIGINS", "the API"),
    ("SESSION_COOKIE_*", "the API's sessions"),
    ("HIVE_METASTORE_*", "the Hive metastore's own database"),
    ("TRAFFIC_DATA", "tests: the folder of research data"),
    ("TRAFFIC_TEST_*", "tests: where the services are"),
    ("TRAFFIC_SIM_*", "tests: seeds of the simulator"),
    ("TRAFFIC_QUICK", "tests: leave out what needs services"),
];

/// How many letters may differ for a name to count as a misspelling of another.
const MISSPELLING: usize = 2;

/// Lays the environment over what `layers` holds.
pub(super) fn apply(
    environment: impl IntoIterator<Item = (String, String)>,
    layers: &mut Layers,
    problems: &mut Problems,
) {
    let environment: BTreeMap<String, String> =
        environment.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    for name in environment.keys() {
        refuse_unknown(name, problems);
    }
    apply_postgres(&environment, layers, problems);
    for variable in &VARIABLES {
        let value = environment.get(variable.name);
        let file_variable = format!("{}_FILE", variable.name);
        let file = environment.get(&file_variable).filter(|_| variable.secret);
        match (value, file) {
            (None, None) => {}
            (Some(_), Some(_)) => problems.add(format!(
                "{} and {file_variable} are both set, and only one of them may be: unset {}",
                variable.name, variable.name
            )),
            (Some(url), None) if variable.name == HDFS_NAMENODE_URL && !url.starts_with("hdfs://") => problems.add(
                format!("{HDFS_NAMENODE_URL} = {url:?}: allowed: hdfs://HOST:PORT (TRAFFIC_STORE takes other stores)"),
            ),
            (Some(value), None) => layers.set(variable.setting, value, variable.name.to_owned()),
            (None, Some(path)) => match read_secret(path) {
                Ok(value) => layers.set(variable.setting, &value, file_variable),
                Err(why) => problems.add(format!("{file_variable} = {path:?}: {why}")),
            },
        }
    }
}

/// Makes one location of the guide's variables; user and database default as they do with `psql`.
fn apply_postgres(environment: &BTreeMap<String, String>, layers: &mut Layers, problems: &mut Problems) {
    let part = |name: &str| environment.get(name).map(String::as_str);
    if ["TRAFFIC_DATABASE", "TRAFFIC_DATABASE_FILE"].into_iter().any(|name| part(name).is_some()) {
        return;
    }
    if let Some(host) = part(POSTGRES_HOST) {
        let [_, port, database, user] = POSTGRES_PARTS.map(part);
        let user = user.unwrap_or("postgres");
        let url = postgres_url(host, port.unwrap_or("5432"), database.unwrap_or(user), user);
        let [first @ .., last] = POSTGRES_PARTS;
        layers.set("database", &url, format!("{} and {last}", first.join(", ")));
    } else if layers.origin("database") == Layers::default().origin("database")
        && let Some(name) = ["POSTGRES_DB", "POSTGRES_USER"].into_iter().find(|name| part(name).is_some())
    {
        problems.add(format!(
            "{name} is set, but {POSTGRES_HOST} is not: set it too, or TRAFFIC_DATABASE (none, if there is to be none)"
        ));
    }
}

/// Whether a setting's value must not be shown.
pub(super) fn is_secret(setting: &str) -> bool {
    VARIABLES.iter().any(|v| v.secret && v.setting == setting)
}

/// The file's text without the newline that editors and `echo` leave at its end.
fn read_secret(path: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read the secret's file: {error}"))?;
    let value = text.strip_suffix('\n').map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t));
    if value.is_empty() { Err("the secret's file is empty".to_owned()) } else { Ok(value.to_owned()) }
}

/// Every variable that begins with `TRAFFIC_` must be known; of Kafka's, HDFS's and PostgreSQL's, whose own programs
/// have variables too, only what looks like a misspelling is refused.
fn refuse_unknown(name: &str, problems: &mut Problems) {
    let ours = name.starts_with("TRAFFIC_");
    if is_known(name)
        || !(ours || name.starts_with("KAFKA_") || name.starts_with("HDFS_") || name.starts_with("POSTGRES_"))
    {
        return;
    }
    let nearest = known_names().into_iter().map(|known| (distance(name, &known), known)).min();
    match nearest {
        Some((distance, known)) if ours || distance <= MISSPELLING => {
            problems.add(format!("{name}: there is no such variable; the nearest is {known}"));
        }
        _ => {}
    }
}

fn is_known(name: &str) -> bool {
    known_names().iter().any(|known| known == name)
        || OF_OTHERS.iter().any(|(known, _)| match known.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == *known,
        })
}

fn known_names() -> Vec<String> {
    let files = VARIABLES.iter().filter(|v| v.secret).map(|v| format!("{}_FILE", v.name));
    let parts = POSTGRES_PARTS.iter().map(|name| (*name).to_owned());
    VARIABLES.iter().map(|v| v.name.to_owned()).chain(files).chain(parts).collect()
}

/// Levenshtein's edit distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("TRAFFIC_LOG", "TRAFFIC_LOG"), 0);
        assert_eq!(distance("TRAFFIC_LGO", "TRAFFIC_LOG"), 2);
        assert_eq!(distance("TRAFFIC_STOR", "TRAFFIC_STORE"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}

//! Real services, as `test.sh` or `tests/services/services.sh start` has started them.
//!
//! A test that needs a service fails if there is none, unless `TRAFFIC_QUICK=1` leaves such tests out by
//! name:
//!
//! ```no_run
//! let Some(brokers) = tests::services::kafka() else { return };
//! ```

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bootstrap server of Kafka, plaintext: `host:port`.
#[must_use]
pub fn kafka() -> Option<String> {
    service("TRAFFIC_TEST_KAFKA")
}

/// The same broker with `SASL_SSL` and `PLAIN`: user `app`, password `app-secret`.
#[must_use]
pub fn kafka_sasl() -> Option<KafkaSasl> {
    Some(KafkaSasl { server: service("TRAFFIC_TEST_KAFKA_SASL")?, ca: service("TRAFFIC_TEST_KAFKA_CA")?.into() })
}

/// See [`kafka_sasl`].
#[derive(Debug, Clone)]
pub struct KafkaSasl {
    /// `host:port`.
    pub server: String,
    /// The certificate authority, PEM.
    pub ca: PathBuf,
}

/// The same broker with `SSL`, for those who show a certificate.
#[must_use]
pub fn kafka_mutual() -> Option<KafkaMutual> {
    let server = service("TRAFFIC_TEST_KAFKA_MUTUAL")?;
    Some(KafkaMutual { server, folder: service("TRAFFIC_TEST_KAFKA_TLS")?.into() })
}

/// See [`kafka_mutual`].
#[derive(Debug, Clone)]
pub struct KafkaMutual {
    /// `host:port`.
    pub server: String,
    /// PEM files: `ca.pem`; `client.crt` and `client.key`, whose password is `key-secret`; `stranger.crt` and
    /// `stranger.key`, which the authority has not signed.
    pub folder: PathBuf,
}

/// HDFS: `hdfs://host:port`.
#[must_use]
pub fn hdfs() -> Option<String> {
    service("TRAFFIC_TEST_HDFS")
}

/// A Hive metastore: `thrift://host:port`.
#[must_use]
pub fn hive() -> Option<String> {
    service("TRAFFIC_TEST_HIVE")
}

/// PostgreSQL: `postgres://user:password@host:port/postgres`, of a user who may create databases.
#[must_use]
pub fn postgres() -> Option<String> {
    service("TRAFFIC_TEST_POSTGRES")
}

/// The folder of research data; without it, tests on it are left out by name.
#[must_use]
pub fn data() -> Option<PathBuf> {
    let folder = environment("TRAFFIC_DATA").map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: TRAFFIC_DATA is not set");
    }
    folder
}

/// A Python with DuckDB and PyArrow, which share no code with what they check.
#[must_use]
pub fn python() -> Option<PathBuf> {
    service("TRAFFIC_TEST_PYTHON").map(PathBuf::from)
}

/// A Python with Spark beside DuckDB and PyArrow, as `./test.sh --long` installs it.
#[must_use]
pub fn spark() -> Option<Spark> {
    let (python, jars) = (environment("TRAFFIC_TEST_SPARK"), environment("TRAFFIC_TEST_HIVE_CLIENT"));
    if python.is_none() {
        println!("skipped: TRAFFIC_TEST_SPARK is not set; ./test.sh --long sets it");
    }
    Some(Spark { python: python?.into(), jars: jars?.into() })
}

/// See [`spark`].
#[derive(Debug, Clone)]
pub struct Spark {
    pub python: PathBuf,
    /// The folder of the jars that it speaks to the metastore with.
    pub jars: PathBuf,
}

/// A setting of the tests themselves.
#[must_use]
pub fn setting(variable: &str) -> Option<String> {
    environment(variable)
}

fn service(variable: &str) -> Option<String> {
    match decide(variable, environment(variable), environment("TRAFFIC_QUICK")) {
        Decision::Use(address) => Some(address),
        Decision::Skip(why) => {
            println!("{why}");
            None
        }
        Decision::Fail(why) => panic!("{why}"),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Use(String),
    Skip(String),
    Fail(String),
}

fn decide(variable: &str, address: Option<String>, quick: Option<String>) -> Decision {
    match (address, quick.as_deref()) {
        (Some(address), _) => Decision::Use(address),
        (None, Some("1")) => Decision::Skip(format!("skipped: {variable} is not set, and TRAFFIC_QUICK=1")),
        (None, _) => Decision::Fail(format!(
            "{variable} is not set. Run ./test.sh; or start the services by hand with\n  \
             eval \"$(tests/services/services.sh start /tmp/traffic-services)\"\n\
             or set TRAFFIC_QUICK=1 to leave out the tests that need services."
        )),
    }
}

/// Whether tests that need services are left out.
#[must_use]
pub fn quick() -> bool {
    environment("TRAFFIC_QUICK").as_deref() == Some("1")
}

#[expect(clippy::disallowed_methods, reason = "where the services are is known to the tests alone")]
fn environment(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty())
}

/// A process of a service that a test may take away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    Kafka,
    Namenode,
    Datanode,
    Postgres,
    Hive,
}

/// How it is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// SIGTERM.
    Stop,
    /// SIGKILL.
    Kill,
    /// SIGSTOP: it holds its connections and answers nothing.
    Freeze,
}

static ONE_OUTAGE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A service that is away until this ends or is dropped, with its data and address kept.
///
/// Tests that strike belong into a test file of their own: the other tests of a file run beside them.
#[derive(Debug)]
pub struct Outage {
    restore: Option<Script>,
    _alone: MutexGuard<'static, ()>,
}

impl Outage {
    /// Takes the service away; returns once it is gone. Waits for an outage of another test to end.
    ///
    /// # Panics
    /// If it cannot be done, for example since `TRAFFIC_TEST_SERVICES` is not set.
    #[must_use]
    pub fn begin(victim: Victim, blow: Blow) -> Self {
        let (strike, restore) = match blow {
            Blow::Stop => ("stop", "start"),
            Blow::Kill => ("kill", "start"),
            Blow::Freeze => ("freeze", "thaw"),
        };
        Self::run(Script::of(victim, strike), Script::of(victim, restore))
    }

    /// What an administrator of HDFS does and takes back: arguments of `hdfs dfsadmin`.
    ///
    /// # Panics
    /// As [`Outage::begin`].
    #[must_use]
    pub fn administer(strike: &[&'static str], restore: &[&'static str]) -> Self {
        let script = |arguments: &[&'static str]| Script {
            name: "hdfs.sh",
            command: "cli",
            arguments: [&["dfsadmin"], arguments].concat(),
        };
        Self::run(script(strike), script(restore))
    }

    fn run(strike: Script, restore: Script) -> Self {
        let alone = ONE_OUTAGE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        strike.run().unwrap_or_else(|why| panic!("cannot do {strike:?}: {why}"));
        Self { restore: Some(restore), _alone: alone }
    }

    /// Brings the service back; returns once it serves.
    ///
    /// # Panics
    /// If it does not come back.
    pub fn end(mut self) {
        if let Some(restore) = self.restore.take() {
            restore.run().unwrap_or_else(|why| panic!("cannot do {restore:?}: {why}"));
        }
    }
}

impl Drop for Outage {
    /// A test that fails must not take the service away from all others.
    fn drop(&mut self) {
        if let Some(restore) = self.restore.take()
            && let Err(why) = restore.run()
        {
            eprintln!("cannot do {restore:?}: {why}");
        }
    }
}

/// A call of a service's script.
#[derive(Debug)]
struct Script {
    name: &'static str,
    command: &'static str,
    arguments: Vec<&'static str>,
}

impl Script {
    fn of(victim: Victim, command: &'static str) -> Self {
        let (name, arguments) = match victim {
            Victim::Kafka => ("kafka.sh", vec![]),
            Victim::Namenode => ("hdfs.sh", vec!["namenode"]),
            Victim::Datanode => ("hdfs.sh", vec!["datanode"]),
            Victim::Postgres => ("postgres.sh", vec![]),
            Victim::Hive => ("hive.sh", vec![]),
        };
        Self { name, command, arguments }
    }

    fn run(&self) -> Result<(), String> {
        let directory = environment("TRAFFIC_TEST_SERVICES").ok_or("TRAFFIC_TEST_SERVICES is not set")?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("services").join(self.name);
        let output = Command::new(&script).arg(self.command).arg(directory).args(&self.arguments).output();
        let output = output.map_err(|error| format!("{}: {error}", script.display()))?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_service_fails_unless_skipped_by_name() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(decide("X", some("a:1"), some("1")), Decision::Use("a:1".to_owned()));
        assert!(matches!(decide("X", None, some("1")), Decision::Skip(why) if why.starts_with("skipped: X")));
        assert!(matches!(decide("X", None, some("0")), Decision::Fail(_)));
        assert!(matches!(decide("X", None, None), Decision::Fail(why) if why.contains("./test.sh")));
    }
}

//! Settings: one TOML file and the environment, read once, checked before anything starts.
//!
//! The layers, each over the one before: defaults, the file, environment variables, command-line
//! flags. Everything that is wrong is reported together, each line naming the setting, its value,
//! where that came from and what is allowed. A setting nobody knows is an error, so is a variable
//! `TRAFFIC_…` nobody knows. Secrets are held as [`secrecy::SecretString`] and never printed.
//!
//! This module alone reads the process environment.
//!
//! | file | owns |
//! |---|---|
//! | `variables.rs` | which environment variable overrides which setting; `NAME_FILE` for secrets |
//! | `layers.rs` | merging the layers and remembering where each value came from |
//! | `problems.rs` | what is wrong, and how it is said |
//! | `location.rs`, `units.rs` | values with a grammar of their own: locations, durations, sizes |
//! | the others | one struct per concern |

mod aggregator;
mod alerter;
mod archive;
mod database;
mod hdfs;
mod hive;
mod http;
mod kafka;
mod layers;
mod location;
mod predictor;
mod problems;
mod telemetry;
mod topics;
mod units;
mod variables;

use std::path::Path;

use jiff::tz::TimeZone;
use secrecy::SecretString;
use serde::Deserialize;

pub use aggregator::AggregatorSettings;
pub use alerter::{AlerterSettings, PredictedCongestionSettings, SensorSilentSettings};
pub use archive::ArchiveSettings;
pub use database::{DatabaseLocation, PostgresLocation, ProjectionRetention, ProjectionSettings};
pub use hdfs::HdfsSettings;
pub use hive::{HiveSettings, MetastoreLocation};
pub use http::{HttpSettings, Listen};
pub use kafka::{KafkaSettings, SaslMechanism, SecurityProtocol};
pub use location::{LogLocation, StoreLocation};
pub use predictor::{PredictorSettings, RetrainSettings};
pub use problems::ConfigError;
pub use telemetry::{LogFormat, TelemetrySettings};
pub use topics::{Retention, TopicSettings};

use crate::model::{Normaliser, SpeedUnit};
use layers::Layers;
use problems::Problems;

/// Everything that can be set, checked.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the topics live.
    pub log: LogLocation,
    /// Where the archive and the models live.
    pub store: StoreLocation,
    /// Where rows go; see [`Config::database`] for what nothing means.
    pub database: Option<DatabaseLocation>,
    /// The database's password, where the location holds none.
    #[serde(deserialize_with = "database::password")]
    pub database_password: Option<SecretString>,
    /// This process's lasting name, unique among the instances of its worker.
    pub instance: String,
    /// Prefix of consumer group, changelog and `transactional.id`; see [`Config::application_id`].
    pub application_id: Option<String>,
    /// The unit of a bare `speed` in events.
    #[serde(deserialize_with = "speed_unit")]
    pub speed_unit: SpeedUnit,
    /// The zone of event times that name none.
    #[serde(deserialize_with = "time_zone")]
    pub time_zone: TimeZone,
    /// Crash tests only: the commit with offsets after so many dies between its offsets and its commit.
    pub failpoint: Option<u64>,
    pub topics: TopicSettings,
    pub kafka: KafkaSettings,
    pub hdfs: HdfsSettings,
    pub hive: HiveSettings,
    pub http: HttpSettings,
    pub telemetry: TelemetrySettings,
    pub aggregator: AggregatorSettings,
    pub alerter: AlerterSettings,
    pub archive: ArchiveSettings,
    pub predictor: PredictorSettings,
    pub projection: ProjectionSettings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            log: LogLocation::default(),
            store: StoreLocation::default(),
            database: None,
            database_password: None,
            instance: format!("{}-0", host_name()),
            application_id: None,
            speed_unit: SpeedUnit::Kmh,
            time_zone: TimeZone::UTC,
            failpoint: None,
            topics: TopicSettings::default(),
            kafka: KafkaSettings::default(),
            hdfs: HdfsSettings::default(),
            hive: HiveSettings::default(),
            http: HttpSettings::default(),
            telemetry: TelemetrySettings::default(),
            aggregator: AggregatorSettings::default(),
            alerter: AlerterSettings::default(),
            archive: ArchiveSettings::default(),
            predictor: PredictorSettings::default(),
            projection: ProjectionSettings::default(),
        }
    }
}

impl Config {
    /// Settings from `file`, the process's environment and `flags`; see [`Config::load`].
    ///
    /// # Errors
    /// Everything that is wrong with them.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn from_process(file: Option<&Path>, flags: &[(&str, &str)]) -> Result<Self, ConfigError> {
        let environment = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
        Self::load(file, environment, flags)
    }

    /// Settings from `file`, then `environment` (name, value), then `flags` (setting, value), where a
    /// setting is named as in the file: `application_id`, `http.listen`.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[(&str, &str)],
    ) -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        let mut layers = Layers::default();
        if let Some(file) = file {
            layers.add_file(file, &mut problems);
        }
        variables::apply(environment, &mut layers, &mut problems);
        for (setting, value) in flags {
            layers.set(setting, value, "the command line".to_owned());
        }
        layers.check_types(&mut problems);
        if !problems.is_empty() {
            return problems.into_result(Self::default());
        }
        let config = layers.read(&mut problems).unwrap_or_default();
        problems.know_origins(layers);
        config.validate(&mut problems);
        problems.into_result(config)
    }

    fn validate(&self, problems: &mut Problems) {
        name("instance", &self.instance, problems);
        if let Some(id) = &self.application_id {
            name("application_id", id, problems);
        }
        self.topics.validate(problems);
        self.kafka.validate(problems);
        self.hdfs.validate(problems);
        self.hive.validate(problems);
        self.telemetry.validate(problems);
        self.aggregator.validate(problems);
        self.alerter.validate(problems);
        self.archive.validate(problems);
        self.predictor.validate(problems);
        self.validate_database(problems);
        self.projection.validate(problems);
    }

    /// The application id of a worker: as set, else the worker's name.
    #[must_use]
    pub fn application_id<'a>(&'a self, worker: &'a str) -> &'a str {
        self.application_id.as_deref().unwrap_or(worker)
    }

    /// The parser of events under these settings.
    #[must_use]
    pub fn normaliser(&self) -> Normaliser {
        Normaliser { speed_unit: self.speed_unit, time_zone: self.time_zone.clone() }
    }
}

/// The host's name with whatever an instance's name cannot hold replaced.
fn host_name() -> String {
    let host = hostname::get().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let host: String = host.chars().map(|c| if may_be_in_a_name(c) { c } else { '-' }).take(LONGEST_NAME - 2).collect();
    if host.is_empty() { "localhost".to_owned() } else { host }
}

/// So that a name with a worker's suffix is still a topic's name, of at most 249 characters.
const LONGEST_NAME: usize = 200;

fn may_be_in_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// Such a name becomes part of topic names, `transactional.id` and file names.
fn name(setting: &str, value: &str, problems: &mut Problems) {
    let fits = (1..=LONGEST_NAME).contains(&value.len()) && value.chars().all(may_be_in_a_name);
    problems.require(fits, setting, value, "1 to 200 of the characters a-z A-Z 0-9 . _ -");
}

fn speed_unit<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<SpeedUnit, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "kmh" => Ok(SpeedUnit::Kmh),
        "mph" => Ok(SpeedUnit::Mph),
        _ => Err(serde::de::Error::custom("allowed: kmh, mph")),
    }
}

fn time_zone<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<TimeZone, D::Error> {
    let name = String::deserialize(deserializer)?;
    TimeZone::get(&name).map_err(|_| {
        serde::de::Error::custom("allowed: a name of the IANA database, such as UTC or America/Los_Angeles")
    })
}

fn dates<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<jiff::civil::Date>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let date = |text: &String| {
        text.parse().map_err(|_| serde::de::Error::custom(format!("{text} is no date like 2026-12-25")))
    };
    texts.iter().map(date).collect()
}

fn optional_time_zone<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<TimeZone>, D::Error> {
    time_zone(deserializer).map(Some)
}

#[cfg(test)]
mod tests;

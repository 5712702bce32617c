//! What every process does around its work: settings, logs, health, signals, and reaching its services.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | [`Process`]: what is set up once, and how services are reached |
//! | `crew.rs` | [`Crew`]: the threads of a process, and when their input has [`Ended`] |
//! | `sinks.rs` | what copies a topic onward |

mod crew;
mod sinks;

pub use crew::{Crew, Ended};
pub use sinks::archive_group;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Handle, Runtime};

use crate::clock::{Clock, SystemClock};
use crate::config::{Config, LogLocation, StoreLocation};
use crate::health::{Component, Health, Server};
use crate::hive::Catalogue;
use crate::shutdown::Shutdown;
use crate::store::{Store, StoreError, StoreOptions};
use crate::stream::kafka::{Failpoint, KafkaConfig, KafkaLog};
use crate::stream::sqlite::SqliteLog;
use crate::stream::{Log, LogError, TopicSpec, Topology};
use crate::telemetry;

/// What every worker's command line takes.
#[derive(Debug, clap::Args)]
pub struct WorkerArgs {
    /// Settings (TOML); variables like TRAFFIC_LOG go over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Prefix of group, changelog and transactions [default: the worker's name]
    #[arg(long, value_name = "ID")]
    pub application_id: Option<String>,
    /// This process's lasting name [default: HOST-0]
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
    /// Process everything up to the end of every partition, commit and exit 0
    #[arg(long)]
    pub exit_at_end: bool,
}

impl WorkerArgs {
    /// The settings that these arguments, the environment and the file make.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn settings(&self) -> Result<Config, Failure> {
        let id = self.application_id.as_deref().map(|id| ("application_id", id));
        let instance = self.instance.as_deref().map(|name| ("instance", name));
        let flags: Vec<(&str, &str)> = id.into_iter().chain(instance).collect();
        Config::from_process(self.config.as_deref(), &flags).map_err(|e| Failure(e.to_string()))
    }
}

/// A process that is up: everything its work needs.
pub struct Process {
    pub config: Config,
    pub clock: Arc<dyn Clock>,
    pub shutdown: Shutdown,
    pub health: Health,
    runtime: Arc<Runtime>,
}

/// Why a process can not do its work.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        Self(error.to_string())
    }
}

impl Process {
    /// Sets up logs, signals, and (with `port`) the health endpoints, on that port unless another is set.
    ///
    /// # Errors
    /// What could not be set up, and how to mend it.
    pub fn start(service: &str, config: Config, port: Option<u16>) -> Result<Self, Failure> {
        let failed = |what: &str, error: &dyn std::fmt::Display| Failure(format!("{what}: {error}"));
        let metrics =
            telemetry::init(service, &config.instance, &config.telemetry).map_err(|e| failed("telemetry", &e))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|e| failed("the async runtime", &e))?;
        let runtime = Arc::new(runtime);
        let (shutdown, health) = (Shutdown::default(), Health::default());
        let signals = runtime.block_on(async { shutdown.watch_signals() }).map_err(|e| failed("signals", &e))?;
        runtime.spawn(signals);
        if let Some(address) = port.and_then(|port| config.http.address(port)) {
            let server = runtime.block_on(Server::bind(address)).map_err(|e| failed("http.listen", &e))?;
            tracing::info!(address = %server.address(), "health and metrics are served");
            runtime.spawn(server.run(health.clone(), metrics, shutdown.clone()));
        }
        Ok(Self { config, clock: Arc::new(SystemClock), shutdown, health, runtime })
    }

    /// The same process under other settings.
    #[must_use]
    pub fn with(&self, config: Config) -> Self {
        Self {
            config,
            clock: self.clock.clone(),
            shutdown: self.shutdown.clone(),
            health: self.health.clone(),
            runtime: self.runtime.clone(),
        }
    }

    #[must_use]
    pub fn runtime(&self) -> &Handle {
        self.runtime.handle()
    }

    /// The configured log; waits for it as long as it takes, saying so. `None` if told to stop meanwhile.
    ///
    /// # Errors
    /// What trying again can not mend.
    pub fn wait_for_log(&self) -> Result<Option<Arc<dyn Log>>, Failure> {
        let component = self.health.component("log");
        let log = self.until_it_works(&component, || self.log())?;
        component.ready();
        Ok(log)
    }

    /// Makes an application's changelog beside its input, so that a second, independent run is one flag away, and
    /// verifies how the topics that are there forget: what is missing or has other partitions is the runner's affair.
    ///
    /// # Errors
    /// If the log refuses; `Fatal` if a topic's cleanup policy would lose records.
    pub fn ensure_topics(&self, log: &dyn Log, topology: &Topology) -> Result<(), LogError> {
        let settings = &self.config.topics;
        let inputs = &topology.membership.inputs;
        let mut specs = Vec::new();
        for spec in settings.specs() {
            let mut named = inputs.iter().chain(&topology.outputs).chain(&topology.tail);
            if named.any(|topic| *topic == spec.name)
                && let Some(partitions) = log.partitions(&spec.name)?
            {
                specs.push(TopicSpec { partitions, ..spec });
            }
        }
        if let Some(input) = specs.iter().find(|spec| inputs.first() == Some(&spec.name)) {
            let changelog = settings.changelog(&topology.membership.application_id, input.partitions);
            if log.partitions(&changelog.name)?.is_none_or(|there| there == changelog.partitions) {
                specs.push(changelog);
            }
        }
        log.ensure_topics(&specs)
    }

    /// The configured log, if it answers now.
    ///
    /// # Errors
    /// What is wrong, and what to check.
    pub fn log(&self) -> Result<Arc<dyn Log>, LogError> {
        Ok(match &self.config.log {
            LogLocation::Sqlite(file) => {
                Arc::new(SqliteLog::open(file, self.runtime.handle().clone(), self.clock.clone())?)
            }
            LogLocation::Kafka(servers) => Arc::new(KafkaLog::connect(&kafka(servers, &self.config))?),
        })
    }

    /// The configured store. That it answers shows at its first use.
    ///
    /// # Errors
    /// If the location can not be one.
    pub fn store(&self) -> Result<Store, StoreError> {
        let hdfs = &self.config.hdfs;
        let options = StoreOptions {
            timeout: hdfs.timeout,
            replication: Some(u32::from(hdfs.replication_factor)),
            ..StoreOptions::default()
        };
        crate::store::open(&self.store_url(), &options)
    }

    /// Where the hours of the archive are registered, if that is set.
    #[must_use]
    pub fn hive(&self) -> Option<Catalogue> {
        let hive = &self.config.hive;
        let address = hive.metastore.as_ref()?.address.clone();
        Some(Catalogue { address, database: hive.database.clone(), store: self.store_url() })
    }

    fn store_url(&self) -> String {
        match &self.config.store {
            StoreLocation::Directory(directory) => {
                let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.clone());
                format!("file://{}", directory.display())
            }
            StoreLocation::Hdfs(url) => url.clone(),
        }
    }

    /// Does `work` again and again, with growing pauses, until it works. `None` if told to stop meanwhile.
    ///
    /// # Errors
    /// What trying again can not mend.
    pub fn until_it_works<T>(
        &self,
        component: &Component,
        mut work: impl FnMut() -> Result<T, LogError>,
    ) -> Result<Option<T>, Failure> {
        let mut pause = Duration::from_millis(500);
        while !self.shutdown.requested() {
            match work() {
                Ok(done) => return Ok(Some(done)),
                Err(LogError::Fatal(why)) => return Err(Failure(why)),
                Err(LogError::Retry(why) | LogError::Unstable(why) | LogError::Fenced(why)) => {
                    tracing::warn!(error = why, retry_in_s = pause.as_secs_f64(), "{why}; trying again");
                    component.not_ready(why);
                }
            }
            // Made within the runtime, whose timer it needs; ends early when told to stop.
            let _ = self.runtime.block_on(async { tokio::time::timeout(pause, self.shutdown.wait()).await });
            pause = (pause * 2).min(Duration::from_secs(15));
        }
        Ok(None)
    }
}

fn kafka(servers: &[String], config: &Config) -> KafkaConfig {
    KafkaConfig {
        bootstrap_servers: servers.join(","),
        overrides: config.kafka.client_properties().into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        prefix: config.topics.prefix.clone(),
        failpoint: config.failpoint.map(|after_commits| Failpoint::ExitBetweenOffsetsAndCommit { after_commits }),
        ..KafkaConfig::default()
    }
}

/// Runs a process's work and turns its end into an exit code, with the reason on the log.
#[must_use]
pub fn exit(service: &str, done: Result<(), Failure>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(why)) => {
            tracing::error!(service, "{why}");
            // Before logs are set up nobody would see it.
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

//! What the workers need for a topic of events, on a real Kafka broker, beside what the client library alone needs.
//!
//! ```sh
//! cargo build --release --workspace
//! cargo bench -p tests --bench pipeline -- drain --kafka 127.0.0.1:9092 --events 5000000
//! cargo bench -p tests --bench pipeline -- live --kafka 127.0.0.1:9092
//! ```
//!
//! `drain` fills a topic by `traffic simulate` and lets the workers read it to its end, one after the other; `live`
//! sends 20,000 events a second and takes the time from the record that ends a window to its aggregates. Both judge
//! nothing.
//!
//! | file | owns |
//! |---|---|
//! | `drain.rs` | throughput, CPU time, memory, bytes of the changelog |
//! | `limits.rs` | the client library alone, and with parsing |
//! | `live.rs` | latency |
//! | `usage.rs` | what a process has used, from `/proc` |

#![expect(clippy::disallowed_methods, reason = "a benchmark takes real time")]

mod drain;
mod limits;
mod live;
mod usage;

use std::time::Duration;

use common::stream::kafka::{KafkaConfig, KafkaLog};
use common::topics::Topics;
use tempfile::TempDir;
use tests::{Worker, unique};

const HELP: &str = "\
pipeline drain|live --kafka HOST:PORT [options]

  --segments N    [default: 2000]
  --partitions N  [default: 4]
  drain:
  --events N      [default: 5000000]
  --store URL     where archives go [default: a temporary directory]
  --only WORKERS  of limits,aggregator,ingest,predictor,alerter [default: all]
  live:
  --rate N        events a second [default: 20000]
  --windows N     [default: 60]
  --every MS      wall time from one window's end to the next [default: 2000]
  --latencies     every window's slowest aggregate, not only the percentiles
";

/// What is asked for.
struct Options {
    kafka: String,
    segments: u32,
    partitions: u32,
    events: u64,
    store: Option<String>,
    only: Vec<String>,
    rate: u64,
    windows: i64,
    every_ms: i64,
    latencies: bool,
}

impl Options {
    fn parse(arguments: &mut dyn Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            kafka: String::new(),
            segments: 2_000,
            partitions: 4,
            events: 5_000_000,
            store: None,
            only: Vec::new(),
            rate: 20_000,
            windows: 60,
            every_ms: 2_000,
            latencies: false,
        };
        while let Some(name) = arguments.next() {
            // Cargo says so to every bench.
            if name == "--bench" {
                continue;
            }
            if name == "--latencies" {
                options.latencies = true;
                continue;
            }
            let value = arguments.next().ok_or(format!("{name} lacks its value"))?;
            let number = || value.parse::<u64>().map_err(|e| format!("{name} {value}: {e}"));
            let small = || number().and_then(|n| u32::try_from(n).map_err(|e| format!("{name} {value}: {e}")));
            match name.as_str() {
                "--kafka" => options.kafka = value,
                "--segments" => options.segments = small()?,
                "--partitions" => options.partitions = small()?,
                "--events" => options.events = number()?,
                "--store" => options.store = Some(value),
                "--only" => options.only = value.split(',').map(str::to_owned).collect(),
                "--rate" => options.rate = number()?,
                "--windows" => options.windows = i64::from(small()?),
                "--every" => options.every_ms = i64::from(small()?),
                _ => return Err(format!("there is no {name}")),
            }
        }
        if options.kafka.is_empty() { Err("--kafka is missing".to_owned()) } else { Ok(options) }
    }

    fn wants(&self, what: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == what)
    }

    fn log(&self) -> KafkaLog {
        let config = KafkaConfig { bootstrap_servers: self.kafka.clone(), ..KafkaConfig::default() };
        KafkaLog::connect(&config).expect("Kafka answers")
    }
}

/// Topics of their own, and processes that work on them.
struct Bench {
    topics: Topics,
    environment: Vec<(&'static str, String)>,
    settings: String,
    _directory: TempDir,
}

impl Bench {
    fn new(options: &Options) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let prefix = format!("{}.", unique("bench"));
        let settings = directory.path().join("traffic.toml");
        let text = format!("[topics]\nprefix = \"{prefix}\"\npartitions = {}\n", options.partitions);
        std::fs::write(&settings, text).expect("written");
        let store = options.store.clone().unwrap_or_else(|| format!("file:{}", directory.path().display()));
        let environment = vec![
            ("TRAFFIC_LOG", format!("kafka://{}", options.kafka)),
            ("TRAFFIC_STORE", store),
            ("TRAFFIC_DATABASE", "none".to_owned()),
            ("HDFS_REPLICATION_FACTOR", "1".to_owned()),
            ("TRAFFIC_HTTP_LISTEN", "off".to_owned()),
            ("TRAFFIC_LOG_LEVEL", "warn".to_owned()),
        ];
        let settings = settings.to_str().expect("UTF-8").to_owned();
        let bench = Self { topics: Topics::with_prefix(&prefix), environment, settings, _directory: directory };
        let init = bench.start("traffic", &["init"], true).wait(Duration::from_secs(60));
        assert!(init.success(), "traffic init");
        bench
    }

    /// Runs a binary of the release profile; `archive`: with what it writes to the store.
    fn start(&self, binary: &str, arguments: &[&str], archive: bool) -> Worker {
        let mut environment: Vec<(&str, &str)> = self.environment.iter().map(|(n, v)| (*n, v.as_str())).collect();
        if !archive {
            environment.push(("TRAFFIC_ARCHIVE_ENABLED", "false"));
        }
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--config", &self.settings]).collect();
        Worker::start(binary, &arguments, &environment)
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let measure = match arguments.next().as_deref() {
        Some("drain") => drain::run,
        Some("live") => live::run,
        // `cargo test --benches` runs it without arguments: nothing to measure.
        None | Some("--bench" | "--test") => return print!("{HELP}"),
        Some(other) => {
            eprintln!("{other}?\n{HELP}");
            std::process::exit(2);
        }
    };
    match Options::parse(&mut arguments) {
        Ok(options) => measure(&options),
        Err(problem) => {
            eprintln!("{problem}\n{HELP}");
            std::process::exit(2);
        }
    }
}

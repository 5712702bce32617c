//! `traffic demo`: the whole flow in one process and one directory, with the generator as its sensors.

mod sensors;
mod summary;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aggregator::{Aggregator, Settings};
use anyhow::{Context, Result, ensure};
use clap::Args;
use common::archive::{ArchiveConfig, Dataset, Sink, verify};
use common::clock::{Clock, SystemClock};
use common::config::TopicSettings;
use common::shutdown::Shutdown;
use common::store::{Store, StoreOptions};
use common::stream::sqlite::SqliteLog;
use common::stream::{Cleanup, Log, Notice, Pace, Runner, TopicSpec};
use common::topics::Topics;
use tokio::runtime::Handle;
use tracing::info;

use crate::feed::Speed;
use crate::simulate::GeneratorConfig;

/// Run the whole flow here: sensors, aggregator, archive; nothing else is needed
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic demo                                       until Ctrl-C, 60 times real time, in ./traffic-demo
  traffic demo --hours 3 --speed max --seed 7        three hours of events as fast as it goes, then a summary
  traffic demo --hours 3 --speed max --json          the summary as one JSON object, for programs
  duckdb -c \"select segment_id, avg(speed_kmh) from 'traffic-demo/store/traffic-data/raw/date=*/hour=*/*.parquet' group by 1\"

Stop it at any moment, even with kill -9: the same command goes on where it was, and nothing is lost or doubled.")]
pub struct DemoArgs {
    /// Where everything is kept
    #[arg(long, default_value = "traffic-demo")]
    pub dir: PathBuf,
    /// Times real time, or `max`; event time never overtakes the clock
    #[arg(long, default_value = "60")]
    pub speed: Speed,
    /// Stop after so many hours of event time, and say what came of it
    #[arg(long)]
    pub hours: Option<f64>,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    #[arg(long, default_value_t = 200)]
    pub segments: u32,
    /// The summary as one JSON object, the last line on stdout
    #[arg(long)]
    pub json: bool,
}

const PARTITIONS: u32 = 4;
const WINDOW_MS: i64 = 300_000;
const HOUR_MS: f64 = 3_600_000.0;
/// Without `--hours` the sensors begin so long ago.
const BEGIN_HOURS: f64 = 24.0;

/// Everything the demo's threads share.
struct Demo {
    log: Arc<dyn Log>,
    store: Store,
    clock: Arc<dyn Clock>,
    runtime: Handle,
    topics: Topics,
    /// Something failed, or the user wants to stop.
    stop: Shutdown,
    /// The sensors have sent everything.
    sent_all: AtomicBool,
    sent: Arc<AtomicU64>,
}

/// Runs the demo until `stop` is set, or to its end with `--hours`.
///
/// # Errors
/// If the directory can not be used, holds another demo, or the sums do not agree at the end.
pub fn run(args: &DemoArgs, runtime: &Handle, stop: &Shutdown) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let began_ms = clock.now_ms();
    std::fs::create_dir_all(&args.dir).with_context(|| format!("--dir {}", args.dir.display()))?;
    let dir = args.dir.canonicalize().with_context(|| format!("--dir {}", args.dir.display()))?;
    let log: Arc<dyn Log> = Arc::new(SqliteLog::open(&dir.join("traffic.db"), runtime.clone(), clock.clone())?);
    let topics = Topics::default();
    log.ensure_topics(&specs())?;
    let store = common::store::open(&format!("file://{}", dir.join("store").display()), &StoreOptions::default())?;
    let config = config(args, log.as_ref(), clock.now_ms())?;
    #[expect(clippy::cast_possible_truncation, reason = "hours of a demo in milliseconds")]
    let until_ms = args.hours.map(|hours| config.start_ms + (hours * HOUR_MS) as i64);
    info!(dir = %dir.display(), segments = config.segments, seed = config.seed, "the demo runs; Ctrl-C stops it, the same command goes on");
    let demo = Demo {
        log,
        store,
        clock,
        runtime: runtime.clone(),
        topics,
        stop: stop.clone(),
        sent_all: AtomicBool::new(false),
        sent: Arc::new(AtomicU64::new(0)),
    };
    demo.run(config, args.speed, until_ms)?;
    if demo.stopped() || until_ms.is_none() {
        info!("stopped; the same command goes on from here");
        return Ok(());
    }
    demo.finish(began_ms, args.json)
}

/// The demo's topics keep everything.
fn specs() -> Vec<TopicSpec> {
    let settings = TopicSettings { partitions: PARTITIONS, ..TopicSettings::default() };
    let mut specs = settings.specs();
    specs.push(settings.changelog(aggregator::APPLICATION, PARTITIONS));
    specs
        .iter_mut()
        .filter(|s| s.cleanup != Cleanup::Compact)
        .for_each(|s| s.cleanup = Cleanup::Delete { retention_ms: None });
    specs
}

/// What the sensors of this directory do: what they did before, if they ever ran.
fn config(args: &DemoArgs, log: &dyn Log, now_ms: i64) -> Result<GeneratorConfig> {
    ensure!(args.segments > 0, "--segments 0: at least one is needed");
    ensure!(args.hours.is_none_or(|h| h > 0.0 && h < 10_000.0), "--hours: more than 0 and less than 10000 are allowed");
    if let Some(before) = sensors::progress(log)? {
        let GeneratorConfig { seed, segments, .. } = before.config;
        ensure!(
            seed == args.seed && segments == args.segments,
            "{} holds a demo with --seed {seed} --segments {segments}; go on with these, or give another --dir",
            args.dir.display()
        );
        return Ok(before.config);
    }
    #[expect(clippy::cast_possible_truncation, reason = "hours of a demo in milliseconds")]
    let length_ms = (args.hours.unwrap_or(BEGIN_HOURS) * HOUR_MS) as i64;
    // A window earlier, so that the last one is over by the clock whatever the length.
    let start_ms = ((now_ms - length_ms).div_euclid(WINDOW_MS) - 1) * WINDOW_MS;
    Ok(GeneratorConfig { seed: args.seed, segments: args.segments, start_ms, ..GeneratorConfig::default() })
}

/// What one thread does.
type Work<'a> = Box<dyn FnOnce() -> Result<()> + Send + 'a>;

impl Demo {
    /// Sensors, aggregator and archive, each on a thread of its own, until all have come to the end.
    fn run(&self, config: GeneratorConfig, speed: Speed, until_ms: Option<i64>) -> Result<()> {
        std::thread::scope(|scope| {
            let work: [(&str, Work<'_>); 3] = [
                ("sensors", Box::new(|| self.sensors(config, speed, until_ms))),
                ("aggregator", Box::new(|| self.aggregate())),
                ("archive", Box::new(|| self.archive())),
            ];
            let hands = work.map(|(name, work)| {
                let guarded = move || {
                    let done = work();
                    if done.is_err() {
                        // One that fails stops the others.
                        self.stop.request();
                    }
                    done.context(name)
                };
                scope.spawn(guarded)
            });
            let done = hands.map(|hand| hand.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            done.into_iter().collect()
        })
    }

    fn stopped(&self) -> bool {
        self.stop.requested()
    }

    fn sensors(&self, config: GeneratorConfig, speed: Speed, until_ms: Option<i64>) -> Result<()> {
        let sensors = sensors::Sensors {
            log: self.log.clone(),
            clock: self.clock.clone(),
            topic: self.topics.events.clone(),
            config,
            speed,
            until_ms,
            sent: self.sent.clone(),
        };
        sensors.run(&|| self.stopped())?;
        self.sent_all.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn aggregate(&self) -> Result<()> {
        let mut runner = Runner::new(
            Aggregator::new(Settings::default()),
            self.log.clone(),
            aggregator::topology(&self.topics, aggregator::APPLICATION, "demo"),
            Pace::default(),
            self.clock.clone(),
            self.reporter(),
        )?;
        runner.run(&|| self.stopped(), &|| self.sent_all.load(Ordering::SeqCst))?;
        Ok(())
    }

    /// Says every few seconds how far things are.
    fn reporter(&self) -> common::stream::Observer<Aggregator> {
        const EVERY_MS: i64 = 2_000;
        let (clock, sent) = (self.clock.clone(), self.sent.clone());
        let mut said_ms = clock.now_ms();
        Box::new(move |notice| {
            let Notice::Committed { machine, .. } = notice else { return };
            if clock.now_ms() - said_ms < EVERY_MS {
                return;
            }
            said_ms = clock.now_ms();
            let totals = machine.totals();
            let complete = machine.watermarks().filter_map(|(_, w)| w).min().map(jiff::Timestamp::from_millisecond);
            info!(
                sent = sent.load(Ordering::Relaxed),
                counted = totals.counted,
                duplicates = totals.duplicates,
                invalid = totals.invalid,
                late = totals.late,
                complete_to = complete.and_then(Result::ok).map(|t| t.to_string()),
                "aggregating"
            );
        })
    }

    fn archive(&self) -> Result<()> {
        let sink = Sink {
            log: self.log.clone(),
            store: self.store.clone(),
            config: ArchiveConfig::default(),
            dataset: Dataset::Events,
            normaliser: Settings::default().normaliser,
            clock: self.clock.clone(),
            runtime: self.runtime.clone(),
            batch_id: Box::new(|| uuid::Uuid::new_v4().simple().to_string()),
            topic: self.topics.events.clone(),
            application_id: ingest::APPLICATION.into(),
            instance: "demo".into(),
        };
        sink.run_to_end(&|| self.stopped(), &|_| {}, &|| self.sent_all.load(Ordering::SeqCst))?;
        Ok(())
    }

    /// Adds up what was committed, proves the archive, and says so.
    fn finish(&self, began_ms: i64, json: bool) -> Result<()> {
        let verification = self.runtime.block_on(verify::verify(&self.store, Dataset::Events, &self.topics.events))?;
        let report = verification.report();
        ensure!(report.is_sound(), "the archive is not sound: {}", report.problems.join("; "));
        let files = self.runtime.block_on(self.store.list("/traffic-data/raw", true))?;
        let files = files.iter().filter(|entry| entry.path.ends_with(".parquet")).count();
        let rows = report.partitions.iter().map(|p| p.rows).sum();
        let took_ms = u64::try_from(self.clock.now_ms() - began_ms).unwrap_or(0);
        let seconds = Duration::from_millis(took_ms).as_secs_f64();
        let summary = summary::of(self.log.as_ref(), &self.topics, rows, files as u64, seconds)?;
        if json {
            println!("{}", serde_json::to_string(&summary)?);
        } else {
            println!("{summary}");
        }
        Ok(())
    }
}

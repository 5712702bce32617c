//! `traffic demo`: the whole flow in one process and one directory, with the generator as its sensors.

mod incidents;
mod sensors;
mod summary;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result, ensure};
use clap::Args;
use common::archive::{Dataset, verify};
use common::config::{Config, DatabaseLocation, LogLocation, Retention, StoreLocation, TopicSettings};
use common::stream::Log;
use common::worker::{Crew, Ended, Failure, Process};
use tracing::info;

use crate::feed::Speed;
use crate::flow;
use crate::simulate::GeneratorConfig;
use crate::view::{self, View};

/// Run the whole flow here: sensors, aggregator, archive; nothing else is needed
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic demo                                       until Ctrl-C, 60 times real time, in ./traffic-demo
  traffic demo --hours 3 --speed max --seed 7        three hours of events as fast as it goes, then a summary
  traffic demo --hours 3 --speed max --json          the summary as one JSON object, for programs
  duckdb -c \"select segment_id, avg(speed_kmh) from 'traffic-demo/store/traffic-data/raw/date=*/hour=*/*.parquet' group by 1\"

On a terminal a live view shows what goes on: traffic, how forecasts did, alerts, and what is still to be read.
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
    /// Log lines instead of the live view, also on a terminal
    #[arg(long)]
    pub no_view: bool,
}

impl DemoArgs {
    /// Whether the live view is shown.
    #[must_use]
    pub fn view(&self) -> bool {
        view::wanted(self.no_view || self.json)
    }
}

const PARTITIONS: u32 = 4;
const WINDOW_MS: i64 = 300_000;
const HOUR_MS: f64 = 3_600_000.0;
/// Without `--hours` the sensors begin so long ago.
const BEGIN_HOURS: f64 = 24.0;

/// Runs the demo until a signal, or to its end with `--hours`.
///
/// # Errors
/// If the directory can not be used, holds another demo, or the sums do not agree at the end.
pub fn run(args: &DemoArgs, process: &Process) -> Result<()> {
    let began_ms = process.clock.now_ms();
    std::fs::create_dir_all(&args.dir).with_context(|| format!("--dir {}", args.dir.display()))?;
    let dir = args.dir.canonicalize().with_context(|| format!("--dir {}", args.dir.display()))?;
    let process = &process.with(settings(&process.config, &dir));
    let log = process.log()?;
    log.ensure_topics(&flow::topics(&process.config))?;
    let config = config(args, log.as_ref(), process.clock.now_ms())?;
    #[expect(clippy::cast_possible_truncation, reason = "hours of a demo in milliseconds")]
    let until_ms = args.hours.map(|hours| config.start_ms + (hours * HOUR_MS) as i64);
    info!(dir = %dir.display(), segments = config.segments, seed = config.seed, "the demo runs; Ctrl-C stops it, the same command goes on");
    let sensors = sensors::Sensors {
        log: log.clone(),
        clock: process.clock.clone(),
        topic: process.config.topics.names().events,
        config,
        speed: args.speed,
        until_ms,
        sent: Arc::new(AtomicU64::new(0)),
    };
    let mut crew = Crew::new(process);
    let events_ended = Ended::default();
    let alerts_ended = flow::enlist(&mut crew, &log, &events_ended)?;
    if args.view() {
        let files = format!("{}: traffic.db, store/, database.db", dir.display());
        let sent = Some(sensors.sent.clone());
        View { title: "traffic demo", sent, files, alerts_ended }.enlist(&mut crew, &log);
    }
    crew.add("sensors", move || {
        sensors.run(&|| process.shutdown.requested()).map_err(|e| Failure(format!("{e:#}")))?;
        events_ended.set();
        Ok(())
    });
    crew.run()?;
    if process.shutdown.requested() || until_ms.is_none() {
        let stopped = "stopped; the same command goes on from here";
        if args.view() {
            eprintln!("{stopped}");
        } else {
            info!("{stopped}");
        }
        return Ok(());
    }
    finish(args, process, &log, began_ms)
}

/// Everything in one directory and kept for ever, whatever else is configured.
fn settings(base: &Config, dir: &std::path::Path) -> Config {
    let for_ever = Retention::for_ever();
    Config {
        log: LogLocation::Sqlite(dir.join("traffic.db")),
        store: StoreLocation::Directory(dir.join("store")),
        database: Some(DatabaseLocation::Sqlite(dir.join("database.db"))),
        instance: "demo".to_owned(),
        application_id: None,
        topics: TopicSettings { partitions: PARTITIONS, retention: for_ever, ..TopicSettings::default() },
        telemetry: base.telemetry.clone(),
        ..Config::default()
    }
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

/// Adds up what was committed, proves the archive, and says so.
fn finish(args: &DemoArgs, process: &Process, log: &Arc<dyn Log>, began_ms: i64) -> Result<()> {
    let (store, topics) = (process.store()?, process.config.topics.names());
    let verification = process.runtime().block_on(verify::verify(&store, Dataset::Events, &topics.events))?;
    let report = verification.report();
    ensure!(report.is_sound(), "the archive is not sound: {}", report.problems.join("; "));
    let files = process.runtime().block_on(store.list("/traffic-data/raw", true))?;
    let files = files.iter().filter(|entry| entry.path.ends_with(".parquet")).count();
    let rows = report.partitions.iter().map(|p| p.rows).sum();
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of one run")]
    let seconds = (process.clock.now_ms() - began_ms) as f64 / 1000.0;
    let summary = summary::of(log.as_ref(), &topics, rows, files as u64, seconds)?;
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        println!("{summary}");
    }
    Ok(())
}

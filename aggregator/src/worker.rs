//! The process around the machine: its place in the flow, its settings and its metrics.

use std::sync::Arc;
use std::time::Duration;

use common::archive::Dataset;
use common::config::Config;
use common::health::Component;
use common::stream::{Log, Membership, Notice, Observer, Pace, Runner, Topology};
use common::topics::Topics;
use common::worker::{Crew, Ended, Failure, Process, archive_group};

use crate::{Aggregator, Settings};

/// The worker's name, and the application id unless another is set.
pub const APPLICATION: &str = "aggregator";
/// Where health and metrics are served, unless another address is set.
const PORT: u16 = 9102;

/// Inputs, outputs and changelog, in the order that `machine.rs` numbers them.
#[must_use]
pub fn topology(topics: &Topics, application_id: &str, instance: &str) -> Topology {
    Topology {
        membership: Membership {
            application_id: application_id.to_owned(),
            instance: instance.to_owned(),
            inputs: vec![topics.events.clone(), topics.rekeyed.clone()],
            transactional: true,
        },
        outputs: vec![topics.aggregates.clone(), topics.rekeyed.clone(), topics.dead_letters.clone()],
        changelog: Some(topics.changelog(application_id)),
        tail: None,
    }
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        let set = &config.aggregator;
        Self {
            events_topic: config.topics.names().events,
            out_of_orderness_ms: ms(set.out_of_orderness),
            lateness_ms: ms(set.lateness),
            idle_ms: ms(set.idle),
            expiry_ms: ms(set.state_expiry),
            reading_interval_ms: set.reading_interval.map(ms),
            normaliser: config.normaliser(),
            ..Self::default()
        }
    }
}

/// Runs the worker until a signal, or to the end of its input.
///
/// # Errors
/// What trying again can not mend.
pub fn run(config: Config, exit_at_end: bool) -> Result<(), Failure> {
    let process = Process::start(APPLICATION, config, Some(PORT))?;
    let Some(log) = process.wait_for_log()? else { return Ok(()) };
    let mut crew = Crew::new(&process);
    enlist(&mut crew, &log, &Ended::when(exit_at_end))?;
    crew.run()
}

/// Adds the worker's parts to a process; returns what tells that the aggregates have ended.
///
/// # Errors
/// If the store's location can not be one.
pub fn enlist(crew: &mut Crew<'_>, log: &Arc<dyn Log>, events_ended: &Ended) -> Result<Ended, Failure> {
    let process = crew.process();
    let (events_ended, ended) = (events_ended.clone(), Ended::default());
    let (own_log, own_end) = (log.clone(), ended.clone());
    crew.add(APPLICATION, move || aggregate(process, &own_log, &events_ended, &own_end));
    crew.archive(log, Dataset::Aggregates, &archive_group(process.config.application_id(APPLICATION)), &ended)?;
    Ok(ended)
}

fn aggregate(process: &Process, log: &Arc<dyn Log>, events_ended: &Ended, ended: &Ended) -> Result<(), Failure> {
    let config = &process.config;
    let ready = process.health.component(APPLICATION);
    let id = config.application_id(APPLICATION);
    let topology = topology(&config.topics.names(), id, &config.instance);
    let pace = Pace { commit_interval_ms: ms(config.aggregator.commit_interval), ..Pace::default() };
    let runner = process.until_it_works(&ready, || {
        process.ensure_topics(log.as_ref(), &topology)?;
        let machine = Aggregator::new(Settings::from(config));
        Runner::new(machine, log.clone(), topology.clone(), pace, process.clock.clone(), observer(ready.clone()))
    })?;
    if let Some(mut runner) = runner {
        runner.run(&|| process.shutdown.requested(), &|| events_ended.get())?;
        let totals = runner.machine().totals();
        tracing::info!(?totals, "the aggregator has stopped");
    }
    if !process.shutdown.requested() {
        ended.set();
    }
    Ok(())
}

/// Readiness and metrics, from what the runner says.
fn observer(ready: Component) -> Observer<Aggregator> {
    Box::new(move |notice| match notice {
        Notice::Ready { .. } => ready.ready(),
        Notice::Lost(error) => {
            ready.not_ready(error.to_string());
            metrics::counter!("traffic_sessions_lost_total").increment(1);
        }
        Notice::Committed { records, machine } => report(records, machine),
    })
}

fn report(records: usize, machine: &Aggregator) {
    let totals = machine.totals();
    metrics::counter!("traffic_records_total").increment(records as u64);
    metrics::counter!("traffic_commits_total").increment(1);
    for (fate, count) in [
        ("counted", totals.counted),
        ("duplicate", totals.duplicates),
        ("invalid", totals.invalid),
        ("late", totals.late),
    ] {
        // Totals of the partitions held, since the beginning of the topic: they survive restarts.
        #[expect(clippy::cast_precision_loss, reason = "a metric")]
        metrics::gauge!("traffic_events", "fate" => fate).set(count as f64);
    }
    let (windows, hashes) = machine.held();
    #[expect(clippy::cast_precision_loss, reason = "a metric")]
    {
        metrics::gauge!("traffic_windows_open").set(windows as f64);
        metrics::gauge!("traffic_dedup_hashes").set(hashes as f64);
    }
    for (partition, watermark_ms) in machine.watermarks() {
        #[expect(clippy::cast_precision_loss, reason = "a metric")]
        if let Some(watermark_ms) = watermark_ms {
            let partition = partition.to_string();
            metrics::gauge!("traffic_watermark_seconds", "partition" => partition).set(watermark_ms as f64 / 1000.0);
        }
    }
}

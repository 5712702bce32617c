//! The process around the machine: its place in the flow, its settings and its metrics.

use std::sync::Arc;
use std::time::Duration;

use common::archive::Dataset;
use common::clock::Clock;
use common::config::Config;
use common::health::Component;
use common::stream::{Log, Membership, Notice, Observer, Pace, Runner, Topology};
use common::topics::Topics;
use common::worker::{Crew, Ended, Failure, Process, archive_group};

use crate::drift::Watch;
use crate::forecast::calendar::LocalTime;
use crate::models::Models;
use crate::retraining::{Retraining, Window};
use crate::{Predictor, Settings, Slot};

/// The worker's name, and the application id unless another is set.
pub const APPLICATION: &str = "predictor";
/// Where health and metrics are served, unless another address is set.
const PORT: u16 = 9103;

/// Input, outputs and changelog, in the order that `machine.rs` numbers them.
#[must_use]
pub fn topology(topics: &Topics, application_id: &str, instance: &str) -> Topology {
    Topology {
        membership: Membership {
            application_id: application_id.to_owned(),
            instance: instance.to_owned(),
            inputs: vec![topics.aggregates.clone()],
            transactional: true,
        },
        outputs: vec![topics.predictions.clone(), topics.digest.clone()],
        changelog: Some(topics.changelog(application_id)),
        tail: Some(topics.digest.clone()),
    }
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        let set = &config.predictor;
        Self {
            horizons: set.horizons.clone(),
            time: LocalTime {
                zone: set.time_zone.clone().unwrap_or_else(|| config.time_zone.clone()),
                holidays: set.holidays.iter().copied().collect(),
            },
            deadline_ms: ms(set.deadline),
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

/// Adds the worker's parts to a process; returns what tells that the forecasts have ended.
///
/// # Errors
/// If the store's location can not be one.
pub fn enlist(crew: &mut Crew<'_>, log: &Arc<dyn Log>, aggregates_ended: &Ended) -> Result<Ended, Failure> {
    let process = crew.process();
    let (aggregates_ended, ended) = (aggregates_ended.clone(), Ended::default());
    let (own_log, own_end, slot, window) = (log.clone(), ended.clone(), Slot::default(), Window::default());
    let mut models = Models::new(process, slot.clone())?;
    models.look_first(process);
    if process.config.predictor.retrain.enabled {
        let mut retraining = Retraining::new(process, slot.clone(), window.clone())?;
        let trained_end = ended.clone();
        crew.add("retraining", move || {
            retraining.run(&trained_end);
            Ok(())
        });
    }
    crew.add(APPLICATION, move || predict(process, &own_log, (slot, window), &aggregates_ended, &own_end));
    let watched_end = ended.clone();
    crew.add("models", move || {
        models.watch(process, &watched_end);
        Ok(())
    });
    crew.archive(log, Dataset::Predictions, &archive_group(process.config.application_id(APPLICATION)), &ended)?;
    crew.project_traffic(log, &ended);
    Ok(ended)
}

fn predict(
    process: &Process,
    log: &Arc<dyn Log>,
    (slot, window): (Slot, Window),
    aggregates_ended: &Ended,
    ended: &Ended,
) -> Result<(), Failure> {
    let config = &process.config;
    let ready = process.health.component(APPLICATION);
    let id = config.application_id(APPLICATION);
    let topology = topology(&config.topics.names(), id, &config.instance);
    let pace = Pace { commit_interval_ms: ms(config.predictor.commit_interval), ..Pace::default() };
    let runner = process.until_it_works(&ready, || {
        process.ensure_topics(log.as_ref(), &topology)?;
        let machine = Predictor::new(Settings::from(config), slot.clone());
        let observer = observer(ready.clone(), slot.clone(), window.clone(), process.clock.clone());
        Runner::new(machine, log.clone(), topology.clone(), pace, process.clock.clone(), observer)
    })?;
    if let Some(mut runner) = runner {
        runner.run(&|| process.shutdown.requested(), &|| aggregates_ended.get())?;
        tracing::info!("the predictor has stopped");
    }
    if !process.shutdown.requested() {
        ended.set();
    }
    Ok(())
}

/// Readiness and metrics, from what the runner says.
fn observer(ready: Component, slot: Slot, window: Window, clock: Arc<dyn Clock>) -> Observer<Predictor> {
    let mut watch = Watch::default();
    Box::new(move |notice| match notice {
        Notice::Ready { machine } => {
            ready.ready();
            window.show(machine);
        }
        Notice::Lost(error) => {
            ready.not_ready(error.to_string());
            window.close();
            metrics::counter!("traffic_sessions_lost_total", "worker" => APPLICATION).increment(1);
        }
        Notice::Committed { records, machine } => {
            report(records, machine);
            window.show(machine);
            if let Some(live) = slot.get() {
                watch.look(&live, &machine.recent(), clock.now_ms());
            }
        }
    })
}

#[expect(clippy::cast_precision_loss, reason = "metrics")]
fn report(records: usize, machine: &Predictor) {
    metrics::counter!("traffic_records_total", "worker" => APPLICATION).increment(records as u64);
    metrics::counter!("traffic_commits_total", "worker" => APPLICATION).increment(1);
    let (segments, invalid) = machine.totals();
    metrics::gauge!("traffic_segments").set(segments as f64);
    metrics::gauge!("traffic_aggregates_invalid").set(invalid as f64);
    for (horizon, score) in machine.scores() {
        let horizon = horizon.to_string();
        // Sums since the beginning, of the partitions held: they survive restarts; rates are for the reader to take.
        for (of, sum) in [("forecast", score.error), ("last_value", score.persistence_error)] {
            metrics::gauge!("traffic_absolute_error_kmh_sum", "of" => of, "horizon" => horizon.clone()).set(sum);
        }
        metrics::gauge!("traffic_forecasts_scored", "horizon" => horizon).set(score.scored);
    }
    for (partition, closed_ms) in machine.frames() {
        if let Some(closed_ms) = closed_ms {
            let partition = partition.to_string();
            metrics::gauge!("traffic_frame_seconds", "partition" => partition).set(closed_ms as f64 / 1000.0);
        }
    }
}

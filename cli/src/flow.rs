//! The flow as a whole: its workers, what they read, and the topics they need.

use std::sync::Arc;

use common::config::Config;
use common::stream::{Log, TopicSpec};
use common::worker::{Crew, Ended, Failure, archive_group};

/// A consumer group and the topics it reads.
pub struct Reading {
    pub group: String,
    pub topics: Vec<String>,
}

/// All groups of the flow.
#[must_use]
pub fn readings(config: &Config) -> Vec<Reading> {
    let t = config.topics.names();
    let reading = |group: &str, topics: Vec<String>| Reading { group: group.to_owned(), topics };
    vec![
        reading(ingest::APPLICATION, vec![t.events.clone()]),
        reading(aggregator::APPLICATION, vec![t.events, t.rekeyed]),
        reading(&archive_group(aggregator::APPLICATION), vec![t.aggregates.clone()]),
        reading(predictor::APPLICATION, vec![t.aggregates.clone()]),
        reading(&archive_group(predictor::APPLICATION), vec![t.predictions.clone()]),
        reading(alerter::APPLICATION, vec![t.predictions, t.aggregates, t.alerter_commands]),
        reading(&alerter::incidents_id(alerter::APPLICATION), vec![t.alert_transitions]),
    ]
}

/// All topics of the flow, as configured.
#[must_use]
pub fn topics(config: &Config) -> Vec<TopicSpec> {
    let settings = &config.topics;
    let workers = [aggregator::APPLICATION, predictor::APPLICATION, alerter::APPLICATION];
    let mut changelogs = workers.map(|w| settings.changelog(config.application_id(w), settings.partitions)).to_vec();
    changelogs.push(settings.changelog(&alerter::incidents_id(config.application_id(alerter::APPLICATION)), 1));
    settings.specs().into_iter().chain(changelogs).collect()
}

/// Adds all workers to a process. Each ends once what it reads has; returns what tells that the alerts, the last of
/// it, have ended.
///
/// # Errors
/// If a location of the settings can not be one.
pub fn enlist(crew: &mut Crew<'_>, log: &Arc<dyn Log>, events_ended: &Ended) -> Result<Ended, Failure> {
    ingest::enlist(crew, log, events_ended)?;
    let aggregates_ended = aggregator::enlist(crew, log, events_ended)?;
    let predictions_ended = predictor::enlist(crew, log, &aggregates_ended)?;
    alerter::enlist(crew, log, &predictions_ended)
}

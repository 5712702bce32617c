//! What copies a topic onward, beside the machine that writes it.

use std::sync::Arc;

use super::{Crew, Ended, Failure};
use crate::archive::{ArchiveConfig, Dataset, Sink};
use crate::db::{Database, Projection, ProjectionSink};
use crate::stream::Log;

/// The consumer group that archives what an application writes.
#[must_use]
pub fn archive_group(application_id: &str) -> String {
    format!("{application_id}-archive")
}

impl Crew<'_> {
    /// Adds the archive of a dataset's topic, in a consumer group of that name; it ends once the topic has `ended`.
    /// Adds nothing if `archive.enabled` is false.
    ///
    /// # Errors
    /// If the store's location can not be one.
    pub fn archive(&mut self, log: &Arc<dyn Log>, dataset: Dataset, group: &str, ended: &Ended) -> Result<(), Failure> {
        let process = self.process();
        let config = &process.config;
        let topics = config.topics.names();
        let topic = dataset.topic(&topics);
        if !config.archive.enabled {
            tracing::info!(topic, "{topic} is not archived by this process: archive.enabled is false");
            return Ok(());
        }
        let sink = Sink {
            log: log.clone(),
            store: process.store().map_err(|e| Failure(e.to_string()))?,
            config: ArchiveConfig::from(&config.archive),
            dataset,
            normaliser: config.normaliser(),
            clock: process.clock.clone(),
            runtime: process.runtime().clone(),
            batch_id: Box::new(|| uuid::Uuid::new_v4().simple().to_string()),
            topic: topic.to_owned(),
            application_id: group.to_owned(),
            instance: config.instance.clone(),
            hive: process.hive(),
        };
        let component = process.health.component(&format!("archive of {topic}"));
        let ended = ended.clone();
        self.add(format!("archive of {topic}"), move || {
            let ready = |ready: bool| {
                if ready {
                    component.ready();
                } else {
                    component.not_ready("the log or the store does not answer, or partitions are being taken over");
                }
            };
            let shutdown = || process.shutdown.requested();
            sink.run_to_end(&shutdown, &ready, &|| ended.get()).map_err(|e| Failure(e.to_string()))
        });
        Ok(())
    }

    /// Adds the database's rows of aggregates and forecasts; it ends once both topics have `ended`.
    pub fn project_traffic(&mut self, log: &Arc<dyn Log>, ended: &Ended) {
        let topics = self.process().config.topics.names();
        let (aggregates, predictions) = (topics.aggregates, topics.predictions);
        self.project(log, Projection::Traffic { aggregates, predictions }, ended);
    }

    /// Adds the database's rows of alerts; it ends once their topic has `ended`.
    pub fn project_alerts(&mut self, log: &Arc<dyn Log>, ended: &Ended) {
        let alerts = self.process().config.topics.names().alerts;
        self.project(log, Projection::Alerts { alerts }, ended);
    }

    /// One group for all instances: what is projected is the database's affair, not the application's.
    fn project(&mut self, log: &Arc<dyn Log>, projection: Projection, ended: &Ended) {
        let process = self.process();
        let config = &process.config;
        let name = format!("database of {}", projection.name());
        let Some(database) = Database::at(&config.database()) else {
            tracing::warn!(
                "no database is kept: there will be no rows of {}; set TRAFFIC_DATABASE (or POSTGRES_HOST) to have them",
                projection.name()
            );
            return;
        };
        let sink = ProjectionSink {
            log: log.clone(),
            database,
            application_id: format!("database-{}", projection.name()),
            projection,
            settings: config.projection.clone(),
            clock: process.clock.clone(),
            runtime: process.runtime().clone(),
            instance: config.instance.clone(),
        };
        let component = process.health.component(&name);
        let ended = ended.clone();
        self.add(name, move || {
            let report = |state: Result<(), &str>| match state {
                Ok(()) => component.ready(),
                Err(why) => component.not_ready(why),
            };
            let shutdown = || process.shutdown.requested();
            sink.run_to_end(&shutdown, &report, &|| ended.get()).map_err(|e| Failure(e.to_string()))
        });
    }
}

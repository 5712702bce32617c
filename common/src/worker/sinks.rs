//! What copies a topic onward, beside the machine that writes it.

use std::sync::Arc;

use super::{Crew, Ended, Failure};
use crate::archive::{ArchiveConfig, Dataset, Sink};
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
}

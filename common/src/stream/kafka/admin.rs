//! Creating and verifying topics.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::{info, warn};

use super::config::KafkaConfig;
use super::context::Reports;
use super::error::Explain;
use crate::stream::log::{Cleanup, LogError, TopicSpec};

const TIMEOUT: Duration = Duration::from_secs(10);

/// An administrator's client, for a short time.
pub(super) struct Admin {
    client: AdminClient<Reports>,
    reports: Reports,
    explain: Explain,
}

impl Admin {
    pub fn new(config: &KafkaConfig, explain: Explain) -> Result<Self, LogError> {
        let reports = Reports::default();
        let client = config
            .client(&[])
            .create_with_context(reports.clone())
            .map_err(|error| explain.error("creating an admin client", &error, &reports))?;
        Ok(Self { client, reports, explain })
    }

    fn error(&self, doing: &str, error: &KafkaError) -> LogError {
        self.explain.error(doing, error, &self.reports)
    }

    fn options() -> AdminOptions {
        AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT))
    }

    /// Creates a topic; `false` if it was there already.
    pub fn create(&self, spec: &TopicSpec) -> Result<bool, LogError> {
        let doing = format!("creating topic {}", spec.name);
        let settings = settings(spec.cleanup);
        let Ok(partitions) = i32::try_from(spec.partitions) else {
            return Err(LogError::Fatal(format!("{doing}: {} partitions are too many", spec.partitions)));
        };
        let mut topic = NewTopic::new(&spec.name, partitions, TopicReplication::Fixed(i32::from(spec.replication)));
        for (key, value) in &settings {
            topic = topic.set(key, value);
        }
        let created = block_on(self.client.create_topics([&topic], &Self::options()));
        for result in created.map_err(|error| self.error(&doing, &error))? {
            match result {
                Ok(_) => {}
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => return Ok(false),
                Err((_, RDKafkaErrorCode::InvalidReplicationFactor)) => {
                    return Err(LogError::Fatal(format!(
                        "{doing}: replication {} needs as many brokers; lower the setting or add brokers",
                        spec.replication
                    )));
                }
                Err((_, code)) => return Err(self.error(&doing, &KafkaError::AdminOp(code))),
            }
        }
        info!(topic = spec.name, partitions, replication = spec.replication, "topic created");
        Ok(true)
    }

    /// Verifies an existing topic's cleanup; a different retention is the operator's affair and only noted.
    pub fn verify_cleanup(&self, spec: &TopicSpec) -> Result<(), LogError> {
        let doing = format!("verifying topic {}", spec.name);
        let asked = [ResourceSpecifier::Topic(&spec.name)];
        let described = block_on(self.client.describe_configs(&asked, &Self::options()));
        for resource in described.map_err(|error| self.error(&doing, &error))? {
            let resource = match resource {
                Ok(resource) => resource,
                Err(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed) => {
                    warn!(topic = spec.name, "not allowed to see the topic's settings (DescribeConfigs): not verified");
                    continue;
                }
                Err(code) => return Err(self.error(&doing, &KafkaError::AdminOp(code))),
            };
            for (key, wanted) in settings(spec.cleanup) {
                let found = value(&resource, key);
                if found == wanted {
                    continue;
                }
                if key == "cleanup.policy" {
                    return Err(LogError::Fatal(format!(
                        "topic {} has cleanup.policy={found}, but {wanted} is needed: otherwise records would be lost or kept for ever. \
                         Change it: kafka-configs --alter --entity-type topics --entity-name {} --add-config cleanup.policy={wanted}",
                        spec.name, spec.name
                    )));
                }
                warn!(topic = spec.name, setting = key, found, wanted, "topic differs from its default");
            }
        }
        Ok(())
    }
}

fn value<'a>(resource: &'a ConfigResource, key: &str) -> &'a str {
    resource.get(key).and_then(|entry| entry.value.as_deref()).unwrap_or("unset")
}

/// A topic's settings. Changelogs have small segments and are compacted early: restoring reads little
/// more than what lives.
fn settings(cleanup: Cleanup) -> Vec<(&'static str, String)> {
    match cleanup {
        Cleanup::Delete { retention_ms } => {
            vec![("cleanup.policy", "delete".to_owned()), ("retention.ms", retention_ms.unwrap_or(-1).to_string())]
        }
        Cleanup::Compact => vec![
            ("cleanup.policy", "compact".to_owned()),
            ("segment.bytes", (64_u64 << 20).to_string()),
            ("segment.ms", (10 * 60 * 1000).to_string()),
            ("min.cleanable.dirty.ratio", "0.1".to_owned()),
        ],
    }
}

/// Waits for a future that another thread completes, as the admin client's does: works in and outside
/// of any runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

//! Clients that answer questions: topics, ends, committed offsets.
//!
//! They live as long as the log, and a client does not always live so long: one that was once told of no broker at all
//! (the only one was fenced for a moment) forgets its bootstrap servers and stays alone for ever
//! (<https://github.com/confluentinc/librdkafka/issues/5301>). So whichever could not reach a broker is replaced.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;

use super::config::{CONSUMER, KafkaConfig};
use super::context::Reports;
use super::error::{Explain, Kind, kind};
use crate::stream::log::LogError;

/// What a client knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Last stable offsets.
    Committed,
    /// High watermarks.
    Uncommitted,
    /// A group's stable committed offsets, without being a member.
    Group(String),
    /// The same, whatever an undecided transaction is about to do with them.
    UnstableGroup(String),
}

/// A client, kept by its role.
pub(super) type Observer = Arc<BaseConsumer<Reports>>;

pub(super) struct Observers {
    config: KafkaConfig,
    explain: Explain,
    clients: Mutex<BTreeMap<Role, Observer>>,
}

impl Observers {
    pub fn new(config: &KafkaConfig, explain: &Explain) -> Self {
        Self { config: config.clone(), explain: explain.clone(), clients: Mutex::default() }
    }

    /// The client of a role; made if there is none.
    pub fn get(&self, role: &Role) -> Result<Observer, LogError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(role) {
            drain(client);
            return Ok(Arc::clone(client));
        }
        let settings = match role {
            Role::Committed => vec![("isolation.level", "read_committed")],
            Role::Uncommitted => vec![("isolation.level", "read_uncommitted")],
            // read_committed makes librdkafka ask for stable offsets only.
            Role::Group(group) => vec![("group.id", group.as_str()), ("isolation.level", "read_committed")],
            Role::UnstableGroup(group) => vec![("group.id", group.as_str()), ("isolation.level", "read_uncommitted")],
        };
        let reports = Reports::default();
        let client = self.config.client(&[&CONSUMER[..], &settings].concat()).create_with_context(reports.clone());
        let client = client.map_err(|error| self.explain.error("creating a client", &error, &reports))?;
        let client = Arc::new(client);
        clients.insert(role.clone(), Arc::clone(&client));
        Ok(client)
    }

    /// Says what an answer means, and parts with a client that reached nobody.
    pub fn error(&self, doing: &str, error: &KafkaError, role: &Role, client: &Observer) -> LogError {
        drain(client);
        if kind(error) == Kind::Unreachable {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            if clients.get(role).is_some_and(|kept| Arc::ptr_eq(kept, client)) {
                clients.remove(role);
            }
        }
        self.explain.error(doing, error, client.context())
    }
}

/// Serves log lines and complaints, which nobody else does for these clients.
pub(super) fn drain(client: &BaseConsumer<Reports>) {
    loop {
        let served = client.context().served();
        let event = client.poll(Duration::ZERO);
        if event.is_none() && client.context().served() == served {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_reached_nobody_is_replaced_and_others_are_kept() {
        let config = KafkaConfig { bootstrap_servers: "127.0.0.1:1".to_owned(), ..KafkaConfig::default() };
        let explain = Explain { servers: config.bootstrap_servers.clone(), member: String::new() };
        let observers = Observers::new(&config, &explain);
        let get = |role: &Role| observers.get(role).expect("a client");
        let (first, other) = (get(&Role::Committed), get(&Role::Uncommitted));
        let error = first.fetch_metadata(Some("topic"), Duration::from_millis(300)).expect_err("nobody answers");
        assert!(matches!(observers.error("asking", &error, &Role::Committed, &first), LogError::Retry(_)));
        let second = get(&Role::Committed);
        assert!(!Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&other, &get(&Role::Uncommitted)));
        // Late news of the first changes nothing.
        observers.error("asking", &error, &Role::Committed, &first);
        assert!(Arc::ptr_eq(&second, &get(&Role::Committed)));
    }
}

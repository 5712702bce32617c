//! What the flow has written, read back: for comparing one run with another.

use std::collections::BTreeMap;

use common::model::{Aggregate, Alert, Prediction};
use common::stream::{Log, TopicPartition};
use common::topics::Topics;

/// Committed messages by what names them: the bytes of each, exactly as they were written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Written {
    /// By segment and window start; of several the last.
    pub aggregates: BTreeMap<(String, i64), Vec<u8>>,
    /// By id.
    pub predictions: BTreeMap<String, Vec<u8>>,
    /// By alert id and sequence.
    pub alerts: BTreeMap<(String, u32), Vec<u8>>,
    /// Predictions and transitions whose name was there before, and aggregates that were there before to the byte (a
    /// correction differs): must be empty.
    pub twice: Vec<String>,
}

impl Written {
    /// Reads three topics whole.
    ///
    /// # Panics
    /// If a topic cannot be read or holds something else.
    #[must_use]
    pub fn read(log: &dyn Log, topics: &Topics) -> Self {
        let mut written = Self::default();
        each(log, &topics.aggregates, &mut |value| {
            let aggregate: Aggregate<'_> = serde_json::from_slice(value).expect("an aggregate");
            let name = (aggregate.segment_id.into_owned(), aggregate.window_start);
            if written.aggregates.insert(name.clone(), value.to_vec()).is_some_and(|before| before == value) {
                written.twice.push(format!("{name:?}"));
            }
        });
        each(log, &topics.predictions, &mut |value| {
            let prediction: Prediction<'_> = serde_json::from_slice(value).expect("a prediction");
            let id = prediction.prediction_id.into_owned();
            if written.predictions.insert(id.clone(), value.to_vec()).is_some() {
                written.twice.push(id);
            }
        });
        each(log, &topics.alerts, &mut |value| {
            let alert: Alert<'_> = serde_json::from_slice(value).expect("an alert");
            let name = (alert.alert_id.into_owned(), alert.sequence);
            if written.alerts.insert(name.clone(), value.to_vec()).is_some() {
                written.twice.push(format!("{name:?}"));
            }
        });
        written
    }

    /// The first difference from another run, if there is one.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<String> {
        first(&self.aggregates, &other.aggregates)
            .or_else(|| first(&self.predictions, &other.predictions))
            .or_else(|| first(&self.alerts, &other.alerts))
            .or_else(|| self.twice.first().map(|name| format!("{name} was written twice")))
    }
}

fn first<K: Ord + std::fmt::Debug>(a: &BTreeMap<K, Vec<u8>>, b: &BTreeMap<K, Vec<u8>>) -> Option<String> {
    let differs = a.iter().find(|(name, bytes)| b.get(*name) != Some(*bytes));
    if let Some((name, bytes)) = differs {
        let other = b.get(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        return Some(format!("{name:?}: {} against {other:?}", String::from_utf8_lossy(bytes)));
    }
    let missing = b.keys().find(|name| !a.contains_key(name))?;
    Some(format!("{missing:?} is missing: {} against {}", a.len(), b.len()))
}

fn each(log: &dyn Log, topic: &str, take: &mut dyn FnMut(&[u8])) {
    for partition in 0..log.partitions(topic).expect("the log answers").expect("the topic exists") {
        let mut reader = log.read(&TopicPartition::new(topic, partition), None).expect("a reader");
        while reader.next(&mut |record| record.value.into_iter().for_each(&mut *take)).expect("readable") {}
    }
}

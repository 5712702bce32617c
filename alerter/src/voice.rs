//! How a rule's decisions leave the machine: transitions as messages, dropped state as deletions; and what is counted.

use std::collections::VecDeque;

use common::model::{Alert, AlertType, DetectionSource, Position};
use common::stream::Outbox;

use crate::codec::Key;
use crate::episode::Transition;
use crate::settings::{Kind, Rule};

/// Output of the rules: every transition.
pub const TRANSITIONS: usize = 0;
/// Its one partition.
const ONLY_PARTITION: u32 = 0;
/// How alerts of each kind of rule are classed.
pub const CONGESTION: (AlertType, DetectionSource) = (AlertType::Congestion, DetectionSource::PredictionModel);
pub const SILENT: (AlertType, DetectionSource) = (AlertType::SystemAnomaly, DetectionSource::SensorAnomaly);

/// Longest description, characters.
const LONGEST: usize = 500;

/// What the machine did since it was made; not state.
#[derive(Debug, Default)]
pub struct Counts {
    pub transitions: u64,
    pub commands_followed: u64,
    pub commands_ignored: u64,
    /// Records that are not what their topic holds.
    pub invalid: u64,
    /// Records of a time that their rule has passed.
    pub late: u64,
    remarks: VecDeque<String>,
    remarked: u64,
}

/// So many remarks are kept for whoever writes them to the log.
const REMARKS: usize = 100;

impl Counts {
    pub fn remark(&mut self, remark: String) {
        if self.remarks.len() == REMARKS {
            self.remarks.pop_front();
        }
        self.remarks.push_back(remark);
        self.remarked += 1;
    }

    /// What was remarked, each with its number, from number `from` on: as far back as is kept.
    pub fn remarks(&self, from: u64) -> impl Iterator<Item = (u64, &str)> {
        let first = self.remarked - self.remarks.len() as u64;
        (first..).zip(self.remarks.iter().map(String::as_str)).skip_while(move |(number, _)| *number < from)
    }
}

/// Where a partition's decisions go.
pub struct Voice<'a> {
    pub partition: u32,
    pub out: &'a mut Outbox,
    pub counts: &'a mut Counts,
}

/// What is said with a transition.
#[derive(Debug, Default)]
pub struct Words<'a> {
    pub description: String,
    pub value: Option<f64>,
    pub threshold: Option<f64>,
    pub confidence: Option<f64>,
    pub by: Option<&'a str>,
}

impl Words<'_> {
    pub fn only(description: String) -> Self {
        Self { description, ..Self::default() }
    }
}

impl Voice<'_> {
    /// Emits one transition.
    pub fn say(&mut self, rule: &Rule, segment: &str, place: Option<Position>, said: &Transition, words: &Words<'_>) {
        let kind = match rule.kind {
            Kind::PredictedCongestion(_) => CONGESTION,
            Kind::SensorSilent(_) => SILENT,
        };
        self.emit(&rule.name, kind, segment, place, said, words);
    }

    pub fn emit(
        &mut self,
        rule: &str,
        (alert_type, detection_source): (AlertType, DetectionSource),
        segment: &str,
        place: Option<Position>,
        said: &Transition,
        words: &Words<'_>,
    ) {
        let end = words.description.char_indices().nth(LONGEST).map_or(words.description.len(), |(at, _)| at);
        let alert = Alert {
            alert_id: Alert::id_of(segment, rule, said.opened_at_ms).into(),
            sequence: said.sequence,
            segment_id: segment.into(),
            rule: rule.into(),
            alert_type,
            severity: said.severity,
            status: said.status,
            timestamp: said.at_ms,
            opened_at: said.opened_at_ms,
            resolved_at: (!said.status.is_open()).then_some(said.at_ms),
            detection_source,
            description: words.description[..end].into(),
            value: words.value,
            threshold: words.threshold,
            confidence_score: words.confidence,
            coordinates: place,
            by: words.by.map(Into::into),
        };
        let json = serde_json::to_vec(&alert).expect("an alert is numbers and plain text");
        self.out.emit(TRANSITIONS, Some(ONLY_PARTITION), Some(segment.as_bytes()), Some(&json), &[]);
        self.out.hurry();
        self.counts.transitions += 1;
    }

    /// Removes a state entry.
    pub fn delete(&mut self, key: &Key<'_>) {
        let mut bytes = Vec::new();
        key.encode(&mut bytes);
        self.out.delete(self.partition, &bytes);
    }
}

/// A duration for people: in minutes.
pub fn minutes(ms: i64) -> String {
    format!("{} min", ms / 60_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remarks_are_numbered_and_bounded() {
        let mut counts = Counts::default();
        for i in 0..=REMARKS {
            counts.remark(i.to_string());
        }
        let last = REMARKS as u64;
        assert_eq!(counts.remarks(0).next(), Some((1, "1")), "the oldest is gone");
        assert_eq!(counts.remarks(last).collect::<Vec<_>>(), [(last, last.to_string().as_str())]);
        assert_eq!(counts.remarks(last + 1).count(), 0);
    }
}

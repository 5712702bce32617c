//! Silences: in which stretches of event time which alerts do not open.

use std::collections::BTreeMap;

use common::model::AlerterCommand;
use serde::{Deserialize, Serialize};

/// More at a time than any operator needs; so that state stays bounded.
pub const MOST: usize = 1_000;

/// A silence, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Absent, every segment.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub segment: Option<Box<str>>,
    /// Absent, every rule.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rule: Option<Box<str>>,
    /// Inclusive, epoch ms.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<i64>,
    /// Exclusive, epoch ms.
    pub until: i64,
}

impl Silence {
    /// The silence that a checked command asks for.
    pub fn asked_by(command: &AlerterCommand<'_>) -> Self {
        Self {
            segment: command.segment_id.as_deref().map(Into::into),
            rule: command.rule.as_deref().map(Into::into),
            from: command.from,
            until: command.until.expect("a checked SILENCE has until"),
        }
    }

    fn covers(&self, segment: &str, rule: &str, at_ms: i64) -> bool {
        at_ms < self.until
            && self.from.is_none_or(|from| at_ms >= from)
            && self.segment.as_deref().is_none_or(|only| only == segment)
            && self.rule.as_deref().is_none_or(|only| only == rule)
    }
}

/// The silences of one partition, by id.
#[derive(Debug, Default)]
pub struct Silences(BTreeMap<Box<str>, Silence>);

impl Silences {
    /// Whether an alert of `rule` may not open for `segment` at `at_ms`.
    pub fn cover(&self, segment: &str, rule: &str, at_ms: i64) -> bool {
        self.0.values().any(|silence| silence.covers(segment, rule, at_ms))
    }

    pub fn get(&self, id: &str) -> Option<&Silence> {
        self.0.get(id)
    }

    pub fn insert(&mut self, id: &str, silence: Silence) {
        self.0.insert(id.into(), silence);
    }

    pub fn remove(&mut self, id: &str) -> Option<Silence> {
        self.0.remove(id)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Drops those that ended at `at_ms` or before; returns their ids.
    pub fn expire(&mut self, at_ms: i64) -> Vec<Box<str>> {
        let over: Vec<Box<str>> = self.0.iter().filter(|(_, s)| s.until <= at_ms).map(|(id, _)| id.clone()).collect();
        over.iter().for_each(|id| drop(self.0.remove(id)));
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_covers_what_it_names_in_its_time() {
        let all = Silence { segment: None, rule: None, from: Some(10), until: 20 };
        let mut silences = Silences::default();
        for (silence, segment, at_ms, covered) in [
            (all.clone(), "S1", 9, false),
            (all.clone(), "S1", 10, true),
            (all.clone(), "S1", 19, true),
            (all.clone(), "S1", 20, false),
            (Silence { from: None, ..all.clone() }, "S1", -5, true),
            (Silence { segment: Some("S1".into()), ..all.clone() }, "S1", 15, true),
            (Silence { segment: Some("S1".into()), ..all.clone() }, "S2", 15, false),
            (Silence { rule: Some("r".into()), ..all.clone() }, "S1", 15, true),
            (Silence { rule: Some("q".into()), ..all.clone() }, "S1", 15, false),
        ] {
            silences.insert("1", silence.clone());
            assert_eq!(silences.cover(segment, "r", at_ms), covered, "{silence:?} {segment} {at_ms}");
        }
        assert_eq!((silences.expire(19).len(), silences.len()), (0, 1));
        assert_eq!((silences.expire(20), silences.len()), (vec!["1".into()], 0));
    }
}

//! What deserves attention, and what became of it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::aggregate::Position;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AlertType {
    Congestion,
    SystemAnomaly,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AlertStatus {
    /// It holds.
    Active,
    /// It holds, and an operator has said that somebody looks after it.
    Investigating,
    /// It holds no more.
    Resolved,
    /// An operator has closed it.
    Cleared,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DetectionSource {
    PredictionModel,
    SensorAnomaly,
}

/// A message of `traffic-alerts`, one for each transition of an alert: `docs/schemas/traffic-alert.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert<'a> {
    /// `ALERT_<segment>_<rule>_<opened_at>`: the same for all transitions of one alert.
    pub alert_id: Cow<'a, str>,
    /// Counts the alert's transitions from 1: (`alert_id`, `sequence`) occurs once.
    pub sequence: u32,
    pub segment_id: Cow<'a, str>,
    /// Name of the rule.
    pub rule: Cow<'a, str>,
    pub alert_type: AlertType,
    pub severity: Severity,
    pub status: AlertStatus,
    /// Event time of this transition, epoch ms.
    pub timestamp: i64,
    /// Event time of the first transition, epoch ms.
    pub opened_at: i64,
    /// Event time at which it ended, epoch ms; only once it is RESOLVED or CLEARED.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resolved_at: Option<i64>,
    pub detection_source: DetectionSource,
    /// For people, at most 500 characters.
    pub description: Cow<'a, str>,
    /// What the rule measured at this transition, in the rule's unit; absent where it measured nothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value: Option<f64>,
    /// What it was compared with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub threshold: Option<f64>,
    /// Probability that the alert is right, where the rule can tell.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub confidence_score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub coordinates: Option<Position>,
    /// Who made this transition, where an operator did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub by: Option<Cow<'a, str>>,
}

impl Alert<'_> {
    /// The id of the alert that `rule` opened for a segment at `opened_at_ms`. A rule's name holds no underscore, so
    /// no two alerts share an id.
    #[must_use]
    pub fn id_of(segment_id: &str, rule: &str, opened_at_ms: i64) -> String {
        format!("ALERT_{segment_id}_{rule}_{opened_at_ms}")
    }
}

impl AlertStatus {
    /// Whether the alert may still change.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Active | Self::Investigating)
    }
}

//! What is logged, and how.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use super::problems::Problems;

/// `[telemetry]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    pub format: LogFormat,
    /// A level, or levels per module: `info`, `info,aggregator=debug`.
    pub level: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object a line, with the field names of the Elastic Common Schema.
    Json,
    Pretty,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: "info".to_owned() }
    }
}

impl TelemetrySettings {
    pub(super) fn validate(&self, problems: &mut Problems) {
        let allowed = "error, warn, info, debug, trace, or a list such as info,aggregator=debug";
        problems.require(EnvFilter::try_new(&self.level).is_ok(), "telemetry.level", &self.level, allowed);
    }
}

//! What is wrong with the settings, and how it is said.

use std::fmt::Display;

use super::layers::Layers;
use super::variables;

/// Why the settings were refused: one line for each problem.
#[derive(Debug, thiserror::Error)]
#[error("the settings are not valid:\n  {}", .0.join("\n  "))]
pub struct ConfigError(Vec<String>);

impl ConfigError {
    /// The problems, one text each.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.0
    }
}

/// Collects problems, so that all are reported together.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<String>,
    layers: Layers,
}

impl Problems {
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// From now on problems name where their setting's value came from.
    pub(super) fn know_origins(&mut self, layers: Layers) {
        self.layers = layers;
    }

    pub(super) fn add(&mut self, problem: String) {
        self.found.push(problem);
    }

    /// A setting's value is not as it must be; secret values are not shown.
    pub(super) fn add_value(&mut self, setting: &str, value: &str, origin: &str, allowed: &str) {
        self.found.push(if variables::is_secret(setting) && allowed.starts_with("allowed: ") {
            format!("{setting} = (hidden), from {origin}: {allowed}")
        } else if variables::is_secret(setting) {
            format!("{setting} = (hidden), from {origin}: not allowed here as it stands; a secret is text")
        } else {
            format!("{setting} = {value:?}, from {origin}: {allowed}")
        });
    }

    /// Unless `holds`, reports that `setting`'s value is not among the allowed.
    pub(super) fn require(&mut self, holds: bool, setting: &str, value: impl Display, allowed: &str) {
        if !holds {
            let origin = self.layers.origin(setting).to_owned();
            self.add_value(setting, &value.to_string(), &origin, &format!("allowed: {allowed}"));
        }
    }

    pub(super) fn into_result<T>(self, value: T) -> Result<T, ConfigError> {
        if self.found.is_empty() { Ok(value) } else { Err(ConfigError(self.found)) }
    }
}

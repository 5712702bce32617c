//! When the archive writes its files.

use std::time::Duration;

use serde::Deserialize;

use super::problems::Problems;
use super::units;
use crate::archive::ArchiveConfig;

/// `[archive]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArchiveSettings {
    /// Whether this process archives at all.
    pub enabled: bool,
    /// A batch is closed once it holds this much.
    #[serde(deserialize_with = "units::bytes")]
    pub flush_bytes: u64,
    /// A batch is closed once it is this old.
    #[serde(deserialize_with = "units::duration")]
    pub flush_age: Duration,
    /// Rows held in memory, over all hours and partitions.
    #[serde(deserialize_with = "units::bytes")]
    pub memory_bytes: u64,
}

impl Default for ArchiveSettings {
    fn default() -> Self {
        Self { enabled: true, flush_bytes: 128_000_000, flush_age: Duration::from_secs(300), memory_bytes: 64_000_000 }
    }
}

impl ArchiveSettings {
    pub(super) fn validate(&self, problems: &mut Problems) {
        let (flush, memory) = (self.flush_bytes, self.memory_bytes);
        problems.require((64_000..=4_000_000_000).contains(&flush), "archive.flush_bytes", flush, "64 kB to 4 GB");
        let memory_fits = (1_000_000..=16_000_000_000).contains(&memory);
        problems.require(memory_fits, "archive.memory_bytes", memory, "1 MB to 16 GB");
        let age_fits = self.flush_age >= Duration::from_secs(1) && self.flush_age <= Duration::from_secs(3600);
        problems.require(age_fits, "archive.flush_age", units::shown(self.flush_age), "1s to 1h");
    }
}

impl From<&ArchiveSettings> for ArchiveConfig {
    fn from(set: &ArchiveSettings) -> Self {
        Self {
            flush_interval_s: set.flush_age.as_secs(),
            file_bytes: set.flush_bytes,
            memory_bytes: set.memory_bytes,
            ..Self::default()
        }
    }
}

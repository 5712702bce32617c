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
    /// Whether this process also merges the files of closed hours, and removes those that are too old.
    pub compact: bool,
    /// How often it looks for them.
    #[serde(deserialize_with = "units::duration")]
    pub compact_interval: Duration,
    /// An hour is closed this long after its end.
    #[serde(deserialize_with = "units::duration")]
    pub compact_after: Duration,
    /// Merged files are about this large at most.
    #[serde(deserialize_with = "units::bytes")]
    pub compact_bytes: u64,
    /// Hours are removed this many days after their end; 0 is never.
    pub retain_days: u64,
}

impl Default for ArchiveSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            flush_bytes: 128_000_000,
            flush_age: Duration::from_secs(300),
            memory_bytes: 64_000_000,
            compact: true,
            compact_interval: Duration::from_secs(3600),
            compact_after: Duration::from_secs(3600),
            compact_bytes: 128_000_000,
            retain_days: 0,
        }
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
        for (name, value) in
            [("archive.compact_interval", self.compact_interval), ("archive.compact_after", self.compact_after)]
        {
            let fits = value >= Duration::from_secs(1) && value <= Duration::from_secs(30 * 86_400);
            problems.require(fits, name, units::shown(value), "1s to 720h");
        }
        let compact_fits = (1_000_000..=4_000_000_000).contains(&self.compact_bytes);
        problems.require(compact_fits, "archive.compact_bytes", self.compact_bytes, "1 MB to 4 GB");
        let days_fit = self.retain_days <= 36_500;
        problems.require(days_fit, "archive.retain_days", self.retain_days, "0 (never) to 36500");
    }
}

impl From<&ArchiveSettings> for ArchiveConfig {
    fn from(set: &ArchiveSettings) -> Self {
        Self {
            flush_interval_s: set.flush_age.as_secs(),
            file_bytes: set.flush_bytes,
            memory_bytes: set.memory_bytes,
            compact_interval_s: if set.compact { set.compact_interval.as_secs() } else { 0 },
            compact_after_s: set.compact_after.as_secs(),
            compact_file_bytes: set.compact_bytes,
            retain_days: set.retain_days,
            ..Self::default()
        }
    }
}

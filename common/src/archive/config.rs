//! Settings of the archive, the section `archive` of the configuration.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

const MIB: u64 = 1 << 20;

/// How records become files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArchiveConfig {
    /// A record is in a file at the latest this long after it was read, s.
    pub flush_interval_s: u64,
    /// A batch is committed when one of its files has grown to this.
    pub file_bytes: u64,
    /// Rows held in memory, over all open hours and partitions.
    pub memory_bytes: u64,
    /// Most rows of a row group.
    pub row_group_rows: usize,
    /// Most hours open in a batch.
    pub open_hours: usize,
    /// Zstandard level of the files.
    pub zstd_level: i32,
    /// A checkpoint is written when this many manifests have gathered.
    pub checkpoint_manifests: usize,
    /// How often closed hours are looked through for files to merge, s; 0 is never.
    pub compact_interval_s: u64,
    /// An hour counts as closed this long after its end, s.
    pub compact_after_s: u64,
    /// An hour's files are merged from this many on.
    pub compact_min_files: usize,
    /// Merged files are about this large at most; so much is held in memory, compressed, while merging.
    pub compact_file_bytes: u64,
    /// Hours are removed this long after their end, days; 0 is never.
    pub retain_days: u64,
    /// Longest one commit may take before it is given up and done anew, s.
    pub commit_timeout_s: u64,
    /// First pause before trying again; each further one is twice as long, ms.
    pub retry_min_ms: u64,
    /// Longest pause between two tries while store or log cannot be reached, s.
    pub retry_max_s: u64,
}

impl Default for ArchiveConfig {
    fn default() -> Self {
        Self {
            flush_interval_s: 300,
            file_bytes: 128 * MIB,
            memory_bytes: 64 * MIB,
            row_group_rows: 128 * 1024,
            open_hours: 64,
            zstd_level: 3,
            checkpoint_manifests: 64,
            compact_interval_s: 3600,
            compact_after_s: 3600,
            compact_min_files: 4,
            compact_file_bytes: 128 * MIB,
            retain_days: 0,
            commit_timeout_s: 120,
            retry_min_ms: 500,
            retry_max_s: 30,
        }
    }
}

impl ArchiveConfig {
    /// Whether every value is in its range.
    ///
    /// # Errors
    /// The setting, its value and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        within("flush_interval_s", self.flush_interval_s, 1..=86_400)?;
        within("file_bytes", self.file_bytes, MIB..=4096 * MIB)?;
        within("memory_bytes", self.memory_bytes, MIB..=16_384 * MIB)?;
        within("row_group_rows", self.row_group_rows, 1024..=1 << 20)?;
        within("open_hours", self.open_hours, 2..=1024)?;
        within("zstd_level", self.zstd_level, 1..=19)?;
        within("checkpoint_manifests", self.checkpoint_manifests, 2..=4096)?;
        if self.compact_interval_s > 0 {
            within("compact_interval_s", self.compact_interval_s, 1..=30 * 86_400)?;
        }
        within("compact_after_s", self.compact_after_s, 0..=30 * 86_400)?;
        within("compact_min_files", self.compact_min_files, 2..=10_000)?;
        within("compact_file_bytes", self.compact_file_bytes, MIB..=4096 * MIB)?;
        within("retain_days", self.retain_days, 0..=36_525)?;
        // The log takes a member that has not polled for five minutes for dead.
        within("commit_timeout_s", self.commit_timeout_s, 1..=240)?;
        within("retry_min_ms", self.retry_min_ms, 1..=60_000)?;
        within("retry_max_s", self.retry_max_s, 1..=600)
    }
}

fn within<T: PartialOrd + std::fmt::Display>(name: &str, value: T, range: RangeInclusive<T>) -> Result<(), String> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!("archive.{name} = {value}: must be between {} and {}", range.start(), range.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_an_error_names_setting_value_and_range() {
        assert_eq!(ArchiveConfig::default().validate(), Ok(()));
        let config = ArchiveConfig { zstd_level: 0, ..ArchiveConfig::default() };
        assert_eq!(config.validate(), Err("archive.zstd_level = 0: must be between 1 and 19".to_owned()));
    }

    #[test]
    fn an_unknown_setting_is_refused() {
        let error = serde_json::from_str::<ArchiveConfig>(r#"{"flush_intervall_s": 1}"#).expect_err("a misspelling");
        assert!(error.to_string().contains("flush_intervall_s"), "{error}");
    }
}

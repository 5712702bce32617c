//! How HDFS is spoken to.

use std::time::Duration;

use serde::Deserialize;

use super::problems::Problems;
use super::units;

/// `[hdfs]`. Where the namenode is, is `store`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HdfsSettings {
    /// Copies of each block.
    pub replication_factor: u16,
    /// For how long one call may take: the client has no limit of its own.
    #[serde(deserialize_with = "units::duration")]
    pub timeout: Duration,
}

impl Default for HdfsSettings {
    fn default() -> Self {
        Self { replication_factor: 3, timeout: Duration::from_secs(30) }
    }
}

impl HdfsSettings {
    pub(super) fn validate(&self, problems: &mut Problems) {
        let copies = self.replication_factor;
        problems.require((1..=512).contains(&copies), "hdfs.replication_factor", copies, "1 to 512");
        let fits = self.timeout >= Duration::from_secs(1) && self.timeout <= Duration::from_secs(600);
        problems.require(fits, "hdfs.timeout", units::shown(self.timeout), "1s to 10m");
    }
}
